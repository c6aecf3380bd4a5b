"""Pictures of filters, projections and patches. Every function takes tensors and returns a figure or an image array.

Conventions, which the paper leaves open: zero is mid-grey, and each projection or filter is scaled by itself, by a
high quantile of its absolute values, since projections of deep layers are faint.
"""

import html
import io
import math
from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import torch
from IPython.display import HTML
from matplotlib.figure import Figure
from torch import Tensor

from zfrepro.networks import POOL_KERNEL, POOL_STRIDE, Architecture
from zfrepro.receptive_field import stages

GREY = 0.5


def shown(signed: Tensor, quantile: float = 0.998) -> Tensor:
    """Signed pictures as colours: zero is mid-grey, each scaled by itself. (..., 3, H, W) -> the same, 0 to 1."""
    flat = signed.float().abs().flatten(-3)
    scale = torch.quantile(flat, quantile, dim=-1)[..., None, None, None]
    peak = flat.amax(-1)[..., None, None, None]
    scale = torch.where(scale > 0, scale, peak).clamp_min(1e-12)
    return (GREY + 0.5 * signed.float() / scale).clamp(0, 1)


def as_colours(images: Tensor) -> Tensor:
    """uint8 pictures or colours of 0 to 1 -> colours of 0 to 1."""
    return images.float() / 255 if images.dtype == torch.uint8 else images.float()


def energy(maps: Tensor) -> Tensor:
    """How strong a stack of feature maps is at each place, as grey. (C, H, W) -> (3, H, W), 0 to 1."""
    strength = maps.float().square().sum(0).sqrt()
    return (strength / strength.amax().clamp_min(1e-12)).expand(3, -1, -1)


