"""The notebooks as files: their form, and that each runs by itself with its defaults and refuses bad parameters."""

import ast
import json
from pathlib import Path

import papermill
import pytest
from papermill.exceptions import PapermillExecutionError

FOLDER = Path(__file__).parent.parent / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


def cells(path, kind="code"):
    return [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == kind]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_stored_without_outputs_and_hold_calls_only(path):
    for cell in cells(path):
        assert not cell["outputs"]
        assert cell["execution_count"] is None
        source = "".join(line for line in cell["source"] if not line.startswith("%"))
        nodes = list(ast.walk(ast.parse(source)))
        assert not any(isinstance(node, ast.ClassDef | ast.FunctionDef) for node in nodes)
        assert len(cell["source"]) <= 25


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_each_has_one_parameters_cell_of_literals_and_documents_every_parameter(path):
    tagged = [cell for cell in cells(path) if "parameters" in cell["metadata"].get("tags", [])]
    assert len(tagged) == 1
    prose = "".join(line for cell in cells(path, "markdown") for line in cell["source"])
    for statement in ast.parse("".join(tagged[0]["source"])).body:
        ast.literal_eval(statement.value)
        assert f"`{statement.targets[0].id}`" in prose
    assert any("parameters.check(In)" in "".join(cell["source"]) for cell in cells(path))


@pytest.mark.slow
def test_preprocessing_alone_keeps_the_images_and_trains_nothing(workplace, image_folder):
    root, out = image_folder({"a": 12, "b": 12}), workplace / "out.ipynb"
    sobel = "line_guided:lines=sobel,choice=sample"
    given = {"profile": "smoke", "dataset": str(root), "selector": sobel, "preprocess_only": True}
    papermill.execute_notebook(
        FOLDER / "03_direct_training.ipynb", out, given, progress_bar=False, kernel_name="python3"
    )
    assert "24 images decoded and kept, drawn batch by batch in training" in out.read_text()
    assert not list(workplace.rglob("*.safetensors"))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"profil": "smoke"}, "unknown notebook parameter 'profil'.*Did you mean 'profile'"),
        ({"profile": "smoke", "dataset": "atlantis", "recipe": "droped"}, "unknown recipe 'droped'.*Did you mean"),
    ],
)
def test_papermill_stops_at_a_bad_parameter(workplace, given, message):
    with pytest.raises(PapermillExecutionError, match=f"(?s){message}"):
        papermill.execute_notebook(
            FOLDER / "01_cifar10_warmup.ipynb",
            workplace / "out.ipynb",
            given,
            progress_bar=False,
            kernel_name="python3",
        )


@pytest.mark.slow
def test_the_data_that_a_notebook_shows_are_those_that_it_trains_on(workplace):
    """Fewer images in the cell that opens them: fewer in the record, and another model."""
    source = json.loads((FOLDER / "03_direct_training.ipynb").read_text())
    (cell,) = [cell for cell in source["cells"] if "open_set(" in "".join(cell["source"])]
    at = next(number for number, line in enumerate(cell["source"]) if "open_set(" in line and "=" in line)
    cell["source"].insert(at + 1, "split = __import__('dataclasses').replace(split, train=split.train[::2])\n")
    records = []
    for name, notebook in (("as it is", FOLDER / "03_direct_training.ipynb"), ("edited", workplace / "edited.ipynb")):
        if name == "edited":
            notebook.write_text(json.dumps(source))
        given = {"profile": "smoke", "selector": "random"}
        papermill.execute_notebook(
            notebook, workplace / f"{name}.out.ipynb", given, progress_bar=False, kernel_name="python3"
        )
        records.append(json.loads(next(workplace.rglob("*-direct-random-s0.json")).read_text()))
    assert records[0]["fingerprint"] != records[1]["fingerprint"]


@pytest.mark.parametrize("path", NOTEBOOKS[1:5], ids=lambda path: path.stem)
def test_a_training_notebook_passes_its_images_and_its_split_on(path):
    code = "".join(line for cell in cells(path) for line in cell["source"])
    assert "images, split = open_set(" in code
    assert "data=(images, split)" in code
