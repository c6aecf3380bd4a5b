"""The network as a strip (Fig. 3), and what its units see."""

import math
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import Tensor

from zfrepro import plots
from zfrepro.networks import Architecture
from zfrepro.receptive_field import stages


def strip(
    architecture: Architecture, picture: Tensor, features: Mapping[str, Tensor],
    probabilities: Mapping[str, float], *, classes: int = 1000,
) -> Figure:  # fmt: skip
    """Draw Fig. 3 as a strip: a picture, the maps of each layer, the probabilities of its classes.

    Args:
        architecture: whose numbers of maps, filters and units the labels state.
        picture: (3, S, S), uint8 or 0 to 1.
        features: by layer its activations, (C, h, w) or (units,); their square roots are drawn, of
            a conv layer those of the four maps with the highest mean.
        probabilities: by class, of which there are `classes`; the five highest are drawn.
    """
    sizes = {s.name: s.size for s in stages(architecture, picture.shape[-1])}
    middle, x = 52.0, 0.0  # a unit is a pixel or so of the page
    figure, ax = plt.subplots()

    def station(title: str, lines: Sequence[str], across: float, ends: bool = False) -> None:
        nonlocal x
        ax.text(x, middle + 56, title, weight="bold", va="bottom")
        ax.text(x, -4, "\n".join(lines), fontsize=9.5, va="top", linespacing=1.2)
        x += across
        if not ends:
            arrow = {"arrowstyle": "-|>", "color": plots.TEXT, "lw": 1.4}
            arrow |= {"shrinkA": 0, "shrinkB": 0}
            ax.annotate("", (x + 14, middle), (x + 1, middle), arrowprops=arrow)
            x += 16

    def draw(image: Tensor, left: float, low: float, wide: float, high: float, **colours) -> None:
        extent = (left, left + wide, low, low + high)
        ax.imshow(image.numpy(), extent=extent, interpolation="nearest", **colours)
        ax.add_patch(plt.Rectangle((left, low), wide, high, fill=False, ec="white", lw=0.6))

    side = picture.shape[-1]
    draw(plots.as_colours(picture).permute(1, 2, 0), x, middle - 42, 84, 84)
    station("image", [f"{side}x{side}", "3 colours"], 84)
    for conv in architecture.convs:
        size = sizes[conv.name]
        across, step = 24 + 3.8 * size**0.5, 6
        maps = features[conv.name]
        strongest = maps[maps.mean((1, 2)).argsort(descending=True)[:4]].sqrt()
        for i, values in enumerate(strongest.flip(0)):
            shift = step * (len(strongest) - 1 - i)
            low = middle - (across + 3 * step) / 2 + shift
            draw(values, x + shift, low, across, across, cmap="magma", vmin=0)
        stride = [f"stride {conv.stride}"] if conv.stride > 1 else []
        lines = [f"{conv.kernel}x{conv.kernel}", *stride, f"{conv.maps:,} maps", f"{size}x{size}"]
        after = sizes.get(f"pool{conv.layer}")
        pooled = [f"pool {after}x{after}"] if conv.pool else []
        norm = ["norm"] if conv.norm else []
        lines += [*norm, *pooled] if architecture.norm_before_pool else [*pooled, *norm]
        station(f"layer {conv.layer}", lines, max(across + 3 * step, 64))
    for full in architecture.fulls:
        units = features[full.name]
        rows = math.ceil(len(units) / 8)
        shown_units = F.pad(units.sqrt(), (0, 8 * rows - len(units))).view(rows, 8)
        draw(shown_units, x, middle - 42, 21, 84, cmap="magma", vmin=0)
        station(f"layer {full.layer}", [f"{full.units:,}", "units"], 54)
    best = sorted(probabilities, key=probabilities.get, reverse=True)[:5]
    for i, name in enumerate(best):
        y = middle + 34 - 17 * i
        ax.barh(y, 40 * probabilities[name], 11, left=x + 60, color=plots.PALETTE[0])
        ax.text(x + 57, y, name, ha="right", va="center", fontsize=9.5)
        after = x + 62 + 40 * probabilities[name]
        ax.text(after, y, f"{probabilities[name]:.2f}", va="center", fontsize=9.5)
    station("layer 8", ["softmax over", f"{classes:,} classes"], 128, ends=True)
    ax.set(xlim=(-2, x), ylim=(-104, middle + 76), aspect="equal", position=(0, 0, 1, 1))
    ax.axis("off")
    figure.set_size_inches(plots.WIDTH, plots.WIDTH * (middle + 180) / (x + 2))
    return plots.detached(figure)


def receptive_fields(architecture: Architecture, image: Tensor, layers: Sequence[str]) -> Figure:
    """Draw the receptive fields of the middle units of some layers, and what each contains.

    Args:
        image: (3, S, S), uint8 or 0 to 1.
    """
    side = image.shape[-1]
    colours = plt.get_cmap("plasma")(np.linspace(0.95, 0.4, len(layers)))
    by_name = {s.name: s for s in stages(architecture, side)}
    columns = math.ceil(len(layers) / 2)
    figure = plt.figure(figsize=(plots.WIDTH, plots.WIDTH / (1 + columns / 2)))
    grid = figure.add_gridspec(2, 2 + columns, wspace=0.08, hspace=0.18)
    main = figure.add_subplot(grid[:, :2])
    main.imshow(plots.array(plots.as_colours(image)))
    for i, (name, colour) in enumerate(zip(layers, colours, strict=True)):
        first, end = by_name[name].field.window(by_name[name].size // 2)
        corner, frame = (first - 0.5, first - 0.5), {"fill": False, "ec": colour, "lw": 2}
        main.add_patch(plt.Rectangle(corner, end - first, end - first, **frame))
        ax = figure.add_subplot(grid[i // columns, 2 + i % columns])
        low, high = max(first, 0), min(end, side)
        ax.imshow(plots.array(plots.as_colours(image)[:, low:high, low:high]))
        ax.set_title(f"{name}: {end - first} px")
        ax.set(xticks=[], yticks=[])
        for spine in ax.spines.values():
            spine.set(visible=True, color=colour, lw=2.5)
    main.axis("off")
    figure.subplots_adjust(0, 0.01, 1, 0.94)
    return plots.detached(figure)
