"""Whole data sets of drawings, in memory and on disk."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from .rendering import render
from .sampling import sample

BLOCK, DEVICE_BLOCK = 256, 8192  # pictures between two steps of the progress bar, on a CPU and elsewhere
FIELDS = {
    "images": np.uint8,
    "labels": np.int64,
    "mask": np.bool_,
    "parts": np.uint8,
    "keypoints": np.float32,
    "visible": np.bool_,
}
VERSION = "179b4ca7adae"  # of what is drawn: a change asks for new weights and records


def cache_path(cache: Path, count: int, seed: int, size: int, novel: bool) -> Path:
    """Where `split` keeps a split."""
    kind = "novel" if novel else "classes"
    return Path(cache) / f"diorama-{VERSION}-{kind}-seed{seed}-{size}px-{count}.npz"


def split(
    count: int = 8000,
    *,
    seed: int = 0,
    size: int = 128,
    novel: bool = False,
    cache: Path | None = None,
    progress: bool = True,
    device: str = "cpu",
) -> dict[str, Tensor]:
    """The drawings of indices 0 to count - 1, from the cache if they are there.

    Args:
        count: how many, at least 1.
        seed: 0 for training, 1 for validation.
        size: side in pixels.
        novel: the novel classes.
        cache: folder to keep drawings in; None keeps none.
        progress: show a progress bar while drawing.
        device: where to draw; what is returned is on the CPU.

    Returns:
        images, labels, mask, parts, keypoints, visible, as in `Drawing`.

    Raises:
        ValueError: if an argument is out of range.
    """
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise ValueError(f"count must be an integer of at least 1, got {count!r}")
    path = None if cache is None else cache_path(cache, count, seed, size, novel)
    if path is not None and (found := _loaded(path, count, size)) is not None:
        return found
    pieces: dict[str, list[Tensor]] = {name: [] for name in FIELDS}
    with tqdm(total=count, desc="diorama", unit="image", disable=not progress, leave=False) as bar:
        block = BLOCK if torch.device(device).type == "cpu" else DEVICE_BLOCK
        for start in range(0, count, block):
            indices = torch.arange(start, min(start + block, count), device=device)
            drawing = render(sample(indices, seed, novel), size)
            for name, values in pieces.items():
                values.append(getattr(drawing, name).cpu())
            bar.update(len(indices))
    whole = {name: torch.cat(values) for name, values in pieces.items()}
    whole["images"] = whole["images"].contiguous(memory_format=torch.channels_last)
    if path is not None:
        _kept(path, whole)
    return whole


def _kept(path: Path, whole: dict[str, Tensor]) -> None:
    """Write under a temporary name, then rename, so that a reader never sees half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    arrays = {name: value.numpy() for name, value in whole.items()}
    arrays["images"] = whole["images"].permute(0, 2, 3, 1).numpy()
    arrays["mask"] = np.packbits(arrays["mask"], axis=None)
    try:
        with open(temporary, "wb") as file:
            np.savez(file, **arrays)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _loaded(path: Path, count: int, size: int) -> dict[str, Tensor] | None:
    """What a cache file holds, or None if it is missing, damaged or of another shape."""
    shapes = {
        "images": (count, 3, size, size),
        "labels": (count,),
        "mask": (count, size, size),
        "parts": (count, size, size),
        "keypoints": (count, 3, 2),
        "visible": (count, 3),
    }
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in FIELDS}
        arrays["mask"] = np.unpackbits(arrays["mask"], count=count * size * size).view(np.bool_)
        arrays["mask"] = arrays["mask"].reshape(count, size, size)
        arrays["images"] = np.moveaxis(arrays["images"], -1, 1)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    for name, kind in FIELDS.items():
        if arrays[name].shape != shapes[name] or arrays[name].dtype != kind:
            return None
    return {name: torch.from_numpy(array) for name, array in arrays.items()}
