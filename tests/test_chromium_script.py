"""Where a browser comes from, on machines that have one or another way to get one: programs that only pretend."""

import subprocess
from pathlib import Path

import pytest

from tests.chromium import ROOT
from tools import browser

RUNS, FAILS = "exit 0", "exit 1"


def programs(folder: Path, **bodies: str) -> Path:
    """A folder with shell scripts of these names and bodies, and nothing else but what a script needs."""
    folder.mkdir()
    for name in ("id", "chmod"):
        (folder / name).symlink_to(Path("/usr/bin") / name if (Path("/usr/bin") / name).exists() else f"/bin/{name}")
    for name, body in bodies.items():
        file = folder / name.replace("_", "-")
        file.write_text(f"#!/bin/sh\n{body}\n")
        file.chmod(0o755)
    return folder


def run(folder: Path) -> str:
    command = ["/bin/sh", str(ROOT / "tools" / "chromium.sh")]
    found = subprocess.run(command, env={"PATH": str(folder)}, capture_output=True, text=True)
    assert found.returncode == 0 and not found.stderr
    return found.stdout


INSTALLS = 'case "$*" in *install*) echo "#!/bin/sh" > {0}/chromium; chmod +x {0}/chromium;; esac'


@pytest.mark.parametrize(
    "bodies, said",
    [
        ({"google_chrome": RUNS, "apt_get": FAILS}, []),
        ({"apt_get": INSTALLS, "sudo": 'shift; "$@"'}, ["Debian's"]),
        ({"chromium_browser": FAILS, "apt_get": RUNS, "npx": RUNS, "sudo": RUNS}, ["Debian's", "Playwright's"]),
        ({"apt_get": FAILS, "npx": FAILS, "sudo": FAILS}, ["Debian's", "Playwright's", "NO BROWSER"]),
        ({}, ["NO BROWSER"]),
    ],
    ids=["one is there", "Debian", "a stub, then Playwright", "both fail", "nothing"],
)
def test_a_browser_is_found_or_fetched_or_its_lack_said(tmp_path, bodies, said):
    folder = tmp_path / "bin"
    lines = run(programs(folder, **{name: body.format(folder) for name, body in bodies.items()})).splitlines()
    assert len(lines) == len(said)
    assert all(word in line for word, line in zip(said, lines, strict=True))


def test_a_program_that_does_not_run_is_no_browser(tmp_path, monkeypatch):
    folder = programs(tmp_path / "bin", chromium=FAILS, google_chrome=RUNS)
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setattr(browser, "PLAYWRIGHT", tmp_path)
    browser.program.cache_clear()
    try:
        assert browser.program() == str(folder / "google-chrome")
        browser.program.cache_clear()
        (folder / "google-chrome").unlink()
        assert browser.program() is None
    finally:
        browser.program.cache_clear()
