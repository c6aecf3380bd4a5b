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
from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from zfrepro.layers import CeilConv2d, contrast_norm, require_index
from zfrepro.models import Layered, evaluating
from zfrepro.networks import POOL_KERNEL, POOL_STRIDE, Network
from zfrepro.receptive_field import Stage, field_of, stages


@dataclass(frozen=True)
class Units:
    """One unit an image: a map (or FC unit) and, in a conv layer, row and column; (B,) int64."""

    maps: Tensor
    rows: Tensor | None = None
    columns: Tensor | None = None

    def __len__(self) -> int:
        return len(self.maps)

    def __getitem__(self, chosen) -> "Units":
        if self.rows is None:
            return Units(self.maps[chosen])
        return Units(self.maps[chosen], self.rows[chosen], self.columns[chosen])

    def to(self, device: torch.device | str | None) -> "Units":
        """Return the units on a device."""
        places = self.maps, self.rows, self.columns
        return Units(*(None if t is None else t.to(device) for t in places))

    def validate(self, layer: str, images: int, shape: tuple[int, ...]) -> None:
        """Refuse units that do not exist.

        Args:
            layer: its name, for the message.
            images: how many there are.
            shape: of the layer for one image: (C, H, W) or (units,).
        Raises:
            ValueError: not one unit an image, rows and columns where there are none or none where
                there are, or an index outside the layer.
        """
        if len(self) != images or (self.rows is None) != (len(shape) == 1):
            what = "a map" if len(shape) == 1 else "a map, row and column"
            raise ValueError(f"{layer}: needs {what} for each of the {images} images")
        places = ("map", self.maps), ("row", self.rows), ("column", self.columns)
        for (name, indices), count in zip(places, shape, strict=False):
            require_index(f"{layer}: {name}", indices, count)


@dataclass(frozen=True)
class ForwardTrace:
    """What the way down needs from the forward pass."""

    activations: Tensor  # of the probed layer, after the ReLU: (B, C, H, W) or (B, units)
    switches: dict[str, tuple[Tensor, torch.Size]]  # conv -> argmax indices, shape before the pool
    input_sizes: dict[str, tuple[int, int]]  # conv name -> height and width of what it filters
    pooled_shape: torch.Size | None  # what layer 6 flattens
    features: dict[str, Tensor] = field(default_factory=dict)  # further layers asked for


def pool(x: Tensor) -> tuple[Tensor, Tensor]:
    """Max-pool 3x3/2 with ceil borders.

    x: (B, C, H, W) -> values and switches (flat positions in H x W), both (B, C, h, w).
    """
    return F.max_pool2d(x, POOL_KERNEL, POOL_STRIDE, ceil_mode=True, return_indices=True)


def unpool(x: Tensor, switches: Tensor, shape: torch.Size) -> Tensor:
    """Put each value where its maximum came from, and sum those that meet there: windows overlap.

    `torch.nn.functional.max_unpool2d` keeps one of them, which one is not defined.

    Args:
        x, switches: (B, C, h, w).
        shape: (B, C, H, W) before the pool.
    Returns:
        (B, C, H, W).
    """
    flat = x.new_zeros(shape[0], shape[1], shape[2] * shape[3])
    return flat.scatter_add_(2, switches.flatten(2), x.flatten(2)).view(shape)


def conv_transpose(conv: CeilConv2d, x: Tensor, size: tuple[int, int]) -> Tensor:
    """Filter with the transposed weights, without bias. x: (B, Cout, h, w) -> (B, Cin, *size)."""
    full = F.conv_transpose2d(x, conv.weight, stride=conv.stride)
    padding = conv.padding[0]
    # the last pixels, which no window reached
    missing = [max(0, size[i] + padding - full.shape[2 + i]) for i in range(2)]
    full = F.pad(full, (0, missing[1], 0, missing[0]))
    return full[:, :, padding : padding + size[0], padding : padding + size[1]]


