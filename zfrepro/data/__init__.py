"""Images in memory: the Diorama or photographs, in one form.

`load` is what the rest of the package uses; `ZFREPRO_DATASET` and `ZFREPRO_DATA` choose what it
loads."""

import os
import sys
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from zfrepro.data import photos
from zfrepro.data.photos import DataError, is_path
from zfrepro.data.transforms import stored_size

PHOTOGRAPHS = ("imagenette", "imagewoof", "imagenet20", "imagenet", "caltech101")
DATASETS = ("diorama", *PHOTOGRAPHS)
PARTS = ("train", "val")
LARGEST_IMAGE = 4096  # px of a network's input; a thousand of them would fill most memories
DIORAMA_SPLITS = {"train": (8000, 0), "val": (1000, 1)}  # pictures and seed


@dataclass(frozen=True)
class Split:
    """Images of one split, as stored (256/224 of the network's image size), and their truth.

    `truth` holds what only the Diorama knows: `mask` (N, R, R) bool, `parts` (N, R, R) uint8,
    `keypoints` (N, 3, 2) float x, y in pixels of left eye, right eye and nose, `visible` (N, 3)
    bool. Empty for photographs.
    """

    images: Tensor  # uint8 (N, 3, R, R), channels-last in memory
    labels: Tensor  # int64 (N,)
    truth: dict[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.labels)

    def shuffled(self, count: int | None = None, seed: int = 0) -> "Split":
        """Return the images in a random order, or the first `count` of them.

        Photographs are stored class by class.
        """
        order = torch.randperm(len(self), generator=torch.Generator().manual_seed(seed))
        return self.chosen(order[:count])

    def chosen(self, rows: Tensor) -> "Split":
        """Return some of the images. rows: bool (N,), or indices."""
        truth = {name: values[rows] for name, values in self.truth.items()}
        return Split(self.images[rows], self.labels[rows], truth)


@dataclass(frozen=True)
class Dataset:
    """A train and a validation split and the classes; a split that was not asked for is None."""

    name: str
    classes: tuple[str, ...]
    train: Split | None
    val: Split | None
    image_size: int  # S, what the network sees
    fingerprint: str  # changes when the images do
    skipped: tuple[str, ...] = ()  # damaged photographs that were left out, as PART/CLASS/FILE

    @property
    def photographs(self) -> bool:
        """Whether the images are photographs, which may be shown but not redistributed."""
        return self.name != "diorama"


def cache_root() -> Path:
    """Return the folder of decoded and drawn images: `$ZFREPRO_CACHE`, else in the user's cache."""
    if folder := os.environ.get("ZFREPRO_CACHE"):
        return Path(folder).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "zfrepro"


def default_name() -> str:
    """Return the data set used when none is named: `$ZFREPRO_DATASET`, else `diorama`."""
    return os.environ.get("ZFREPRO_DATASET") or "diorama"


def dataset_name(name: str) -> str:
    """Return the name of a data set in records and files: the last part of a path."""
    return Path(name).expanduser().resolve().name if is_path(name) else name


def require_known(name: str) -> None:
    """Refuse what is neither the name of a data set nor the path of one.

    Raises:
        ValueError: an unknown name.
        DataError: a path without the folders of a data set.
    """
    if is_path(name):
        root = Path(name).expanduser()
        flat = dataset_name(name) in photos.FLAT
        if not root.is_dir() or not flat and not all((root / part).is_dir() for part in PARTS):
            what = "no train/CLASS/ and val/CLASS/ inside" if root.is_dir() else "no such folder"
            raise DataError(
                f"{root}: {what}; a data set is a folder with train/CLASS/ and val/CLASS/"
            )
        if dataset_name(name) == "diorama":  # their records would have one name
            raise DataError(f"{root}: has the name of the drawn data set; rename the folder")
    elif name not in DATASETS:
        example = f", such as ./{name}" if name and Path(name).is_dir() else ""
        raise ValueError(
            f"unknown data set {name!r}; there are: {', '.join(DATASETS)}, or the path of a "
            f"folder{example}"
        )


