"""Gratings: what layer 1 makes of each frequency and orientation, and a bench for one filter and one grating."""

import math
from collections.abc import Mapping
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from IPython.display import HTML
from matplotlib.figure import Figure
from torch import Tensor

from book.architecture import filters
from book.architecture.figures import NAMES, as_bytes
from book.gallery.figures import resized
from zfrepro import plots, static
from zfrepro.networks import Network
from zfrepro.plots import alone, tiled


def plane(record: dict[str, Any], width: float = 9) -> Figure:
    """Response to gratings over the frequency plane, and the share of it that each stride aliases."""
    figure, axes = plt.subplots(2, 3, figsize=(width, width * 0.62), layout="constrained")
    for row, (arch, name) in zip(axes, NAMES.items(), strict=True):
        own = record["gratings"][arch]
        energy = whole_plane(own["energy"])
        for ax, title, values, most in (
            (row[0], "energy of the response", energy / np.nanmax(energy), 1),
            (row[1], "aliased by stride 2", whole_plane(own["aliased 2"]), 1),
            (row[2], "aliased by stride 4", whole_plane(own["aliased 4"]), 1),
        ):
            first, last = -0.5 - 0.5 / len(values), 0.5 - 0.5 / len(values)  # pixels stand around their frequency
            shown = ax.imshow(values, extent=(first, last, last, first), vmin=0, vmax=most, cmap="viridis")
            ax.set(xlim=(-0.5, 0.5), ylim=(0.5, -0.5))
            for stride in (2, 4):
                half = filters.nyquist(stride)
                style = "-" if title.endswith(str(stride)) else ":"
                ax.add_patch(plt.Rectangle((-half, -half), 2 * half, 2 * half, fill=False, ec="white", ls=style))
            ax.set_title(f"{title}\n{name}" if ax is row[0] else title, fontsize=8)
            ax.tick_params(labelsize=7)
    figure.colorbar(shown, ax=axes, shrink=0.6)
    figure.supxlabel("frequency to the right, cycles per pixel", fontsize=8)
    figure.supylabel("frequency down", fontsize=8)
    return alone(figure)