def validate_no_blur(network: Network) -> None:
    """Refuse a network with low-pass filters, for which the paper's deconvnet has no step.

    Raises:
        ValueError: with what to use instead.
    """
    if any(c.blur for c in network.architecture.convs):
        raise ValueError(
            f"{network.architecture.name} low-pass filters its maps, "
            "the deconvnet has no step for that; "
            "use rules.project, which filters back by the transpose"
        )


def forward(
    network: Network, images: Tensor, layer: str, *, also: Iterable[str] = ()
) -> ForwardTrace:
    """Run up to `layer`, keeping the switches.

    Args:
        images: (B, 3, S, S), mean subtracted.
        layer: `conv1` to `conv5`, `fc6`, `fc7`, or `fc8` (class scores, not rectified).
        also: conv layers below whose feature maps are wanted too.
    """
    if layer not in network.layers:
        names = ", ".join(network.layers)
        raise ValueError(f"no layer {layer!r} in {network.architecture.name}; it has {names}")
    validate_no_blur(network)
    network.validate(images)
    also = set(also)
    x = images
    trace = ForwardTrace(x, {}, {}, None)
    for c in network.architecture.convs:
        trace.input_sizes[c.name] = (x.shape[-2], x.shape[-1])
        x = F.relu(network.convs[c.name](x), inplace=True)
        if c.name in also:
            trace.features[c.name] = x
        if c.name == layer:
            return replace(trace, activations=x)
        if c.norm and network.architecture.norm_before_pool:
            x = contrast_norm(x)
        if c.pool:
            before = x.shape
            x, indices = pool(x)
            trace.switches[c.name] = (indices, before)
        if c.norm and not network.architecture.norm_before_pool:
            x = contrast_norm(x)
    pooled_shape = x.shape
    x = x.flatten(1)
    for name, full in network.fulls.items():
        x = full(x) if name == "fc8" else F.relu(full(x))
        if name == layer:
            break
    return replace(trace, activations=x, pooled_shape=pooled_shape)


def seed(activations: Tensor, units: Units) -> Tensor:
    """Return `activations` with all but the chosen unit of each image set to zero."""
    only = torch.zeros_like(activations)
    batch = torch.arange(len(units), device=activations.device)
    places = (units.maps,) if units.rows is None else (units.maps, units.rows, units.columns)
    only[(batch, *places)] = activations[(batch, *places)]
    return only


def validate_finite(layer: str, activations: Tensor) -> None:
    """Refuse activations, (B,), that are NaN or infinite, as when a pixel or weight they see is.

    Raises:
        ValueError: naming the first image.
    """
    wrong = (~activations.isfinite()).nonzero().flatten()
    if len(wrong):
        raise ValueError(
            f"{layer}: the unit of image {int(wrong[0])} is not finite; "
            "its pixels or weights hold NaN"
        )


