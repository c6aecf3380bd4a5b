"""Figures of the chapter on projections: tables of pictures, and recorded means with their intervals."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from zfrepro.plots import alone
from zfrepro.verdicts_table import WORLD_NAMES

LAYERS = ("conv2", "conv3", "conv4", "conv5")
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#666666")  # Okabe & Ito (2008)
MARKS = "os^DvPX"

Records = Mapping[str, Mapping[str, Any]]


def _dots(ax, summaries: Sequence[Mapping[str, float]], shift: float, label: str, number: int) -> None:
    """Means with intervals at 0, 1, 2, ..., moved sideways by `shift`."""
    x = [i + shift for i in range(len(summaries))]
    means = [s["mean"] for s in summaries]
    bars = [[s["mean"] - s["low"] for s in summaries], [s["high"] - s["mean"] for s in summaries]]
    style = {"color": COLOURS[number % len(COLOURS)], "fmt": MARKS[number % len(MARKS)]}
    ax.errorbar(x, means, [[max(0, v) for v in side] for side in bars], label=label, ms=4.5, lw=1.3, **style)


def _finished(figure: Figure, handles_of, columns: int, bottom: float) -> Figure:
    figure.legend(*handles_of.get_legend_handles_labels(), loc="lower center", ncols=columns, fontsize=9, frameon=False)
    figure.tight_layout(rect=(0, bottom, 1, 1))
    return alone(figure)


def _by_layer(axes, records: Records, series: Mapping[str, Any], pick, layers: Sequence[str], label: str) -> None:
    """A panel a world with a series of dots for each name. pick(record, layer, name's value) -> summary."""
    for ax, (world, record) in zip(axes, records.items(), strict=True):
        for number, (name, what) in enumerate(series.items()):
            shift = (number - (len(series) - 1) / 2) * 0.7 / len(series)
            _dots(ax, [pick(record, layer, what) for layer in layers], shift, name, number)
        ax.set_xticks(range(len(layers)), layers, fontsize=9)
        ax.set_title(WORLD_NAMES.get(world, world), fontsize=10)
        ax.grid(axis="y", alpha=0.3)
    axes[0].set_ylabel(label, fontsize=9)


def clarity(records: Records, width: float = 8.5) -> Figure:
    """How clear the pictures of each rule are, by three measures (rows) in each world (columns)."""
    measures = {
        "coherence": "coherence\n(lines)",
        "fineness": "fineness\n(speckle)",
        "sparsity": "sparsity\n(few places)",
    }
    figure, axes = plt.subplots(3, len(records), figsize=(width, 7.2), sharex=True, sharey="row", squeeze=False)
    names = {name: name for name in ("deconvnet", "forward mask", "guided", "image")}
    for row, (measure, label) in zip(axes, measures.items(), strict=True):
        _by_layer(
            row, records, names, lambda r, at, n, m=measure: r[f"rules-{at}"]["rules"][n][m], (*LAYERS, "fc8"), label
        )
    for ax in axes[1:].flat:
        ax.set_title("")
    return _finished(figure, axes[0, 0], 4, 0.05)


def switches(records: Records, width: float = 8.5) -> Figure:
    """Rank correlation with a unit's own projection when its switches, or the unit, are exchanged."""
    names = {
        "own unit, centre switches": "centre",
        "own unit, random switches": "random",
        "own unit, another image's switches": "another image's",
        "another unit, own switches": "another unit",
        "another unit, another image's": "another unit and image",
        "own, collisions overwritten": "overwritten",
    }
    figure, axes = plt.subplots(1, len(records), figsize=(width, 3.9), sharey=True, squeeze=False)
    _by_layer(
        axes[0], records, names, lambda r, at, n: r[f"switches-{at}"]["to_own"][n]["rank"], LAYERS,
        "rank correlation\nwith the projection",
    )  # fmt: skip
    return _finished(figure, axes[0, 0], 2, 0.24)


def pooling(records: Records, width: float = 8.5) -> Figure:
    """Likeness to the own image above that to another one: trained and random weights, with and without max-pool."""
    names = {
        f"{rule}, {'max-pool' if pool == 'max' else 'no max-pool'}": f"{rule}, WEIGHTS, {pool}"
        for rule in ("deconvnet", "guided")
        for pool in ("max", "none")
    }
    kinds = ("trained", "random")
    figure, axes = plt.subplots(2, len(records), figsize=(width, 5.6), sharex=True, sharey=True, squeeze=False)
    for row, weights in zip(axes, kinds, strict=True):
        _by_layer(
            row, records, names,
            lambda r, at, n, w=weights: r[f"random-{at}"]["above_other_image"][n.replace("WEIGHTS", w)]["ssim"],
            LAYERS, f"{weights} weights\nSSIM, own less other image",
        )  # fmt: skip
        for ax in row:
            ax.axhline(0, color="black", lw=0.8)
    for ax in axes[1]:
        ax.set_title("")
    return _finished(figure, axes[0, 0], 2, 0.11)


RULE_NAMES = ("deconvnet", "gradient", "guided")


def cascade(records: Records, layers: Sequence[str] = ("fc8", "conv5", "conv3"), width: float = 8.5) -> Figure:
    """Likeness to the trained network's picture as layers from the probed one down get random weights."""
    shape = len(records), len(layers)
    figure, axes = plt.subplots(*shape, figsize=(width, 2.6 * shape[0] + 0.6), sharey=True, squeeze=False)
    for row, (world, record) in zip(axes, records.items(), strict=True):
        for ax, layer in zip(row, layers, strict=True):
            found = record[f"cascade-{layer}"]
            for number, rule in enumerate(RULE_NAMES):
                stages = [found["curves"][f"{rule}, {stage}"]["rank"] for stage in found["stages"]]
                _curve(ax, range(len(stages) + 1), [WHOLE, *stages], rule, number)
            ax.set_xticks(range(len(found["stages"]) + 1), ["–", *found["stages"]], fontsize=8, rotation=60)
            ax.set_title(f"{WORLD_NAMES.get(world, world)}: a unit of {layer}", fontsize=9)
            ax.grid(axis="y", alpha=0.3)
        row[0].set_ylabel("rank correlation", fontsize=9)
    return _finished(figure, axes[0, 0], 3, 0.05)


WHOLE = {"mean": 1.0, "low": 1.0, "high": 1.0}


def _curve(ax, x: Sequence[float], summaries: Sequence[Mapping[str, float]], label: str, number: int) -> None:
    colour = COLOURS[number % len(COLOURS)]
    ax.plot(
        x, [s["mean"] for s in summaries], color=colour, marker=MARKS[number % len(MARKS)], ms=3.5, lw=1.4, label=label
    )
    ax.fill_between(x, [s["low"] for s in summaries], [s["high"] for s in summaries], color=colour, alpha=0.18, lw=0)


ORDERS = {
    "deconvnet": "deconvnet",
    "gradient": "gradient",
    "guided": "guided",
    "another unit": "another unit's deconvnet",
    "contrast": "edge detector",
    "random": "random",
}


def deletion(
    records: Records, layers: Sequence[str] = ("conv2", "conv3", "conv5", "fc8"), width: float = 8.5
) -> Figure:
    """What is left of the activation as pixels are deleted, a row a world."""
    shape = len(records), len(layers)
    figure, axes = plt.subplots(*shape, figsize=(width, 2.4 * shape[0] + 0.9), sharey=True, squeeze=False)
    for row, (world, record) in zip(axes, records.items(), strict=True):
        for ax, layer in zip(row, layers, strict=True):
            found = record[f"deletion-{layer}"]
            percent = [100 * fraction for fraction in found["fractions"]]
            for number, (order, name) in enumerate(ORDERS.items()):
                _curve(ax, percent, found["curves"][order], name, number)
            ax.set_title(f"{WORLD_NAMES.get(world, world)}: {layer}", fontsize=9)
            ax.grid(alpha=0.3)
            ax.set_xlabel("pixels deleted, %", fontsize=8)
        row[0].set_ylabel("activation left", fontsize=9)
    return _finished(figure, axes[0, 0], 3, 0.1)


def truth(record: Mapping[str, Any], width: float = 8.5) -> Figure:
    """Share of energy inside the object and inside the unit's part, by method, in the world whose parts are known."""
    names = {label: name for name, label in ORDERS.items() if name != "random"} | {"area (chance)": "area"}
    figure, axes = plt.subplots(1, 2, figsize=(width, 3.7), sharey=True)
    for ax, where, title in zip(axes, ("object", "part"), ("the object", "the part the unit responds to"), strict=True):
        _by_layer(
            [ax], {"diorama": record}, names, lambda r, at, n, w=where: r[f"truth-{at}"]["shares"][w][n],
            (*LAYERS, "fc8"), "share of energy inside",
        )  # fmt: skip
        ax.set_title(title, fontsize=10)
    axes[1].set_ylabel("")
    return _finished(figure, axes[0], 3, 0.16)


def adversarial(records: Records, width: float = 8.5) -> Figure:
    """How alike pictures of the true class's score stay when the class flips, under noise, and for another image."""
    changes = ("noise", "adversarial", "another image")
    figure, axes = plt.subplots(1, len(records), figsize=(width, 3.3), sharey=True, squeeze=False)
    for ax, (world, record) in zip(axes[0], records.items(), strict=True):
        moved = record["adversarial"]["moved"]
        for number, rule in enumerate(RULE_NAMES):
            _dots(ax, [moved[f"{c}, fc8, {rule}"]["cosine"] for c in changes], 0.18 * (number - 1), rule, number)
        kept = [moved[f"{c}, conv5"]["top9"] for c in changes]
        _dots(ax, kept, 0.36, "of the 9 strongest maps of conv5, kept", 3)
        ax.set_xticks(range(3), ["noise of\nthe same size", "class\nflipped", "another\nimage"], fontsize=9)
        ax.set_title(WORLD_NAMES.get(world, world), fontsize=10)
        ax.grid(axis="y", alpha=0.3)
    axes[0, 0].set_ylabel("cosine; share kept", fontsize=9)
    return _finished(figure, axes[0, 0], 4, 0.08)
