"""Pages launched elsewhere: the cell that installs the package where it is missing, the buttons, Binder's files."""

import ast
import importlib.util
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import nbformat
import pytest
import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tools"))

import first_cell  # noqa: E402

NOTEBOOKS = sorted((ROOT / "book").rglob("*.ipynb"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
REQUIRED = {requirement.name: requirement for requirement in map(Requirement, PROJECT["dependencies"])}
CONFIG = yaml.safe_load((ROOT / "_config.yml").read_text())
SOURCE = first_cell.source()
MODULES = {
    "scikit-learn": "sklearn",
    "pillow": "PIL",
    "myst-nb": "myst_nb",
}  # packages that are imported by another name


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_notebook_begins_with_the_cell_that_installs(path):
    cells = nbformat.read(path, as_version=4).cells
    remedy = "write the first cell anew: python tools/first_cell.py"
    assert cells[0].source == SOURCE and cells[0].cell_type == "code", remedy
    assert cells[0].metadata.get("tags") == ["remove-cell"], remedy
    assert [cell.id for cell in cells].count(first_cell.CELL_ID) == 1, remedy


@pytest.fixture
def commands(monkeypatch) -> list[list[str]]:
    """What the cell would run, in order; `sys.path` is put back."""
    ran: list[list[str]] = []
    monkeypatch.setattr(subprocess, "run", lambda words, check: ran.append(words) if check else None)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return ran


def test_the_cell_does_nothing_where_the_package_is(commands):
    before = list(sys.path)
    exec(SOURCE, {})
    assert not commands and sys.path == before


def test_the_cell_fetches_and_installs_where_the_package_is_not(commands, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    exec(SOURCE, {})
    (clone, install), repository = commands, CONFIG["repository"]
    assert clone[:2] == ["git", "clone"] and clone[-2] == repository["url"]
    assert f"--branch={repository['branch']}" in clone
    assert install[:4] == [sys.executable, "-m", "pip", "install"]
    assert install[install.index("-e") + 1] == clone[-1] == sys.path[0]
    # a folder of that name would itself look like the package, the next time
    assert not clone[-1].isidentifier()


def test_the_cell_fetches_a_fork_from_where_its_configuration_says(tmp_path):
    (tmp_path / "_config.yml").write_text("repository: {url: https://example.org/me/mine, branch: try}")
    made = first_cell.source(tmp_path)
    assert "https://example.org/me/mine" in made and "--branch=try" in made
    assert CONFIG["repository"]["url"] not in made


def test_an_older_cell_is_replaced_and_the_others_stay():
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# A"), nbformat.v4.new_code_cell("1")])
    old = first_cell.with_first_cell(notebook, "old")
    new = first_cell.with_first_cell(old, SOURCE)
    assert [cell.source for cell in new.cells] == [SOURCE, "# A", "1"]
    nbformat.validate(new)


def imported(code: str) -> set[str]:
    """Packages that Python code imports, without those that come with Python."""
    found = set()
    for node in ast.walk(ast.parse(code)):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module] if isinstance(node, ast.ImportFrom) and not node.level else []
        found |= {name.split(".")[0] for name in names}
    return found - set(sys.stdlib_module_names)


def test_what_pages_import_is_what_the_cell_installs():
    cells = [cell for path in NOTEBOOKS for cell in nbformat.read(path, as_version=4).cells]
    found = set().union(*(imported(cell.source) for cell in cells if cell.cell_type == "code"))
    installed = {MODULES.get(name, name) for name in {*REQUIRED, *first_cell.MORE}}
    assert found <= installed | {"zfrepro", "diorama"}


def test_what_the_package_imports_it_declares():
    files = [file for package in ("zfrepro", "diorama") for file in (ROOT / package).rglob("*.py")]
    found = set().union(*(imported(file.read_text()) for file in files))
    declared = {MODULES.get(name, name) for name in REQUIRED}
    assert found - {"IPython"} <= declared | {"zfrepro", "diorama"}  # IPython comes with ipywidgets


def test_the_book_has_buttons_for_colab_and_binder():
    buttons = CONFIG["launch_buttons"]
    assert buttons["colab_url"] and buttons["binderhub_url"]
    assert CONFIG["repository"]["url"].startswith("https://github.com/")  # Colab reads from nowhere else


def test_binder_installs_torch_without_cuda_within_the_projects_bounds():
    wanted = yaml.safe_load((ROOT / "binder" / "environment.yml").read_text())["dependencies"]
    python, pip, *packages = wanted
    assert python in yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"] and pip == "pip"
    bounds = [str(REQUIRED[name]) for name in ("torch", "torchvision")]
    assert [package.replace("pytorch-cpu", "torch") for package in packages] == bounds


def test_binder_installs_the_package_in_place():
    script = ROOT / "binder" / "postBuild"
    assert os.access(script, os.X_OK)
    last = script.read_text().splitlines()[-1]
    assert last.startswith("python -m pip install ") and last.endswith("-e '.[book]'")