def strongest(activations: Tensor) -> Units:
    """Return the strongest unit of each image. activations: (B, C, H, W) or (B, units)."""
    if activations.ndim == 2:
        return Units(activations.argmax(1))
    _, _, height, width = activations.shape
    flat = activations.flatten(1).argmax(1)
    return Units(flat // (height * width), flat % (height * width) // width, flat % width)


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
        x = x.view(trace.pooled_shape)
    else:
        convs = convs[: [c.name for c in convs].index(layer) + 1]
    for c in reversed(convs):
        if c.name in trace.switches:
            x = unpool(x, *trace.switches[c.name])
            yield f"unpool {c.name}", x
        x = F.relu(x)
        yield "rectify", x
        x = conv_transpose(network.convs[c.name], x, trace.input_sizes[c.name])
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
    with evaluating(network):
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
    activations: Tensor  # (B,)


def crop(
    images: Tensor | Sequence[Tensor],
    tops: Tensor,
    lefts: Tensor,
    size: int | tuple[int, int],
    fill: float = 0.0,
) -> Tensor:
    """Cut a window out of each image, `fill` outside it.

    Args:
        images: (B, C, H, W), or B times (C, H, W).
        tops, lefts: (B,) first row and column, in pixels; may lie outside the image.
        size: side of the window in pixels, or its height and width.
    Returns:
        (B, C, *size), channels-last.
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

    def zero_outside(self, x: Tensor) -> Tensor:
        return x if self.inside is None else x.masked_fill(~self.inside, 0)

    def absent_outside(self, x: Tensor) -> Tensor:
        return x if self.inside is None else x.masked_fill(~self.inside, -torch.inf)


def _level(extent: int, tops: Tensor, lefts: Tensor, size: int, device: torch.device) -> _Level:
    steps = torch.arange(extent, device=tops.device)
    rows, columns = tops[:, None] + steps, lefts[:, None] + steps
    rows, columns = (rows >= 0) & (rows < size), (columns >= 0) & (columns < size)
    whole = bool(rows.all() and columns.all())
    inside = None if whole else (rows[:, None, :, None] & columns[:, None, None, :]).to(device)
    return _Level(extent, tops, lefts, inside)


def _levels(
    below: Sequence[Stage], image_size: int, units: Units, device: torch.device
) -> dict[str, _Level]:
    """Return the crops of every level from the unit to the image, named by what computes them."""
    extent, tops, lefts = 1, units.rows, units.columns
    levels = {}
    for s in reversed(below):
        levels[s.name] = _level(extent, tops, lefts, s.size, device)
        extent = (extent - 1) * s.stride + s.kernel
        tops, lefts = tops * s.stride - s.padding, lefts * s.stride - s.padding
    levels["image"] = _level(extent, tops, lefts, image_size, device)
    return levels


def switch_codes(switches: Mapping[str, tuple[Tensor, torch.Size]]) -> dict[str, Tensor]:
    """Return each switch as its place within the 3x3 window, which a crop does not change.

    Returns:
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
    found = F.pixel_shuffle(F.conv2d(x, phases, padding=taps - 1), stride)
    side = (x.shape[-1] - 1) * stride + kernel
    return found[:, :, :side, :side]


def _forward_on_crops(
    network: Network, images: Tensor | Sequence[Tensor], layer: str, levels: dict[str, _Level]
) -> tuple[Tensor, dict[str, Tensor]]:
    """Run the network below `layer` on crops. Returns what the units filter, and switch codes."""
    first = levels["image"]
    x = crop(images, first.tops, first.lefts, first.extent)
    codes: dict[str, Tensor] = {}
    for c in network.architecture.convs:
        if c.name == layer:
            return x, codes
        conv, level = network.convs[c.name], levels[c.name]
        x = F.relu(F.conv2d(x, conv.weight, conv.bias, conv.stride), inplace=True)
        if c.norm and network.architecture.norm_before_pool:
            x = contrast_norm(x)
        if c.pool:
            before = x.shape
            x = level.absent_outside(x)
            x, indices = F.max_pool2d(x, POOL_KERNEL, POOL_STRIDE, return_indices=True)
            codes |= switch_codes({c.name: (indices, before)})
            level = levels[f"pool{c.layer}"]
        x = level.zero_outside(x)
        if c.norm and not network.architecture.norm_before_pool:
            x = contrast_norm(x)
    raise ValueError(f"no conv layer {layer!r}")


def _inputs_of(network: Network, trace: ForwardTrace, previous: str) -> Tensor:
    """Continue a trace of `previous` to what the next conv layer filters."""
    conv = next(c for c in network.architecture.convs if c.name == previous)
    before, x = trace.activations.shape, trace.activations
    if conv.norm and network.architecture.norm_before_pool:
        x = contrast_norm(x)
    if conv.pool:
        x, indices = pool(x)
        trace.switches[previous] = (indices, before)
    if conv.norm and not network.architecture.norm_before_pool:
        x = contrast_norm(x)
    return x


def _crop_codes(
    codes: Mapping[str, Tensor | Sequence[Tensor]], levels: dict[str, _Level]
) -> dict[str, Tensor]:
    """Cut the units' crops out of whole images' switch codes, one image a unit."""
    found = {}
    for name, whole in codes.items():
        level = levels[name.replace("conv", "pool")]
        found[name] = crop(whole, level.tops, level.lefts, level.extent, fill=0)
    return found


def _backward_on_crops(
    network: Network, layer: str, units: Units, activations: Tensor,
    codes: Mapping[str, Tensor], levels: dict[str, _Level],
) -> Tensor:  # fmt: skip
    """Project units to pixels on crops, from their activations (B,) and cropped switch codes."""
    convs = network.architecture.convs
    convs = convs[: [c.name for c in convs].index(layer)]
    x = network.convs[layer].weight[units.maps] * activations[:, None, None, None]
    for c in reversed(convs):
        if c.pool:
            x = _unpool_codes(levels[f"pool{c.layer}"].zero_outside(x), codes[c.name])
        else:
            x = levels[c.name].zero_outside(x)
        conv, x = network.convs[c.name], F.relu(x, inplace=True)
        if c is convs[0]:
            x = _filter_to_pixels(x, conv.weight, conv.stride[0])
        else:
            x = F.conv_transpose2d(x, conv.weight, stride=conv.stride)
    return levels["image"].zero_outside(x)


def window(network: Layered, layer: str, units: Units) -> tuple[Tensor, Tensor, int]:
    """Return first row and column (B,) of each unit's receptive field, and its side in pixels.

    A field larger than the image is replaced by the whole image.
    """
    field = field_of(network, layer)
    if field.size >= network.image_size:
        zeros = torch.zeros_like(units.rows)
        return zeros, zeros, network.image_size
    rows, columns = (place * field.jump + field.start for place in (units.rows, units.columns))
    return rows, columns, field.size


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
        if top.field.size >= network.image_size:
            return _project_whole(network, images, layer, units, of)
        levels = _levels(below, network.image_size, units, images.device)
        names = list(network.convs)
        if layer == names[0] or _crops_cost_less(below, levels, len(images)):
            x, codes = _forward_on_crops(network, [images[i] for i in of.tolist()], layer, levels)
        else:
            previous = names[names.index(layer) - 1]
            trace = forward(network, images, previous)
            x = _inputs_of(network, trace, previous)
            codes = switch_codes(trace.switches)
            codes = {name: [code[i] for i in of.tolist()] for name, code in codes.items()}
            codes = _crop_codes(codes, levels)
            last = levels[below[-2].name]
            x = crop([x[i] for i in of.tolist()], last.tops, last.lefts, last.extent)
        probed = network.convs[layer]
        filters = probed.weight[units.maps]
        activations = F.relu((x * filters).sum((1, 2, 3)) + probed.bias[units.maps])
        validate_finite(layer, activations)
        pixels = _backward_on_crops(network, layer, units, activations, codes, levels)
    return Projections(pixels, levels["image"].tops, levels["image"].lefts, activations)


def _project_whole(
    network: Network, images: Tensor, layer: str, units: Units, of: Tensor
) -> Projections:
    trace = forward(network, images, layer)
    activations = trace.activations[of, units.maps, units.rows, units.columns]
    validate_finite(layer, activations)
    switches = {
        name: (indices[of], torch.Size((len(of), *before[1:])))
        for name, (indices, before) in trace.switches.items()
    }
    shared = replace(trace, switches=switches)
    only = activations.new_zeros(len(of), *trace.activations.shape[1:])
    only[torch.arange(len(of)), units.maps, units.rows, units.columns] = activations
    pixels = backward(network, shared, layer, only)
    tops, lefts, _ = window(network, layer, units)
    return Projections(pixels, tops, lefts, activations)


@torch.no_grad()
def project_codes(
    network: Network, layer: str, units: Units, activations: Tensor,
    codes: Mapping[str, Tensor | Sequence[Tensor]],
) -> Projections:  # fmt: skip
    """Project units on crops without another forward pass, as `project_crops` does.

    Args:
        layer: a conv layer whose receptive field is smaller than the image.
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
    wanted = {s.name.replace("pool", "conv") for s in below if s.name.startswith("pool")}
    cropped = _crop_codes({name: codes[name] for name in wanted}, levels)
    pixels = _backward_on_crops(network, layer, units, activations, cropped, levels)
    return Projections(pixels, levels["image"].tops, levels["image"].lefts, activations)