def tiled(images: Tensor, columns: int, gap: int = 1, ground: float = 1.0) -> Tensor:
    """Pictures in rows with gaps between. (N, 3, h, w) of 0 to 1 -> (3, H, W)."""
    n, _, height, width = images.shape
    rows = math.ceil(n / columns)
    out = torch.full((3, rows * (height + gap) - gap, columns * (width + gap) - gap), ground)
    for i, image in enumerate(images):
        top, left = (i // columns) * (height + gap), (i % columns) * (width + gap)
        out[:, top : top + height, left : left + width] = image
    return out


def enlarged(image: Tensor, times: int) -> Tensor:
    """Every pixel as a square of `times` pixels. (..., H, W) -> (..., H * times, W * times)."""
    return image.repeat_interleave(times, -2).repeat_interleave(times, -1)


def array(image: Tensor) -> np.ndarray:
    """(3, H, W) -> (H, W, 3), what matplotlib and PIL want."""
    return image.permute(1, 2, 0).numpy()


def blocks(images: Tensor, columns: int, *, gap: int = 6, ground: float = 1.0) -> Tensor:
    """Each map's K pictures as a square of tiles, the squares in rows. (M, K, 3, h, w) -> (3, H, W)."""
    side = math.ceil(math.sqrt(images.shape[1]))
    squares = torch.stack([tiled(as_colours(own), side) for own in images])
    return tiled(squares, columns, gap, ground)


def alone(figure: Figure) -> Figure:
    """The figure, off pyplot's list of open ones, or a cell that ends with it would show it twice."""
    plt.close(figure)
    return figure


def png(figure: Figure) -> bytes:
    """The figure as a file in memory, for an image widget.

    Not for an output widget: a notebook that is run without a browser answers those on the channel on which it waits
    for the cell's end, and now and then waits until its time is up (nbclient, issue 312).
    """
    data = io.BytesIO()
    alone(figure).savefig(data, format="png")
    return data.getvalue()


def _frame(image: Tensor, width: float, title: str | None = None) -> Figure:
    height = width * image.shape[1] / image.shape[2]
    figure = plt.figure(figsize=(width, height + (0.3 if title else 0)))
    ax = figure.add_axes((0, 0, 1, height / (height + 0.3) if title else 1))
    ax.imshow(array(image), interpolation="nearest")
    ax.axis("off")
    if title:
        ax.set_title(title, fontsize=10)
    return alone(figure)


def filters(weight: Tensor, columns: int = 16, width: float = 8) -> Figure:
    """First-layer filters, each scaled by itself. weight: (C, 3, k, k)."""
    return _frame(enlarged(tiled(shown(weight, 1.0), columns), 6), width)


def top9(projections: Tensor, patches: Tensor, columns: int = 4, width: float = 10) -> Figure:
    """Fig. 2: projections on the left, the patches that caused them on the right, nine for each map.

    Args:
        projections: (M, 9, 3, F, F), signed.
        patches: uint8 (M, 9, 3, F, F).
        columns: maps in a row.
    """
    times = max(1, 48 // projections.shape[-1])
    left, right = (enlarged(blocks(t, columns), times) for t in (shown(projections), as_colours(patches)))
    between = torch.ones(3, left.shape[1], max(8, left.shape[2] // 24))
    return _frame(torch.cat([left, between, right], 2), width)


def receptive_fields(architecture: Architecture, image: Tensor, layers: Sequence[str], width: float = 5) -> Figure:
    """Receptive fields of the middle unit of some layers, drawn on an image. image: (3, S, S)."""
    figure, ax = plt.subplots(figsize=(width, width))
    ax.imshow(array(as_colours(image)))
    colours = plt.get_cmap("plasma")(np.linspace(0.95, 0.4, len(layers)))
    by_name = {s.name: s for s in stages(architecture, image.shape[-1])}
    for name, colour in zip(layers, colours, strict=True):
        first, end = by_name[name].field.window(by_name[name].size // 2)
        side = end - first
        ax.add_patch(plt.Rectangle((first - 0.5, first - 0.5), side, side, fill=False, ec=colour, lw=2))
        above = side > image.shape[-1] / 12
        ax.text(
            end - 1, first - 0.5 if above else end + 1.5, f"{name} {side}", color=colour, fontsize=8, weight="bold",
            ha="right", va="bottom" if above else "top", bbox={"fc": "black", "ec": "none", "alpha": 0.6, "pad": 1},
        )  # fmt: skip
    ax.set_xlim(-0.5, image.shape[-1] - 0.5)
    ax.set_ylim(image.shape[-1] - 0.5, -0.5)
    ax.axis("off")
    return alone(figure)


def side_by_side(
    pictures: Sequence[Tensor], titles: Sequence[str], width: float = 9, columns: int | None = None
) -> Figure:
    """Pictures with titles. pictures: (3, H, W) each, uint8 or 0 to 1."""
    columns = columns or len(pictures)
    rows = math.ceil(len(pictures) / columns)
    figure, axes = plt.subplots(rows, columns, figsize=(width, rows * (width / columns + 0.28)), squeeze=False)
    for ax in axes.flat:
        ax.axis("off")
    for ax, picture, title in zip(axes.flat, pictures, titles, strict=False):
        ax.imshow(array(as_colours(picture)), interpolation="nearest")
        ax.set_title(title, fontsize=9)
    figure.tight_layout(pad=0.4)
    return alone(figure)


def grid(rows: Sequence[Sequence[Tensor]], columns: Sequence[str], names: Sequence[str], width: float = 9.5) -> Figure:
    """Pictures in a table with names for rows and columns, each resized to the same square.

    Args:
        rows: (3, H, W) each, uint8 or 0 to 1.
    """
    side = max(picture.shape[-1] for row in rows for picture in row)
    flat = torch.stack([_resized(as_colours(picture), side) for row in rows for picture in row])
    sheet = tiled(flat, len(columns), gap=2)
    figure, ax = plt.subplots(figsize=(width, width * sheet.shape[1] / sheet.shape[2]))
    ax.imshow(array(sheet), interpolation="nearest")
    ax.set_xticks([side / 2 + (side + 2) * i for i in range(len(columns))], columns, fontsize=9)
    ax.set_yticks([side / 2 + (side + 2) * i for i in range(len(rows))], names, fontsize=9)
    ax.xaxis.tick_top()
    ax.tick_params(length=0)
    for edge in ax.spines.values():
        edge.set_visible(False)
    figure.tight_layout(pad=0.3)
    return alone(figure)


def _resized(picture: Tensor, side: int) -> Tensor:
    return torch.nn.functional.interpolate(picture[None], (side, side), mode="nearest")[0]


def _box(ax, x: float, y: float, side: float, depth: float, colour: str) -> float:
    """A cuboid seen from the front, its maps stacked from left to right, around height y. Returns its right end."""
    slant = 0.35 * side
    low, high = y - (side + slant) / 2, y + (side - slant) / 2
    end = x + depth
    stack = [(x, low), (x, high), (end, high), (end, low)]
    top = [(x, high), (x + slant, high + slant), (end + slant, high + slant), (end, high)]
    last = [(end, low), (end, high), (end + slant, high + slant), (end + slant, low + slant)]
    for corners, alpha in ((stack, 0.55), (top, 0.35), (last, 1.0)):
        ax.add_patch(plt.Polygon(corners, fc=colour, alpha=alpha, ec="none"))
        ax.add_patch(plt.Polygon(corners, fill=False, ec="black", lw=0.7, joinstyle="round"))
    return end + slant


def network(architecture: Architecture, image_size: int = 224, classes: int = 1000, width: float = 5.5) -> Figure:
    """Fig. 3 in three rows: the stages of each layer as blocks, the roots of their sides and maps drawn to scale."""
    found, convs = {s.name: s for s in stages(architecture, image_size)}, architecture.convs
    layers = [("image", [(image_size, 3, "#e8c46a")], [f"{image_size}x{image_size}", "3 colours"])]
    for c in convs:
        side = found[c.name].size
        blocks = [(side, c.maps, "#5b8db8")]
        lines = [f"{c.kernel}x{c.kernel} filters, stride {c.stride}", f"{c.maps} maps of {side}x{side}"]
        if c.pool:
            side = found[f"pool{c.layer}"].size
            blocks.append((side, c.maps, "#7fb59a"))
            lines += [f"{POOL_KERNEL}x{POOL_KERNEL} max-pool, stride {POOL_STRIDE}", f"{c.maps} maps of {side}x{side}"]
        if c.norm:
            lines.insert(2 if architecture.norm_before_pool else len(lines), "contrast norm")
        layers.append((f"layer {c.layer}", blocks, lines))
    for f in architecture.fulls:
        layers.append((f"layer {f.layer}", [(0, f.units, "#c98a8a")], [f"{f.units:,} units", "all to all", "dropout"]))
    layers.append(("layer 8", [(0, classes, "#c98a8a")], [f"{classes:,} classes", "all to all", "softmax"]))
    rows = ((layers[:3], 11.5), (layers[3 : len(convs) + 1], 6.5), (layers[len(convs) + 1 :], 8))
    rows = [(row, high, high + 2.9 * max(len(lines) for *_, lines in row) + 1.5) for row, high in rows if row]
    total = sum(high + 3.5 + low for _, high, low in rows)
    figure, top = plt.figure(figsize=(width, width * total / 90)), 1.0
    for row, high, low in rows:
        height = (high + 3.5 + low) / total
        top -= height
        ax = figure.add_axes((0, top, 1, height))
        for i, (name, blocks, lines) in enumerate(row):
            at = 30 * i
            ax.text(at, high, name, fontsize=10, weight="bold", va="bottom")
            ax.text(at, -high, "\n".join(lines), fontsize=9, va="top", linespacing=1.2)
            for side, maps, colour in blocks:
                if side:
                    at = _box(ax, at, 0, side**0.5, 0.4 * maps**0.5, colour) + 1.2
                else:
                    tall = 0.2 * maps**0.5
                    ax.add_patch(plt.Rectangle((at, -tall / 2), 1.3, tall, fc=colour, ec="black", lw=0.7))
        ax.set(xlim=(-1, 89), ylim=(-low, high + 3.5))
        ax.axis("off")
    return alone(figure)


def table(rows: Sequence[dict[str, object]]) -> HTML:
    """Rows of the same keys as a table of the page: numbers, also as text, to the right, None as a dash."""

    def cell(value: object) -> str:
        if value is None:
            value = "–"
        text = value if isinstance(value, str) else f"{value:,}" if isinstance(value, int) else f"{value:.1f}"
        number = text[:1] in tuple("0123456789-–")
        return f'<td class="text-end">{text}</td>' if number else f"<td>{html.escape(text)}</td>"

    head = "".join(f"<th>{html.escape(key)}</th>" for key in rows[0])
    body = "".join(f"<tr>{''.join(map(cell, row.values()))}</tr>" for row in rows)
    return HTML(f'<table class="table"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>')


def display(projections: Tensor) -> Tensor:
    """Return signed pictures as colours, zero mid-grey, scaled over a map's K projections together.

    sign(v) * |v|^0.7 of v in units of the .99 quantile of their absolute values.

    Args:
        projections: (..., K, 3, H, W).
    Returns:
        The same shape, 0 to 1.
    """
    flat = projections.float().abs().flatten(-4)
    # a sort, as torch.quantile takes 16 million values at most
    scale = flat.sort(-1).values[..., int(0.99 * (flat.shape[-1] - 1))]
    scale = torch.where(scale > 0, scale, flat.amax(-1)).clamp_min(1e-12)[..., None, None, None, None]
    unit = projections.float() / scale
    return (GREY + 0.5 * unit.sign() * unit.abs() ** 0.7).clamp(0, 1)


def enlarge(images: Tensor, side: int = 112) -> Tensor:
    """Enlarge pictures to at least `side` px, bicubic above 40 px and by a whole number below."""
    height, width = images.shape[-2:]
    flat = images.reshape(-1, *images.shape[-3:])
    if max(height, width) > 40:
        times = max(1.0, side / max(height, width))
        flat = torch.nn.functional.interpolate(flat, scale_factor=times, mode="bicubic").clamp(0, 1)
    else:
        flat = enlarged(flat, -(-side // max(height, width)))
    return flat.reshape(*images.shape[:-2], *flat.shape[-2:])
