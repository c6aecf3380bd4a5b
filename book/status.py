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

MADE = ("command", "commit", "versions", "date", "device", "dataset", "seconds")
KEYS: dict[str, tuple[str, ...]] = {
    "training": (*MADE, "scale", "recipe", "parameters", "errors", "history"),
    "study": (*MADE, "chapter", "image_size", "networks", "images", "seed"),
    "sweep": ("chapter", "scale", "dataset", "recipe", "runs"),
    "benchmark": ("command", "commit", "versions", "date", "device", "seconds", "results"),
    "support": ("command", "commit", "versions", "date", "networks"),
    "annotation": ("set", "what", "check"),
    "log": ("changes",),
}
"""What a record of each kind has at least."""

RUN = (
    "arch", "seed", "command", "commit", "versions", "date", "device", "seconds", "parameters",
    "multiply_adds", "errors", "history",
)  # fmt: skip
"""What each run of a sweep has."""


def check(name: str, record: dict[str, Any]) -> None:
    """Refuse a record that cannot be repeated or shown.

    Raises:
        ValueError: a record of unknown kind or without a key of its kind, by name.
    """
    kind = record.get("kind")
    if kind not in KEYS:
        raise ValueError(f"results/{name}.json: kind {kind!r}, known are {', '.join(KEYS)}")
    parts = [(f"a record of kind {kind}", record, KEYS[kind])]
    if kind == "sweep":
        parts += [(f"run {i}", run, RUN) for i, run in enumerate(record.get("runs", ()))]
    for what, part, keys in parts:
        if missing := [key for key in keys if key not in part]:
            raise ValueError(
                f"results/{name}.json: {what} without {', '.join(missing)}; measure it again"
            )


def all_records() -> dict[str, dict[str, Any]]:
    """Return every record, by its path below `results/` without `.json`.

    Raises:
        ValueError: a record that is damaged or lacks something.
    """
    root = records.results_root()
    by_path = {
        f.relative_to(root).with_suffix("").as_posix(): records.read_json(f)
        for f in sorted(root.rglob("*.json"))
    }
    for name, record in by_path.items():
        check(name, record)
    return by_path


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
    """Return rows of all measured records: what made them, when, where and how long it took."""
    rows = []
    for name, record in all_records().items():
        if record["kind"] in ("annotation", "log"):
            continue  # made by hand, or by the history
        runs = record["runs"] if record["kind"] == "sweep" else [record]
        made = [*runs, *record.get("added", [])]  # parts may have been measured later, or elsewhere
        rows.append({
            "record": name,
            "command": _command(record),
            "minutes": round(sum(map(_seconds, runs)) / 60, 1),
            "device": _each(run.get("device", "any") for run in made),
            "torch": _each(run["versions"]["torch"] for run in made),
            "date": max((run["date"] for run in made), default=None),
            "commit": _each(run["commit"] for run in made),
        })  # fmt: skip
    return rows


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
