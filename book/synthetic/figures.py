"""Figures of the page on the diorama, and the photographs that it compares with."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import torch
from matplotlib.figure import Figure
from skimage import data as pictures
from sklearn.datasets import load_sample_images
from torch import Tensor
from torch.nn.functional import interpolate, normalize, pad

import diorama
from book.synthetic.spectrum import radial_power
from diorama.primitives import BOX, CONE, CYLINDER, ELLIPSOID, enter, normal
from zfrepro import plots

PRIMITIVES = {"ellipsoid": ELLIPSOID, "box": BOX, "cylinder": CYLINDER, "cone": CONE}
TAPER = 0.7  # of the cone that is shown
KEYPOINTS = {"left eye": (14, 6), "right eye": (-18, -16), "nose": (-12, 26)}  # label's offset, px


def photographs(side: int = 128) -> Tensor:
    """Return the middle squares of six photographs from scikit-image and scikit-learn.

    Credits: astronaut (NASA), cat (Stefan van der Walt), coffee (Rachel Michetti), rocket (SpaceX),
    and a temple and a flower (flickr: danielbuechele, vultilion; CC BY 2.0).

    Returns:
        (6, 3, side, side), 0 to 255.
    """
    from_skimage = [pictures.astronaut(), pictures.chelsea(), pictures.coffee(), pictures.rocket()]
    squares = []
    for picture in (*from_skimage, *load_sample_images().images):
        image = torch.from_numpy(picture.copy()).permute(2, 0, 1)[None].float()
        edge = min(image.shape[2:])
        top, left = ((extent - edge) // 2 for extent in image.shape[2:])
        square = image[:, :, top : top + edge, left : left + edge]
        squares.append(interpolate(square, (side, side), mode="bilinear", antialias=True))
    return torch.cat(squares)


def classes(names: Sequence[str], novel: bool = False) -> Figure:
    """Draw two images of each class: the first ones there are, not a selection."""
    drawn = diorama.draw(range(2 * len(names)), size=160, novel=novel)
    ordered = plots.as_colours(drawn.images[drawn.labels.argsort(stable=True)])
    panels = [plots.tiled(pair, 2, gap=3) for pair in ordered.split(2)]
    return plots.side_by_side(panels, names, width=7.4, columns=4)


def truth(drawing: diorama.Drawing) -> Figure:
    """Draw what is known of each image: key points, mask and parts, one image a row."""
    palette = torch.tensor(plt.get_cmap("tab20").colors)[[*range(0, 20, 2), *range(1, 20, 2)]]
    images = plots.as_colours(drawing.images)
    figure, axes = plt.subplots(len(images), 3, figsize=(7.4, 1.9 * len(images)), squeeze=False)
    for k, row in enumerate(axes):
        numbers = [number for number in drawing.parts[k].unique().tolist() if number]
        colours = palette[torch.arange(len(numbers)) % len(palette)]
        painted = (images[k].mean(0) * 0.5 + 0.4).expand(3, -1, -1).clone()
        for number, colour in zip(numbers, colours, strict=True):
            painted[:, drawing.parts[k] == number] = colour[:, None]
        masked = torch.where(drawing.mask[k], images[k], plots.GREY)
        for ax, picture in zip(row, (images[k], masked, painted), strict=True):
            ax.imshow(plots.array(picture))
            ax.axis("off")
        for (x, y), (name, (dx, dy)) in zip(drawing.keypoints[k], KEYPOINTS.items(), strict=True):
            row[0].plot(x, y, "o", ms=9, mfc="none", mec="white", mew=2)  # nan draws nothing
            if x.isfinite():
                box = {"fc": "black", "ec": "none", "pad": 1}
                row[0].text(x + dx, y + dy, name, color="white", fontsize=9.5, bbox=box)
        patches = [plt.Rectangle((0, 0), 1, 1, color=colour.tolist()) for colour in colours]
        names = [diorama.PART_NAMES[number] for number in numbers]
        beside = {"loc": "center left", "bbox_to_anchor": (1.02, 0.5)}
        row[2].legend(patches, names, fontsize=9.5, labelspacing=0.3, **beside)
    figure.tight_layout(pad=0.3)
    return plots.detached(figure)


def cast(kind: int, side: int = 160) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Cast parallel rays at a primitive in its unit space.

    Returns:
        where they start (3, side^2), their direction (3,), how far each goes, infinity for a miss
        (side^2,), and the picture by one lamp (3, side, side).
    """
    axes = torch.linalg.qr(torch.tensor([[-0.4, -1, 0], [-0.5, 0, -1], [-1.0, 0, 0]]))[0].T
    signs = (axes[0, 2], axes[1, 0], axes[2, 1])
    forward, right, up = (v * s.sign() * k for v, s, k in zip(axes, signs, (-1, 1, 1), strict=True))
    v, u = torch.meshgrid(*[torch.linspace(1.9, -1.9, side)] * 2, indexing="ij")
    start = (u.flatten()[:, None] * right + v.flatten()[:, None] * up - 4 * forward).T
    taper = torch.tensor(TAPER if kind == CONE else 0.0)
    reached = enter(kind, tuple(start), tuple(forward), taper)
    points = start + reached.nan_to_num(posinf=0) * forward[:, None]
    facing = torch.stack(normal(torch.full_like(reached, kind).long(), taper, *points))
    lamp = torch.tensor([0.77, 0.51, 0.38])
    bright = 0.15 + 0.8 * (lamp @ normalize(facing, dim=0)).clamp_min(0)
    picture = torch.where(reached.isfinite(), bright, plots.GREY).view(1, side, side)
    return start, forward, reached, picture.expand(3, -1, -1)


def inside(kind: int, x: Tensor, y: Tensor, z: Tensor) -> Tensor:
    """Return whether points lie inside a primitive, by its definition. All (...)."""
    if kind == ELLIPSOID:
        return x * x + y * y + z * z < 1
    if kind == BOX:
        return (x.abs() < 1) & (y.abs() < 1) & (z.abs() < 1)
    radius = 1 - (TAPER if kind == CONE else 0) * (1 + y) / 2
    return (y.abs() < 1) & (x * x + z * z < radius**2)


def spectra(samples: Mapping[str, Tensor]) -> Figure:
    """Draw the power of pictures at each frequency. samples: name -> (N, 3, S, S)."""
    figure, ax = plt.subplots(figsize=(7, 3.1))
    for colour, (name, images) in zip(plots.PALETTE, samples.items(), strict=False):
        frequency, power = radial_power(images)
        ax.loglog(frequency, power / power[0], label=name, color=colour)
    ax.loglog(frequency, (frequency / frequency[0]) ** -2, ":", color=plots.TEXT, label="$1/f^2$")
    ax.set(xlabel="cycles a picture", ylabel="power, relative")
    ax.minorticks_off()
    ax.set_xticks([3, 5, 10, 20, 40], ["3", "5", "10", "20", "40"])
    ax.legend(loc="lower left")
    figure.tight_layout(pad=0.4)
    return plots.detached(figure)


def filters(weights: Mapping[str, Tensor]) -> Figure:
    """Draw first-layer filters side by side. weights: name -> (C, 3, k, k)."""
    tiles = []
    for weight in weights.values():
        columns = round((1.2 * len(weight)) ** 0.5)
        sheet = plots.tiled(plots.display(weight), columns, ground=plots.GREY)
        tiles.append(pad(plots.enlarged(sheet, 6), (12, 12), value=plots.GREY))
    return plots.side_by_side(tiles, list(weights), width=7.4)
