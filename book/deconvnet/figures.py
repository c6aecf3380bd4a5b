"""Figures of the deconvnet chapter: the way up and down, rules of the ReLU, and resemblance with
its control."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import torch
from IPython.display import HTML
from matplotlib.figure import Figure
from torch import Tensor

from book.deconvnet.claims import DEEP
from zfrepro import deconvnet, explorers, plots
from zfrepro.claims import DATASETS
from zfrepro.deconvnet import Units
from zfrepro.networks import Network
from zfrepro.weights import Trained

SIDE = 224  # px of a picture of the explorer


def levels(
    network: Network, image: Tensor, layer: str, unit: Units | None = None
) -> dict[str, tuple[Tensor, Tensor]]:
    """Return what stands at each level on the way up to a unit and on the way down from it.

    Args:
        image: (1, 3, S, S), as the network wants it.
        layer: conv1 to conv5.
        unit: default, the strongest of the layer.
    Returns:
        level, such as `layer 1` or `pooled 1` -> maps on the way up and on the way down, (C, h, w)
        each, from the image to the layer.
    Raises:
        ValueError: a layer or unit that does not exist.
    """
    if layer not in network.convs:
        raise ValueError(f"no conv layer {layer!r}; there are: {', '.join(network.convs)}")
    names = list(network.convs)
    trace = deconvnet.forward(network, image, layer, also=names[: names.index(layer)])
    up = {"image": image[0]}
    for name, maps in trace.features.items():
        up[f"layer {name[-1]}"] = maps[0]
        if name in trace.switches:
            pooled, _ = deconvnet.pool(maps)
            up[f"pooled {name[-1]}"] = pooled[0]
    unit = unit or deconvnet.strongest(trace.activations)
    unit.validate(layer, 1, tuple(trace.activations.shape[1:]))
    start = deconvnet.seed(trace.activations, unit)
    steps = deconvnet.steps(network, trace, layer, start)
    down = [start[0], *(maps[0] for step, maps in steps if step != "rectify")]
    return {name: (up[name], back) for name, back in zip(up, reversed(down), strict=True)}


def up_and_down(
    trained: Trained, picture: Tensor, layer: str = "conv4", unit: Units | None = None
) -> Figure:
    """Draw Fig. 1: above, an image on its way up to a unit; below, the unit on its way down.

    Maps are drawn as their norm at each place, over all maps; its root is the brightness.

    picture: uint8 (3, R, R), as stored; layer, unit: as in `levels`.
    """
    with torch.no_grad():
        by_level = levels(trained.network, trained.preprocess(picture[None]), layer, unit)
    columns, head = len(by_level), 0.55  # inches above each row of panels
    panel = min(2.2, plots.WIDTH / columns)
    high = 2 * (panel + head)
    figure, axes = plt.subplots(2, columns, figsize=(panel * columns, high))
    for k, (name, (up, down)) in enumerate(by_level.items()):
        if name == "image":
            axes[0, k].imshow(plots.array(trained.center_crop(picture[None])[0]))
            axes[1, k].imshow(plots.array(plots.display(down)))
            _mark_field(axes[:, k], down)
        else:
            for ax, maps in zip(axes[:, k], (up, down), strict=True):
                bright = maps.square().sum(0).pow(0.25).numpy()
                ax.imshow(bright, cmap="magma", interpolation="nearest")
        axes[0, k].set_title(name)
    axes[1, 0].set_title("projection")
    axes[1, -1].set_title("one unit")
    for ax in axes.flat:
        ax.axis("off")
    figure.subplots_adjust(0, 0, 1, 1 - head / high, wspace=0.03, hspace=head / panel)
    texts = "way up: filter, rectify, pool  ⟶", "⟵  way down: unpool, rectify, filter"
    for row, text in enumerate(texts):
        y = 1 - (row * (panel + head) + 0.07) / high
        figure.text(0, y, text, fontsize=11, weight="bold", va="top")
    return plots.detached(figure)


def _mark_field(axes: Sequence[plt.Axes], projection: Tensor) -> None:
    """Frame the part of the image in which a projection is not zero, and cut the projection to it.

    projection: (3, S, S).
    """
    rows, columns = projection.ne(0).any(0).nonzero().unbind(1)
    if len(rows):
        top, left = int(rows.min()), int(columns.min())
        high, wide = int(rows.max()) - top + 1, int(columns.max()) - left + 1
        frame = {"fill": False, "ec": "#ffd000", "lw": 2}
        for ax in axes:
            ax.add_patch(plt.Rectangle((left - 0.5, top - 0.5), wide, high, **frame))
        axes[1].set(xlim=(left - 1.5, left + wide + 0.5), ylim=(top + high + 0.5, top - 1.5))


def explorer(trained: Trained, pictures: Tensor) -> HTML:
    """Show the strongest unit of each layer in some images: what it sees, and its projection.

    pictures: uint8 (N, 3, R, R), as stored.
    """
    network, seen = trained.network, trained.center_crop(pictures)
    x, names = trained.preprocess(pictures), list(network.convs)
    sheets, notes = [], []
    units = {layer: deconvnet.strongest(maps) for layer, maps in network.features(x, names).items()}
    crops = {layer: deconvnet.project_crops(network, x, layer, units[layer]) for layer in names}
    for i in range(len(pictures)):
        for layer, projected in crops.items():
            side, place = projected.pixels.shape[-1], slice(i, i + 1)
            window = projected.tops[place], projected.lefts[place], side
            patch = deconvnet.crop(seen[place].contiguous(), *window, fill=128)
            pair = plots.display(projected.pixels[place]), plots.as_colours(patch)
            sheets.append(torch.cat([plots.resized(picture, SIDE)[0] for picture in pair], 2))
            unit = units[layer][place]
            spot = f"Map {int(unit.maps)}, row {int(unit.rows)}, column {int(unit.columns)}"
            strength = f"activation {projected.activations[i]:.2f}"
            notes.append(f"{spot}: field of {side} px, {strength}")
    axes = {"image": list(map(str, range(1, len(pictures) + 1))), "layer": [k[-1] for k in names]}
    alt = "The projection of a layer's strongest unit on the left, the patch it saw on the right"
    stack = (255 * torch.stack(sheets)).round().byte().permute(0, 2, 3, 1).numpy()
    return explorers.frames(stack, axes, notes, alt=alt, jpeg=True, start=len(names) - 1)


def resemblance(by_dataset: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Draw by how much projections resemble their own patch more than another, and the control."""
    parts = {"trained": "resemblance", "untrained": "untrained"}
    leads = {
        f"{DATASETS[name]}, layer {layer[-1]}": {
            kind: record[part][layer]["lead"] for kind, part in parts.items()
        }
        for name, record in by_dataset.items()
        for layer in DEEP
    }
    unit = "correlation with its patch, less that with another image's"
    return plots.intervals_by_group(leads, unit=unit)
