"""Everything `make test` checks, with the time of each stage. Exits with 0 only if every stage passed.

1. ruff
2. the unit tests
3. every notebook, run once in a copy of the book (.executed), so that the sources stay without outputs
4. the book, built from that copy without running anything again
5. the built pages in headless Chromium, if there is one
"""

import os
import shutil
import subprocess
import sys
import time

import yaml
from browser import program
from build_book import ROOT, build
from run_notebooks import SETTINGS, TIMEOUT, WORKERS

EXECUTED = ROOT / ".executed"  # not below _build: nbmake skips folders of that name
PAGES = "tests/test_browser.py"  # needs the built book
PYTEST = [sys.executable, "-m", "pytest"]


def copy_book() -> None:
    """A copy of what jupyter-book reads, with execution switched off."""
    shutil.rmtree(EXECUTED, ignore_errors=True)
    shutil.copytree(ROOT / "book", EXECUTED / "book", ignore=shutil.ignore_patterns(".ipynb_checkpoints"))
    shutil.copy(ROOT / "_toc.yml", EXECUTED)
    config = yaml.safe_load((ROOT / "_config.yml").read_text())
    config["execute"]["execute_notebooks"] = "off"
    extensions = config["sphinx"]["local_extensions"]  # looked up beside the config, which has moved
    config["sphinx"]["local_extensions"] = {name: str(ROOT / path) for name, path in extensions.items()}
    (EXECUTED / "_config.yml").write_text(yaml.safe_dump(config))


def run(*command: str, **environ: str) -> int:
    return subprocess.run(command, cwd=ROOT, env=os.environ | environ).returncode


def unit_tests() -> int:
    return run(*PYTEST, f"-n{WORKERS}", f"--ignore={PAGES}", **SETTINGS)


def notebooks() -> int:
    copy_book()
    options = ("--nbmake", f"--nbmake-timeout={TIMEOUT}", "--overwrite", "--durations=0", f"-n{WORKERS}")
    return run(*PYTEST, *options, str(EXECUTED / "book"), **SETTINGS)


def main() -> int:
    results: dict[str, tuple[int, float]] = {}

    def stage(name: str, check) -> bool:
        print(f"\n=== {name}", flush=True)
        start = time.perf_counter()
        status = check()
        results[name] = (status, time.perf_counter() - start)
        return status == 0

    stage("lint", lambda: run(sys.executable, "-m", "ruff", "check", "."))
    stage("unit tests", unit_tests)
    if stage("notebooks", notebooks):
        if stage("book", lambda: build(EXECUTED)):
            stage("browser", lambda: run(*PYTEST, "-q", PAGES))
    else:
        results["book"] = (1, 0.0)

    print("\n=== summary")
    for name, (status, seconds) in results.items():
        print(f"{name:12} {'passed' if status == 0 else 'FAILED'} {seconds:8.1f} s")
    if program() is None:
        print(
            "NO BROWSER was found, so the pages were not tested in one: sh tools/chromium.sh, or apt install chromium"
        )
    return int(any(status for status, _ in results.values()))


if __name__ == "__main__":
    sys.exit(main())
