"""The features of all layers as a flip book for the rendered page (Fig. 2, one map at a time)."""

from collections import Counter

import numpy as np
import torch
import torch.nn.functional as F
from IPython.display import HTML
from torch import Tensor

from zfrepro import gallery, plots, static
from zfrepro.data import Split
from zfrepro.gallery import Top
from zfrepro.weights import Trained

TILE = 40  # px a side
GAP = 1


def resized(pictures: Tensor, side: int = TILE) -> Tensor:
    """Square pictures at one size, pixels kept sharp where they grow. (N, 3, F, F) of 0 to 1 -> (N, 3, side, side)."""
    if pictures.shape[-1] <= side:
        return F.interpolate(pictures, side, mode="nearest")
    return F.interpolate(pictures, side, mode="bilinear", antialias=True).clamp(0, 1)


def nine_and_nine(projections: Tensor, patches: Tensor) -> np.ndarray:
    """Nine projections on the left, their patches on the right. (9, 3, F, F) signed, uint8 -> uint8 (H, W, 3)."""
    left = plots.tiled(resized(plots.shown(projections)), 3, GAP)
    right = plots.tiled(resized(plots.as_colours(patches)), 3, GAP)
    picture = torch.cat([left, torch.ones(3, left.shape[1], TILE // 8), right], 2)
    return (255 * picture).round().byte().permute(1, 2, 0).numpy()


def described(trained: Trained, top: Top, number: int, labels: Tensor) -> str:
    """A line on a map: how strong its strongest unit is, and of which classes its images are."""
    names = Counter(trained.classes[i] for i in labels[top.images[number]].tolist())
    images = ", ".join(f"{name} {count}" for name, count in names.most_common())
    return f"{top.layer}, map {number}: strongest activation {top.values[number, 0]:.2f}; images of {images}"


def explorer(trained: Trained, split: Split, tops: dict[str, Top], maps: int = 6, seed: int = 0) -> HTML:
    """Some maps of every layer, drawn at random among those that respond, to leaf through without a kernel.

    Args:
        split: the images that were searched.
        tops: what `gallery.top_activations` found on them.
        maps: how many a layer.
    """
    generator, seen = torch.Generator().manual_seed(seed), trained.center_crop(split.images)
    pictures, notes = [], []
    for top in tops.values():
        alive = (top.values[:, -1] > 0).nonzero().flatten()
        chosen = alive[torch.randperm(len(alive), generator=generator)[:maps]].tolist()
        chosen *= -(-maps // len(chosen))  # a layer with few maps repeats them
        projections = gallery.projections(
            trained.network, lambda i: trained.preprocess(split.images[i]), top, chosen[:maps]
        )
        patches = gallery.patches(seen, trained.network, top, chosen[:maps])
        pictures += map(nine_and_nine, projections, patches)
        notes += [described(trained, top, number, split.labels) for number in chosen[:maps]]
    axes = {"layer": [name.removeprefix("conv") for name in tops], "map": [f"{i + 1} of {maps}" for i in range(maps)]}
    alt = "For one feature map, its nine strongest projections on the left and the patches they come from on the right"
    return static.frames(np.stack(pictures), axes, notes, alt=alt, jpeg=True)
