"""Pictures and plots that chapters share, from tensors or numbers.

How projections are displayed, which the paper leaves open, stands once, in `display`: zero is
mid-grey, the nine of a map share one scale, the .99 quantile of their absolute values, and a power
of 0.7 lifts what is faint."""

import base64
import contextlib
import io
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import blended_transform_factory
from PIL import Image
from torch import Tensor

from zfrepro.claims import DATASETS, Quantity, Record
from zfrepro.stats import Interval

GREY = 0.5
QUANTILE, POWER = 0.99, 0.7
TILE = 112  # px a side, at least, of a displayed projection or patch
SMOOTH = 40  # px of a receptive field above which enlarging is bicubic
WIDTH = 7.5  # inches of a figure that fills a page; type of 10.5 points then reads as captions do
TEXT = "#767676"  # readable on white and on black
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")  # Okabe and Ito
STYLE = {
    "figure.dpi": 200, "savefig.transparent": True, "figure.facecolor": "none",
    "axes.facecolor": "none",
    "font.size": 10.5, "axes.titlesize": 10.5, "axes.labelsize": 10.5, "legend.fontsize": 10.5,
    "xtick.labelsize": 10.5, "ytick.labelsize": 10.5,
    "legend.frameon": False,
    "text.color": TEXT, "axes.labelcolor": TEXT, "axes.edgecolor": TEXT, "xtick.color": TEXT,
    "ytick.color": TEXT,
    "axes.spines.top": False, "axes.spines.right": False, "axes.prop_cycle": cycler(color=PALETTE),
    "lines.linewidth": 1.6, "grid.color": TEXT, "grid.alpha": 0.25,
}  # fmt: skip


def use_style() -> None:
    """Set matplotlib's style for the pages: colours and type that suit light and dark."""
    plt.rcParams.update(STYLE)


def display(signed: Tensor) -> Tensor:
    """Turn projections or filters into colours: 0.5 + 0.5 sign(v) |v / q|^0.7.

    q is the .99 quantile of |v|.

    Args:
        signed: (M, K, 3, H, W), the K projections of a map scaled together; or (..., 3, H, W) with
            fewer leading axes, each picture scaled alone.
    Returns:
        The same shape, 0 to 1; zero is mid-grey.
    """
    values = signed.float()
    leading = values.shape[: 1 if values.ndim == 5 else values.ndim - 3]
    rows = values.abs().reshape(math.prod(leading), -1)
    scale = torch.stack([torch.quantile(row, QUANTILE) for row in rows])
    scale = torch.where(scale > 0, scale, rows.amax(1)).clamp_min(1e-12)
    scale = scale.view(*leading, *(1,) * (values.ndim - len(leading)))
    return (GREY + 0.5 * values.sign() * (values.abs() / scale).pow(POWER)).clamp(0, 1)


def enlarge(images: Tensor, side: int = TILE) -> Tensor:
    """Enlarge pictures to at least `side` px: below 40 px by whole numbers, else bicubic.

    images: (..., 3, H, W) of 0 to 1 -> (..., 3, H', W'); larger ones stay as they are.
    """
    size = images.shape[-1]
    if size >= side:
        return images
    if size <= SMOOTH:
        return enlarged(images, math.ceil(side / size))
    flat = images.reshape(-1, *images.shape[-3:])
    flat = F.interpolate(flat, (side, side), mode="bicubic", align_corners=False).clamp(0, 1)
    return flat.view(*images.shape[:-2], side, side)


def resized(images: Tensor, side: int = TILE) -> Tensor:
    """Enlarge pictures as `enlarge` does, and reduce what is larger, to exactly `side` px.

    (..., 3, H, H) of 0 to 1 -> (..., 3, side, side).
    """
    large = enlarge(images, side)
    if large.shape[-1] == side:
        return large
    flat = large.reshape(-1, *large.shape[-3:])
    flat = F.interpolate(flat, side, mode="bilinear", antialias=True).clamp(0, 1)
    return flat.view(*images.shape[:-2], side, side)


def as_colours(images: Tensor) -> Tensor:
    """Return colours of 0 to 1, of uint8 pictures or of such colours."""
    return images.float() / 255 if images.dtype == torch.uint8 else images.float()


