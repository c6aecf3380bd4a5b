"""The data sets that networks are transferred to, and near-duplicates.

Unlike the sets that networks are trained on, they are one pool of images, from which folds are
drawn.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torchvision.transforms.functional import pil_to_tensor
from tqdm.auto import tqdm

from zfrepro import data
from zfrepro.data import photos
from zfrepro.data.transforms import center_crop, stored_size

SIDE = 32  # px of the thumbnails that are compared
NOVEL = 80  # images of each novel class of the diorama, on average
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


def squeezed(file: Path, side: int) -> Tensor:
    """Return a whole photograph as a square, uint8 (3, side, side)."""
    with Image.open(file) as image:
        return pil_to_tensor(photos.to_rgb(image).resize((side, side), Image.Resampling.BILINEAR))


def longest(file: Path, side: int) -> Tensor:
    """Return a whole photograph with its longer side at `side`, uint8 (3, h, w)."""
    with Image.open(file) as image:
        scale = side / max(image.size)
        size = [max(1, round(scale * length)) for length in image.size]
        return pil_to_tensor(photos.to_rgb(image).resize(size, Image.Resampling.BILINEAR))


def caltech101_files(classes: Iterable[str], root: str | Path | None = None) -> list[Path]:
    """List the photographs in the order of `caltech101`."""
    folder = photos.find_folder("caltech101", root)
    parts = (photos.list_part(folder, part, list(classes))[0] for part in data.PARTS)
    return [file for part in parts for file in part]


View = Literal["middle", "square", "whole"]
"""What is shown of an image: the middle of its central square, as networks see the images that they
are tested on; that square, as they are stored for training; or all of it, squeezed into a square.
The paper does not tell which."""


def caltech101(
    side: int, root: str | Path | None = None, *, view: View = "middle", progress: bool = True
) -> Pool:
    """Load up to 80 images of each of the 102 classes, the background among them.

    They are side x side px; squares are of the size that is stored for it.
    """
    dataset = data.load("caltech101", side, root=root, progress=progress)
    labels = torch.cat([dataset.train.labels, dataset.val.labels])
    if view == "whole":
        files = caltech101_files(dataset.classes, root)
        files = tqdm(files, "caltech101", disable=not progress)
        images = torch.stack([squeezed(file, side) for file in files])
    else:
        images = torch.cat([dataset.train.images, dataset.val.images])
        images = center_crop(images, side) if view == "middle" else images
    return Pool("caltech101", dataset.classes, images, labels, dataset.fingerprint)


def novel_diorama(side: int, *, view: View = "middle", progress: bool = True) -> Pool:
    """Draw the twelve classes that Diorama's networks never saw, `NOVEL` of each on average.

    They are as those of `caltech101`; whole images are squares.
    """
    import diorama

    count = NOVEL * len(diorama.NOVEL_CLASSES)
    cache, size = data.cache_root() / "diorama", stored_size(side)
    drawn = diorama.split(count, seed=0, size=size, novel=True, cache=cache, progress=progress)
    images = center_crop(drawn["images"], side) if view == "middle" else drawn["images"]
    return Pool("novel", diorama.NOVEL_CLASSES, images, drawn["labels"], diorama.VERSION)


def some_classes(pool: Pool, count: int, a_class: int) -> Pool:
    """Return the first `a_class` images of each of `count` classes spread over the list."""
    chosen = torch.linspace(0, len(pool.classes) - 1, min(count, len(pool.classes))).long().unique()
    indices = torch.cat([(pool.labels == c).nonzero()[:a_class, 0] for c in chosen])
    labels = torch.searchsorted(chosen, pool.labels[indices])
    names = tuple(pool.classes[c] for c in chosen.tolist())
    return Pool(pool.name, names, pool.images[indices], labels, pool.fingerprint)


def thumbnails(images: Tensor) -> Tensor:
    """Return small images as rows of length 1, each colour of mean 0.

    With one mean for all colours, whatever is blue all over would correlate: sea with sky. A blank
    image becomes zeros, which correlate with nothing.

    Args:
        images: uint8 (N, 3, R, R).
    Returns:
        (N, 3 * SIDE * SIDE).
    """
    small = torch.cat([F.adaptive_avg_pool2d(part.float(), SIDE) for part in images.split(512)])
    rows = (small - small.mean((2, 3), keepdim=True)).flatten(1)
    length = rows.norm(dim=1, keepdim=True)
    return torch.where(length > 1e-3, rows / length.clamp_min(1e-3), 0)


def closest(target: Tensor, source: Tensor, chunk: int = 256) -> Tensor:
    """Return each target image's highest correlation with a source image, (N,).

    Args:
        target, source: rows of `thumbnails`, (N, D) and (M, D).
    """
    return torch.cat([(rows @ source.T).amax(1) for rows in target.split(chunk)])
