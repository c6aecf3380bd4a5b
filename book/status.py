"""What the book was built with, and how to repeat each record."""

import importlib.metadata
import platform
from collections.abc import Iterable
from typing import Any

from zfrepro import data, device, records

PACKAGES = (
    "torch",
    "torchvision",
    "numpy",
    "matplotlib",
    "captum",
    "jupyter-book",
    "myst-nb",
    "ipywidgets",
)

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

RUN = ("arch", "seed", "command", "commit", "versions", "date", "device", "seconds", "parameters",
"multiply_adds",
       "errors", "history")  # fmt: skip
"""What each run of a sweep has."""


def check(name: str, record: dict[str, Any]) -> None:
    """Refuse a record that cannot be repeated or shown.

    Raises:
        ValueError: a record of unknown kind or without a key of its kind, by name.
    """
    kind = record.get("kind")
    if kind not in KEYS:
        raise ValueError(f"results/{name}.json: kind {kind!r}, known are {', '.join(KEYS)}")
    missing = [key for key in KEYS[kind] if key not in record]
    if missing:
        raise ValueError(
            f"results/{name}.json: a record of kind {kind} without {', '.join(missing)}; "
            "measure it again"
        )
    for number, run in enumerate(record["runs"] if kind == "sweep" else ()):
        if missing := [key for key in RUN if key not in run]:
            raise ValueError(
                f"results/{name}.json: run {number} without {', '.join(missing)}; measure it again"
            )


def all_records() -> dict[str, dict[str, Any]]:
    """Every record, by its path below `results/` without `.json`.

    Raises:
        ValueError: a record that is damaged or lacks something.
    """
    root = records.results_root()
    found = {
        f.relative_to(root).with_suffix("").as_posix(): records.read_json(f)
        for f in sorted(root.rglob("*.json"))
    }
    for name, record in found.items():
        check(name, record)
    return found


def environment() -> list[dict[str, object]]:
    """Rows of what this process runs on."""
    rows = [
        ("Python", platform.python_version()),
        ("system", f"{platform.system()} {platform.machine()}"),
    ]
    rows += [
        ("device", device.describe(device.pick())),
        ("data set of the pages", data.default_name()),
    ]
    rows += [(name, _version(name)) for name in PACKAGES]
    return [{"what": what, "which": which} for what, which in rows]


def recorded() -> list[dict[str, object]]:
    """Rows of all measured records: what made them, when, where and how long it took."""
    rows = []
    for name, record in all_records().items():
        if record["kind"] in ("annotation", "log"):
            continue  # made by hand, or by the history
        runs = record["runs"] if record["kind"] == "sweep" else [record]
        made = [*runs, *record.get("added", [])]  # parts may have been measured later, or elsewhere
        rows.append(
            {
                "record": name,
                "command": _command(record),
                "minutes": round(sum(map(_seconds, runs)) / 60, 1),
                "device": _each(run.get("device", "any") for run in made),
                "torch": _each(run["versions"]["torch"] for run in made),
                "date": max((run["date"] for run in made), default=None),
                "commit": _each(run["commit"] for run in made),
            }
        )
    return rows


def benchmarks() -> dict[str, dict[str, Any]]:
    """The recorded benchmarks, one a machine, by the machine's name."""
    files = sorted((records.results_root() / "benchmarks").glob("*.json"))
    found = map(records.read_json, files)
    return {f"{record['device']}, torch {record['versions']['torch']}": record for record in found}


def speeds(benchmark: dict[str, Any]) -> list[dict[str, object]]:
    """Rows of a benchmark: ours against a rival's, and the goal."""
    rows = []
    for result in benchmark["results"]:
        goal, verdict = result["goal"], "reached" if result["reached"] else "missed"
        rows.append(
            {
                "what": result["name"],
                "ratio": _three(result["ratio"]),
                "unit": result["unit"],
                "goal": ""
                if goal is None
                else f"at {'most' if result['at_most'] else 'least'} {goal:g}, {verdict}",
                "against": result["rival"] or "",
            }
        )
    return rows


def _three(value: float) -> float:
    """To three digits."""
    return float(f"{value:.3g}")


def _command(record: dict[str, Any]) -> str:
    """What makes a record; of a sweep, what makes all its runs."""
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
    """Every value once, in order of appearance: the runs of a sweep may differ."""
    return ", ".join(dict.fromkeys(values))


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
