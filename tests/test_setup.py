"""The files that set the project up agree with each other, and nothing tracked is out of place."""

import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
DIRECT = [Requirement(line) for line in PROJECT["dependencies"] + sum(EXTRAS.values(), [])]
LOCK = (ROOT / "requirements.lock").read_text()
LOCK_LINES = [line for line in LOCK.splitlines() if not line.startswith("#")]
ENVIRONMENT = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]


def locked() -> dict[str, str]:
    return {canonicalize_name(name): version for name, version in (line.split("==") for line in LOCK_LINES)}


@pytest.mark.parametrize("requirement", DIRECT, ids=lambda r: r.name)
def test_lock_pins_each_direct_dependency_within_its_range(requirement):
    version = locked()[canonicalize_name(requirement.name)]
    assert requirement.specifier.contains(version, prereleases=True)


def test_lock_holds_exact_versions_and_nothing_else():
    for line in LOCK_LINES:
        assert re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.!_-]+", line), line
    assert "zfrepro" not in locked()


def test_dependencies_have_lower_bounds_only():
    exceptions = {"jupyter-book": {"=="}, "ipykernel": {">=", "<"}}  # pyproject.toml says why
    for requirement in DIRECT:
        operators = {part.operator for part in requirement.specifier}
        assert operators == exceptions.get(requirement.name, {">="}), str(requirement)


def test_conda_environment_installs_the_project_with_the_lock():
    (python,) = [item for item in ENVIRONMENT if str(item).startswith("python=")]
    assert SpecifierSet(PROJECT["requires-python"]).contains(python.removeprefix("python="))
    (pip,) = [item["pip"] for item in ENVIRONMENT if isinstance(item, dict)]
    (constraints,) = [line.split(maxsplit=1)[1] for line in pip if line.startswith("-c ")]
    assert (ROOT / constraints).samefile(ROOT / "requirements.lock")
    (editable,) = [Requirement("zfrepro" + line[len("-e .") :]) for line in pip if line.startswith("-e .")]
    assert editable.extras == set(EXTRAS)
    # Nothing else is listed, so packages and bounds are those of pyproject.toml and cannot drift from them.
    assert len(pip) == 2
    assert {str(item).split("=")[0] for item in ENVIRONMENT if isinstance(item, str)} == {"python", "pip"}


def tracked() -> list[Path]:
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listing.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listing.stdout.split("\0") if name and (ROOT / name).is_file()]


def test_no_photographs_and_a_small_repository():
    files = tracked()
    assert not [f for f in files if f.suffix.lower() in {".jpg", ".jpeg", ".webp"}]
    assert sum(f.stat().st_size for f in files) < 32 * 2**20


# Written in pieces, so that this file does not name what it looks for.
HOSTS = [host.replace(" ", ".") for host in ("pypi org", "files pythonhosted", "download pytorch org")]
PLACES = re.compile(r"(?<![\w./:~-])/(?:work|root|home|Users)" + r"/[\w.-]")


def test_nothing_tracked_names_a_package_host_or_a_place_on_one_machine():
    found = []
    for file in tracked():
        try:
            text = file.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        found += [f"{file.relative_to(ROOT)}: {host}" for host in HOSTS if host in text]
        found += [f"{file.relative_to(ROOT)}: {match.group()}" for match in PLACES.finditer(text)]
    assert not found


def run_setup(python: str, folder: Path, path: str = os.environ["PATH"]) -> subprocess.CompletedProcess:
    command = ["/bin/sh", str(ROOT / "tools" / "setup.sh"), python, str(folder / "venv")]
    return subprocess.run(command, cwd=folder, env={"PATH": path}, capture_output=True, text=True)


def fake_python(folder: Path, body: str) -> str:
    script = folder / "python-fake"
    script.write_text(f"#!/bin/sh\n{body}\n")
    script.chmod(0o755)
    return str(script)


@pytest.mark.parametrize(
    "body, remedy",
    [
        (None, "Install Python 3.11 or newer"),
        ('case "$*" in *version_info*) exit 1;; --version) echo Python 3.9;; esac', "Python 3.9 is too old"),
        ('case "$*" in *ensurepip*) exit 1;; esac', "apt install python3-venv"),
    ],
    ids=["missing", "old", "no venv"],
)
def test_setup_says_in_one_line_what_to_do(tmp_path, body, remedy):
    python = "no-such-python" if body is None else fake_python(tmp_path, body)
    result = run_setup(python, tmp_path)
    assert result.returncode == 1
    assert remedy in result.stderr and len(result.stderr.splitlines()) == 1


def test_a_missing_compiler_is_only_a_note(tmp_path):
    python = fake_python(tmp_path, 'case "$*" in *ensurepip*) exit 1;; esac')
    result = run_setup(python, tmp_path, path=str(tmp_path))
    assert "note: no C compiler" in result.stdout
