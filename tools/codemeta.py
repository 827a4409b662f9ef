"""Write codemeta.json, which describes the software and its results to catalogues.

    python -m tools.codemeta

It is made from pyproject.toml, CITATION.cff and the columns of the committed tables: run it after one of these has
changed. CodeMeta 3.0 is a vocabulary of schema.org, as JSON-LD; an RO-Crate would say the same, and needs a library.
"""

import csv
import json
import tomllib
from pathlib import Path

import yaml

from asel_lib.files import replace_text

REPOSITORY = Path(__file__).parents[1]
FILE = REPOSITORY / "codemeta.json"
CONTEXT = "https://w3id.org/codemeta/3.0"
TABLES = {  # in benchmarks_results/
    "results.csv": "accuracy and cost of each model at each keep ratio",
    "confusion.csv": "which classes are taken for which",
    "patches.csv": "how often each patch is kept",
    "speed.csv": "speed, memory and growth with size",
    "deployed.csv": "accuracy and speed of exported models",
}


def described() -> dict:
    """The content of codemeta.json."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    citation = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text(encoding="utf-8"))
    return {
        "@context": CONTEXT,
        "@type": "SoftwareSourceCode",
        "name": project["name"],
        "alternateName": citation["title"],
        "description": project["description"],
        "version": project["version"],
        "license": f"https://spdx.org/licenses/{project['license']}",
        "author": [_author(author) for author in citation["authors"]],
        "keywords": citation["keywords"],
        "programmingLanguage": {"@type": "ComputerLanguage", "name": "Python", "version": project["requires-python"]},
        "softwareRequirements": project["dependencies"],
        "readme": project["readme"],
        "referencePublication": [_paper(reference) for reference in citation["references"]],
        "hasPart": [
            _table(REPOSITORY / "benchmarks_results" / name, what)
            for name, what in TABLES.items()
            if (REPOSITORY / "benchmarks_results" / name).is_file()
        ],
    }


def text() -> str:
    return json.dumps(described(), indent=2, ensure_ascii=False) + "\n"


def _author(author: dict) -> dict:
    if "name" in author:
        return {"@type": "Organization", "name": author["name"]}
    given = {"givenName": author["given-names"]} if "given-names" in author else {}
    return {"@type": "Person", **given, "familyName": author["family-names"]}


def _paper(reference: dict) -> dict:
    paper = {"@type": "ScholarlyArticle", "name": reference["title"], "author": [*map(_author, reference["authors"])]}
    paper |= {"@id": f"https://doi.org/{reference['doi']}"} if "doi" in reference else {}
    return paper | ({"datePublished": str(reference["year"])} if "year" in reference else {})


def _table(file: Path, what: str) -> dict:
    with file.open(encoding="utf-8", newline="") as opened:
        columns = next(csv.reader(opened))
    place = file.relative_to(REPOSITORY).as_posix()
    return {"@type": "Dataset", "@id": place, "name": file.name, "description": what, "variableMeasured": columns}


if __name__ == "__main__":
    replace_text(FILE, text())
