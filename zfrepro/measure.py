"""Recorded measurements, one module a chapter, which the command `measure` runs and files.

    python -m zfrepro measure occlusion --dataset imagenet20 --data DIR

A module `book/CHAPTER/measure.py` has `parts(study) -> dict[str, Callable[[], Any]]`: named
measurements, each returning something JSON can hold. They run in order and each is kept when done,
so a killed run goes on where it was; but for those that the module names in `MERGED`, which add to
the record there is."""

import hashlib
import importlib
import json
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from zfrepro import data, records
from zfrepro import device as devices
from zfrepro.data import Dataset, Split
from zfrepro.weights import Trained

Parts = dict[str, Callable[[], Any]]


@dataclass(frozen=True)
class Study:
    """What a measurement is given."""

    dataset: Dataset
    networks: dict[str, Trained]  # the pretrained ones, by architecture: zfnet, krizhevsky
    device: torch.device
    images: int | None = None  # how many images to use; None for as many as the study thinks right
    seed: int = 0
    root: Path | None = None  # folder of the photographs
    progress: bool = True
    runs: tuple[Path, ...] = ()  # folders of `train --keep`, for what follows a training
    network: str = "zfnet"  # which of the networks is studied
    ours: Trained | None = None  # the shipped ZFNet, where the network studied is not our own
    # bool (N,), of the validation images those to measure on; None for all
    rows: torch.Tensor | None = None
    untrained: bool = False  # whether the networks have their first weights, as a control
    repeat: str = ""  # of other trained networks than the pretrained ones: seed1
    source: str = ""  # the data set's name or path, as `data.load` takes it; default its name

    def before_training(self) -> "Study":
        """Return the study of the same networks without any training."""
        networks = {name: trained.untrained(self.seed) for name, trained in self.networks.items()}
        return replace(self, networks=networks, untrained=True)

    @property
    def trained(self) -> Trained:
        """The network that is studied."""
        return self.networks[self.network]

    @property
    def adapted(self) -> bool:
        """Whether others trained the network that is studied, see `imagenet`."""
        return self.network != "zfnet"

    @property
    def name(self) -> str:
        """Name of the record: the network that others trained, or the data set."""
        name = self.network if self.adapted else self.dataset.name
        return "-".join(filter(None, (name, self.repeat, "untrained" if self.untrained else "")))

    @property
    def hashes(self) -> dict[str, str]:
        """SHA-256 of the networks' files."""
        networks = self.networks | ({"zfnet": self.ours} if self.ours else {})
        return {name: trained.sha256 for name, trained in networks.items()}

    @property
    def val(self) -> Split:
        """The validation images to measure on: those that the network was not trained on."""
        return self.split_for(self.dataset)

    def split_for(self, dataset: Dataset) -> Split:
        """Return the same images of a data set that was loaded at another size."""
        return dataset.val if self.rows is None else dataset.val.chosen(self.rows)

    def our_images(self) -> Split:
        """Return the images of `val` as our network wants them stored."""
        return self.split_for(self.load(self.ours.image_size, ("val",)))

    def load(self, image_size: int, parts: tuple[str, ...] = data.PARTS) -> Dataset:
        """Load the data set for a network that sees another size."""
        name = self.source or self.dataset.name
        return data.load(name, image_size, root=self.root, parts=parts, progress=self.progress)

    @property
    def key(self) -> str:
        """A hash of what decides the outcome but the study's code: data, networks, seed, runs."""
        runs = [records.sha256(run / "weights.safetensors") for run in self.runs]
        deciding = [self.dataset.fingerprint, self.hashes, self.images, self.seed, *runs]
        text = json.dumps(deciding, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]


def measurements() -> list[str]:
    """Return what can be measured: chapters with a `measure.py`."""
    return sorted(file.parent.name for file in (records.ROOT / "book").glob("*/measure.py"))


def module_of(chapter: str) -> ModuleType:
    """Return the module that measures a chapter, found by name, as a plug-in; else ValueError."""
    if chapter not in measurements():
        raise ValueError(
            f"no measurement called {chapter!r}; there are: {', '.join(measurements())}"
        )
    return importlib.import_module(f"book.{chapter}.measure")


def refuse_adapted(chapter: str) -> None:
    """Refuse a chapter that measures this package's networks only."""
    if getattr(module_of(chapter), "OURS_ONLY", False):
        raise ValueError(f"{chapter} measures this package's own networks; leave --network out")