def load(
    name: str | None = None, image_size: int = 128, *, root: str | Path | None = None,
    parts: tuple[str, ...] = PARTS, progress: bool = True, skip_damaged: bool = False,
) -> Dataset:  # fmt: skip
    """Load a data set at the resolution that a network of `image_size` px needs.

    Images are drawn or decoded once and cached.

    Args:
        name: one of `DATASETS`, or the path of a folder with train/CLASS/ and val/CLASS/; default
            `$ZFREPRO_DATASET`, else `diorama`.
        image_size: side S of the network's input in pixels; images are stored at 256/224 of it.
        root: folder of the photographs; default `$ZFREPRO_DATA`.
        parts: which splits to load.
        skip_damaged: leave out photographs that cannot be decoded, and say which, instead of
            refusing the set; also if `$ZFREPRO_SKIP_DAMAGED` is set.
    Raises:
        ValueError: unknown name or part.
        DataError: photographs that are not there or cannot be read, with the file and the remedy.
    """
    name = default_name() if name is None else name
    require_known(name)
    if not 1 <= image_size <= LARGEST_IMAGE:
        raise ValueError(f"image size {image_size}: must be 1 to {LARGEST_IMAGE:,} px")
    if not set(parts) <= set(PARTS):
        raise ValueError(f"parts {parts!r}: choose among {', '.join(PARTS)}")
    if name == "diorama":
        return _diorama(image_size, parts, progress)
    skip_damaged = skip_damaged or bool(os.environ.get("ZFREPRO_SKIP_DAMAGED"))
    return _photographs(name, image_size, root, parts, progress, skip_damaged)


def _diorama(image_size: int, parts: tuple[str, ...], progress: bool) -> Dataset:
    import diorama

    size, splits = stored_size(image_size), {}
    if not 16 <= size <= 512:
        raise ValueError(f"image size {image_size}: the diorama is drawn for 14 to 448 px")
    for part in parts:
        count, seed = DIORAMA_SPLITS[part]
        cache = cache_root() / "diorama"
        truth = diorama.split(count, seed=seed, size=size, cache=cache, progress=progress)
        splits[part] = Split(truth.pop("images"), truth.pop("labels"), truth)
    train, val = map(splits.get, PARTS)
    return Dataset("diorama", diorama.CLASSES, train, val, image_size, str(diorama.VERSION))


def _photographs(
    name: str, image_size: int, root: str | Path | None, parts: tuple[str, ...], progress: bool,
    skip_damaged: bool,
) -> Dataset:  # fmt: skip
    folder = photos.find_folder(name, root)
    labels, name = photos.class_folders(name, folder), dataset_name(name)
    # lists all files: what is missing is told before decoding
    fingerprint = photos.fingerprint(folder, list(labels))
    size, cache = stored_size(image_size), cache_root() / name
    splits, skipped = {}, []
    for part in parts:
        files, numbers = photos.list_part(folder, part, list(labels))
        part_folder = folder / part if (folder / part).is_dir() else folder
        images, bad = photos.load_images(
            files, part_folder, size, cache, skip_damaged=skip_damaged, progress=progress
        )
        numbers = [number for file, number in zip(files, numbers, strict=True) if file not in bad]
        if bad:
            _report_skipped(f"{name} {part}", bad, len(files))
            skipped += [f"{part}/{file.relative_to(part_folder)}" for file in bad]
        if empty := sorted(set(range(len(labels))) - set(numbers)):
            raise DataError(
                f"{part_folder / list(labels)[empty[0]]}: none of its images can be decoded; "
                "each class needs one"
            )
        splits[part] = Split(images, torch.tensor(numbers))
    train, val = map(splits.get, PARTS)
    classes = tuple(labels.values())
    return Dataset(name, classes, train, val, image_size, fingerprint, tuple(skipped))


def _report_skipped(what: str, bad: dict[Path, str], count: int) -> None:
    """Count what was left out and name the first three, in one line."""
    names = "; ".join(f"{file} ({reason})" for file, reason in list(bad.items())[:3])
    more = f"; and {len(bad) - 3:,} more" if len(bad) > 3 else ""
    print(
        f"{what}: skipped {len(bad):,} damaged of {count:,} images: {names}{more}", file=sys.stderr
    )
