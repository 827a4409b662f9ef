"""The structure: imports point one way, names are read in one place, a label stands once, words mean one thing."""

import ast
import json
import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from importlib.util import resolve_name
from pathlib import Path

import pytest

from asel_lib import selection, tables
from asel_lib.registry import RECIPES

REPOSITORY = Path(__file__).parents[1]
PACKAGE = "asel_lib"
# The order of the layers: a module imports from its own layer and from those before it, also inside functions. (A
# registry imports, when it is asked, the package whose name it holds: its entries are above it, and it uses no other
# name of theirs.) docs/design.md shows the same order.
LAYERS = (
    "errors checks extras files paths parameters reproducibility identity registry configs devices data selection "
    "methods models records shipped sources weights checkpoints author_checkpoints training export tables evaluation "
    "hub reporting viewer"
).split()
LONGEST = 300  # lines of a file, unless its docstring has a line that begins "Long because"
# What code has that makes or reads a model's name by hand: parts of former names, and the separators of present ones.
# (A whole name may stand anywhere; "{}" is what an f-string puts in.)
NAME_PARTS = (
    r"_seed\d|_seed\{|_seed$",
    r"_line_guided_|_line_guided$",
    r"^_(finetuned|warmup|agentvit|anytime|dropped|paper)$",
    r"\}_(finetuned|warmup|agentvit|anytime|line_guided)(\.|$)",
    r"^agentvit_(\{|$)",
    r"(^|\})-(direct|published|warmup|agentvit)-",
    r"-s\{|-k\{|-s$|^-s\\d",
)


# --- what there is ---


@cache
def sources(*tops: str) -> dict[str, ast.Module]:
    """File, relative to the checkout -> its code, of Python files and of the code cells of notebooks."""
    found = {}
    for top in tops:
        for file in sorted((REPOSITORY / top).rglob("*.py")):
            found[str(file.relative_to(REPOSITORY))] = ast.parse(file.read_text())
        for file in sorted((REPOSITORY / top).glob("*.ipynb")):
            cells = [cell["source"] for cell in json.loads(file.read_text())["cells"] if cell["cell_type"] == "code"]
            lines = [line for cell in cells for line in "".join(cell).splitlines() if not line.startswith(("%", "!"))]
            found[str(file.relative_to(REPOSITORY))] = ast.parse("\n".join(lines))
    return found


EVERYWHERE = (PACKAGE, "pipeline", "tools", "notebooks")


@cache
def modules() -> dict[str, ast.Module]:
    """Name of a module of the library -> its code."""
    return {_module_name(file): tree for file, tree in sources(PACKAGE).items()}


