"""What the book was built with, and how to repeat each record."""

import importlib.metadata
import platform
from typing import Any

from zfrepro import data, device, records

PACKAGES = ("torch", "torchvision", "numpy", "matplotlib", "captum", "jupyter-book", "myst-nb", "ipywidgets")

MADE = ("command", "commit", "versions", "date", "device", "dataset", "seconds")
KEYS: dict[str, tuple[str, ...]] = {
    "training": (*MADE, "scale", "recipe", "parameters", "errors", "history"),
    "study": (*MADE, "chapter", "image_size", "networks", "images", "seed"),
    "annotation": ("set", "what", "check"),
}
"""What a record of each kind has at least."""


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
        raise ValueError(f"results/{name}.json: a record of kind {kind} without {', '.join(missing)}; make it again")


def all_records() -> dict[str, dict[str, Any]]:
    """Every record, by its path below `results/` without `.json`.

    Raises:
        ValueError: a record that is damaged or lacks something.
    """
    root = records.results_root()
    found = {f.relative_to(root).with_suffix("").as_posix(): records.read_json(f) for f in sorted(root.rglob("*.json"))}
    for name, record in found.items():
        check(name, record)
    return found


def environment() -> list[dict[str, object]]:
    """Rows of what this process runs on."""
    rows = [("Python", platform.python_version()), ("system", f"{platform.system()} {platform.machine()}")]
    rows += [("device", device.describe(device.pick())), ("data set of the pages", data.default_name())]
    rows += [(name, _version(name)) for name in PACKAGES]
    return [{"what": what, "which": which} for what, which in rows]


def recorded() -> list[dict[str, object]]:
    """Rows of all measured records: what made them, when, where and how long it took."""
    rows = []
    for name, record in all_records().items():
        if record["kind"] == "annotation":
            continue  # made by hand
        seconds = record["seconds"]
        total = sum(seconds.values()) if isinstance(seconds, dict) else seconds
        rows.append(
            {
                "record": name,
                "command": record["command"],
                "minutes": round(total / 60, 1),
                "device": record["device"],
                "torch": record["versions"]["torch"],
                "date": record["date"],
                "commit": record["commit"],
            }  # fmt: skip
        )
    return rows


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
