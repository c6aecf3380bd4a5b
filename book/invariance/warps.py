"""How far features move when the image is shifted, enlarged or turned (arXiv Fig. 5).

A distance between feature vectors means little by itself: layers differ in size and scale. Here it
is Euclidean, as the paper plots it; between features scaled to unit length; or *relative*, in units
of the mean distance between the features of two different images, so that 1 means "as far as
another image" in every layer.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from scipy.stats import linregress
from torch import Tensor
from tqdm.auto import tqdm

from zfrepro.data.transforms import center_crop, crop
from zfrepro.weights import Trained

FILLS = {"zero": "zeros", "reflected": "reflection", "edge": "border"}
"""What comes in from outside the picture, and its name in `torch.nn.functional.grid_sample`."""

FAMILIES = ("translation", "scale", "rotation")
BATCH = 16


def matrix(family: str, amount: float) -> Tensor:
    """Return (2, 3), from places in the new picture to places in the old one, -1 to 1.

    amount: how far downwards, as a share of the side; how many times larger; or how many degrees
    anticlockwise.
    """
    if family == "translation":
        return torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, -2 * amount]])
    if family == "scale":
        return torch.tensor([[1 / amount, 0.0, 0.0], [0.0, 1 / amount, 0.0]])
    if family == "rotation":
        cos, sin = math.cos(math.radians(amount)), math.sin(math.radians(amount))
        return torch.tensor([[cos, -sin, 0.0], [sin, cos, 0.0]])
    raise ValueError(f"unknown transformation {family!r}; there are: {', '.join(FAMILIES)}")


def warp(images: Tensor, family: str, amount: float, fill: str = "zero") -> Tensor:
    """Transform pictures about their middle, bilinearly, see `matrix`.

    float (B, C, S, S) -> the same.
    """
    places = matrix(family, amount).to(images).expand(len(images), 2, 3)
    grid = F.affine_grid(places, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, "bilinear", FILLS[fill], align_corners=False)


def warp_view(
    trained: Trained, seen: Tensor, family: str, amount: float, fill: str = "zero"
) -> Tensor:
    """Transform pictures as they are shown to the network. uint8 (B, 3, S, S) -> float, 0 to 255.

    Zero fill is zero after the mean is subtracted: the mean image, the network's neutral grey,
    comes in from outside.
    """
    raw = seen.to(trained.mean.device).float()
    warped = warp(raw, family, amount, fill)
    if fill != "zero":
        return warped
    mean = center_crop(trained.mean[None], seen.shape[-1])
    inside = warp(torch.ones_like(raw[:, :1]), family, amount)
    return warped + (1 - inside) * mean


@dataclass(frozen=True)
class Response:
    """What the network answers to N pictures under T changes."""

    distance: dict[str, Tensor]  # layer -> (T, N), Euclidean
    unit: Tensor  # (T, N), of layer 7's features scaled to unit length, at most 2
    between: dict[str, float]  # layer -> mean distance between the features of two pictures
    probabilities: Tensor  # (T, N, classes)
    clean_predicted: Tensor  # (N,), the most probable class of the untouched pictures
    labels: Tensor  # (N,)

    @property
    def probability(self) -> Tensor:
        """Probability of the true class, (T, N)."""
        return self.probabilities[:, torch.arange(len(self.labels)), self.labels]

    @property
    def predicted(self) -> Tensor:
        """The most probable class, (T, N)."""
        return self.probabilities.argmax(2)

    @property
    def label_kept(self) -> Tensor:
        """Whether the label stays, (T, N) bool."""
        return self.predicted == self.clean_predicted

    def relative(self, layer: str) -> Tensor:
        """Return distances in units of that between two pictures, (T, N)."""
        return self.distance[layer] / self.between[layer]


@torch.no_grad()
def respond(
    trained: Trained, batches: Sequence, views: Callable[[Any], tuple[Tensor, list[Tensor]]],
    labels: Tensor, *, progress: bool = False,
) -> Response:  # fmt: skip
    """Compare every layer's features and the probabilities of changed pictures with untouched ones.

    Args:
        views: of a batch, (untouched, [one changed copy for each change]), each (B, 3, S, S), as
            the network wants them.
        labels: (N,), in the order of the batches.
    Raises:
        ValueError: fewer than two pictures.
    """
    layers = [name for name in trained.network.layers if name != "fc8"]

    def answer(x: Tensor) -> tuple[list[Tensor], Tensor]:
        """Return each layer's features, those of layer 7 at unit length, and probabilities."""
        by_layer = trained.network.features(x, trained.network.layers)
        rows = [by_layer[name].flatten(1) for name in layers]
        return [*rows, F.normalize(by_layer["fc7"])], by_layer["fc8"].softmax(1).cpu()

    distances, between, probabilities, clean_predicted = [], [], [], []
    for batch in tqdm(batches, unit="batch", disable=not progress):
        untouched, changed = views(batch)
        rows, clean = answer(untouched)
        clean_predicted.append(clean.argmax(1))
        if len(untouched) > 1:  # a last batch of one has nothing to be compared with
            between.append(_distances(rows, [row.roll(1, 0) for row in rows]))
        compared = [(_distances(rows, other), p) for other, p in map(answer, changed)]
        distances.append(torch.stack([d for d, _ in compared]))
        probabilities.append(torch.stack([p for _, p in compared]))
    if not between:
        raise ValueError("two pictures or more wanted: the unit is the distance between two")
    *distance, unit = torch.cat(distances, 2).unbind(1)  # (T, N) each
    *apart, _ = torch.cat(between, 1).mean(1).tolist()
    return Response(
        dict(zip(layers, distance, strict=True)),
        unit,
        dict(zip(layers, apart, strict=True)),
        torch.cat(probabilities, 1),
        torch.cat(clean_predicted),
        labels.cpu(),
    )


