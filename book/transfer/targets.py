"""The data sets that networks are transferred to, in torchvision's layouts, and near-duplicates.

Unlike the sets that networks are trained on, they are one pool of images, from which folds are
drawn, or, for PASCAL VOC, a table of which classes each image has.
"""

import os
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from zfrepro import data
from zfrepro.data import DataError, photos
from zfrepro.data.transforms import stored_size

FOLDERS = {"caltech256": ("caltech256/256_ObjectCategories", "caltech256", "256_ObjectCategories")}
CLUTTER = "257.clutter"  # Caltech-256's background, which is none of its 256 classes
VOC = ("VOCdevkit/VOC2012", "voc2012", "VOC2012")

SIDE = 32  # px of the thumbnails that are compared
THRESHOLD = 0.95
"""Correlation from which two images count as one. The paper gives none. Images saved at another
size or quality stay well above it (tested); different images of one plain subject come close."""


@dataclass(frozen=True)
class Pool:
    """Images with one label each."""

    name: str
    classes: tuple[str, ...]
    images: Tensor  # uint8 (N, 3, R, R)
    labels: Tensor  # (N,)
    fingerprint: str

    def where(self, mask: Tensor) -> "Pool":
        """Return the images that a mask selects, (N,) bool."""
        return replace(self, images=self.images[mask], labels=self.labels[mask])


@dataclass(frozen=True)
class Presence:
    """Images with several classes each."""

    classes: tuple[str, ...]
    images: Tensor  # uint8 (N, 3, R, R)
    truth: Tensor  # int8 (N, classes): 1 there, -1 not there, 0 difficult, not counted


def _found(root: str | Path | None, choices: tuple[str, ...]) -> Path:
    root = root or os.environ.get("ZFREPRO_DATA")
    if not root:
        raise DataError(f"{choices[0]}: set ZFREPRO_DATA (or --data) to the folder that holds it")
    for choice in choices:
        if (folder := Path(root).expanduser() / choice).is_dir():
            return folder
    raise DataError(
        f"{root}: no {choices[0]} inside; get it through torchvision.datasets and unpack it there"
    )


def caltech101(image_size: int, root: str | Path | None = None, *, progress: bool = True) -> Pool:
    """Load up to 80 images of each of the 102 classes, the background among them."""
    found = data.load("caltech101", image_size, root=root, progress=progress)
    images = torch.cat([found.train.images, found.val.images])
    labels = torch.cat([found.train.labels, found.val.labels])
    return Pool("caltech101", found.classes, images, labels, found.fingerprint)


def caltech256(image_size: int, root: str | Path | None = None, *, progress: bool = True) -> Pool:
    """Load all images of the 256 classes, without the clutter.

    Raises:
        DataError: not there, or an image cannot be decoded.
    """
    folder = _found(root, FOLDERS["caltech256"])
    classes = sorted(
        f.name
        for f in folder.iterdir()
        if f.is_dir() and f.name[:3].isdigit() and f.name != CLUTTER
    )
    if not classes:
        raise DataError(f"{folder}: no class folders such as 001.ak47 inside")
    files, labels = photos.list_images(folder, classes)
    images = photos.load_images(
        files, folder, stored_size(image_size), data.cache_root() / "caltech256", progress=progress
    )
    lines = [f"{f.relative_to(folder)} {f.stat().st_size}" for f in files]
    names = tuple(name.split(".", 1)[-1] for name in classes)
    return Pool("caltech256", names, images, torch.tensor(labels), photos._digest(lines))


def voc2012(
    part: str, image_size: int, root: str | Path | None = None, *, progress: bool = True
) -> Presence:
    """Load a part (`train`, `val` or `trainval`) and which of the 20 classes each image has.

    Raises:
        DataError: not there, or a list that does not fit its images.
    """
    folder = _found(root, VOC)
    lists = folder / "ImageSets" / "Main"
    tables = sorted(lists.glob(f"*_{part}.txt"))
    if not tables:
        raise DataError(f"{lists}: no lists such as dog_{part}.txt inside")
    columns, ids = [], None
    for file in tables:
        rows = [line.split() for line in file.read_text().splitlines() if line.strip()]
        if any(len(row) != 2 or row[1] not in ("1", "0", "-1") for row in rows):
            raise DataError(f"{file}: each line must be an image's name and 1, 0 or -1")
        own = [row[0] for row in rows]
        if ids is not None and own != ids:
            raise DataError(f"{file}: lists other images than {tables[0].name}")
        ids = own
        columns.append([int(row[1]) for row in rows])
    files = [folder / "JPEGImages" / f"{name}.jpg" for name in ids or ()]
    for file in files:
        if not file.is_file():
            raise DataError(f"{file}: in the lists and not there")
    images = photos.load_images(
        files,
        folder / "JPEGImages",
        stored_size(image_size),
        data.cache_root() / "voc2012",
        progress=progress,
    )
    names = tuple(file.stem.removesuffix(f"_{part}") for file in tables)
    return Presence(names, images, torch.tensor(columns, dtype=torch.int8).T.contiguous())


def novel_diorama(
    image_size: int, a_class: int = 80, *, seed: int = 0, progress: bool = True
) -> Pool:
    """Draw the twelve classes that Diorama's networks never saw, `a_class` of each on average."""
    import diorama

    count = a_class * len(diorama.NOVEL_CLASSES)
    cache, size = data.cache_root() / "diorama", stored_size(image_size)
    found = diorama.split(count, seed=seed, size=size, novel=True, cache=cache, progress=progress)
    return Pool("novel", diorama.NOVEL_CLASSES, found["images"], found["labels"], diorama.VERSION)


def some_classes(pool: Pool, count: int, a_class: int) -> Pool:
    """Return the first `a_class` images of each of `count` classes spread over the list."""
    chosen = torch.linspace(0, len(pool.classes) - 1, min(count, len(pool.classes))).long().unique()
    kept = torch.cat([(pool.labels == c).nonzero()[:a_class, 0] for c in chosen])
    labels = torch.searchsorted(chosen, pool.labels[kept])
    names = tuple(pool.classes[c] for c in chosen.tolist())
    return Pool(pool.name, names, pool.images[kept], labels, pool.fingerprint)


def thumbnails(images: Tensor, side: int = SIDE, chunk: int = 512) -> Tensor:
    """Return small images as rows of length 1, each colour of mean 0.

    With one mean for all colours, whatever is blue all over would correlate: sea with sky. A blank
    image becomes zeros, which correlate with nothing.

    Args:
        images: uint8 (N, 3, R, R).
    Returns:
        (N, 3 * side * side).
    """
    small = torch.cat([F.adaptive_avg_pool2d(part.float(), side) for part in images.split(chunk)])
    rows = (small - small.mean((2, 3), keepdim=True)).flatten(1)
    length = rows.norm(dim=1, keepdim=True)
    return torch.where(length > 1e-3, rows / length.clamp_min(1e-3), 0)


def closest(target: Tensor, source: Tensor, chunk: int = 1024) -> tuple[Tensor, Tensor]:
    """Return each target image's highest correlation with a source image, and that one's index.

    Args:
        target, source: rows of `thumbnails`, (N, D) and (M, D).
    Returns:
        correlations (N,), indices into the source (N,).
    """
    best = torch.full((len(target),), -1.0)
    which = torch.zeros(len(target), dtype=torch.long)
    for start in range(0, len(source), chunk):
        values, indices = (target @ source[start : start + chunk].T).max(1)
        better = values > best
        best[better], which[better] = values[better], indices[better] + start
    return best, which
