"""The deconvnet (section 2.1, Fig. 1), layer by layer, for this package's networks.

A unit's activation is projected to the pixels: unpool by the switches, rectify, filter with the
transposed weights, layer after layer. No biases, contrast norm skipped, nothing rectified after the
last filtering.

`project` does it on whole images. `project_crops` gives the same pictures at the cost of a unit's
receptive field: everything a projection needs, switches included, lies there, so the network runs
without padding on a crop that ends as one unit. What padding and borders do to the true image is
put back by masks: places outside a feature map are zero to a convolution and absent to a pool.
Units that share an image share one forward pass; each is then projected on its own crop of the
switches. `zfrepro.rules` projects units of any torch model.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from zfrepro.layers import CeilConv2d, require_index
from zfrepro.models import Layered, evaluating
from zfrepro.networks import POOL_KERNEL, POOL_STRIDE, Conv, Network, Stage, stages


@dataclass(frozen=True)
class Units:
    """One unit an image: a map (or FC unit) and, in a conv layer, row and column; (B,) int64."""

    maps: Tensor
    rows: Tensor | None = None
    columns: Tensor | None = None

    def __len__(self) -> int:
        return len(self.maps)

    @property
    def places(self) -> tuple[Tensor, ...]:
        """Maps and, in a conv layer, rows and columns: the indices of the units in an image."""
        return (self.maps,) if self.rows is None else (self.maps, self.rows, self.columns)

    def __getitem__(self, chosen) -> "Units":
        return Units(*(index[chosen] for index in self.places))

    def to(self, device: torch.device | str | None) -> "Units":
        """Return the units on a device."""
        return Units(*(index.to(device) for index in self.places))

    def validate(self, layer: str, images: int, shape: tuple[int, ...]) -> None:
        """Refuse units that are not one an image, or do not exist in the layer.

        Args:
            layer: its name, for the message.
            images: how many there are.
            shape: of the layer for one image: (C, H, W) or (units,).
        """
        if len(self) != images or len(self.places) != len(shape):
            what = "a map" if len(shape) == 1 else "a map, row and column"
            raise ValueError(f"{layer}: needs {what} for each of the {images} images")
        for name, indices, count in zip(("map", "row", "column"), self.places, shape, strict=False):
            require_index(f"{layer}: {name}", indices, count)


@dataclass(frozen=True)
class ForwardTrace:
    """What the way down needs from the forward pass."""

    activations: Tensor  # of the probed layer, after the ReLU: (B, C, H, W) or (B, units)
    switches: dict[str, tuple[Tensor, torch.Size]]  # conv -> argmax indices, shape before the pool
    inputs: list[torch.Size]  # shapes of what each conv layer and the first full one filter
    features: dict[str, Tensor]  # of the probed layer and further ones asked for


def has_crops(model: object, *layers: str | None) -> bool:
    """Whether `project_crops` projects units of all these layers: convs of a network here."""
    if not isinstance(model, Network) or any(c.blur for c in model.architecture.convs):
        return False
    return set(layers) <= set(model.convs)


def pool(x: Tensor) -> tuple[Tensor, Tensor]:
    """Max-pool 3x3/2 with ceil borders.

    x: (B, C, H, W) -> values and switches (flat positions in H x W), both (B, C, h, w).
    """
    return F.max_pool2d(x, POOL_KERNEL, POOL_STRIDE, ceil_mode=True, return_indices=True)


def unpool(x: Tensor, switches: Tensor, shape: torch.Size) -> Tensor:
    """Put each value where its maximum came from, and sum those that meet there: windows overlap.

    `torch.nn.functional.max_unpool2d` keeps one of them, which one is not defined.
    x, switches: (B, C, h, w) -> `shape`, that before the pool, (B, C, H, W).
    """
    flat = x.new_zeros(shape[0], shape[1], shape[2] * shape[3])
    return flat.scatter_add_(2, switches.flatten(2), x.flatten(2)).view(shape)


def conv_transpose(conv: CeilConv2d, x: Tensor, size: tuple[int, int]) -> Tensor:
    """Filter with the transposed weights, without bias. x: (B, Cout, h, w) -> (B, Cin, *size)."""
    full = F.conv_transpose2d(x, conv.weight, stride=conv.stride)
    padding = conv.padding[0]
    return full[:, :, padding : padding + size[0], padding : padding + size[1]]


def validate_no_blur(network: Network) -> None:
    """Refuse a network with low-pass filters, for which the paper's deconvnet has no step."""
    if any(c.blur for c in network.architecture.convs):
        raise ValueError(
            f"{network.architecture.name} low-pass filters its maps, the deconvnet has no step for "
            "that; use rules.project, which filters back by the transpose"
        )


