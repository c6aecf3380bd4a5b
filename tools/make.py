"""What `make` runs: python tools/make.py book | test | twice | lock | cells | rules.

book   runs the notebooks that are not cached and builds _build/html; a warning or a failing cell is
       an error
test   ruff, the unit tests, every notebook once, the book from those runs, its pages in a browser,
       five notebooks in JupyterLab
twice  runs every notebook twice and compares all that they show: numbers, tables and pictures
lock   writes requirements.lock from what is installed
cells  writes the first cell of every notebook, which installs the package where it is missing
rules  writes results/rule_log.json: every commit that changed claims or the rules that judge them
"""

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import browser
import nbformat
import notebooks as pages
import yaml
from notebooks import BUILD, CONFIG, ROOT, SETTINGS, TIMEOUT, WORKERS

from zfrepro import records

EXECUTED = ROOT / ".executed"  # not below _build: nbmake skips folders of that name
PAGES = "tests/test_browser.py"  # needs the built book
LAB = "tests/test_lab.py"  # starts kernels of its own, so it runs when the other tests are done
PYTEST = [sys.executable, "-m", "pytest"]


def run(*command: str) -> int:
    return subprocess.run(command, cwd=ROOT, env=os.environ | SETTINGS).returncode


def build(source: Path = ROOT) -> int:
    """Run jupyter-book on `source`; the pages go to _build/html. Return its exit status."""
    for leftover in ("html", "jupyter_execute"):  # of pages not read again, warnings are forgotten
        shutil.rmtree(BUILD / leftover, ignore_errors=True)
    program = str(Path(sys.executable).with_name("jupyter-book"))
    options = ("--path-output", str(ROOT), "--all", "-W", "-n", "--keep-going")
    if status := run(program, "build", str(source), *options):
        for report in sorted((BUILD / "html" / "reports").rglob("*.err.log")):
            print(f"\n--- {report.relative_to(ROOT)}\n{report.read_text()}", file=sys.stderr)
        print("zfrepro: the book was not built: the warnings above are errors.", file=sys.stderr)
    return status


def book() -> int:
    pages.fill_cache()
    return build()


def notebooks() -> int:
    """Run every notebook in a copy of the book, so that the sources stay without outputs."""
    shutil.rmtree(EXECUTED, ignore_errors=True)
    passed_over = shutil.ignore_patterns(".ipynb_checkpoints")
    shutil.copytree(ROOT / "book", EXECUTED / "book", ignore=passed_over)
    shutil.copy(ROOT / "_toc.yml", EXECUTED)
    local = CONFIG["sphinx"]["local_extensions"].items()
    extensions = {"local_extensions": {name: str(ROOT / path) for name, path in local}}
    config = CONFIG | {"execute": {"execute_notebooks": "off"}}
    config["sphinx"] = CONFIG["sphinx"] | extensions
    (EXECUTED / "_config.yml").write_text(yaml.safe_dump(config))
    options = ("--nbmake", f"--nbmake-timeout={TIMEOUT}", "--overwrite", "--durations=0")
    return run(*PYTEST, *options, f"-n{WORKERS}", str(EXECUTED / "book"))


def test() -> int:
    """Run every stage, also after one that failed, but for those that need its result."""
    # neighbours stay with one worker, which makes what their module shares once
    shared = (f"-n{WORKERS}", "--dist=worksteal")
    stages = {
        "lint": lambda: run(sys.executable, "-m", "ruff", "check", "."),
        "unit tests": lambda: run(*PYTEST, *shared, f"--ignore={PAGES}", f"--ignore={LAB}"),
        "notebooks": notebooks,
        "book": lambda: build(EXECUTED),
        "browser": lambda: run(*PYTEST, "-q", f"-n{WORKERS}", PAGES),
        "JupyterLab": lambda: run(*PYTEST, "-q", f"-n{min(WORKERS, 2)}", LAB),
    }
    needs = {"book": "notebooks", "browser": "book"}
    outcomes: dict[str, str] = {}
    for name, stage in stages.items():
        if outcomes.get(needs.get(name, ""), "passed").startswith("passed"):
            print(f"\n=== {name}", flush=True)
            began = time.perf_counter()
            outcome = "FAILED" if stage() else "passed"
            outcomes[name] = f"{outcome} {time.perf_counter() - began:8.1f} s"
        else:
            outcomes[name] = f"not run, for {needs[name]} failed"
    print("\n=== summary", *(f"{name:12} {text}" for name, text in outcomes.items()), sep="\n")
    if browser.program() is None:
        print("NO BROWSER was found, so no page was tested in one: sh tools/chromium.sh")
    return int(not all(text.startswith("passed") for text in outcomes.values()))