def _module_name(file: str) -> str:
    return file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def imports(name: str, tree: ast.Module) -> Iterator[str]:
    """The modules of the checkout that a module imports anywhere in it, those for type checkers alone left out."""
    is_package = any(other.startswith(f"{name}.") for other in modules())
    package = name if is_package else name.rpartition(".")[0]
    for node in _statements(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        else:
            base = resolve_name("." * node.level + (node.module or ""), package)
            both = {alias.name: f"{base}.{alias.name}" for alias in node.names}
            yield from (whole if whole in modules() else base for name, whole in both.items() if name != "__version__")


def _statements(node: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            yield from (found for other in child.orelse for found in _statements(other))
        elif isinstance(child, ast.Import | ast.ImportFrom):
            yield child
        else:
            yield from _statements(child)


def texts(tree: ast.AST) -> Iterator[str]:
    """The texts in code; docstrings and those that document a field are prose."""
    prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(part.value if isinstance(part, ast.Constant) else "{}" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
            yield node.value


# --- the arrows ---


def test_every_module_is_of_a_layer():
    assert {name.split(".")[1] for name in modules() if name != PACKAGE} == set(LAYERS)


def test_imports_point_one_way():
    wrong = []
    for name, tree in modules().items():
        layers = LAYERS[: LAYERS.index(name.split(".")[1]) + 1] if name != PACKAGE else []
        for other in imports(name, tree):
            top, _, rest = other.partition(".")
            assert top not in ("pipeline", "tools", "tests"), f"{name} imports {other}, which is above the library"
            if top == PACKAGE and rest.split(".")[0] not in layers:
                wrong.append(f"{name} imports {other}")
    assert not wrong


def test_no_module_imports_itself_through_others():
    graph = {name: {other for other in imports(name, tree) if other != name} for name, tree in modules().items()}
    TopologicalSorter(graph).prepare()  # CycleError names the modules


def test_an_import_against_the_order_is_seen():
    """Inside a function and by a relative name, too; but not what only a type checker reads."""
    code = """
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    from asel_lib.viewer import look
def later():
    from ..training import jobs
"""
    assert list(imports("asel_lib.data.lines", ast.parse(code))) == ["typing", "asel_lib.training.jobs"]


# --- names and labels ---


def test_each_label_stands_where_it_is_registered_and_nowhere_else():
    """In code: prose may say the names of papers' methods."""
    labels = [entry.label for entry in (*selection.entries(), *RECIPES)]
    labels = [label for label in labels if label != label.lower() or len(label.split()) > 1]
    assert "ASEL" in labels and "glance (ours)" in labels
    there = {label: [file for file, tree in sources(*EVERYWHERE).items() if label in texts(tree)] for label in labels}
    assert {label: files for label, files in there.items() if len(files) != 1 or "/selection/" not in files[0]} == {}


def test_nobody_but_identity_makes_or_reads_a_models_name():
    found = {}
    for file, tree in sources(*EVERYWHERE).items():
        parts = [text for text in texts(tree) if any(re.search(pattern, text) for pattern in NAME_PARTS)]
        if parts and file != f"{PACKAGE}/identity.py":
            found[file] = parts
    assert found == {}
    assert not re.search("_seed[^s]|_finetuned|_line_guided_|-direct-", (REPOSITORY / "Snakefile").read_text())


@pytest.mark.parametrize(
    "code", ['name + "_seed1"', 'f"{a}-direct-{b}-s0"', 'name.endswith("_anytime")', 'f"{a}-s{b}"']
)
def test_code_that_makes_or_reads_a_models_name_is_seen(code):
    assert any(re.search(pattern, text) for text in texts(ast.parse(code)) for pattern in NAME_PARTS)


def test_nobody_asks_how_the_text_of_a_policy_begins():
    """`identity.selector_name` and `selection.parse` read it."""
    names = set(selection.names())
    for file, tree in sources(*EVERYWHERE).items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith((".startswith", ".removeprefix")):
                assert not names & set(texts(node)), f"{file}: {ast.unparse(node)}"


# --- words ---


def test_line_guided_is_a_selector_and_no_schedule_and_paper_a_profile_and_no_recipe():
    from asel_lib.identity import SCHEDULES

    assert set(SCHEDULES) == {"warmup", "published", "direct", "agentvit", "untrained"}
    assert "line_guided" in selection.names() and "paper" not in RECIPES and "masked" in RECIPES
    for file, tree in sources(*EVERYWHERE).items():
        for node in ast.walk(tree):
            if isinstance(node, ast.keyword | ast.Dict):
                pairs = [(ast.Constant(node.arg), node.value)] if isinstance(node, ast.keyword) else []
                pairs += zip(node.keys, node.values, strict=True) if isinstance(node, ast.Dict) else []
                said = [(ast.unparse(key).strip("'"), ast.unparse(value).strip("'")) for key, value in pairs if key]
                wrong = {("schedule", "line_guided"), ("stage", "line_guided"), ("recipe", "paper")}
                assert not wrong & set(said), f"{file}, line {node.lineno if hasattr(node, 'lineno') else '?'}"


FORMER = (
    "weigh best take_up more_state dealt untouched joint_statistics through behind written PartOf Piece _Sum"
).split()


@pytest.mark.parametrize("name", FORMER)
def test_functions_have_names_of_the_field(name):
    for file, tree in sources(PACKAGE).items():
        defined = [node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)]
        assert name not in defined, file


def test_patches_are_gathered_and_not_taken():
    for file, tree in sources(f"{PACKAGE}/selection", f"{PACKAGE}/models").items():
        assert "take" not in [node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)], file


def test_columns_say_what_they_hold():
    """`start` and `policy` keep the words of the profile and of the call that they are of."""
    schemas = [kind for kind in vars(tables).values() if isinstance(kind, tables.Schema)]
    every = {column for kind in schemas for column in kind.columns}
    assert {"object_area_kept", "ideal_speed_up"} <= every and not {"object_kept", "ideal", "extractor"} & every


def test_a_run_class_is_asked_for_by_that_name_and_a_model_is_trained_for_all_ratios_by_its_recipe():
    for file, tree in sources(*EVERYWHERE).items():
        calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
        given = {(ast.unparse(call.func).split(".")[-1], one.arg) for call in calls for one in call.keywords}
        former = {("train", "kind"), ("direct", "anytime"), ("direct", "extractor"), ("direct", "selection")}
        assert not former & given, file


@pytest.mark.parametrize("name", ["speed", "answers", "published"])
def test_no_two_modules_share_a_name_that_says_nothing_of_either(name):
    assert len([module for module in modules() if module.split(".")[-1] == name]) <= 1


# --- size ---


def test_a_file_is_one_idea_or_says_why_it_is_long():
    long = {}
    for file, tree in sources(PACKAGE).items():
        lines = len((REPOSITORY / file).read_text().splitlines())
        reasons = re.findall(r"^Long because .+", ast.get_docstring(tree) or "", re.M)
        if lines > LONGEST and not reasons:
            long[file] = lines
    assert long == {}


# --- what is used, and what it says of itself ---

# For those who use the library, and so called by tests alone here: the first by its documents, the others by torch,
# timm, IPython or the authors' code.
FOR_USERS = {
    *("load_published", "to_unit", "fit"),
    *("reset_classifier", "_repr_mimebundle_", "get_next", "SelectiveMagnoViT", "get_num_selected_patches", "_apply"),
}


def test_nothing_is_there_for_its_own_test_alone():
    """What is defined is named somewhere else than in tests; what a decorator registers is found by its registry."""
    named, workflow = set(), (REPOSITORY / "Snakefile").read_text()
    for file, tree in sources(*EVERYWHERE).items():
        inside = {id(part): node.name for node in ast.walk(tree) if is_definition(node) for part in ast.walk(node)}
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and not file.endswith("__init__.py"):
                named |= {alias.name for alias in node.names}
            name = getattr(node, "id", None) or getattr(node, "attr", None)
            if name and name != inside.get(id(node)):  # a call of itself is no use
                named.add(name)
    unused = {
        f"{file}: {node.name}"
        for file, tree in sources(PACKAGE, "pipeline", "tools").items()
        for node in ast.walk(tree)
        if is_definition(node) and not re.match("__.+__$", node.name)
        if not any("register" in ast.unparse(decorator) for decorator in node.decorator_list)
        if node.name not in named | FOR_USERS and node.name not in workflow
    }
    assert unused == set()


def is_definition(node: ast.AST) -> bool:
    return isinstance(node, ast.FunctionDef | ast.ClassDef)


OTHERS = ("data", "models", "export", "configs")  # folders whose functions have yet to say it so


def test_a_public_function_of_several_arguments_says_each_on_a_line():
    """Or refers to the function whose arguments they are."""
    silent, overridden = [], overridden_methods()
    for file, tree in sources(PACKAGE, "pipeline", "tools").items():
        if file.startswith(tuple(f"{PACKAGE}/{folder}/" for folder in OTHERS)):
            continue
        for node in public_functions(tree):
            if node.name in overridden:
                continue
            arguments = [one.arg for one in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
            arguments = [name for name in arguments if name not in ("self", "cls")]
            text = ast.get_docstring(node) or ""
            section = re.search(r"^Args:\n((?:    .*\n?|\n)+)", text, re.M)
            said = re.findall(r"^    ([\w, *]+):", section[1], re.M) if section else []
            said = {name.strip(" *") for names in said for name in names.split(",")}
            elsewhere = re.search(r"rguments( and errors)?\s+(as|of)\b", text)
            if len(arguments) > 1 and not set(arguments) <= said and not elsewhere:
                silent.append(f"{file}: {node.name}({', '.join(arguments)})")
    assert silent == []


def overridden_methods() -> set[str]:
    """Methods that several classes have, of which the class at the bottom documents the arguments; and torch's."""
    classes = [node for tree in sources(PACKAGE).values() for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    methods = Counter(node.name for each in classes for node in each.body if isinstance(node, ast.FunctionDef))
    return {name for name, count in methods.items() if count > 1} | {"forward"}


def public_functions(tree: ast.Module) -> Iterator[ast.FunctionDef]:
    for node in tree.body:
        inner = node.body if isinstance(node, ast.ClassDef) and not node.name.startswith("_") else [node]
        yield from (one for one in inner if isinstance(one, ast.FunctionDef) and not one.name.startswith("_"))


@pytest.mark.parametrize("file", sorted(sources("tools")))
def test_a_tool_says_when_to_run_it(file):
    said = " ".join((ast.get_docstring(sources("tools")[file]) or "").split())
    assert re.search(r"\b[Rr]un it (after|before|when)|Not run by itself", said)


def test_pages_are_made_from_templates():
    """No element of HTML is put together in code."""
    element = re.compile(r"</?(a|b|div|html|img|li|p|pre|span|style|table|td|tr|ul)\b[^<]*>")
    for file, tree in sources(PACKAGE, "pipeline", "tools").items():
        assert [text for text in texts(tree) if element.search(text)] == [], file