def forward(
    network: Network, images: Tensor, layer: str, *, also: Iterable[str] = ()
) -> ForwardTrace:
    """Run up to `layer`, keeping the switches; the network runs in evaluation mode.

    Args:
        images: (B, 3, S, S), mean subtracted.
        layer: `conv1` to `conv5`, `fc6`, `fc7`, or `fc8` (class scores, not rectified).
        also: conv layers below whose feature maps are wanted too.
    """
    validate_no_blur(network)
    network.validate(images)
    images = images.contiguous(memory_format=torch.channels_last)  # in which pools are much faster
    switches: dict[str, tuple[Tensor, torch.Size]] = {}
    inputs = [images.shape]

    def pool_and_norm(conv: Conv, x: Tensor) -> Tensor:
        x = _pool_and_norm(network, conv, x, switches)
        inputs.append(x.shape)
        return x

    with evaluating(network):
        features = network.features(images, {layer, *also}, pool_and_norm)
    return ForwardTrace(features[layer], switches, inputs, features)


def _pool_and_norm(network: Network, conv: Conv, x: Tensor, switches: dict) -> Tensor:
    """Return what the layer above filters, and keep the switches."""

    def keep_switches(before: Tensor) -> Tensor:
        values, indices = pool(before)
        switches[conv.name] = indices, before.shape
        return values

    return network.pool_and_norm(conv, x, keep_switches)


def seed(activations: Tensor, units: Units) -> Tensor:
    """Return `activations` with all but the chosen unit of each image set to zero."""
    only = torch.zeros_like(activations)
    places = torch.arange(len(units), device=activations.device), *units.places
    only[places] = activations[places]
    return only


def validate_finite(layer: str, activations: Tensor) -> None:
    """Refuse activations, (B,), that are NaN or infinite, as when a pixel or weight they see is."""
    wrong = (~activations.isfinite()).nonzero().flatten()
    if len(wrong):
        raise ValueError(
            f"{layer}: the unit of image {int(wrong[0])} is not finite; "
            "its pixels or weights hold NaN"
        )


def strongest(activations: Tensor) -> Units:
    """Return the strongest unit of each image. activations: (B, C, H, W) or (B, units)."""
    flat = activations.flatten(1).argmax(1)
    return Units(*torch.unravel_index(flat, activations.shape[1:]))


def steps(
    network: Network, trace: ForwardTrace, layer: str, x: Tensor, *, unpool: Callable = unpool
) -> Iterator[tuple[str, Tensor]]:
    """Yield every step of the way down from `x`, shaped as the activations of `layer`.

    Args:
        unpool: puts values back by their switches; another one than `unpool` is for experiments.
    Yields:
        ("rectify", x), ("filter fc7", x), ("unpool conv5", x), ...; the last, ("filter conv1", x),
        is the image, (B, 3, S, S).
    """
    convs = network.architecture.convs
    if layer in network.fulls:
        names = list(network.fulls)
        for name in reversed(names[: names.index(layer) + 1]):
            if name != "fc8":  # class scores are not rectified
                x = F.relu(x)
                yield "rectify", x
            x = x @ network.fulls[name].weight
            yield f"filter {name}", x
        x = x.view(trace.inputs[-1])
    else:
        convs = convs[: [c.name for c in convs].index(layer) + 1]
    for c, filtered in reversed(list(zip(convs, trace.inputs, strict=False))):
        if c.name in trace.switches:
            x = unpool(x, *trace.switches[c.name])
            yield f"unpool {c.name}", x
        x = F.relu(x)
        yield "rectify", x
        x = conv_transpose(network.convs[c.name], x, filtered[2:])
        yield f"filter {c.name}", x


def backward(
    network: Network, trace: ForwardTrace, layer: str, x: Tensor, *, unpool: Callable = unpool
) -> Tensor:
    """Project `x`, shaped as the activations of `layer`, to pixels: (B, 3, S, S)."""
    *_, (_, pixels) = steps(network, trace, layer, x, unpool=unpool)
    return pixels


@torch.no_grad()
def project(network: Network, images: Tensor, layer: str, units: Units) -> Tensor:
    """Project one unit of each image to pixels, seeded with its activation.

    Args:
        images: (B, 3, S, S), mean subtracted.
        layer: the probed layer; layers above it are not run.
        units: one an image.
    Returns:
        (B, 3, S, S); zero outside each unit's receptive field.
    Raises:
        ValueError: unknown layer, not one existing unit for each image, or a unit that sees NaN.
    """
    trace = forward(network, images, layer)
    units.validate(layer, len(images), tuple(trace.activations.shape[1:]))
    only = seed(trace.activations, units)
    validate_finite(layer, only.flatten(1).sum(1))
    return backward(network, trace, layer, only)