RANDOM = re.compile(r"0x[0-9a-f]{6,}|\b[0-9a-f]{32}\b|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
"""Addresses in memory, names of widgets' models."""


def shown(cell: nbformat.NotebookNode) -> list[str]:
    """Return what a cell shows, but for progress; text comes in any parts."""
    outputs = cell.get("outputs", [])
    printed = "".join(o.text for o in outputs if o.output_type == "stream" and o.name == "stdout")
    data = [
        f"{kind}: {content}" for o in outputs for kind, content in sorted(o.get("data", {}).items())
    ]
    return [RANDOM.sub("...", text) for text in (printed, *data)]


def differing(one: Path, other: Path) -> list[str]:
    """Return `page, cell` of cells of two runs that differ; those tagged `timing` may."""
    pairs = zip(nbformat.read(one, 4).cells, nbformat.read(other, 4).cells, strict=True)
    compared = [(a, b) for a, b in pairs if "timing" not in a.metadata.get("tags", [])]
    shows = [(a.id, shown(a), shown(b)) for a, b in compared]
    return [f"{one.stem}, {k}: {a}\n    now: {b}"[:1000] for k, a, b in shows if a != b]


def twice() -> int:
    with tempfile.TemporaryDirectory() as folder:
        if notebooks():
            return 1
        first = Path(shutil.copytree(EXECUTED / "book", Path(folder) / "book"))
        if notebooks():
            return 1
        names = sorted(page.relative_to(first) for page in first.rglob("*.ipynb"))
        second = EXECUTED / "book"
        differences = [line for name in names for line in differing(first / name, second / name)]
    summary = f"{len(names)} notebooks, run twice: {len(differences)} cells show something else"
    print(*differences, summary, sep="\n")
    return int(bool(differences))


HEADER = """\
# The versions the book was built and tested with. Written by `make lock`; used as constraints:
#     pip install -c requirements.lock -e '.[book,test]'
# To move to newer ones: rm -r .venv, install without `-c`, `make test`, `make lock`.
"""


def lock() -> None:
    installed = {d.name: d.version.split("+")[0] for d in importlib.metadata.distributions()}
    names = sorted(installed.keys() - {"zfrepro", "pip", "setuptools", "wheel"}, key=str.lower)
    lines = [f"{name}=={installed[name]}" for name in names]
    (ROOT / "requirements.lock").write_text(HEADER + "\n".join(lines) + "\n")


CLAIMS = ("zfrepro/claims", "zfrepro/claims.py", "book/*/claims.py", "zfrepro/studies/claims*")


def rules() -> None:
    shallow = ["git", "rev-parse", "--is-shallow-repository"]
    if subprocess.check_output(shallow, cwd=ROOT, text=True).strip() == "true":
        sys.exit("zfrepro: a shallow clone lacks the commits to log: git fetch --unshallow")
    log = ["git", "log", "--reverse", "--no-merges", "--date=short", "--format=%ad%x09%h%x09%s"]
    told = subprocess.run(
        [*log, "--", *CLAIMS], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    keys = ("date", "commit", "change")
    changes = [dict(zip(keys, line.split("\t"), strict=True)) for line in told.splitlines()]
    records.write_json(
        records.results_root() / "rule_log.json", {"kind": "log", "changes": changes}
    )
    print(f"{len(changes)} commits")


COMMANDS = {
    "book": book, "test": test, "twice": twice, "lock": lock, "cells": pages.write_install_cells,
    "rules": rules,
}  # fmt: skip

if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in COMMANDS:
        sys.exit(__doc__)
    sys.exit(COMMANDS[sys.argv[1]]())
