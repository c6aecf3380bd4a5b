"""Fig. 5 of the arXiv text, and its curves over the whole validation set."""

import itertools
from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from IPython.display import HTML
from matplotlib.figure import Figure
from torch import Tensor

from zfrepro import plots, static
from zfrepro.invariance import FILLS, Response
from zfrepro.plots import alone, array, tiled
from zfrepro.verdicts_table import WORLD_NAMES
from zfrepro.words import told_of

FAMILIES = {
    "translation": "vertical translation (pixels of 224)",
    "scale": "scale (ratio)",
    "rotation": "rotation (degrees)",
}

SHIFTED = ("conv1", "conv2", "conv5", "fc7")  # layers in the table of one-pixel shifts


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
    return alone(figure)


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
    return alone(figure)


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
    return alone(figure)


def notes(
    found: Response, family: str, amounts: Sequence[float], image: int, classes: Sequence[str], spread: dict[str, float]
) -> list[str]:
    """A line for each amount: distances of layers 1 and 7 in units of `spread`, and the likeliest classes."""
    unit = {"translation": "px of 224", "scale": "times", "rotation": "degrees"}[family]
    first, last = (found.distance[layer][:, image] / spread[layer] for layer in ("conv1", "fc7"))
    true = int(found.labels[image])
    lines = []
    for t, amount in enumerate(amounts):
        p = found.probabilities[t, image]
        best = [k for k in p.topk(min(4, len(p))).indices.tolist() if k != true][:3]
        said = ", ".join(f"{classes[k]} {p[k]:.2f}" for k in best)
        lines.append(
            f"{family} {shown_amount(family, amount):g} {unit}: layer 1 moves {first[t]:.2f}, layer 7 {last[t]:.2f}; "
            f"{classes[true]} (true) {p[true]:.2f}, {said}"
        )
    return lines


# --- tables ----------------------------------------------------------------------------------------------------------


def labels(found: dict[str, dict[str, Any]]) -> HTML:
    """Labels under each family of changes: mean over amounts, and the worst case. found: world -> record."""
    rows = [
        {
            "world": world, "transformation": family, "images": record[family]["n"],
            "right, untouched, %": record[family]["clean_right"],
            "right, mean of amounts, %": float(np.mean(record[family]["right"])),
            "right at every amount, %": record[family]["worst_right"],
            "labels that stay, %": record[family]["kept_share"]["mean"],
        }
        for world, record in found.items()
        for family in FAMILIES
    ]  # fmt: skip
    return static.table(rows, caption="Labels under transformations: the mean over amounts, and the worst case")


def moves_least(found: dict[str, dict[str, Any]], layer: str = "fc7") -> tuple[int, int]:
    """At how many of all amounts the median relative distance of a layer is the smallest, and of how many."""
    medians = [
        {name: values["quantiles"][1] for name, values in record[family]["relative"].items()}
        for record in found.values()
        for family in FAMILIES
    ]
    least = [min(m, key=lambda name: m[name][t]) == layer for m in medians for t in range(len(m[layer]))]
    return sum(least), len(least)


def fills(found: dict[str, dict[str, Any]]) -> HTML:
    """Labels that stay and the relative distance in layer 7, mean over amounts, by fill."""
    rows = []
    for (world, record), fill in itertools.product(found.items(), FILLS):
        row: dict[str, object] = {"world": world, "fill": fill}
        for family in FAMILIES:
            own = record[f"fill {fill}"][family]
            row[f"{family}: kept, %"] = float(np.mean(own["kept"]))
            row[f"{family}: layer 7"] = f"{np.mean(own['relative']['fc7']):.2f}"
        rows.append(row)
    return static.table(rows, caption="Labels that stay and relative distance in layer 7, mean over amounts, by fill")


def redrawn(record: dict[str, Any]) -> HTML:
    """What changes of the scene itself do, and what warping the picture adds to that."""
    rows = []
    for name, own in record["redrawn"].items():
        gain = own.get("gain")
        rows.append({
            "change": name, "amounts": f"{own['amounts'][0]:.2g} to {own['amounts'][-1]:.2g}", "scenes": own["n"],
            "labels that stay, %": own["kept_share"]["mean"],
            "more than when warped, points": told_of(gain, "+.1f") if gain else None,
            "layer 1": f"{np.mean(own['relative']['conv1']['mean']):.2f}",
            "layer 7": f"{np.mean(own['relative']['fc7']['mean']):.2f}",
        })  # fmt: skip
    return plots.table(rows)


def one_pixel(found: dict[str, dict[str, Any]]) -> HTML:
    """Labels that stay and relative distances under shifts by one pixel, for both networks."""
    rows = []
    for (world, record), arch in itertools.product(found.items(), ("zfnet", "krizhevsky")):
        own = record[f"one pixel {arch}"]
        row = {"world": world, "network": arch, "images": own["kept"]["n"]}
        row["labels that stay, %"] = told_of(own["kept"], ".1f")
        rows.append(row | {layer: f"{own['relative'][layer]['mean']:.2f}" for layer in SHIFTED})
    return plots.table(rows)