# --- on receptive-field crops ---------------------------------------------------------------------


@dataclass(frozen=True)
class Projections:
    """Projections of B units at receptive-field size F, and where each lies in its image."""

    pixels: Tensor  # (B, 3, F, F), zero outside the image; F is at most the image's side
    tops: Tensor  # (B,) row of the first pixel in the image, may be negative
    lefts: Tensor  # (B,)
    activations: Tensor | None = None  # (B,)


def crop(
    images: Tensor | Sequence[Tensor],
    tops: Tensor,
    lefts: Tensor,
    size: int | tuple[int, int],
    fill: float = 0.0,
) -> Tensor:
    """Cut a window out of each image, `fill` outside it. -> (B, C, *size), channels-last.

    Args:
        images: (B, C, H, W), or B times (C, H, W).
        tops, lefts: (B,) first row and column, in pixels; may lie outside the image.
        size: side of the window in pixels, or its height and width.
    """
    rows, columns = (size, size) if isinstance(size, int) else size
    channels, height, width = images[0].shape
    out = images[0].new_full((len(images), channels, rows, columns), fill)
    out = out.contiguous(memory_format=torch.channels_last)
    for i, (top, left) in enumerate(zip(tops.tolist(), lefts.tolist(), strict=True)):
        y0, y1 = max(top, 0), min(top + rows, height)
        x0, x1 = max(left, 0), min(left + columns, width)
        if y0 < y1 and x0 < x1:  # a window may lie in the padding altogether
            out[i, :, y0 - top : y1 - top, x0 - left : x1 - left] = images[i][:, y0:y1, x0:x1]
    return out


@dataclass(frozen=True)
class _Level:
    """The crops at one level: their extent, and which of their places the true feature map has."""

    extent: int
    tops: Tensor  # (B,) first row in the feature map
    lefts: Tensor
    inside: Tensor | None  # (B, 1, extent, extent) bool; None where nothing lies outside

    def fill_outside_(self, x: Tensor, value: float = 0) -> Tensor:
        # in place, for `masked_fill` would return a copy that is not channels-last
        return x if self.inside is None else x.masked_fill_(~self.inside, value)

    def cut(self, maps: Tensor | Sequence[Tensor]) -> Tensor:
        """Cut the crops out of whole maps, (B, C, H, W) or B times (C, H, W)."""
        return crop(maps, self.tops, self.lefts, self.extent)


def _levels(
    below: Sequence[Stage], image_size: int, units: Units, device: torch.device
) -> dict[str, _Level]:
    """Return the crops of every level from the unit to the image, named by what computes them."""
    extent, tops, lefts = 1, units.rows, units.columns
    levels = {}
    for s in (*reversed(below), None):
        name, size = (s.name, s.size) if s else ("image", image_size)
        offsets = torch.arange(extent, device=tops.device)
        rows, columns = (first[:, None] + offsets for first in (tops, lefts))
        rows, columns = ((at >= 0) & (at < size) for at in (rows, columns))
        whole = bool(rows.all() and columns.all())
        inside = None if whole else (rows[:, None, :, None] & columns[:, None, None, :]).to(device)
        levels[name] = _Level(extent, tops, lefts, inside)
        if s:
            extent = (extent - 1) * s.stride + s.kernel
            tops, lefts = tops * s.stride - s.padding, lefts * s.stride - s.padding
    return levels


def switch_codes(switches: Mapping[str, tuple[Tensor, torch.Size]]) -> dict[str, Tensor]:
    """Return each switch as its place within the 3x3 window, which a crop does not change.

    conv name -> uint8 (B, C, h, w), 0 to 8 in row order.
    """
    codes = {}
    for name, (indices, before) in switches.items():
        width, numbers = before[3], {"dtype": torch.int32, "device": indices.device}
        rows = torch.arange(indices.shape[2], **numbers)[:, None] * POOL_STRIDE
        columns = torch.arange(indices.shape[3], **numbers) * POOL_STRIDE
        shift = indices.to(torch.int32) - (rows * width + columns)  # row * width + column
        row = (shift >= width).to(torch.uint8) + (shift >= 2 * width)
        codes[name] = (shift - row * (width - POOL_KERNEL)).to(torch.uint8)
    return codes


