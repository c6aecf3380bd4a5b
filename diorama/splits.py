"""Whole data sets of rendered images, in memory and on disk."""

import os
import zipfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from .rendering import render
from .sampling import sample

VERSION = "179b4ca7adae"  # of what is drawn: a change asks for new weights and records
BLOCK = 256  # images between two steps of the progress bar
FIELDS = ("images", "labels", "mask", "parts", "keypoints", "visible")  # of a `Drawing`


def split(
    count: int = 8000,
    *,
    seed: int = 0,
    size: int = 128,
    novel: bool = False,
    cache: Path | None = None,
    progress: bool = True,
) -> dict[str, Tensor]:
    """Return the images of indices 0 to count - 1, from the cache if they are there.

    Args:
        count: how many, at least 1.
        seed: 0 for training, 1 for validation.
        size: side in pixels.
        novel: the novel classes.
        cache: folder to keep images in; None keeps none.
        progress: show a progress bar while rendering.

    Returns:
        images, labels, mask, parts, keypoints, visible, as in `Drawing`.

    Raises:
        ValueError: if an argument is out of range.
    """
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise ValueError(f"count must be an integer of at least 1, got {count!r}")
    kind = "novel" if novel else "classes"
    name = f"diorama-{VERSION}-{kind}-seed{seed}-{size}px-{count}.npz"
    if cache is not None and (stored := _load(Path(cache) / name)) is not None:
        return stored
    drawings = []
    with tqdm(total=count, desc="diorama", unit="image", disable=not progress, leave=False) as bar:
        for start in range(0, count, BLOCK):
            indices = range(start, min(start + BLOCK, count))
            drawings.append(render(sample(indices, seed, novel), size))
            bar.update(len(indices))
    whole = {field: torch.cat([getattr(d, field) for d in drawings]) for field in FIELDS}
    whole["images"] = whole["images"].contiguous(memory_format=torch.channels_last)
    if cache is not None:
        _save(Path(cache) / name, whole)
    return whole


def _save(path: Path, whole: dict[str, Tensor]) -> None:
    """Write under a temporary name, then rename, so that a reader never sees half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    arrays = {name: value.numpy() for name, value in whole.items() if name != "mask"}
    arrays["images"] = np.moveaxis(arrays["images"], 1, -1)  # as it lies in memory
    try:
        with open(temporary, "wb") as file:
            np.savez(file, **arrays)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _load(path: Path) -> dict[str, Tensor] | None:
    """Return what a cache file holds, or None if it is missing or damaged."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in FIELDS if name != "mask"}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    arrays |= {"images": np.moveaxis(arrays["images"], -1, 1), "mask": arrays["parts"] > 0}
    return {field: torch.from_numpy(arrays[field]) for field in FIELDS}
