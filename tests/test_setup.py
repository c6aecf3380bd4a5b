"""The files that set the project up agree with each other, and nothing tracked is out of place."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import nbformat
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def requirements(*extras: str) -> list[Requirement]:
    """What the project and these extras need, and the extras that they name."""
    needs = [Requirement(line) for line in PROJECT["dependencies"]]
    for extra in extras:
        for needed in map(Requirement, PROJECT["optional-dependencies"][extra]):
            needs += requirements(*needed.extras) if needed.name == "zfrepro" else [needed]
    return needs


DIRECT = list({r.name: r for r in requirements(*PROJECT["optional-dependencies"])}.values())


def test_lock_pins_each_direct_dependency_within_its_range():
    lines = re.findall(r"(?m)^[^#\n].*$", (ROOT / "requirements.lock").read_text())
    assert all(re.fullmatch(r"(?!zfrepro)[\w.-]+==[\w.!-]+", line) for line in lines)
    pairs = (line.split("==") for line in lines)
    locked = {canonicalize_name(name): version for name, version in pairs}
    for needed in DIRECT:
        version = locked.get(canonicalize_name(needed.name))
        assert version and needed.specifier.contains(version, prereleases=True), "make lock"


def test_dependencies_have_lower_bounds_only():
    exceptions = {"jupyter-book": {"=="}, "ipykernel": {">=", "<"}}  # pyproject.toml says why
    for requirement in DIRECT:
        operators = {part.operator for part in requirement.specifier}
        assert operators == exceptions.get(requirement.name, {">="}), str(requirement)


def test_conda_environment_installs_the_project_with_the_lock():
    items = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    python, pip, below = items
    assert SpecifierSet(PROJECT["requires-python"]).contains(python.removeprefix("python="))
    # Nothing else is listed, so packages and bounds are those of pyproject.toml and cannot drift
    # from them.
    assert pip == "pip" and below == {"pip": ["-c requirements.lock", "-e .[book,test]"]}


OTHER_NAMES = {"scikit-learn": "sklearn", "scikit-image": "skimage", "pillow": "PIL",
               "ipywidgets": "IPython"}  # fmt: skip


def imported(code: str) -> set[str]:
    """Packages that Python code imports, without those that come with Python."""
    packages = set()
    for node in ast.walk(ast.parse(code)):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module] if isinstance(node, ast.ImportFrom) and not node.level else []
        packages |= {name.split(".")[0] for name in names}
    return packages - set(sys.stdlib_module_names)


def test_what_pages_and_packages_import_is_declared():
    # The first cell of a notebook installs the extra `pages`.
    packages = ("zfrepro", "diorama", "book")
    code = [file.read_text() for top in packages for file in (ROOT / top).rglob("*.py")]
    pages = [nbformat.read(path, as_version=4) for path in (ROOT / "book").rglob("*.ipynb")]
    code += [cell.source for page in pages for cell in page.cells if cell.cell_type == "code"]
    declared = {OTHER_NAMES.get(r.name, r.name) for r in requirements("pages")}
    others = {"cycler", "timm"}  # with matplotlib; of the list of supported networks, see tests
    assert set().union(*map(imported, code)) <= {*declared, *others, *packages, "ipywidgets"}


def tracked() -> list[Path]:
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listing.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listing.stdout.split("\0") if name and (ROOT / name).is_file()]


def test_no_photographs_and_a_small_repository():
    files = tracked()
    assert not [f for f in files if f.suffix.lower() in {".jpg", ".jpeg", ".webp"}]
    assert sum(f.stat().st_size for f in files) < 48 * 2**20


# Written in pieces, so that this file does not name what it looks for.
HOSTS = [
    host.replace(" ", ".") for host in ("pypi org", "files pythonhosted", "download pytorch org")
]
PLACES = re.compile(r"(?<![\w./:~-])/(?:work|root|home|Users)" + r"/[\w.-]")


def test_nothing_tracked_names_a_package_host_or_a_place_on_one_machine():
    named = []
    for file in tracked():
        content = file.read_bytes()
        if b"\0" in content:  # it is no text
            continue
        text = content.decode(errors="replace")
        words = [host for host in HOSTS if host in text] + PLACES.findall(text)
        named += [f"{file.relative_to(ROOT)}: {word}" for word in words]
    assert not named
