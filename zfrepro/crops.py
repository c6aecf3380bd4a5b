"""Projections at the cost of a unit's receptive field instead of the image: the deconvnet on aligned crops, exactly.

Everything a projection needs, switches included, lies in the unit's receptive field. So the network below the unit
runs without padding on a crop that ends as one unit. What padding and borders do to the true image is put back by
masks: places outside a feature map are zero to a convolution and absent to a pool.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from zfrepro import deconvnet
from zfrepro.deconvnet import Units, unpool
from zfrepro.layers import contrast_norm
from zfrepro.networks import POOL_KERNEL, POOL_STRIDE, Network
from zfrepro.receptive_field import Stage, stage, stages


@dataclass(frozen=True)
class Projections:
    """Projections of B units at receptive-field size F, and where each lies in its image."""

    pixels: Tensor  # (B, 3, F, F), zero outside the image; F is at most the image's side
    tops: Tensor  # (B,) row of the first pixel in the image, may be negative
    lefts: Tensor  # (B,)
    activations: Tensor  # (B,)


def cut(images: Tensor, tops: Tensor, lefts: Tensor, size: int, fill: float = 0.0) -> Tensor:
    """A window of each image, `fill` outside it. images: (B, C, H, W), tops, lefts: (B,) -> (B, C, size, size)."""
    height, width = images.shape[-2:]
    out = images.new_full((len(images), images.shape[1], size, size), fill)
    out = out.contiguous(memory_format=torch.channels_last)
    for i, (top, left) in enumerate(zip(tops.tolist(), lefts.tolist(), strict=True)):
        y0, y1, x0, x1 = max(top, 0), min(top + size, height), max(left, 0), min(left + size, width)
        if y0 < y1 and x0 < x1:  # a window may lie in the padding altogether
            out[i, :, y0 - top : y1 - top, x0 - left : x1 - left] = images[i, :, y0:y1, x0:x1]
    return out


@dataclass(frozen=True)
class _Level:
    """The crop at one level: its extent and the places in it that exist in the true feature map."""

    extent: int
    rows: Tensor  # (B, 1, extent, 1) bool
    columns: Tensor  # (B, 1, 1, extent) bool
    whole: bool  # nothing lies outside

    def zero_outside(self, x: Tensor) -> Tensor:
        return x if self.whole else x.masked_fill(~(self.rows & self.columns), 0)

    def absent_outside(self, x: Tensor) -> Tensor:
        return x if self.whole else x.masked_fill(~(self.rows & self.columns), -torch.inf)


def _level(extent: int, rows: Tensor, columns: Tensor, size: int, device: torch.device) -> _Level:
    inside = []
    for first in (rows, columns):
        places = first[:, None] + torch.arange(extent, device=first.device)
        inside.append((places >= 0) & (places < size))
    whole = bool(inside[0].all() and inside[1].all())
    return _Level(extent, inside[0][:, None, :, None].to(device), inside[1][:, None, None, :].to(device), whole)


def _levels(
    below: list[Stage], image_size: int, units: Units, device: torch.device
) -> tuple[list[_Level], Tensor, Tensor]:
    """The crop from the image up to the unit, one level more than there are stages, and its first row and column."""
    extent, rows, columns = 1, units.rows, units.columns
    levels = [_level(extent, rows, columns, below[-1].size, device)]
    sizes = [image_size, *(s.size for s in below[:-1])]
    for s, size in zip(reversed(below), reversed(sizes), strict=True):
        extent = (extent - 1) * s.stride + s.kernel
        rows, columns = rows * s.stride - s.padding, columns * s.stride - s.padding
        levels.append(_level(extent, rows, columns, size, device))
    return levels[::-1], rows, columns


def _on_crops(network: Network, images: Tensor, layer: str, units: Units, below: list[Stage]) -> Projections:
    levels, tops, lefts = _levels(below, images.shape[-1], units, images.device)
    convs = network.architecture.convs
    convs = convs[: [c.name for c in convs].index(layer)]
    norm_first = network.architecture.norm_before_pool
    x = cut(images, tops, lefts, levels[0].extent)
    upward = iter(levels[1:])
    switches: list[tuple[Tensor, torch.Size] | None] = []
    for c in convs:
        conv = network.convs[c.name]
        x, level = F.relu(F.conv2d(x, conv.weight, conv.bias, conv.stride)), next(upward)
        if c.norm and norm_first:
            x = contrast_norm(x)
        if c.pool:
            before = x.shape
            x, indices = F.max_pool2d(level.absent_outside(x), POOL_KERNEL, POOL_STRIDE, return_indices=True)
            switches.append((indices, before))
            level = next(upward)
        else:
            switches.append(None)
        x = level.zero_outside(x)
        if c.norm and not norm_first:
            x = contrast_norm(x)
    probed = network.convs[layer]
    filters = probed.weight[units.maps]
    activations = F.relu((x * filters).sum((1, 2, 3)) + probed.bias[units.maps])
    x = filters * activations[:, None, None, None]
    downward = iter(levels[-2::-1])
    x = next(downward).zero_outside(x)
    for c, switch in zip(reversed(convs), reversed(switches), strict=True):
        if switch is not None:
            x = unpool(x, *switch)
            next(downward)  # unpooled values lie where maxima were, all of them inside
        x = F.conv_transpose2d(F.relu(x), network.convs[c.name].weight, stride=network.convs[c.name].stride)
        x = next(downward).zero_outside(x)
    return Projections(x, tops, lefts, activations)


def window(network: Network, layer: str, units: Units) -> tuple[Tensor, Tensor, int]:
    """First row and column (B,) of each unit's receptive field in the image, and its side in pixels.

    A field larger than the image is replaced by the whole image.
    """
    field = stage(network.architecture, network.image_size, layer).field
    if field.size >= network.image_size:
        zeros = torch.zeros_like(units.rows)
        return zeros, zeros, network.image_size
    return units.rows * field.jump + field.start, units.columns * field.jump + field.start, field.size


@torch.no_grad()
def project(network: Network, images: Tensor, layer: str, units: Units) -> Projections:
    """Equal to `deconvnet.project`, cut to the receptive field, for conv layers.

    Where the receptive field is larger than the image, the whole image is returned.

    Args:
        images: (B, 3, S, S), mean subtracted.
        layer: `conv1` to `conv5`.
        units: one a image.
    Returns:
        `Projections`, pixels (B, 3, F, F).
    Raises:
        ValueError: unknown layer, images of another size than the network's, not one existing unit for each image, or
            a unit that sees NaN.
    """
    if layer not in network.convs:
        raise ValueError(f"no conv layer {layer!r} in {network.architecture.name}; it has {', '.join(network.convs)}")
    network.require(images)
    if (size := tuple(images.shape[-2:])) != (network.image_size,) * 2:
        raise ValueError(f"images are {size[0]} x {size[1]} px, this network sees {network.image_size}")
    deconvnet.require_no_blur(network)
    below = stages(network.architecture, network.image_size)
    below = below[: [s.name for s in below].index(layer) + 1]
    units.require(layer, len(images), (below[-1].maps, below[-1].size, below[-1].size))
    if below[-1].field.size < network.image_size:
        found = _on_crops(network, images, layer, units, below)
        deconvnet.require_finite(layer, found.activations)
        return found
    up = deconvnet.forward(network, images, layer)
    pixels = deconvnet.backward(network, up, layer, deconvnet.seed(up.activations, units))
    tops, lefts, _ = window(network, layer, units)
    batch = torch.arange(len(units), device=images.device)
    activations = up.activations[batch, units.maps, units.rows, units.columns]
    deconvnet.require_finite(layer, activations)
    return Projections(pixels, tops, lefts, activations)
