"""Imports run one way, and an instrument needs no more than torch and numpy."""

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import zfrepro

ROOT = Path(__file__).resolve().parents[1]
MAY_IMPORT = {"zfrepro": {"zfrepro", "diorama"}, "diorama": {"diorama"}}
TOPS = ("zfrepro", "diorama", "book")
FILES = [file for top in TOPS for file in sorted((ROOT / top).rglob("*.py"))]


def module_of(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(file): file for file in FILES}


def imports(file: Path, everywhere: bool = True) -> set[str]:
    """Modules of this repository that a file imports, at its top level alone or also within
    functions.
    """
    tree = ast.parse(file.read_text())
    package = module_of(file) if file.name == "__init__.py" else module_of(file).rpartition(".")[0]
    modules = set()
    for node in ast.walk(tree) if everywhere else tree.body:
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(filter(None, [package if node.level else "", node.module or ""]))
            names = {f"{base}.{alias.name}" for alias in node.names}
            modules |= {name if name in MODULES else base for name in names}
    return {name for name in modules if name.split(".")[0] in TOPS}


@pytest.mark.parametrize("file", FILES, ids=module_of)
def test_imports_run_one_way(file):
    top, *rest = module_of(file).split(".")
    for name in imports(file):
        other, *parts = name.split(".")
        assert top not in MAY_IMPORT or other in MAY_IMPORT[top], name
        if top == other == "book" and len(rest) > 1:  # else move what both chapters need down
            assert parts[:1] == rest[:1], name


def test_there_are_no_cycles():
    graph = {
        name: imports(file, everywhere=False) & MODULES.keys() - {name}
        for name, file in MODULES.items()
    }
    assert list(TopologicalSorter(graph).static_order())


BLOCKING = """
import importlib.abc, sys
ALLOWED = {"torch", "numpy", "zfrepro"}
INSTALLED = set(sys.stdlib_module_names)
class Block(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        frame = sys._getframe(1)
        while frame and "importlib" in frame.f_code.co_filename:
            frame = frame.f_back
        by = frame.f_globals.get("__name__", "") if frame else ""
        if by.startswith("zfrepro") and name.split(".")[0] not in ALLOWED | INSTALLED:
            raise ImportError(f"{by} needs {name}")
sys.meta_path.insert(0, Block())
import zfrepro.deconvnet, zfrepro.receptive_field, zfrepro.gallery_page
"""


def test_an_instrument_needs_torch_and_numpy_only():
    words = [sys.executable, "-c", BLOCKING]
    run = subprocess.run(words, capture_output=True, text=True, cwd=ROOT)
    assert run.returncode == 0, run.stderr


def test_the_public_names_load_when_they_are_used():
    code = "import sys, zfrepro; assert 'torch' not in sys.modules; zfrepro.zfnet"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
    for name in zfrepro.__all__:
        assert getattr(zfrepro, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'projekt'"):
        zfrepro.projekt  # noqa: B018
