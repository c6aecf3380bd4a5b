"""Fig. 6 of the arXiv text (ECCV Fig. 5), and the first layer in numbers: spectra, dead filters, aliasing, shifts."""

import base64
import io
import math
from collections.abc import Mapping
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from IPython.display import HTML
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from book.architecture import filters
from book.architecture.claims import unclipped
from book.gallery.figures import resized
from zfrepro import plots, records, static
from zfrepro.plots import alone, array, enlarged, tiled
from zfrepro.verdicts import WORLDS
from zfrepro.verdicts_table import WORLD_NAMES
from zfrepro.weights import pretrained
from zfrepro.words import told_of

NAMES = {"krizhevsky": "Krizhevsky, 11x11 stride 4", "zfnet": "ZFNet, 7x7 stride 2"}
SHORT = {arch: name.split(",")[0] for arch, name in NAMES.items()}
FREE = "without clipping"
COLOURS = {"krizhevsky": "#b5651d", "zfnet": "#2a6f97"}
Found = Mapping[str, dict[str, Any]]


def recorded() -> dict[str, dict[str, Any]]:
    """The studies there are, by world."""
    there = [w for w in WORLDS if (records.results_root() / "architecture" / f"{w}.json").is_file()]
    return {world: records.read(f"architecture/{world}") for world in there}


# --- the paper's five panels -----------------------------------------------------------------------------------------


def jointly(weight: Tensor) -> Tensor:
    """Filters as colours with one scale for all, zero at mid-grey. (C, 3, k, k) -> the same, 0 to 1."""
    return 0.5 + 0.5 * weight.float() / weight.float().abs().max().clamp_min(1e-12)


