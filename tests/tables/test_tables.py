"""Tables: what is written is read back in its types, and what cannot stand in one is an error that names it."""

import pandas as pd
import pytest

from asel_lib import files, tables
from asel_lib.errors import AselError
from tests.made_up import results

KINDS = (tables.RESULTS, tables.SPEED, tables.DEPLOYED, tables.CONFUSION, tables.PATCHES, tables.ANSWERS)


def test_a_table_is_read_as_it_was_written(tmp_path):
    path = tables.write(results(), tmp_path / "new" / "results.csv")
    found = tables.read(path)
    assert list(found.columns) == list(tables.RESULTS.columns)
    assert found["commit"].tolist() == ["12e4567"] * 6  # not the number 12e4567
    assert found["accuracy"].tolist() == results()["accuracy"].tolist()
    assert tables.write(found, tmp_path / "again.csv").read_bytes() == path.read_bytes()


def test_cells_have_the_types_that_their_columns_declare(tmp_path):
    path = tables.write(results(), tmp_path / "results.csv")
    line = path.read_text().splitlines()[1].split(",")
    cells = dict(zip(path.read_text().splitlines()[0].split(","), line, strict=True))
    assert cells["seed"] == "0" and cells["n_images"] == "500" and cells["compiled"] == "False"
    found = tables.read(path)
    assert found["seed"].dtype == "int64" and found["compiled"].dtype == bool and found["trained_ratio"].isna().all()


@pytest.mark.parametrize(
    ("column", "cell", "named"),
    [
        ("dataset", "", "column dataset holds ''"),
        ("checkpoint", "", "column checkpoint holds ''"),
        ("seed", "0.5", "column seed holds '0.5'"),
        ("seed", "", "column seed holds ''"),
        ("compiled", "", "column compiled holds ''"),
        ("compiled", "maybe", "column compiled holds 'maybe'"),
        ("accuracy", "1.5", "column accuracy holds '1.5'"),
        ("accuracy", "", "column accuracy holds ''"),
        ("top5", "-0.1", "column top5 holds '-0.1'"),
        ("keep_ratio", "0", "column keep_ratio holds '0'"),
        ("gmacs", "inf", "column gmacs holds 'inf'"),
        ("n_images", "many", "column n_images holds 'many'"),
    ],
)
def test_a_cell_that_cannot_stand_there_is_named_with_file_column_and_row(tmp_path, column, cell, named):
    path = tables.write(results(), tmp_path / "results.csv")
    frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    frame.loc[2, column] = cell
    frame.to_csv(path, index=False)
    with pytest.raises(AselError, match=f"results.csv: row 3, {named}.*run the benchmark again"):
        tables.read(path)


def test_a_row_that_cannot_be_read_back_is_not_written(tmp_path):
    path = tables.write(results(), tmp_path / "results.csv")
    before = path.read_bytes()
    with pytest.raises(AselError, match="results.csv: row 1, column accuracy holds 1.5"):
        tables.write(results(accuracy=1.5), path)
    assert path.read_bytes() == before


def test_a_table_without_a_newer_optional_column_still_reads(tmp_path):
    path = tables.write(results(), tmp_path / "results.csv")
    assert "balanced_accuracy" not in path.read_text() and "balanced_accuracy" in tables.RESULTS.columns
    assert tables.read(path)["balanced_accuracy"].isna().all()
    newer = tables.write(results(balanced_accuracy=0.25), tmp_path / "newer.csv")
    assert tables.read([path, newer])["balanced_accuracy"].tolist()[5:7] == pytest.approx(
        [float("nan"), 0.25], nan_ok=True
    )


def test_a_column_that_no_kind_declares_is_left_out(tmp_path):
    path = tables.write(results().assign(moon="full"), tmp_path / "results.csv")
    assert "moon" not in path.read_text()


@pytest.mark.parametrize("schema", KINDS, ids=lambda schema: schema.name)
def test_an_empty_table_of_each_kind_has_its_columns_and_types(schema):
    empty = schema.empty()
    assert tuple(empty.columns) == schema.columns and empty.empty
    assert not len(schema.checked(empty, "nowhere"))


def test_a_folder_that_cannot_be_written_is_named_and_the_old_table_stays(tmp_path, monkeypatch):
    path = tables.write(results(), tmp_path / "results.csv")

    def read_only(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(files.tempfile, "mkstemp", read_only)
    with pytest.raises(AselError, match="results.csv could not be written.*Permission denied"):
        tables.write(results(accuracy=0.0), path)
    assert tables.read(path)["accuracy"].tolist() == results()["accuracy"].tolist()


def test_a_folder_is_read_whole(tmp_path):
    tables.write(results(), tmp_path / "a.csv")
    tables.write(results("rsscn7_finetuned"), tmp_path / "b.csv")
    assert len(tables.read_all(tmp_path)) == 12
    with pytest.raises(AselError, match="run the benchmark first"):
        tables.read_all(tmp_path / "none.csv")


@pytest.mark.parametrize(
    ("content", "message"),
    [("", "is empty"), ("dataset,policy\naid,learned\n", "lacks the column.*keep_ratio"), ("\0\xff\xfe", "bad.csv")],
)
def test_a_damaged_file_is_named(tmp_path, content, message):
    (tmp_path / "bad.csv").write_text(content, encoding="latin-1")
    with pytest.raises(AselError, match=f"bad.csv.*{message}|{message}"):
        tables.read(tmp_path / "bad.csv")


def test_a_table_with_a_header_alone_is_named(tmp_path):
    (tmp_path / "bad.csv").write_text(",".join(tables.RESULTS.columns) + "\n")
    with pytest.raises(AselError, match="bad.csv: the table has a header and no rows"):
        tables.read(tmp_path / "bad.csv")


def test_committed_measurements_are_added_once(tmp_path):
    reference = tables.write(pd.concat([results(), results("rsscn7_finetuned")]), tmp_path / "results.csv")
    both = tables.with_reference(tables.read(reference).iloc[:6], reference)
    assert both["dataset"].tolist() == ["aid"] * 6 + ["rsscn7"] * 6
    assert len(tables.with_reference(results(), tmp_path / "none.csv")) == 6


def test_every_committed_table_is_of_its_kind():
    from asel_lib import paths

    kinds = {"results": tables.RESULTS, "speed": tables.SPEED, "confusion": tables.CONFUSION, "patches": tables.PATCHES}
    for name, schema in kinds.items():
        assert len(tables.read(paths.results() / f"{name}.csv", schema)), name
