"""Images in memory: the embedded world or photographs, in one form.

`load` is what the rest of the package uses; `ZFREPRO_DATASET` and `ZFREPRO_DATA` choose what it loads.
"""

import os
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from zfrepro.data.transforms import stored_size

PHOTOGRAPHS = ("imagenette", "imagewoof", "imagenet20", "imagenet", "caltech101")
DATASETS = ("diorama", *PHOTOGRAPHS)


@dataclass(frozen=True)
class Split:
    """Images of one split, as stored (256/224 of the network's image size), and what is known about them.

    `truth` holds what only the embedded world knows: `mask` (N, R, R) bool, `parts` (N, R, R) uint8, `keypoints`
    (N, 3, 2) float x, y in pixels of left eye, right eye and nose, `visible` (N, 3) bool. Empty for photographs.
    """

    images: Tensor  # uint8 (N, 3, R, R), channels-last in memory
    labels: Tensor  # int64 (N,)
    truth: dict[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Dataset:
    """A train and a validation split and the names of the classes."""

    name: str
    classes: tuple[str, ...]
    train: Split
    val: Split
    image_size: int  # S, what the network sees
    fingerprint: str  # changes when the images do

    @property
    def photographs(self) -> bool:
        """Whether the images are somebody's photographs, which may be shown but not redistributed."""
        return self.name != "diorama"


def cache_root() -> Path:
    """Where decoded and drawn images are kept: `$ZFREPRO_CACHE`, or a folder in the user's cache."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("ZFREPRO_CACHE") or Path(base) / "zfrepro")


def load(name: str | None = None, image_size: int = 128, *, root: str | Path | None = None, progress: bool = True) -> Dataset:
    """A data set at the resolution a network of `image_size` px needs, decoded once and cached.

    Args:
        name: one of `DATASETS`; default `$ZFREPRO_DATASET`, else `diorama`.
        image_size: side S of the network's input in pixels; images are stored at 256/224 of it.
        root: folder of the photographs; default `$ZFREPRO_DATA`.
    Raises:
        ValueError: unknown name.
        FileNotFoundError: photographs that are not where they should be, with the remedy.
    """
    name = name or os.environ.get("ZFREPRO_DATASET") or "diorama"
    if name not in DATASETS:
        raise ValueError(f"unknown data set {name!r}; there are: {', '.join(DATASETS)}")
    if name == "diorama":
        from zfrepro.data.world import load_diorama

        return load_diorama(image_size, progress=progress)
    from zfrepro.data.photos import load_photographs

    return load_photographs(name, image_size, root=root, progress=progress)


__all__ = ["DATASETS", "PHOTOGRAPHS", "Dataset", "Split", "cache_root", "load", "stored_size"]