def without_clipping(found: Found, world: str) -> Tensor | None:
    """The recorded first-layer filters of a training without clipping, (C, 3, k, k), of a world or else of another."""
    for name in (world, *found):
        run = unclipped(found[name]) if name in found else None
        if run:
            rows = torch.tensor(run["filters"])
            side = math.isqrt(rows.shape[1] // 3)
            return rows.view(-1, 3, side, side)
    return None


def sheet(pictures: Tensor, columns: int = 5) -> Tensor:
    """Top-9 projections of some maps as one picture. signed (M, 9, 3, F, F) -> (3, H, W)."""
    return plots.blocks(plots.shown(pictures), columns, gap=4)


def decoded(record: dict[str, Any], arch: str) -> Tensor:
    """A recorded sheet of second-layer projections, (3, H, W), 0 to 1."""
    code = base64.b64decode(record["pictures"][arch]["sheet"])
    return torch.from_numpy(np.array(Image.open(io.BytesIO(code)).convert("RGB"))).permute(2, 0, 1) / 255


def panels(first: Mapping[str, Tensor | None], second: Mapping[str, Tensor], width: float = 9) -> Figure:
    """Fig. 6: (a) to (c) first-layer filters, each panel with one scale for all its filters; (d), (e) layer 2.

    Args:
        first: title -> (C, 3, k, k), or None for a panel that is not recorded.
        second: title -> a `sheet`.
    """
    figure = plt.figure(figsize=(width, width * 0.69))
    above, below = figure.subfigures(2, 1, height_ratios=(0.53, 0.47))
    letters = iter("abcde")
    for part, pictures in ((above, first), (below, second)):
        for ax, (title, picture) in zip(part.subplots(1, len(pictures)), pictures.items(), strict=True):
            ax.set_title(f"({next(letters)}) {title}", fontsize=9)
            ax.axis("off")
            if picture is None:
                ax.text(0.5, 0.5, "not recorded", ha="center", va="center", transform=ax.transAxes)
            elif picture.ndim == 4:
                side = math.ceil(math.sqrt(len(picture)))
                ax.imshow(array(enlarged(tiled(jointly(picture), side), 6)), interpolation="nearest")
            else:
                ax.imshow(array(picture))
        part.subplots_adjust(0.01, 0.01, 0.99, 0.92, 0.04)
    return alone(figure)


def recorded_panels(found: Found, world: str) -> Figure:
    """`panels` of a world from what is recorded and shipped, without its images."""
    weights = {arch: pretrained(arch, world).network.convs["conv1"].weight.detach().cpu() for arch in NAMES}
    first = {FREE: without_clipping(found, world)} | {NAMES[arch]: weights[arch] for arch in NAMES}
    second = {f"{SHORT[arch]}, layer 2": decoded(found[world], arch) for arch in NAMES}
    return panels(first, second)


def scales(first: Mapping[str, Tensor | None]) -> HTML:
    """The panels of layer 1 with one scale for all filters or one for each, to leaf through."""
    there = {title: weight for title, weight in first.items() if weight is not None}
    pictures, notes = [], []
    for title, weight in there.items():
        rms = weight.square().mean((1, 2, 3)).sqrt()
        for how, shown in (("one scale", jointly(weight)), ("each its own", plots.shown(weight, 1.0))):
            grid = tiled(shown, math.ceil(math.sqrt(len(weight))))
            pictures.append(resized(enlarged(grid, 3)[None], 360)[0])
            notes.append(f"{title}, {how}: the largest filter is {rms.max() / rms.median():.1f} times the median one")
    axes = {"panel": list(there), "scale": ["one for all", "each its own"]}
    return static.frames(as_bytes(torch.stack(pictures)), axes, notes, alt="First-layer filters, scaled in two ways")


def as_bytes(pictures: Tensor) -> np.ndarray:
    """(N, 3, H, W) of 0 to 1 -> uint8 (N, H, W, 3)."""
    return (255 * pictures).round().byte().permute(0, 2, 3, 1).numpy()


# --- spectra ---------------------------------------------------------------------------------------------------------


def spectra(found: Found, width: float = 9) -> Figure:
    """Centroids as histograms against the strides' Nyquist limits, and bandwidths; a row for each world."""
    figure, axes = plt.subplots(len(found), 2, figsize=(width, 3.1 * len(found)), squeeze=False)
    bins = np.linspace(0, 0.5, 26)
    for (left, right), (world, record) in zip(axes, found.items(), strict=True):
        for arch, name in NAMES.items():
            own = record["filters"][arch]
            centre, weights = own["centroid"], np.full(len(own["centroid"]), 100 / len(own["centroid"]))
            left.hist(centre, bins, weights=weights, color=COLOURS[arch], alpha=0.55, label=name)
            right.plot(centre, own["bandwidth"], "o", ms=4, alpha=0.6, color=COLOURS[arch], label=name)
        for ax in (left, right):
            ax.set_xlim(0, 0.42)
            for stride, arch in ((4, "krizhevsky"), (2, "zfnet")):
                ax.axvline(filters.nyquist(stride), color=COLOURS[arch], ls="--", lw=1.2)
            ax.set_xlabel("spectral centroid, cycles per pixel", fontsize=8)
        left.set_title(f"{WORLD_NAMES[world]}: share of filters, %", fontsize=9)
        right.set_title("bandwidth, cycles per pixel", fontsize=9)
        left.legend(fontsize=7, frameon=False)
    figure.tight_layout(pad=0.6)
    return alone(figure)


# --- tables ----------------------------------------------------------------------------------------------------------


def dead(found: Found) -> HTML:
    """Dead filters by each sense of the word."""
    rows = []
    for world, record in found.items():
        for arch, name in SHORT.items():
            own = record["filters"][arch]
            row = {"world": WORLD_NAMES[world], "network": name, "filters": len(own["rms"])}
            row |= {kind: sum(values) for kind, values in own["dead"].items()}
            row |= {"flatness": f"{np.median(own['flatness']):.2f}", "of noise": f"{own['noise_flatness']:.2f}"}
            rows.append(row | {f"below {t}": n for t, n in own["faint"].items() if float(t) != filters.FAINT})
    return static.table(rows, caption="Dead filters by three senses, and faint ones by other thresholds")


def aliased(found: Found) -> HTML:
    """Share of layer 1's energy that each stride aliases, by gratings and by images."""
    rows = []
    for world, record in found.items():
        for arch, name in SHORT.items():
            row: dict[str, object] = {"world": WORLD_NAMES[world], "filters of": name}
            for stride in (2, 4):
                own = stride == record["filters"][arch]["stride"]
                mark = " (its own)" if own else ""
                row[f"stride {stride}: gratings, %"] = f"{100 * record['gratings'][arch][f'share {stride}']:.0f}{mark}"
                row[f"stride {stride}: images, %"] = told_of(record["aliased"][arch][str(stride)], ".1f")
            rows.append(row)
    return static.table(rows, caption="Share of layer 1's energy that is aliased, with 95 % intervals over images")


def shifts(found: Found) -> HTML:
    """Consistency of layers 1 and 2 under shifts of one pixel."""
    rows = []
    for world, record in found.items():
        for arch, name in (*SHORT.items(), ("more", "ZFNet minus Krizhevsky")):
            own = record["shifts"][arch]
            form = "+.3f" if arch == "more" else ".3f"
            row = {"world": WORLD_NAMES[world], "network": name}
            row |= {f"layer {k[4]}{k[5:]}": told_of(v, form) for k, v in own.items() if k != "kept"}
            rows.append(row | {"labels that stay, %": told_of(own["kept"], "+.1f" if arch == "more" else ".1f")})
    return static.table(rows, caption="Consistency under shifts of one pixel, with 95 % intervals over images")