def tiled(images: Tensor, columns: int, gap: int = 1, ground: float = 1.0) -> Tensor:
    """Set pictures in rows with gaps between. (N, 3, h, w) of 0 to 1 -> (3, H, W)."""
    n, _, height, width = images.shape
    rows = math.ceil(n / columns)
    out = torch.full((3, rows * (height + gap) - gap, columns * (width + gap) - gap), ground)
    for i, image in enumerate(images):
        top, left = (i // columns) * (height + gap), (i % columns) * (width + gap)
        out[:, top : top + height, left : left + width] = image
    return out


def untiled(sheet: Tensor, side: int, gap: int = 1) -> Tensor:
    """Cut a sheet of `tiled` into its tiles. (3, H, W) -> (rows, columns, 3, side, side)."""
    tiles = sheet.unfold(1, side, side + gap).unfold(2, side, side + gap)
    return tiles.permute(1, 2, 0, 3, 4)


def as_jpeg(picture: Tensor) -> str:
    """Return a picture of 0 to 1, (3, H, W), as base64 JPEG, a third of a PNG's size."""
    data = io.BytesIO()
    image = Image.fromarray(array((picture * 255).round().byte()))
    image.save(data, "JPEG", quality=85, subsampling=0, optimize=True)
    return base64.b64encode(data.getvalue()).decode()


def from_jpeg(code: str) -> Tensor:
    """Return the picture of `as_jpeg`, (3, H, W), 0 to 1."""
    image = Image.open(io.BytesIO(base64.b64decode(code))).convert("RGB")
    return torch.from_numpy(np.array(image)).permute(2, 0, 1) / 255


def enlarged(image: Tensor, times: int) -> Tensor:
    """Repeat every pixel `times` times on both axes. (..., H, W) -> (..., H', W')."""
    return image.repeat_interleave(times, -2).repeat_interleave(times, -1)


def array(image: Tensor) -> np.ndarray:
    """Return (3, H, W) as an array (H, W, 3), as matplotlib and PIL want it."""
    return image.permute(1, 2, 0).numpy()


def blocks(images: Tensor, columns: int, *, gap: int = 6) -> Tensor:
    """Set each map's K pictures in a square, the squares in rows. (M, K, 3, h, w) -> (3, H, W)."""
    side = math.ceil(math.sqrt(images.shape[1]))
    squares = torch.stack([tiled(as_colours(pictures), side) for pictures in images])
    return tiled(squares, columns, gap)


def detached(figure: Figure) -> Figure:
    """Return the figure off pyplot's list, or a cell that ends with it would show it twice."""
    plt.close(figure)
    return figure


def png(figure: Figure) -> bytes:
    """Return the figure as a file in memory, for an image widget.

    Not for an output widget: a notebook that is run without a browser answers those on the channel
    on which it waits for the cell's end, and now and then waits until its time is up (nbclient,
    issue 312).
    """
    data = io.BytesIO()
    detached(figure).savefig(data, format="png")
    return data.getvalue()


def fig2(
    maps: Sequence[tuple[str, Tensor, Tensor]], across: int = 3, *, side: int = TILE,
    beside: bool = False,
) -> Figure:  # fmt: skip
    """Draw Fig. 2: the strongest projections of each map above the patches that caused them.

    Args:
        maps: name, projections (K, 3, F, F), signed, and patches, uint8 or 0 to 1, of a map.
        across: pictures in a row, of as many rows; the projections share the scale of all K.
        side: px of a picture, at least.
        beside: a map a row, its patches to the right, instead of a map a column.
    """
    pairs = []
    for name, projections, patches in maps:
        parts = (display(projections[None])[0], as_colours(patches))
        sheets = [tiled(enlarge(part[: across**2], side), across, gap=2) for part in parts]
        captions = (f"{name}: projections" if beside else name, "patches")
        pairs.append(list(zip(captions, sheets, strict=True)))
    rows = pairs if beside else list(zip(*pairs, strict=True))
    size = max(sheet.shape[-1] for pair in pairs for _, sheet in pair)
    pitch = size + size // 14
    width = len(rows[0]) * pitch - size // 14
    font = max(width / 58, 14)  # px, 17 on a page
    head = 2.2 * font
    height = len(rows) * (size + head)
    figure = plt.figure(figsize=(width / 100, height / 100), dpi=100)
    for i, row in enumerate(rows):
        y = height - (i + 1) * (size + head)
        for j, (caption, sheet) in enumerate(row):
            ax = figure.add_axes((j * pitch / width, y / height, size / width, size / height))
            exact = sheet.shape[-1] == size
            ax.imshow(array(sheet), interpolation="nearest" if exact else "antialiased")
            ax.axis("off")
            at = (j * pitch / width, (y + size + 0.4 * font) / height)
            figure.text(*at, caption, fontsize=0.72 * font)
    return detached(figure)


def mean_sd(values: Sequence[float]) -> str:
    """Return `43.1 ± 0.8`, mean and standard deviation; of one value it alone."""
    mean = f"{np.mean(values):.1f}"
    return f"{mean} ± {np.std(values, ddof=1):.1f}" if len(values) > 1 else mean


def intervals(
    rows: Sequence[tuple[str, Interval, float | None]], *, unit: str, zero: float | None = 0.0,
    width: float = WIDTH, paper: str = "the paper", groups: Sequence[str] = (),
) -> Figure:  # fmt: skip
    """Draw estimates with their 95 % intervals, one a row, and the paper's values beside ours.

    Args:
        rows: label, our interval and the paper's value or None, from top to bottom; a row without a
            label, or with the same, belongs to the one above.
        unit: what the axis shows.
        zero: where a line marks no effect; None for no line.
        paper: what the open diamonds are called.
        groups: one a row; rows of one group share a colour, and a legend names the groups.
    """
    names = list(dict.fromkeys(groups))
    mark = {"marker": "D", "mfc": "none", "mew": 1.6, "ms": 7, "ls": ""}
    mark["mec"] = TEXT if len(names) > 1 else PALETTE[1]
    pairs = itertools.pairwise(["", *(label for label, *_ in rows)])
    labels = ["" if label == above else label for above, label in pairs]
    heights = np.cumsum([1.0 if label else 0.6 for label in labels]) - 1
    figure, ax = plt.subplots(figsize=(width, 0.31 * (heights[-1] + 1) + 0.9))
    for k, (y, (_, interval, printed)) in enumerate(zip(heights, rows, strict=True)):
        colour = PALETTE[names.index(groups[k]) % len(PALETTE)] if groups else PALETTE[0]
        estimate, *bounds = interval
        ends = [bound if math.isfinite(bound) else estimate for bound in bounds]
        ax.plot(ends, [y, y], color=colour, lw=2.2, solid_capstyle="butt")
        name = groups[k] if groups and groups.index(groups[k]) == k else None
        ax.plot(estimate, y, "o", color=colour, ms=6, label=name)
        if printed is not None:
            ax.plot(printed, y, **mark)
    if any(printed is not None for *_, printed in rows):
        ax.plot([], [], **mark, label=paper)
    if zero is not None:
        ax.axvline(zero, color=TEXT, lw=1)
    ax.set_yticks(heights, labels)
    ax.set(xlabel=unit, ylim=(heights[-1] + 0.6, -0.6))
    ax.grid(axis="x")
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    if ax.get_legend_handles_labels()[1]:
        # at the left edge of the figure, which a phone shows first
        corner = blended_transform_factory(figure.transFigure, ax.transAxes)
        ax.legend(
            loc="lower left", bbox_to_anchor=(0, 1), bbox_transform=corner, ncols=4,
            borderaxespad=0.2,
        )  # fmt: skip
    figure.tight_layout(pad=0.4)
    return detached(figure)


def intervals_by_group(values: Mapping[str, Mapping[str, Any]], **options: Any) -> Figure:
    """Draw `intervals`: a row a label and group, a colour a group.

    Args:
        values: label -> group -> what `Interval.of` reads.
        options: of `intervals`.
    """
    table = [(label, *item) for label, by_group in values.items() for item in by_group.items()]
    rows = [(label, Interval.of(value), None) for label, _, value in table]
    return intervals(rows, groups=[group for _, group, _ in table], **options)


def intervals_by_dataset(
    records: Mapping[str, Record], rows: Mapping[str, str | Callable[[Record], Any]],
    printed: Mapping[str, float] | None = None, **options: Any,
) -> Figure:  # fmt: skip
    """Draw `intervals` of what records hold, a row a label and record, a colour a record.

    Args:
        records: data set, or another title -> record; one that lacks a row's value has no such row.
        rows: label -> source of a `Quantity`: a path such as `objects/drop`, or a function.
        printed: label -> the paper's value.
        options: of `intervals`.
    """
    drawn, groups = [], []
    for label, source in rows.items():
        for name, record in records.items():
            with contextlib.suppress(LookupError):
                value = Quantity(label, source).of(record)
                drawn.append((label, value, (printed or {}).get(label)))
                groups.append(DATASETS.get(name, name))
    return intervals(drawn, groups=groups, **options)


def mean_and_range(ax: Axes, runs: Sequence, step: float = 1, **style: Any) -> None:
    """Draw the mean of runs, one value an epoch, and a band from lowest to highest.

    Args:
        step: what an epoch counts on the x axis.
    """
    lines = np.array(runs)
    x = step * np.arange(1, lines.shape[1] + 1)
    ax.plot(x, lines.mean(0), **style)
    ax.fill_between(x, lines.min(0), lines.max(0), color=style.get("color"), alpha=0.15, lw=0)


def learning_curves(records: Mapping[str, Mapping], names: Mapping[str, str]) -> Figure:
    """Draw the validation top-1 error after each epoch: mean over seeds, band from best to worst.

    Args:
        records: title of a panel -> record of a sweep.
        names: network of the sweep -> what the legend calls it.
    """
    figure, axes = plt.subplots(1, len(records), figsize=(WIDTH, 3.2), squeeze=False, sharey=True)
    for ax, (title, record) in zip(axes[0], records.items(), strict=True):
        for colour, name in zip(PALETTE, names, strict=False):
            runs = [
                run["history"]["val_top1_error"] for run in record["runs"] if run["arch"] == name
            ]
            if runs:
                mean_and_range(ax, runs, color=colour, label=names[name])
        ax.set(title=title, xlabel="epoch")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        ax.grid(axis="y")
    axes[0, 0].set_ylabel("validation top-1 error, %")
    handles = axes[0, 0].get_legend_handles_labels()
    figure.legend(*handles, loc="upper center", bbox_to_anchor=(0.5, 0), ncols=3)
    figure.tight_layout(pad=0.4)
    return detached(figure)


def side_by_side(
    pictures: Sequence[Tensor], titles: Sequence[str], width: float = WIDTH,
    columns: int | None = None,
) -> Figure:  # fmt: skip
    """Draw pictures with titles. pictures: (3, H, W) each, uint8 or 0 to 1."""
    columns = columns or len(pictures)
    rows = math.ceil(len(pictures) / columns)
    tall = max(picture.shape[-2] / picture.shape[-1] for picture in pictures)
    size = (width, rows * (width / columns * tall + 0.28))
    figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False)
    for ax in axes.flat:
        ax.axis("off")
    for ax, picture, title in zip(axes.flat, pictures, titles, strict=False):
        ax.imshow(array(as_colours(picture)), interpolation="nearest")
        ax.set_title(title)
    figure.tight_layout(pad=0.4)
    return detached(figure)


def grid(
    rows: Sequence[Sequence[Tensor]],
    columns: Sequence[str],
    names: Sequence[str],
    width: float = WIDTH,
) -> Figure:
    """Draw pictures in a table with names for rows and columns, resized to one square.

    Args:
        rows: (3, H, W) each, uint8 or 0 to 1.
    """
    side = max(picture.shape[-1] for row in rows for picture in row)
    flat = [
        F.interpolate(as_colours(picture)[None], (side, side)) for row in rows for picture in row
    ]
    sheet = tiled(torch.cat(flat), len(columns), gap=2)
    figure, ax = plt.subplots(figsize=(width, width * sheet.shape[1] / sheet.shape[2]))
    ax.imshow(array(sheet), interpolation="nearest")
    ax.set_xticks([side / 2 + (side + 2) * i for i in range(len(columns))], columns)
    ax.set_yticks([side / 2 + (side + 2) * i for i in range(len(rows))], names)
    ax.xaxis.tick_top()
    ax.tick_params(length=0)
    for edge in ax.spines.values():
        edge.set_visible(False)
    figure.tight_layout(pad=0.3)
    return detached(figure)
