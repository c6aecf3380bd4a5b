"""Fig. 5 of the arXiv text, and its curves over the whole validation set."""

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from zfrepro.claims.summary import WORLD_NAMES
from zfrepro.invariance import FILLS, Response
from zfrepro.plots import array, tiled

FAMILIES = {
    "translation": "vertical translation (pixels of 224)",
    "scale": "scale (ratio)",
    "rotation": "rotation (degrees)",
}


def shown_amount(family: str, amount: float) -> float:
    """Amounts as the paper's axes give them: translations in pixels of a 224-pixel image."""
    return 224 * amount if family == "translation" else amount


def paper_figure(
    examples: dict[str, Tensor], responses: dict[str, Response], amounts: dict[str, Sequence[float]],
    names: Sequence[str], width: float = 9,
) -> Figure:  # fmt: skip
    """Fig. 5: rows translation, scale, rotation; columns images, layer 1, layer 7, probability of the true class.

    Args:
        examples: family -> colours of 0 to 1, (N, K, 3, S, S): each image at K amounts.
        responses: family -> what the network says of the N images.
        amounts: family -> all T amounts.
        names: of the N images' classes.
    """
    ratios = {"width_ratios": [0.72, 1, 1, 1]}
    figure, axes = plt.subplots(3, 4, figsize=(width, width * 0.74), gridspec_kw=ratios)
    heads = ("images", "layer 1: distance", "layer 7: distance", "P(true class)")
    for row, (family, label) in zip(axes, FAMILIES.items(), strict=True):
        shown, found = examples[family], responses[family]
        row[0].imshow(array(tiled(shown.flatten(0, 1), shown.shape[1], gap=2)), interpolation="nearest")
        row[0].axis("off")
        at = [shown_amount(family, a) for a in amounts[family]]
        for ax, values in zip(
            row[1:], (found.distance["conv1"], found.unit["fc7"], found.probability), strict=True
        ):  # fmt: skip
            for i, name in enumerate(names):
                ax.plot(at, values[:, i], "-", lw=1.3, label=name)
            ax.set_xlabel(label, fontsize=7)
            ax.tick_params(labelsize=7)
            ax.set_ylim(bottom=0)
    for ax, head in zip(axes[0], heads, strict=True):
        ax.set_title(head, fontsize=9)
    handles = axes[0, 1].get_legend_handles_labels()
    figure.legend(*handles, loc="lower center", ncols=len(names), fontsize=8, frameon=False)
    figure.tight_layout(pad=0.5, rect=(0, 0.04, 1, 1))
    plt.close(figure)
    return figure


def layers(found: dict[str, dict[str, Any]], width: float = 9) -> Figure:
    """Median relative distance of every layer with the 10 to 90 % band of layers 1 and 7; a column for each world.

    Args:
        found: world -> record.
    """
    figure, axes = plt.subplots(3, len(found), figsize=(width, 8), sharey=True, squeeze=False)
    for column, (world, record) in zip(axes.T, found.items(), strict=True):
        for ax, (family, label) in zip(column, FAMILIES.items(), strict=True):
            own = record[family]
            at = [shown_amount(family, a) for a in own["amounts"]]
            colours = plt.get_cmap("viridis")(np.linspace(0, 0.92, len(own["relative"])))
            for colour, (layer, values) in zip(colours, own["relative"].items(), strict=True):
                low, middle, high = values["quantiles"]
                ax.plot(at, middle, "o-", ms=3, lw=1.4, color=colour, label=layer)
                if layer in ("conv1", "fc7"):
                    ax.fill_between(at, low, high, color=colour, alpha=0.2, lw=0)
            ax.axhline(1, color="grey", lw=0.8, ls=":")
            ax.set_xlabel(label, fontsize=8)
            ax.grid(alpha=0.25)
        column[0].set_title(f"{WORLD_NAMES[world]}, {record['scale']['n']:,} images", fontsize=10)
    for ax in axes[:, 0]:
        ax.set_ylim(bottom=0)
        ax.set_ylabel("relative distance", fontsize=9)
    handles = axes[0, 0].get_legend_handles_labels()
    figure.legend(*handles, loc="lower center", ncols=len(handles[1]), fontsize=8, frameon=False)
    figure.tight_layout(pad=0.6, rect=(0, 0.03, 1, 1))
    plt.close(figure)
    return figure


def choices(record: dict[str, Any], width: float = 9) -> Figure:
    """How the curves of layers 1 and 7 depend on the fill and on scaling features to unit length, in one world."""
    figure, axes = plt.subplots(4, 3, figsize=(width, 8.5), sharex="col", sharey="row")
    rows = [(layer, kind) for layer in ("conv1", "fc7") for kind in ("raw", "unit")]
    for row, (layer, kind) in zip(axes, rows, strict=True):
        for ax, family in zip(row, FAMILIES, strict=True):
            at = [shown_amount(family, a) for a in record[family]["amounts"]]
            for fill, style in zip(FILLS, ("o-", "s--", "^:"), strict=True):
                ax.plot(at, record[f"fill {fill}"][family][kind][layer], style, ms=3, lw=1.2, label=fill)
            ax.grid(alpha=0.25)
            ax.tick_params(labelsize=8)
        row[0].set_ylabel(f"{layer},\n{'as they are' if kind == 'raw' else 'unit length'}", fontsize=9)
    for ax, label in zip(axes[-1], FAMILIES.values(), strict=True):
        ax.set_xlabel(label, fontsize=8)
    for ax in axes[:, 0]:  # once all curves are drawn, or the first panel would fix the range of its row
        ax.set_ylim(bottom=0)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="lower center", ncols=3, fontsize=8, frameon=False)
    figure.tight_layout(pad=0.6, rect=(0, 0.03, 1, 1))
    plt.close(figure)
    return figure


def notes(
    found: Response, family: str, amounts: Sequence[float], image: int, classes: Sequence[str], spread: dict[str, float]
) -> list[str]:
    """A line for each amount: distances of layers 1 and 7 in units of `spread`, P(true class), and the label."""
    unit = {"translation": "px of 224", "scale": "times", "rotation": "degrees"}[family]
    first, last = (found.distance[layer][:, image] / spread[layer] for layer in ("conv1", "fc7"))
    return [
        f"{family} {shown_amount(family, amount):g} {unit}: layer 1 moves {first[t]:.2f}, "
        f"layer 7 {last[t]:.2f}; P(true) {found.probability[t, image]:.2f}, "
        f"named {classes[int(found.named[t, image])]}"
        for t, amount in enumerate(amounts)
    ]


def drawn(images: Tensor) -> Tensor:
    """Warped pictures of 0 to 255 as colours of 0 to 1."""
    return torch.as_tensor(images).float().clamp(0, 255) / 255