def _distances(a: list[Tensor], b: list[Tensor]) -> Tensor:
    """Return the Euclidean distance of K features, each (B, D) of its own D. -> (K, B)."""
    return torch.stack([(x - y).norm(dim=1) for x, y in zip(a, b, strict=True)]).cpu()


def respond_to(
    trained: Trained, seen: Tensor, labels: Tensor, family: str, amounts: Sequence[float],
    fill: str = "zero", *, progress: bool = False,
) -> Response:  # fmt: skip
    """Apply `respond` to pictures warped by several amounts, in an order that mixes classes.

    seen: uint8 (N, 3, S, S), labels: (N,).
    """

    def views(part: Tensor) -> tuple[Tensor, list[Tensor]]:
        warped = [warp_view(trained, part, family, amount, fill) for amount in amounts]
        return trained.preprocess_crop(part), [trained.preprocess_crop(view) for view in warped]

    return respond(trained, seen.split(BATCH), views, labels, progress=progress)


@torch.no_grad()
def one_pixel(trained: Trained, stored: Tensor, *, progress: bool = False) -> Tensor:
    """Return whether the label stays when pictures are seen one pixel further right, down, or both.

    Nothing is filled in: stored images are larger than what the network sees.

    Args:
        stored: uint8 (N, 3, R, R).
    Returns:
        bool (3, N).
    """
    size, same = trained.image_size, []
    offset = (stored.shape[-1] - size) // 2
    for part in tqdm(stored.split(32), unit="batch", disable=not progress):
        # the mean image stays where it is: the scene moves, not what the network subtracts
        views = [crop(part, offset + dy, offset + dx, size) for dy in (0, 1) for dx in (0, 1)]
        still, *moved = (trained.network(trained.preprocess_crop(v)).argmax(1) for v in views)
        same.append(torch.stack(moved) == still)
    return torch.cat(same, 1).cpu()


def linearity(amounts: Tensor, distances: Tensor, *, intercept: bool = False) -> float:
    """Return how well a line describes distances: R squared, 1 for a perfect line. Both (T,).

    intercept: fit a line that need not go through zero.
    """
    x, y = amounts.double().abs(), distances.double()
    if intercept:
        return float(linregress(x.numpy(), y.numpy()).rvalue ** 2)
    residual = y - (x * y).sum() / (x * x).sum() * x
    return float(1 - (residual**2).sum() / ((y - y.mean()) ** 2).sum().clamp_min(1e-30))
