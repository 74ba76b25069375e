"""The shape of the house: imports run one way, functions and files stay small, names say something."""

import ast
from itertools import pairwise
from pathlib import Path
from statistics import median

import pytest

PACKAGE = Path(__file__).parent.parent / "xrayssl"
FILES = sorted(PACKAGE.rglob("*.py"))
# fmt: off
FLOORS = [  # a module may import from its own floor and from those below
    {"cli", "__main__", "demo", "prepare", "data_command", "reconstruct", "catalogue", "predict", "export", "frozen",
     "chains", "comparison", "dashboards", "explained"},
    {"series"},
    {"train", "advice", "lightning_cli", "diagnose", "settings", "request", "data_request", "study", "explain",
     "trained", "classifier"},
    {"callbacks", "loggers"},
    {"methods", "data"},
    {"results", "finetuning", "tracking"},
    {"heads", "views", "decoders", "pyramid", "targets", "tokenizer", "tiles", "optim", "handoff",
     "foreign", "metrics", "statistics", "probing", "features"},
    {"sparse", "batchnorm", "backbone", "networks", "checkpoint"},
    {"averaging", "border", "recomputing", "masking", "maps", "patches", "attention", "memory", "permutations",
     "gathering", "hardware", "health", "memory_bank", "momentum", "contrast", "sinkhorn",
     "errors", "files", "tensors_file", "recipes", "rundir", "spelling", "laterality", "configs", "__init__"},
]
# fmt: on
FORBIDDEN_FILES = {"utils", "misc", "common", "helpers", "base_utils"}


def floor(module):
    found = [number for number, modules in enumerate(FLOORS) if module in modules]
    assert found, f"{module}: give this module a floor in test_tree.FLOORS"
    return found[0]


def imports(path):
    """Parts of this package that a file imports, by the first name below xrayssl."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("xrayssl"):
            parts = node.module.split(".")
            yield from parts[1:2] or [alias.name for alias in node.names if not alias.name.startswith("__")]
        elif isinstance(node, ast.Import):
            yield from (alias.name.split(".")[1] for alias in node.names if alias.name.startswith("xrayssl."))


def functions():
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                doc = node.body[0] if ast.get_docstring(node) else None
                length = node.end_lineno - node.lineno + 1
                yield f"{path.name}:{node.name}", length - (doc.end_lineno - doc.lineno + 1 if doc else 0)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_run_one_way(path):
    here = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    upward = [name for name in imports(path) if name != here and floor(name) < floor(here)]
    assert upward == []


def test_methods_and_data_do_not_know_each_other():
    crossing = {(path.name, name) for part, other in (("methods", "data"), ("data", "methods"))
                for path in (PACKAGE / part).rglob("*.py") for name in imports(path) if name == other}  # fmt: skip
    assert crossing == set()


def test_no_file_is_longer_than_300_lines():
    assert {path.name: n for path in FILES if (n := len(path.read_text().splitlines())) > 300} == {}


def test_functions_are_small():
    lengths = sorted(length for _, length in functions())
    assert median(lengths) < 12
    assert lengths[int(0.9 * len(lengths))] < 40
    assert [name for name, length in functions() if length > 60] == []


def test_no_file_or_class_has_a_name_that_says_nothing():
    assert {path.stem for path in FILES} & FORBIDDEN_FILES == set()
    classes = [
        node.name for path in FILES for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ClassDef)
    ]
    assert [name for name in classes if name.startswith("Base") or name.endswith(("Manager", "Helper"))] == []


def test_everything_public_has_a_docstring():
    naked = []
    for path in FILES:
        tree = ast.parse(path.read_text())
        scopes = [tree, *(node for node in tree.body if isinstance(node, ast.ClassDef))]
        for scope in scopes:
            for node in scope.body:
                documented = isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")
                if documented and not ast.get_docstring(node):
                    naked.append(f"{path.name}:{node.name}")
    assert naked == []


def test_the_floors_name_only_what_exists():
    names = {path.stem for path in PACKAGE.iterdir()} | {"configs", "explain"}
    assert [name for modules in FLOORS for name in modules if name not in names] == []


def test_consecutive_floors_do_not_overlap():
    assert all(not (upper & lower) for upper, lower in pairwise(FLOORS))


def test_the_wheel_holds_every_package():
    lines = (PACKAGE.parent / "setup.cfg").read_text().partition("packages =\n")[2].partition("package_dir")[0]
    folders = {path.parent.relative_to(PACKAGE.parent) for path in PACKAGE.rglob("__init__.py")}
    expected = {".".join(folder.parts) for folder in folders} | {"xrayssl.configs"}
    assert set(lines.split()) == expected