def _unpool_codes(x: Tensor, codes: Tensor) -> Tensor:
    """Unpool a crop by its switch codes. x, codes: (B, C, e, e) -> (B, C, E, E), E = 2e + 1."""
    count, maps, extent, _ = x.shape
    side = (extent - 1) * POOL_STRIDE + POOL_KERNEL
    places = torch.arange(POOL_KERNEL, device=x.device)
    shifts = (places[:, None] * side + places).flatten() * maps
    corners = torch.arange(extent, device=x.device) * POOL_STRIDE
    corners = (corners[:, None] * side + corners)[:, :, None] * maps
    corners = corners + torch.arange(maps, device=x.device)  # (e, e, C), as channels-last lies
    indices = shifts[codes.permute(0, 2, 3, 1).int()] + corners
    flat = x.new_zeros(count, side * side * maps)
    flat.scatter_add_(1, indices.flatten(1), x.permute(0, 2, 3, 1).flatten(1))
    return flat.view(count, side, side, maps).permute(0, 3, 1, 2)


def _filter_to_pixels(x: Tensor, weight: Tensor, stride: int) -> Tensor:
    """Equal `F.conv_transpose2d`, faster for few output maps: a convolution for each phase.

    Pixel y * stride + a is touched by the taps a, a + stride, ... only, so all phases together are
    one convolution with stride 1 whose maps are then interleaved.
    """
    maps, colours, kernel, _ = weight.shape
    taps = math.ceil(kernel / stride)
    missing = taps * stride - kernel
    phases = F.pad(weight, (0, missing, 0, missing)).flip(2, 3)
    phases = phases.view(maps, colours, taps, stride, taps, stride).flip(3, 5)
    phases = phases.permute(1, 3, 5, 0, 2, 4).reshape(colours * stride**2, maps, taps, taps)
    pixels = F.pixel_shuffle(F.conv2d(x, phases, padding=taps - 1), stride)
    side = (x.shape[-1] - 1) * stride + kernel
    return pixels[:, :, :side, :side]


def _forward_on_crops(
    network: Network, images: Tensor | Sequence[Tensor], layer: str, levels: dict[str, _Level]
) -> tuple[Tensor, dict[str, Tensor]]:
    """Run the network below `layer` on crops. Returns what the units filter, and switch codes."""
    x = levels["image"].cut(images)
    codes: dict[str, Tensor] = {}
    for c in network.architecture.convs[: list(network.convs).index(layer)]:
        conv, level = network.convs[c.name], levels[c.name]

        def pool_inside(before: Tensor, c: Conv = c, level: _Level = level) -> Tensor:
            before = level.fill_outside_(before, -torch.inf)
            values, indices = F.max_pool2d(before, POOL_KERNEL, POOL_STRIDE, return_indices=True)
            codes.update(switch_codes({c.name: (indices, before.shape)}))
            return values

        x = F.relu(F.conv2d(x, conv.weight, conv.bias, conv.stride), inplace=True)
        x = network.pool_and_norm(c, x, pool_inside)
        x = levels[f"pool{c.layer}" if c.pool else c.name].fill_outside_(x)
    return x, codes


def _backward_on_crops(
    network: Network, layer: str, units: Units, activations: Tensor,
    codes: Mapping[str, Tensor], levels: dict[str, _Level],
) -> Projections:  # fmt: skip
    """Project units to pixels on crops, from their activations (B,) and cropped switch codes."""
    below = network.architecture.convs[: list(network.convs).index(layer)]
    weight = network.convs[layer].weight[units.maps]
    x = weight * activations[:, None, None, None].to(weight.dtype)
    x = x.contiguous(memory_format=torch.channels_last)
    for c in reversed(below):
        x = levels[f"pool{c.layer}" if c.pool else c.name].fill_outside_(x)
        if c.pool:
            x = _unpool_codes(x, codes[c.name])
        conv, x = network.convs[c.name], F.relu(x, inplace=True)
        if c is below[0]:
            x = _filter_to_pixels(x, conv.weight, conv.stride[0])
        else:
            x = F.conv_transpose2d(x, conv.weight, stride=conv.stride)
    image, side = levels["image"], network.image_size
    if image.extent < side:
        return Projections(image.fill_outside_(x), image.tops, image.lefts, activations)
    # the field is larger than the image, which is returned as a whole
    whole, zeros = crop(x, -image.tops, -image.lefts, side), torch.zeros_like(image.tops)
    return Projections(whole, zeros, zeros, activations)


def window(network: Layered, layer: str, units: Units) -> tuple[Tensor, Tensor, int]:
    """Return first row and column (B,) of each unit's receptive field, and its side in pixels.

    A field larger than the image is replaced by the whole image.
    """
    tops, lefts, (side, _) = network.fields(layer).windows(units.rows, units.columns, len(units))
    return tops.to(units.maps.device), lefts.to(units.maps.device), side


