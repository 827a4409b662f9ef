"""Which code a notebook depends on, and a digest of it: a rule runs again only when code that it uses has changed.

The imports are read from the sources; nothing is imported. Comments, docstrings and layout are no part of a digest.
"""

import ast
import functools
import hashlib
import json
from collections.abc import Iterable, Iterator
from importlib.util import resolve_name
from pathlib import Path

import yaml

PACKAGE = "asel_lib"
SHOWING = (
    f"{PACKAGE}.reporting",
    f"{PACKAGE}.viewer",
)  # they draw for people: no checkpoint and no row depends on them
# What does not count of a notebook that is there to train, to measure or to show: the pictures in it are not worth
# hours. A notebook that shows counts with its prose.
LEFT_OUT = {"trains": (*SHOWING, f"{PACKAGE}.evaluation"), "measures": SHOWING, "shows": ()}
REGISTRY = f"{PACKAGE}.registry"


class Module:
    """A source file."""

    def __init__(self, file: Path):
        self.file = file

    @functools.cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.file.read_bytes())

    @functools.cached_property
    def digest(self) -> str:
        return _digest([_normal(self.tree)])


class Library:
    """The library's modules, and which of them some code uses.

    Args:
        root: the checkout, the folder that holds asel_lib/.
    """

    def __init__(self, root: Path):
        files = sorted((Path(root) / PACKAGE).rglob("*.py"))
        self.modules = {_module_name(file.relative_to(root)): Module(file) for file in files}
        self.registries = dict(_registries(self.modules[REGISTRY].tree))  # name -> the package of its entries
        self.lazy = dict(_lazy(self.modules[PACKAGE].tree))  # what the package imports on first use: name -> module
        self._imports: dict[str, set[str]] = {}

    def used_by(self, notebook: Path, purpose: str) -> set[str]:
        """The modules that a notebook uses, directly or through others.

        Args:
            notebook: an .ipynb file.
            purpose: what it is there for, one of LEFT_OUT.
        """
        left, found = self._imported_by(_code(notebook), ""), set()
        while left:
            name = left.pop()
            if name in found or name.startswith(LEFT_OUT[purpose]):
                continue
            found.add(name)
            if name not in self._imports:
                self._imports[name] = self._imported_by(self.modules[name].tree, name)
            left |= self._imports[name]
        return found

    def digest(self, notebook: Path, purpose: str) -> str:
        """16 hex digits of a notebook and of all code that it uses.

        Args:
            notebook: an .ipynb file.
            purpose: what it is there for, one of LEFT_OUT.
        """
        own = notebook.read_text() if purpose == "shows" else _normal(_code(notebook))
        used = sorted(self.used_by(notebook, purpose))
        return _digest([own, *(f"{name} {self.modules[name].digest}" for name in used)])

    def _imported_by(self, tree: ast.Module, module: str) -> set[str]:
        """The modules that this code imports, wherever in it, with the packages around them."""
        is_package = module in self.modules and self.modules[module].file.name == "__init__.py"
        names = set(_imported_names(tree, module if is_package else module.rpartition(".")[0]))
        names |= {self.lazy[name] for name in self.lazy if f"{PACKAGE}.{name}" in names}
        for name in self.registries:
            # An entry names its registry to register itself: it does not use the other entries.
            entries = self._below(self.registries[name])
            if f"{REGISTRY}.{name}" in names and module not in entries:
                names |= entries
        if is_package and "pkgutil" in names:  # it imports every module that it finds in its folder
            names |= self._below(module)
        around = {name.rsplit(".", depth)[0] for name in names for depth in range(1, name.count(".") + 1)}
        return (names | around) & self.modules.keys()

    def _below(self, package: str) -> set[str]:
        return {name for name in self.modules if name.startswith(f"{package}.")}


def settings_digest(file: Path) -> str:
    """16 hex digits of a YAML file's values; its comments are no part of it."""
    return _digest([json.dumps(yaml.safe_load(file.read_text()), sort_keys=True)])


def files_digest(files: Iterable[Path]) -> str:
    """16 hex digits of files' names and bytes; compiled Python is left out."""
    kept = [file for file in files if file.suffix != ".pyc"]
    return _digest([f"{file.name} {hashlib.sha256(file.read_bytes()).hexdigest()}" for file in kept])


def _imported_names(tree: ast.Module, package: str) -> Iterator[str]:
    """Every module, and every name of one, that code imports or reads from an imported module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = resolve_name("." * node.level + (node.module or ""), package)
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            yield from (f"{module}.{node.attr}" for module in (PACKAGE, REGISTRY) if module.endswith(node.value.id))


def _registries(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """(name, package of its entries) of each `NAME = Registry(kind, package)`."""
    for node in tree.body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.Call):
            if ast.unparse(node.value.func).startswith("Registry"):
                target = node.target if isinstance(node, ast.AnnAssign) else node.targets[0]
                yield ast.unparse(target), node.value.args[1].value


def _lazy(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """(name, module) of the dict of names that are imported on first use."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict):
            for name, module in ast.literal_eval(node.value).items():
                if str(module).startswith(f"{PACKAGE}."):
                    yield name, module


def _code(notebook: Path) -> ast.Module:
    """A notebook's code, without the lines that are IPython's."""
    cells = [cell for cell in json.loads(notebook.read_text())["cells"] if cell["cell_type"] == "code"]
    lines = [line for cell in cells for line in "".join(cell["source"]).splitlines()]
    return ast.parse("\n".join(line for line in lines if not line.startswith(("%", "!"))))


def _normal(tree: ast.Module) -> str:
    """Code as text, without comments, docstrings and layout."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            # Texts that stand alone: docstrings, and those that document a field.
            node.body = [each for each in node.body if not _is_text(each)] or [ast.Pass()]
    return ast.dump(tree)


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _module_name(file: Path) -> str:
    parts = file.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _digest(parts: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