def measure(
    chapter: str,
    study: Study,
    scratch: Path,
    *,
    only: Collection[str] = (),
    fresh: bool = False,
    say=print,
) -> dict[str, Any]:
    """Run a chapter's measurements, keeping each in `scratch` as soon as it is done.

    Args:
        only: names of parts, to run no others.
        fresh: measure again what `scratch` already holds.
    Returns:
        {part: what it measured}, and `seconds` a part.
    """
    module = module_of(chapter)
    parts: Parts = module.parts(study)
    if unknown := [name for name in only if name not in parts]:
        raise ValueError(
            f"{chapter} has no part {', '.join(unknown)}; there are: {', '.join(parts)}"
        )
    parts = {name: run for name, run in parts.items() if not only or name in only}
    values: dict[str, Any] = {}
    seconds: dict[str, float] = {}
    revision = getattr(module, "REVISION", 1)  # raised when the code changes what it measures
    folder = scratch / f"{chapter}-{revision}-{study.name}-{study.key}"
    for number, (name, run) in enumerate(parts.items(), 1):
        file = folder / f"{name}.json"
        if file.is_file() and not fresh and name not in getattr(module, "MERGED", ()):
            entry = records.read_json(file)
            say(f"{number}/{len(parts)} {name}: kept from before")
        else:
            began = time.perf_counter()
            entry = {"value": run(), "seconds": time.perf_counter() - began}
            records.write_json(file, entry)
            devices.release_freed_memory()  # the next part needs blocks of other sizes
            say(f"{number}/{len(parts)} {name}: {entry['seconds']:.0f} s", flush=True)
        values[name], seconds[name] = entry["value"], entry["seconds"]
    return values | {"seconds": seconds}


def record(chapter: str, study: Study, measured: dict[str, Any], command: str) -> dict[str, Any]:
    """Return the record of a study: what was measured, and everything needed to repeat it.

    Raises ValueError for a part with the name of something that every record tells.
    """
    common = {
        "kind": "study",
        "chapter": chapter,
        **records.provenance(command),
        "device": devices.describe(study.device),
        "dataset": {"name": study.dataset.name, "fingerprint": study.dataset.fingerprint},
        "image_size": study.dataset.image_size,
        "networks": study.hashes,
        "images": study.images,
        "seed": study.seed,
    }
    common |= {"weights": "before training"} if study.untrained else {}
    if study.adapted:
        counts = {"unseen": len(study.val), "validation": len(study.dataset.val)}
        common |= {"network": study.network, "layers": study.trained.network.modules_of, **counts}
    if clashes := common.keys() & measured.keys():
        raise ValueError(
            f"{chapter}: parts cannot be called {', '.join(sorted(clashes))}: "
            "every record tells these"
        )
    return common | measured


def _differing(earlier: dict[str, Any], new: dict[str, Any]) -> list[str]:
    same = ("chapter", "dataset", "image_size", "networks", "images", "seed")
    return [name for name in same if earlier.get(name) != new[name]]


def refuse_other(earlier: dict[str, Any], new: dict[str, Any]) -> None:
    """Refuse to add to a record of other data, networks or options."""
    if differing := _differing(earlier, new):
        raise ValueError(
            f"the record there is of another {', '.join(differing)}; "
            "without --only all is measured anew"
        )


def joined(earlier: dict[str, Any], new: dict[str, Any], added: bool) -> dict[str, Any]:
    """Return the record there is and a new one as one.

    With `added`, the earlier record gets the parts of the new one, and its `added` says which
    these are and, as in the new record, how they were measured. Without, the new one keeps the
    parts that were so added to the earlier one and are not in it; an earlier record of other data,
    networks or options gives nothing.
    """
    measured = new["seconds"]
    before = [] if _differing(earlier, new) else earlier.get("added", [])
    notes = [note | {"parts": [p for p in note["parts"] if p not in measured]} for note in before]
    notes = [note for note in notes if note["parts"]]
    if added:
        parts = {name: new[name] for name in measured}
        origin = {name: new[name] for name in ("command", "commit", "versions", "date", "device")}
        notes.append({"parts": list(measured), **origin})
        return earlier | parts | {"seconds": earlier["seconds"] | measured, "added": notes}
    kept = {name: earlier[name] for note in notes for name in note["parts"] if name in earlier}
    if not kept:
        return new
    seconds = {name: earlier["seconds"][name] for name in kept}
    return new | kept | {"seconds": seconds | measured, "added": notes}
