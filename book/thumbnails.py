"""Small pictures for the cards of the landing page, drawn from records and pretrained networks."""

import base64
from collections.abc import Callable

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

import diorama
import zfrepro
from book.ablation import claims as ablations
from book.ablation import figures as ablation
from book.correspondence import measure as correspondence
from book.evolution import figures as evolution
from book.occlusion import figures as occlusion
from book.transfer import claims as probes
from zfrepro import plots, records
from zfrepro.correspondence import mask_squares
from zfrepro.data.transforms import stored_size

SIZE = (2.4, 1.2)  # inches, at twice the pixels of a card
PHOTOGRAPHS = "imagenet20"
OURS, PAPER = plots.PALETTE[:2]


def _sheet(tiles: Tensor, columns: int = 4) -> Figure:
    """Draw pictures in rows. tiles: (N, 3, H, W), 0 to 1."""
    figure = plt.figure(figsize=SIZE)
    ax = figure.add_axes((0, 0, 1, 1))
    ax.imshow(plots.array(plots.tiled(tiles, columns, gap=2)), interpolation="antialiased")
    ax.axis("off")
    return figure


def _axes() -> tuple[Figure, plt.Axes]:
    return plt.subplots(figsize=SIZE, layout="constrained")


def gallery() -> Figure:
    """Projections of a map of layer 4 and of one of layer 5 on photographs."""
    pictures = records.read(f"gallery/{PHOTOGRAPHS}")["pictures"]
    shown = [plots.from_jpeg(pictures[layer][0]["sheet"]) for layer in ("conv4", "conv5")]
    return _sheet(torch.stack(shown), 2)


def training() -> Figure:
    """First-layer filters of both networks, AlexNet's left."""
    figure, axes = plt.subplots(1, 2, figsize=SIZE)
    for ax, name, title in zip(axes, ("krizhevsky", "zfnet"), ("11x11", "7x7"), strict=True):
        weight = zfrepro.pretrained(name, PHOTOGRAPHS).network.convs["conv1"].weight.detach()
        strongest = weight.flatten(1).norm(dim=1).argsort(descending=True)[:36:3]
        ax.imshow(plots.array(plots.tiled(plots.display(weight[strongest]), 4)))
        ax.set_title(title)
        ax.axis("off")
    figure.subplots_adjust(0, 0, 1, 0.86, wspace=0.06)
    return figure


def evolution_() -> Figure:
    """Maps of layers 3 and 5 at four epochs."""
    projections = evolution.decoded(records.read(f"evolution/{PHOTOGRAPHS}"))
    rows = [
        evolution.tiles(projections[layer][[k]][:, [0, 2, 3, 4]])[0]
        for layer, k in (("conv3", 0), ("conv5", 1))
    ]
    return _sheet(torch.cat(rows))


def invariance() -> Figure:
    """Relative distance of layers 1 and 7 under translation."""
    record = records.read(f"invariance/{PHOTOGRAPHS}")["translation"]
    at = 224 * np.array(record["amounts"])
    figure, ax = _axes()
    for layer, colour in (("conv1", OURS), ("fc7", PAPER)):
        values = np.array(record["relative"][layer]["mean"])
        order = np.argsort([*at, 0])
        ax.plot(np.array([*at, 0])[order], np.array([*values, 0])[order], color=colour)
        ax.annotate(f"layer {layer[-1]}", (at.max(), values[at.argmax()]), (4, 0), color=colour,
                    textcoords="offset points", va="center", annotation_clip=False)  # fmt: skip
    ax.set(xticks=[0], xticklabels=["0 px"], yticks=[0, 1], ylim=(0, 1.05))
    return figure


def occlusion_() -> Figure:
    """An image with a grey square, and the probability of its class by the square's place."""
    row = occlusion.recorded("diorama")[0]
    trained = zfrepro.pretrained("zfnet", "diorama")
    size = trained.recipe.image_size
    scene = diorama.draw([row.index], seed=1, size=stored_size(size))
    image = plots.as_colours(trained.center_crop(scene.images))[0]
    first = (size - row.patch) // 2
    image[:, first : first + row.patch, first : first + row.patch] = plots.GREY
    figure, axes = plt.subplots(1, 2, figsize=SIZE)
    for ax, picture in zip(axes, (plots.array(image), row.probability.numpy()), strict=True):
        ax.imshow(picture, vmin=0)
        ax.axis("off")
    figure.subplots_adjust(0, 0, 1, 1, wspace=0.04)
    return figure


def correspondence_() -> Figure:
    """Four faces, their right eye masked above, their nose below."""
    size, mask, side = 128, 16, 72
    faces = correspondence.diorama_faces(size, a_class=1)[:4]
    corners = (faces.places.mean(1).round().long() - side // 2).clamp(0, size - side).tolist()
    crops = []
    for part in (0, 2):
        masked = mask_squares(faces.images, faces.places[:, part], mask)
        crops += [
            image[:, top : top + side, left : left + side]
            for image, (left, top) in zip(masked, corners, strict=True)
        ]
    return _sheet(plots.as_colours(torch.stack(crops)))


def ablation_() -> Figure:
    """Change of the error when layers are removed, ours and the paper's."""
    ours = ablation.means(ablation.columns()["ImageNet-20"])
    paper = ablation.means(None)
    figure, ax = _axes()
    rows = {"3, 4": ablations.MIDDLE, "6, 7": ablations.FULL, "3, 4, 6, 7": ablations.ALL}
    for y, name in enumerate(rows.values()):
        ax.plot(ours[name] - ours["krizhevsky"], y, "o", color=OURS)
        ax.plot(paper[name] - paper["krizhevsky"], y, "D", mfc="none", mec=PAPER, mew=1.6)
    ax.axvline(0, color=plots.TEXT, lw=1)
    ax.text(paper[name] - paper["krizhevsky"], 1.5, "paper", color=PAPER, ha="center")
    ax.set_yticks(range(3), [f"no {text}" for text in rows])
    ax.set(ylim=(2.5, -0.5), xticks=[0], xticklabels=["change of the error"])
    ax.margins(x=0.15)
    ax.spines["left"].set_visible(False)
    ax.tick_params(length=0)
    return figure


def transfer() -> Figure:
    """Accuracy on Caltech-101 of classifiers on each layer."""
    record = records.read(f"transfer/{PHOTOGRAPHS}")
    layers = [f"conv{i}" for i in range(1, 6)] + ["fc6", "fc7"]
    means = [np.mean(probes.probe(record, layer, "svm")) for layer in layers]
    figure, ax = _axes()
    ax.plot(range(1, 8), means, "o-", color=OURS)
    ax.set(xticks=range(1, 8), xlabel="layer", ylabel="% correct", ylim=(0, 1.15 * max(means)))
    return figure


def shown(draw: Callable[[], Figure]) -> str:
    """Return a picture as HTML, with the docstring of what draws it as its description."""
    coded = base64.b64encode(plots.png(draw())).decode()
    return f'<img class="dark-light" src="data:image/png;base64,{coded}" alt="{draw.__doc__}">'