def whole_plane(half: list[list[float | None]]) -> np.ndarray:
    """From the half plane of `rfft2` to all of it, zero in the middle. (S, S // 2 + 1) -> (S, S)."""
    values = np.array(half, dtype=float)
    size = len(values)
    mirrored = np.roll(values[::-1, 1 : size // 2][:, ::-1], 1, axis=0)  # at (-v, -u)
    return np.fft.fftshift(np.concatenate([values, mirrored], 1))


PERIOD = 48  # pixels of a picture, so frequencies are whole numbers over 48


def colours_of(kernel: Tensor) -> Tensor:
    """The colour that one filter answers most strongly. (3, k, k) -> (3,), largest value 1."""
    left = torch.linalg.svd(kernel.float().flatten(1), full_matrices=False).U[:, 0]
    return left / left.abs().max()


def direction_of(kernel: Tensor) -> float:
    """Direction in which one filter's stripes follow each other, degrees from the right downwards, 0 to 180."""
    power = filters.spectrum(kernel[None])[0]
    v, u = (f.expand_as(power) for f in filters.axes(filters.SPECTRUM, filters.SPECTRUM))
    best = power.flatten().argmax()
    return math.degrees(math.atan2(v.flatten()[best].item(), u.flatten()[best].item())) % 180


@torch.no_grad()
def answer(
    network: Network, number: int, shown: Tensor, seen: Tensor, *, periodic: bool = False, side: int = 96
) -> tuple[Tensor, float]:
    """A filter, its spectrum, a picture, the filter's answer at every pixel and what the stride keeps of that.

    Args:
        number: of the first-layer filter.
        shown: the picture as colours of 0 to 1, (3, S, S).
        seen: the same as the network wants it, (3, S, S).
        periodic: see `filters.dense`.
    Returns:
        colours of 0 to 1, (3, side, 5 * side + gaps), and the share of the answer's energy that the stride aliases,
        nan where the filter does not answer.
    """
    kernel, stride = network.convs["conv1"].weight[number].detach().cpu(), filters.stride_of(network)
    every = filters.dense(network, seen[None], periodic=periodic)[0, number].cpu()
    lost, total = filters.energies(every, [stride], window=not periodic)
    power = filters.spectrum(kernel[None])[0].numpy()
    power[:, [0, -1]] *= 2  # back to a density
    spectrum = torch.from_numpy(whole_plane(power)).float().sqrt()
    top = every.max().clamp_min(1e-6)
    tiles = [plots.shown(kernel, 1.0), _grey(spectrum / spectrum.max()), shown.cpu()]
    tiles += [_grey(every / top), _grey(every[::stride, ::stride] / top)]
    image = tiled(torch.cat([resized(tile[None], side) for tile in tiles]), 5, gap=4)
    return image, (lost[stride] / total).item() if total > 1e-6 * every.numel() else math.nan


def bench(network: Network, number: int, frequency: float, degrees: float, side: int = 96) -> tuple[Tensor, str]:
    """`answer` to a grating in the filter's own colour, on an endless picture, and a line in words.

    Args:
        frequency: cycles per pixel; it and the direction are rounded to what fits a picture of `PERIOD` pixels.
        degrees: direction, from the right downwards.
    """
    kernel, angle = network.convs["conv1"].weight[number].detach().cpu(), math.radians(degrees)
    down, right = (round(PERIOD * frequency * part(angle)) / PERIOD for part in (math.sin, math.cos))
    wave = filters.grating(PERIOD, down, right) * colours_of(kernel)[:, None, None]
    seen = wave.to(network.convs["conv1"].weight.device)
    image, share = answer(network, number, 0.5 + 0.5 * wave, seen, periodic=True, side=side)
    stride = filters.stride_of(network)
    told = f"filter {number}, grating of {math.hypot(down, right):.3f} cycles per pixel at {degrees:.0f} degrees: "
    if math.isnan(share):
        return image, told + "it does not answer"
    told += f"stride {stride} aliases {100 * share:.0f} % of the answer"
    folds = [filters.folded(abs(f), stride) for f in (down, right)]
    if max(abs(down), abs(right)) > filters.nyquist(stride) + 1e-6:
        told += f"; the grating passes for one of {math.hypot(*folds):.3f}"
    return image, told


def _grey(values: Tensor) -> Tensor:
    return values.clamp(0, 1).expand(3, *values.shape)


def explorer(networks: Mapping[str, Network], filters_shown: int = 5, frequencies: int = 8) -> HTML:
    """Some filters of each network and gratings in their own direction, to leaf through.

    The filters are taken from the stronger half of the layer, from low to high centroid.
    """
    steps = [round(PERIOD * f) / PERIOD for f in np.linspace(0.04, 0.46, frequencies)]
    pictures, notes = [], []
    for network in networks.values():
        weight = network.convs["conv1"].weight.detach().cpu()
        size = weight.square().sum((1, 2, 3))
        strong = (size >= size.median()).nonzero().flatten()
        order = strong[filters.centroid_and_bandwidth(weight[strong])[0].argsort()]
        chosen = order[torch.linspace(0, len(order) - 1, filters_shown).round().long()].tolist()
        for number in chosen:
            for frequency in steps:
                image, note = bench(network, number, frequency, direction_of(weight[number]), side=PERIOD)
                pictures.append(image)
                notes.append(note)
    axes = {
        "network": [NAMES[arch] for arch in networks],
        "filter": [f"{i + 1} of {filters_shown}" for i in range(filters_shown)],
        "frequency": [f"{f:.2f}" for f in steps],
    }
    alt = "A filter, its spectrum, a grating, the filter's answer at every pixel, and what the stride keeps of it"
    return static.frames(as_bytes(torch.stack(pictures)), axes, notes, alt=alt)
