"""codemeta.json and CITATION.cff say what the project says of itself."""

import json
import re
from pathlib import Path

import yaml

from tools import codemeta

REPOSITORY = Path(__file__).parents[2]


def test_codemeta_is_in_step_with_what_it_is_made_from():
    assert codemeta.FILE.read_text() == codemeta.text(), "run: python -m tools.codemeta"


def test_codemeta_describes_the_software_its_papers_and_each_committed_table():
    about = json.loads(codemeta.FILE.read_text())
    assert about["@type"] == "SoftwareSourceCode" and about["license"].endswith("/Apache-2.0")
    tables = {part["name"]: part for part in about["hasPart"]}
    assert tables.keys() == {file.name for file in (REPOSITORY / "benchmarks_results").glob("*.csv")}
    assert {"dataset", "keep_ratio", "accuracy", "gmacs"} <= {*tables["results.csv"]["variableMeasured"]}


def test_the_citation_names_the_project_and_the_papers_and_no_made_up_people():
    citation = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text())
    assert citation["authors"] == [{"name": "ASEL companion"}]
    titles = " ".join(reference["title"] for reference in citation["references"])
    for paper in ("Adaptive Selector with Efficient Learning", "Reinforcement Learning", "Line-Guided Patch Selection"):
        assert paper in titles
    names = {author["family-names"] for reference in citation["references"] for author in reference["authors"]}
    assert {"Benali Khodja", "Cauteruccio", "Husain"} <= names and not {"Author", "Doe"} & names


def test_what_the_pages_for_contributors_name_is_there():
    text = (REPOSITORY / "CONTRIBUTING.md").read_text()
    named = set(re.findall(r"\b(?:asel_lib|tests|docs|data)/[\w/.]*[\w/]", text))
    assert len(named) > 10
    assert sorted(name for name in named if "mine" not in name and not (REPOSITORY / name).exists()) == []
    assert all((REPOSITORY / f"tools/{name}.py").is_file() for name in re.findall(r"python -m tools\.(\w+)", text))
    changes = (REPOSITORY / "CHANGELOG.md").read_text()
    assert re.findall(r"^## \[(\S+)\]", changes, re.M)[0] == "Unreleased"
    assert f"## [{json.loads(codemeta.FILE.read_text())['version']}]" in changes
