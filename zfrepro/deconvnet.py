"""The deconvnet (section 2.1, Fig. 1), layer by layer, for this package's networks.

A unit's activation is carried back to the pixels: unpool by the switches, rectify, filter with the transposed
weights, layer after layer. No biases, contrast norm skipped, nothing rectified after the last filtering.
`zfrepro.backward_rules` does the same for any torch model; `zfrepro.crops` does it on receptive-field crops, faster.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from zfrepro.layers import CeilConv2d, contrast_norm, require_index
from zfrepro.networks import POOL_KERNEL, POOL_STRIDE, Network


@dataclass(frozen=True)
class Units:
    """One unit for each image of a batch: a map (or FC unit) and, in a conv layer, row and column. All (B,) int64."""

    maps: Tensor
    rows: Tensor | None = None
    columns: Tensor | None = None

    def __len__(self) -> int:
        return len(self.maps)

    def __getitem__(self, chosen) -> "Units":
        if self.rows is None:
            return Units(self.maps[chosen])
        return Units(self.maps[chosen], self.rows[chosen], self.columns[chosen])

    def require(self, layer: str, images: int, shape: tuple[int, ...]) -> None:
        """Refuse units that do not exist.

        Args:
            layer: its name, for the message.
            images: how many there are.
            shape: of the layer for one image: (C, H, W) or (units,).
        Raises:
            ValueError: not one unit an image, rows and columns where there are none or none where there are, or an
                index outside the layer.
        """
        if len(self) != images or (self.rows is None) != (len(shape) == 1):
            what = "a map" if len(shape) == 1 else "a map, row and column"
            raise ValueError(f"{layer}: needs {what} for each of the {images} images")
        places = ("map", self.maps), ("row", self.rows), ("column", self.columns)
        for (name, own), count in zip(places, shape, strict=False):
            require_index(f"{layer}: {name}", own, count)


@dataclass(frozen=True)
class Forward:
    """What the way down needs from the way up."""

    activations: Tensor  # of the probed layer, after the ReLU: (B, C, H, W) or (B, units)
    switches: dict[str, tuple[Tensor, torch.Size]]  # conv name -> argmax indices and shape before the pool
    input_sizes: dict[str, tuple[int, int]]  # conv name -> height and width of what it filters
    pooled_shape: torch.Size | None  # what layer 6 flattens


def pool(x: Tensor) -> tuple[Tensor, Tensor]:
    """3x3/2 max-pool with ceil borders. x: (B, C, H, W) -> values and switches (flat positions in H x W)."""
    return F.max_pool2d(x, POOL_KERNEL, POOL_STRIDE, ceil_mode=True, return_indices=True)


def unpool(x: Tensor, switches: Tensor, shape: torch.Size) -> Tensor:
    """Put each value where its maximum came from. Windows overlap, so values that meet in one place are summed.

    `torch.nn.functional.max_unpool2d` keeps one of them, which one is not defined.

    Args:
        x, switches: (B, C, h, w).
        shape: (B, C, H, W) before the pool.
    Returns:
        (B, C, H, W).
    """
    flat = x.new_zeros(shape[0], shape[1], shape[2] * shape[3])
    return flat.scatter_add_(2, switches.flatten(2), x.flatten(2)).view(shape)


def transposed(conv: CeilConv2d, x: Tensor, size: tuple[int, int]) -> Tensor:
    """Filter with the transposed weights, without bias. x: (B, Cout, h, w) -> (B, Cin, *size)."""
    full = F.conv_transpose2d(x, conv.weight, stride=conv.stride)
    padding = conv.padding[0]
    missing = [max(0, size[i] + padding - full.shape[2 + i]) for i in range(2)]  # pixels no window reached
    full = F.pad(full, (0, missing[1], 0, missing[0]))
    return full[:, :, padding : padding + size[0], padding : padding + size[1]]


def require_no_blur(network: Network) -> None:
    """Refuse a network with low-pass filters, for which the paper's deconvnet has no step.

    Raises:
        ValueError: with what to use instead.
    """
    if any(c.blur for c in network.architecture.convs):
        raise ValueError(
            f"{network.architecture.name} low-pass filters its maps, the deconvnet has no step for that; "
            "use backward_rules.project, which filters back by the transpose"
        )


def forward(network: Network, images: Tensor, layer: str) -> Forward:
    """Run up to `layer`, keeping the switches.

    Args:
        images: (B, 3, S, S), mean subtracted.
        layer: `conv1` to `conv5`, `fc6`, `fc7`, or `fc8` (class scores, not rectified).
    """
    if layer not in network.layers:
        raise ValueError(f"no layer {layer!r} in {network.architecture.name}; it has {', '.join(network.layers)}")
    require_no_blur(network)
    network.require(images)
    x = images
    switches: dict[str, tuple[Tensor, torch.Size]] = {}
    input_sizes: dict[str, tuple[int, int]] = {}
    for c in network.architecture.convs:
        input_sizes[c.name] = (x.shape[-2], x.shape[-1])
        x = F.relu(network.convs[c.name](x))
        if c.name == layer:
            return Forward(x, switches, input_sizes, None)
        if c.norm and network.architecture.norm_before_pool:
            x = contrast_norm(x)
        if c.pool:
            before = x.shape
            x, indices = pool(x)
            switches[c.name] = (indices, before)
        if c.norm and not network.architecture.norm_before_pool:
            x = contrast_norm(x)
    pooled_shape = x.shape
    x = x.flatten(1)
    for name, full in network.fulls.items():
        x = full(x) if name == "fc8" else F.relu(full(x))
        if name == layer:
            break
    return Forward(x, switches, input_sizes, pooled_shape)


def seed(activations: Tensor, units: Units) -> Tensor:
    """All zero but the chosen unit of each image, which keeps its activation. Same shape as `activations`."""
    only = torch.zeros_like(activations)
    batch = torch.arange(len(units), device=activations.device)
    where = (batch, units.maps) if units.rows is None else (batch, units.maps, units.rows, units.columns)
    only[where] = activations[where]
    return only


def require_finite(layer: str, activations: Tensor) -> None:
    """Refuse units whose activation is NaN or infinite, as it is when a pixel or a weight they see is. (B,).

    Raises:
        ValueError: naming the first image.
    """
    wrong = (~activations.isfinite()).nonzero().flatten()
    if len(wrong):
        raise ValueError(f"{layer}: the unit of image {int(wrong[0])} is not finite; its pixels or weights hold NaN")


def strongest(activations: Tensor) -> Units:
    """The strongest unit of each image. activations: (B, C, H, W) or (B, units)."""
    if activations.ndim == 2:
        return Units(activations.argmax(1))
    _, _, height, width = activations.shape
    flat = activations.flatten(1).argmax(1)
    return Units(flat // (height * width), flat % (height * width) // width, flat % width)


def steps(
    network: Network, up: Forward, layer: str, x: Tensor, *, unpool: Callable = unpool
) -> Iterator[tuple[str, Tensor]]:
    """Every step of the way down from `x`, shaped as the activations of `layer`, with its name; the last is the image.

    Args:
        unpool: what puts values back by their switches; another one than `unpool` is for experiments.
    Yields:
        ("rectify", x), ("filter fc7", x), ("unpool conv5", x), ... and at the end ("filter conv1", (B, 3, S, S)).
    """
    convs = network.architecture.convs
    if layer in network.fulls:
        names = list(network.fulls)
        for name in reversed(names[: names.index(layer) + 1]):
            if name != "fc8":  # class scores are not rectified on the way up, so not on the way down
                x = F.relu(x)
                yield "rectify", x
            x = x @ network.fulls[name].weight
            yield f"filter {name}", x
        x = x.view(up.pooled_shape)
    else:
        convs = convs[: [c.name for c in convs].index(layer) + 1]
    for c in reversed(convs):
        if c.name in up.switches:
            x = unpool(x, *up.switches[c.name])
            yield f"unpool {c.name}", x
        x = F.relu(x)
        yield "rectify", x
        x = transposed(network.convs[c.name], x, up.input_sizes[c.name])
        yield f"filter {c.name}", x


def backward(network: Network, up: Forward, layer: str, x: Tensor, *, unpool: Callable = unpool) -> Tensor:
    """Carry `x`, shaped as the activations of `layer`, back to pixels: (B, 3, S, S). `unpool` as in `steps`."""
    *_, (_, pixels) = steps(network, up, layer, x, unpool=unpool)
    return pixels


def project(network: Network, images: Tensor, layer: str, units: Units) -> Tensor:
    """Project one unit of each image down to pixels, seeded with its activation.

    Args:
        images: (B, 3, S, S), mean subtracted.
        layer: the probed layer; layers above it are not run.
        units: one a image.
    Returns:
        (B, 3, S, S); zero outside each unit's receptive field.
    Raises:
        ValueError: unknown layer, not one existing unit for each image, or a unit that sees NaN.
    """
    was_training = network.training
    network.eval()
    try:
        with torch.no_grad():
            up = forward(network, images, layer)
            units.require(layer, len(images), tuple(up.activations.shape[1:]))
            only = seed(up.activations, units)
            require_finite(layer, only.flatten(1).sum(1))
            return backward(network, up, layer, only)
    finally:
        network.train(was_training)
