"""Fig. 4, features through the epochs, and the curves that the paper does not have."""

import base64
import io
from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from IPython.display import HTML
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from book.ablation.figures import seeded
from book.evolution import claims as rules
from book.evolution.claims import runs as runs_of
from zfrepro import plots, records, static
from zfrepro.plots import alone, array, enlarged, shown, tiled
from zfrepro.verdicts import WORLDS
from zfrepro.verdicts_table import WORLD_NAMES

RED = torch.tensor([0.85, 0.1, 0.1])[:, None, None]
MEASURES = {
    "cka": "CKA with the final layer",
    "probe": "linear probe, % right",
    "changed": "maps with another\nstrongest image, %",
    "cosine": "cosine of successive\nprojections",
}


def decoded(record: dict[str, Any]) -> dict[str, Tensor]:
    """The recorded projections of every layer as colours of 0 to 1, (M, E, 3, t, t)."""
    found = {}
    for name, code in record["pictures"]["sheets"].items():
        maps, epochs = len(record["pictures"]["maps"][name]), len(record["pictures"]["epochs"])
        sheet = torch.from_numpy(np.array(Image.open(io.BytesIO(base64.b64decode(code))).convert("RGB"))) / 255
        side = (sheet.shape[1] + 1) // epochs - 1  # tiles stand one pixel apart
        rows = sheet.permute(2, 0, 1)[None].unfold(2, side, side + 1).unfold(3, side, side + 1)
        found[name] = rows[0].permute(1, 2, 0, 3, 4)[:maps, :epochs]
    return found