def _validate_crops(network: Network, layer: str, image_size: tuple[int, ...]) -> Sequence[Stage]:
    """Refuse what has no crops; return the stages up to `layer`."""
    if layer not in network.convs:
        names = ", ".join(network.convs)
        raise ValueError(f"no conv layer {layer!r} in {network.architecture.name}; it has {names}")
    if image_size != (network.image_size,) * 2:
        raise ValueError(
            f"images are {image_size[0]} x {image_size[1]} px, "
            f"this network sees {network.image_size}"
        )
    validate_no_blur(network)
    below = stages(network.architecture, network.image_size)
    return below[: [s.name for s in below].index(layer) + 1]


def _crops_cost_less(below: Sequence[Stage], levels: dict[str, _Level], images: int) -> bool:
    """Whether a forward pass on the units' crops takes fewer multiply-adds than on the images."""
    whole = sum(s.multiply_adds for s in below[:-1])
    on_crop = sum(s.multiply_adds * (levels[s.name].extent / s.size) ** 2 for s in below[:-1])
    return len(levels["image"].tops) * on_crop <= images * whole


@torch.no_grad()
def project_crops(
    network: Network, images: Tensor, layer: str, units: Units, of: Tensor | None = None
) -> Projections:
    """Equal `project`, cut to the receptive field, for units of conv layers.

    Where the receptive field is larger than the image, the whole image is returned. Where units
    share images, each image is run forward once.

    Args:
        images: (N, 3, S, S), mean subtracted.
        layer: `conv1` to `conv5`.
        units: B of them.
        of: (B,) the image of each unit; default, one unit an image.
    Returns:
        `Projections`, pixels (B, 3, F, F).
    Raises:
        ValueError: unknown layer, images of another size than the network's, units that do not
            exist or belong to no image, or a unit that sees NaN.
    """
    network.validate(images)
    below = _validate_crops(network, layer, tuple(images.shape[-2:]))
    top = below[-1]
    of = torch.arange(len(images), device=images.device) if of is None else of.to(images.device)
    units.validate(layer, len(of), (top.maps, top.size, top.size))
    require_index(f"{layer}: image", of, len(images))
    units = units.to(images.device)
    with evaluating(network):
        levels = _levels(below, network.image_size, units, images.device)
        names = list(network.convs)
        if layer == names[0] or _crops_cost_less(below, levels, len(images)):
            x, codes = _forward_on_crops(network, [images[i] for i in of.tolist()], layer, levels)
        else:
            previous = network.architecture.convs[names.index(layer) - 1]
            trace = forward(network, images, previous.name)
            x = _pool_and_norm(network, previous, trace.activations, trace.switches)
            codes = switch_codes(trace.switches)
            codes = {name: [code[i] for i in of.tolist()] for name, code in codes.items()}
            codes = _crop_codes(codes, levels)
            x = levels[below[-2].name].cut([x[i] for i in of.tolist()])
        conv = network.convs[layer]
        activations = F.relu((x * conv.weight[units.maps]).sum((1, 2, 3)) + conv.bias[units.maps])
        validate_finite(layer, activations)
        return _backward_on_crops(network, layer, units, activations, codes, levels)


@torch.no_grad()
def project_codes(
    network: Network, layer: str, units: Units, activations: Tensor,
    codes: Mapping[str, Tensor | Sequence[Tensor]],
) -> Projections:  # fmt: skip
    """Project units on crops without another forward pass, as `project_crops` does.

    Args:
        layer: a conv layer.
        units: B of them.
        activations: (B,) of the units.
        codes: `switch_codes` of each unit's image: conv name -> B times uint8 (C, h, w), for every
            pooled layer below.
    Returns:
        `Projections`, pixels (B, 3, F, F).
    """
    below = _validate_crops(network, layer, (network.image_size,) * 2)
    units.validate(layer, len(activations), (below[-1].maps, below[-1].size, below[-1].size))
    levels = _levels(below, network.image_size, units, activations.device)
    return _backward_on_crops(
        network, layer, units, activations, _crop_codes(codes, levels), levels
    )


def _crop_codes(
    codes: Mapping[str, Tensor | Sequence[Tensor]], levels: dict[str, _Level]
) -> dict[str, Tensor]:
    """Cut the units' crops out of whole images' switch codes, one image a unit."""
    pools = {name: name.replace("conv", "pool") for name in codes}
    return {name: levels[pool].cut(codes[name]) for name, pool in pools.items() if pool in levels}
