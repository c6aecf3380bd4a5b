"""What the book was built with, and how to repeat each record."""

import importlib.metadata
import platform
from collections.abc import Iterable
from typing import Any

from zfrepro import data, device, records
from zfrepro.stats import rounded

PACKAGES = (
    "torch", "torchvision", "numpy", "matplotlib", "captum", "jupyter-book", "myst-nb",
    "ipywidgets",
)  # fmt: skip


def all_records() -> dict[str, dict[str, Any]]:
    """Return every record, by its path below `results/` without `.json`.

    Raises:
        ValueError: a record that is damaged.
    """
    root = records.results_root()
    return {
        f.relative_to(root).with_suffix("").as_posix(): records.read_json(f)
        for f in sorted(root.rglob("*.json"))
    }


def environment() -> list[dict[str, object]]:
    """Return rows of what this process runs on."""
    rows = {
        "Python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "device": device.describe(device.pick()),
        "data set of the pages": data.default_name(),
    }
    rows |= {name: _version(name) for name in PACKAGES}
    return [{"what": what, "which": which} for what, which in rows.items()]


def recorded() -> list[dict[str, object]]:
    """Return rows of all measured records: what made them, when, where and how long it took.

    Raises:
        ValueError: a record that does not say so, by name.
    """
    rows = []
    for name, record in all_records().items():
        try:
            if record["kind"] not in ("annotation", "log"):  # made by hand, or by the history
                rows.append({"record": name, **_made(record)})
        except KeyError as error:
            raise ValueError(f"results/{name}.json lacks {error}; measure it again") from error
    return rows


def _made(record: dict[str, Any]) -> dict[str, object]:
    runs = record["runs"] if record["kind"] == "sweep" else [record]
    made = [*runs, *record.get("added", [])]  # parts may have been measured later, or elsewhere
    return {
        "command": _command(record),
        "minutes": round(sum(map(_seconds, runs)) / 60, 1),
        "device": _each(run.get("device", "any") for run in made),
        "torch": _each(run["versions"]["torch"] for run in made),
        "date": max((run["date"] for run in made), default=None),
        "commit": _each(run["commit"] for run in made),
    }


def benchmarks() -> dict[str, dict[str, Any]]:
    """Return the recorded benchmarks, one a machine, by the machine's name."""
    files = sorted((records.results_root() / "benchmarks").glob("*.json"))
    return {
        f"{record['device']}, torch {record['versions']['torch']}": record
        for record in map(records.read_json, files)
    }


def speeds(benchmark: dict[str, Any]) -> list[dict[str, object]]:
    """Return rows of a benchmark: ours against a rival's, and the goal."""
    rows = []
    for result in benchmark["results"]:
        goal = ""
        if result["goal"] is not None:
            side = "most" if result["at_most"] else "least"
            verdict = "reached" if result["reached"] else "missed"
            goal = f"at {side} {result['goal']:g}, {verdict}"
        row = {"what": result["name"], "ratio": rounded(result["ratio"], 3)}
        rows.append(row | {"unit": result["unit"], "goal": goal, "against": result["rival"] or ""})
    return rows


def _command(record: dict[str, Any]) -> str:
    """Return what makes a record; of a sweep, what makes all its runs."""
    if record["kind"] != "sweep":
        return record["command"]
    seeds = 1 + max((run["seed"] for run in record["runs"]), default=0)
    words = (
        f"python -m zfrepro sweep {record['chapter']} --dataset {record['dataset']['name']} "
        f"--scale {record['scale']}"
    )
    return f"{words} --epochs {record['recipe']['epochs']} --seeds {seeds}"


def _seconds(run: dict[str, Any]) -> float:
    seconds = run.get("seconds", 0)
    return sum(seconds.values()) if isinstance(seconds, dict) else seconds


def _each(values: Iterable[str]) -> str:
    """Join every value once, in order of appearance: the runs of a sweep may differ."""
    return ", ".join(dict.fromkeys(values))


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