def evolution(
    tiles: dict[str, Tensor], images: dict[str, Tensor | Sequence], epochs: Sequence[int], width: float = 9
) -> Figure:
    """Fig. 4: a block for each layer, a row for each map, a column for each epoch; red where the image changes.

    Args:
        tiles: layer -> colours of 0 to 1, (M, E, 3, t, t).
        images: layer -> the image with the strongest activation, (M, E).
    """
    figure, axes = plt.subplots(-(-len(tiles) // 2), 2, figsize=(width, width * 0.42 * -(-len(tiles) // 2)))
    for ax in axes.flat:
        ax.axis("off")
    for ax, (name, block) in zip(axes.flat, tiles.items(), strict=False):
        block = enlarged(block, max(1, 48 // block.shape[-1])).clone()
        jumped = torch.as_tensor(images[name]).diff(dim=1) != 0
        thick = max(1, block.shape[-1] // 20)
        for row, column in jumped.nonzero().tolist():
            block[row, column + 1, :, :, :thick] = RED
        side = block.shape[-1] + 2
        ax.imshow(array(tiled(block.flatten(0, 1), len(epochs), gap=2)), interpolation="nearest")
        ax.set_title(name, fontsize=10, loc="left", pad=14)
        for i, epoch in enumerate(epochs):
            ax.text(side * (i + 0.5), -4, str(epoch), fontsize=7.5, ha="center", va="bottom")
    figure.tight_layout(pad=0.4)
    return alone(figure)


def pages(tiles: dict[str, Tensor], side: int = 64) -> np.ndarray:
    """One picture an epoch, a row for each layer and a column for each map, for a slider. -> uint8 (E, H, W, 3)."""
    rows = []
    for block in tiles.values():
        flat = block.transpose(0, 1).flatten(0, 1)
        same = interpolate(flat, size=(side, side), mode="nearest" if flat.shape[-1] < side else "area")
        rows.append(same.unflatten(0, (block.shape[1], block.shape[0])))
    epochs = [torch.cat([row[e] for row in rows]) for e in range(rows[0].shape[0])]
    sheets = [tiled(own, rows[0].shape[1], gap=2) for own in epochs]
    return (torch.stack(sheets) * 255).round().byte().permute(0, 2, 3, 1).numpy()


def enhanced(projections: Tensor, width: float = 9) -> Figure:
    """One map's row as it is (one scale for all epochs), each scaled by itself, and with enhanced contrast.

    Args:
        projections: (E, 3, F, F), signed.
    """
    alike = (0.5 + projections / (2 * projections.abs().amax().clamp_min(1e-12))).clamp(0, 1)
    rows = {"one scale": alike, "each by itself": shown(projections, 1.0), "enhanced": shown(projections, 0.95)}
    figure, axes = plt.subplots(3, 1, figsize=(width, width * 3.6 / len(projections)))
    for ax, (name, row) in zip(axes, rows.items(), strict=True):
        ax.imshow(array(tiled(row, len(row), gap=2)), interpolation="nearest")
        ax.set_title(name, fontsize=9, loc="left", pad=3)
        ax.axis("off")
    figure.tight_layout(pad=0.4)
    return alone(figure)


def curves(found: dict[str, dict[str, Any]], width: float = 9) -> Figure:
    """Every measure against epochs, a colour for each layer, a column for each world; bands from worst to best run.

    Args:
        found: world -> record.
    """
    figure, axes = plt.subplots(
        len(MEASURES), len(found), figsize=(width, 9), sharex="col", sharey="row", squeeze=False
    )
    for place, (column, (world, record)) in enumerate(zip(axes.T, found.items(), strict=True)):
        runs = runs_of(record)
        for ax, (key, label) in zip(column, MEASURES.items(), strict=True):
            layers = list(runs[0][key])
            colours = plt.get_cmap("viridis")(np.linspace(0, 0.92, 8))
            for colour, layer in zip(colours, layers, strict=False):
                values = np.array([run[key][layer] for run in runs], dtype=float)
                at = runs[0]["epochs"][-values.shape[1] :]
                ax.plot(at, values.mean(0), "o-", color=colour, label=layer, ms=3, lw=1.4)
                ax.fill_between(at, values.min(0), values.max(0), color=colour, alpha=0.15, lw=0)
            ax.set_xscale("log")
            ax.set_xticks(runs[0]["epochs"], [str(e) for e in runs[0]["epochs"]])
            ax.minorticks_off()
            ax.grid(alpha=0.25)
            if place == 0:
                ax.set_ylabel(label, fontsize=9)
        column[0].set_title(f"{WORLD_NAMES[world]}, {len(runs)} run{'s' * (len(runs) > 1)}", fontsize=10)
        column[-1].set_xlabel("epoch")
    handles = axes[0, 0].get_legend_handles_labels()
    figure.legend(*handles, loc="lower center", ncols=len(handles[1]), fontsize=8, frameon=False)
    figure.tight_layout(pad=0.6, rect=(0, 0.03, 1, 1))
    return alone(figure)


def settling(found: dict[str, dict[str, Any]], shown_at: Sequence[int] = (1, 10, 30)) -> HTML:
    """From which epoch each layer stays settled, a number a run, and means over runs of some of the curves' values.

    Args:
        shown_at: epochs at which the CKA with the final layer is shown.
    """
    rows = []
    for world, record in found.items():
        runs = runs_of(record)
        for layer in runs[0]["cka"]:
            row = {"world": WORLD_NAMES[world], "layer": layer}
            row["settled at epoch"] = ", ".join(str(rules.settled(run, layer)) for run in runs)
            for place, epoch in enumerate(runs[0]["epochs"]):
                if epoch in shown_at:
                    row[f"CKA at {epoch}"] = f"{np.mean([run['cka'][layer][place] for run in runs]):.2f}"
            last = [run["changed"][layer][-1] for run in runs if layer in run["changed"]]
            row["changed at the end, %"] = f"{np.mean(last):.1f}" if last else None
            rows.append(row)
    return static.table(rows, caption="Layers and the epoch from which they stay settled, one number for each run")


def thresholds(found: dict[str, dict[str, Any]], values: Sequence[float] = rules.OTHERWISE) -> HTML:
    """The verdicts on the order of the layers, had another CKA been called settled."""
    told = {"lower layers early": rules.lower, "upper layers late": rules.upper, "from the bottom up": rules.order}
    rows = [
        {"world": WORLD_NAMES[world], "settled from a CKA of": f"{at:.2f}"}
        | {name: judge(record, at).verdict for name, judge in told.items()}
        for world, record in found.items()
        for at in values
    ]
    return plots.table(rows)


def freezing(found: dict[str, dict[str, Any]]) -> HTML:
    """What frozen lower layers cost, and how near they were to their final selves: means and sd over seeds."""
    rows = []
    for world, record in found.items():
        costs = rules.costs_of_freezing(record)
        for after, values in record["freezing"]["accuracy"].items():
            row = {"world": WORLD_NAMES[world], "frozen after epoch": after}
            for layer, near in record["freezing"]["cka"].items():
                row[f"CKA of {layer} then"] = f"{np.mean(near[after]):.2f}" if after in near else None
            row |= {"% right": seeded(values), "cost, points": seeded(costs.get(after, []))}
            rows.append(row)
    return plots.table(rows)


def recorded() -> dict[str, dict[str, Any]]:
    """The records there are, by world."""
    there = [w for w in WORLDS if (records.results_root() / "evolution" / f"{w}.json").is_file()]
    return {world: records.read(f"evolution/{world}") for world in there}
