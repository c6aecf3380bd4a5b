"""Fig. 4, features through the epochs, and the curves that the paper does not have."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import torch
from IPython.display import HTML
from matplotlib.figure import Figure
from torch import Tensor

from book.evolution import claims as rules
from zfrepro import page, plots
from zfrepro.claims import DATASETS, Record

CONDITIONS = {
    rules.SMALL: {"learning rate": "cosine", "image size": "96 px"},
    "plateau": {"learning rate": "in steps", "image size": "96 px"},
    rules.LARGE: {"learning rate": "cosine", "image size": "224 px"},
}
"""What sets runs apart in a record, and in the table."""
GUTTER = 0.25  # dark grey between the pictures of an explorer, for light and dark pages
RED = torch.tensor([0.85, 0.1, 0.1])[:, None, None]
MEASURES = {
    "changed": "another strongest\nimage, % of maps",
    "cosine": "cosine of successive\nprojections",
}


def titled(dataset: str, record: Record, measure: str = "cka") -> str:
    """Return the name of a data set with the image size of the runs that claims read."""
    return f"{DATASETS[dataset]}, {CONDITIONS[rules.size_of(record, measure)]['image size']}"


def decoded(record: Record) -> dict[str, Tensor]:
    """Return the recorded projections of every layer, -1 to 1, (M, E, 3, t, t)."""
    by_layer, pictures = {}, record["pictures"]
    for name, code in pictures["sheets"].items():
        sheet = plots.from_jpeg(code)
        side = (sheet.shape[2] + 1) // len(pictures["epochs"]) - 1  # tiles stand one pixel apart
        by_layer[name] = 2 * plots.untiled(sheet, side)[: len(pictures["maps"][name])] - 1
    return by_layer


def tiles(projections: Tensor) -> Tensor:
    """Return projections as colours, each scaled alone, at one size. -> (M, E, 3, side, side)."""
    return plots.resized(plots.display(projections.flatten(0, 1)).view_as(projections))


def growth(
    projections: Mapping[str, Tensor],
    images: Mapping[str, Tensor | Sequence],
    epochs: Sequence[int],
    maps: Mapping[str, Sequence[int]] | None = None,
) -> Figure:
    """Draw Fig. 4: a row for each map, a column for each epoch; a red bar where the image changes.

    Args:
        projections: layer -> signed, (M, E, 3, t, t).
        images: layer -> the image with the strongest activation, (M, E).
        maps: layer -> which of its M rows to draw; default all.
    """
    rows, names = [], []
    for layer, projected in projections.items():
        chosen = list(maps[layer] if maps else range(len(projected)))
        drawn = tiles(projected[chosen])
        changed = torch.as_tensor(images[layer])[chosen].diff(dim=1) != 0
        for row, column in changed.nonzero().tolist():
            drawn[row, column + 1, :, :, : plots.TILE // 22] = RED
        rows += [list(row) for row in drawn]
        names += [f"layer {layer.removeprefix('conv')}"] + [""] * (len(chosen) - 1)
    columns = [f"epoch {epochs[0]}", *map(str, epochs[1:])]
    return plots.grid(rows, columns, names, width=max(4.5, 0.75 * len(columns)))


def pages(projections: Mapping[str, Tensor]) -> np.ndarray:
    """Return a picture for each epoch, layers in rows and maps in columns, uint8 (E, H, W, 3)."""
    rows = torch.stack([*map(tiles, projections.values())])  # (L, M, E, 3, side, side)
    sheets = [
        plots.tiled(epoch.flatten(0, 1), rows.shape[1], gap=2, ground=GUTTER)
        for epoch in rows.unbind(2)
    ]
    return (torch.stack(sheets) * 255).round().byte().permute(0, 2, 3, 1).numpy()


def convergence(by_dataset: Mapping[str, Record]) -> Figure:
    """Draw after which share of the training each layer has converged, by data set."""
    return plots.intervals_by_dataset(
        {titled(*item): rules.times(rules.runs(item[1])) for item in by_dataset.items()},
        {f"layer {name[-1]}": name for name in rules.LAYERS},
        dict.fromkeys(("layer 4", "layer 5"), (rules.LATE + rules.LATEST) / 2),
        unit="share of the training after which the layer has converged, %",
        zero=None,
        paper="the paper, upper layers (epochs 40 to 50 of 70)",
    )


def curves(
    by_dataset: Mapping[str, Record], measures: Mapping[str, str], *, threshold: bool = False
) -> Figure:
    """Draw measures against the share of the training, data sets in columns.

    Lines are means over runs; bands reach from the lowest run to the highest.

    Args:
        measures: key in a run -> label of the axis.
        threshold: whether to mark the CKA from which a layer counts as converged.
    """
    shape = (len(measures), len(by_dataset))
    size = (plots.WIDTH, 2.5 * len(measures) + 0.4)
    figure, axes = plt.subplots(*shape, figsize=size, sharex=True, sharey="row", squeeze=False)
    ticks = (2, 5, 10, 20, 50, 100)
    for ax, label in zip(axes[:, 0], measures.values(), strict=True):
        ax.set_ylabel(label)
    for column, (dataset, record) in zip(axes.T, by_dataset.items(), strict=True):
        for ax, key in zip(column, measures, strict=True):
            runs = rules.runs(record, key)
            for colour, layer in zip(plots.PALETTE, rules.LAYERS, strict=False):
                values = np.array([run[key][layer] for run in runs], dtype=float)
                epochs = np.array(runs[0]["epochs"][-values.shape[1] :])
                at = 100 * epochs / epochs[-1]
                ax.plot(at, values.mean(0), "o-", color=colour, label=f"layer {layer[-1]}", ms=3)
                ax.fill_between(at, values.min(0), values.max(0), color=colour, alpha=0.15, lw=0)
            if threshold:
                ax.axhline(rules.THRESHOLD, color=plots.TEXT, lw=1, ls="--")
            ax.set_xscale("log")
            ax.set_xticks(ticks, ticks)
            ax.minorticks_off()
            ax.grid()
        column[0].set_title(titled(dataset, record, next(iter(measures))))
        column[-1].set_xlabel("share of the training, %")
    axes[0, -1].legend(loc="best")
    figure.align_ylabels(axes[:, 0])
    figure.tight_layout(pad=0.5)
    return plots.detached(figure)


def conditions(by_dataset: Mapping[str, Record]) -> HTML:
    """Show when each layer has converged in runs that differ in schedule or image size."""
    rows = []
    for dataset, record in by_dataset.items():
        for apart, name in CONDITIONS.items():
            if runs := rules.runs_of(record, apart):
                row = {"data set": DATASETS[dataset], **name, "runs": len(runs)}
                times = rules.times(runs)
                rows.append(row | {f"layer {k[-1]}": time.estimate for k, time in times.items()})
    caption = "Share of the training after which each layer has converged, %, by schedule and size"
    return page.table(rows, caption=caption, digits=0)


def sensitivity(by_dataset: Mapping[str, Record]) -> HTML:
    """Show the outcomes, had another CKA been called convergence."""
    rows = []
    for threshold in rules.THRESHOLDS:
        judged = [claim for claim in rules.claims(threshold) if claim.name != "evolution-jumps"]
        for dataset, record in by_dataset.items():
            row = {"converged from a CKA of": f"{threshold:.2f}", "data set": DATASETS[dataset]}
            row |= {c.name.removeprefix("evolution-"): c.outcome(record) for c in judged}
            rows.append(row)
    return page.table(rows, caption="Outcomes by the CKA from which a layer counts as converged")
