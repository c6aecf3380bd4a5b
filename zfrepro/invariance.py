"""How far features move when the image is shifted, enlarged or turned (arXiv Fig. 5).

A distance between feature vectors means little by itself: layers differ in size and scale. Here it is given in three
ways: Euclidean, as the paper plots it; between features scaled to unit length; and *relative*, in units of the mean
distance between the features of two different images, so that 1 says "as far as another image" in every layer.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm.auto import tqdm

from zfrepro.data.transforms import centre_crop, crop
from zfrepro.weights import Trained

FILLS = {"zero": "zeros", "reflected": "reflection", "edge": "border"}
"""What comes in from outside the picture, and what `torch.nn.functional.grid_sample` calls it."""

FAMILIES = ("translation", "scale", "rotation")


@dataclass(frozen=True)
class Change:
    """One transformation of a picture: downwards by a share of its side, enlarged, or turned anticlockwise."""

    family: str
    amount: float  # picture sides, a factor, or degrees

    def __post_init__(self) -> None:
        if self.family not in FAMILIES:
            raise ValueError(f"unknown transformation {self.family!r}; there are: {', '.join(FAMILIES)}")
        if self.family == "scale" and not self.amount > 0:
            raise ValueError(f"scale {self.amount}: must be above 0")

    def matrix(self) -> Tensor:
        """(2, 3): from places in the new picture to places in the old one, both from -1 to 1."""
        if self.family == "translation":
            return torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, -2 * self.amount]])
        if self.family == "scale":
            return torch.tensor([[1 / self.amount, 0.0, 0.0], [0.0, 1 / self.amount, 0.0]])
        angle = math.radians(self.amount)
        return torch.tensor([[math.cos(angle), -math.sin(angle), 0.0], [math.sin(angle), math.cos(angle), 0.0]])


def warp(images: Tensor, change: Change, fill: str = "zero") -> Tensor:
    """Transform pictures about their middle, bilinearly. float (B, C, S, S) -> the same.

    Raises:
        ValueError: unknown fill.
    """
    if fill not in FILLS:
        raise ValueError(f"unknown fill {fill!r}; there are: {', '.join(FILLS)}")
    grid = F.affine_grid(change.matrix().to(images).expand(len(images), 2, 3), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode=FILLS[fill], align_corners=False)


def pictured(trained: Trained, seen: Tensor, change: Change, fill: str = "zero") -> Tensor:
    """Pictures as they are shown to the network, transformed. uint8 (B, 3, S, S) -> float, 0 to 255, the same shape.

    Zero fill is zero after the mean is subtracted: from outside comes the mean image, the network's neutral grey.

    Args:
        seen: see `Trained.seen`.
    """
    raw = seen.to(trained.mean.device).float()
    if fill != "zero":
        return warp(raw, change, fill)
    mean = centre_crop(trained.mean[None], seen.shape[-1])
    inside = warp(torch.ones_like(raw[:, :1]), change)
    return warp(raw, change) + (1 - inside) * mean


@dataclass(frozen=True)
class Response:
    """What the network says of N pictures under T changes."""

    distance: dict[str, Tensor]  # layer -> (T, N), Euclidean
    unit: dict[str, Tensor]  # layer -> (T, N), of features scaled to unit length, at most 2
    spread: dict[str, float]  # layer -> mean Euclidean distance between the features of two different pictures
    probabilities: Tensor  # (T, N, classes)
    clean_probabilities: Tensor  # (N, classes), of the untouched pictures
    labels: Tensor  # (N,)

    @property
    def probability(self) -> Tensor:
        """(T, N), of the true class."""
        return self.probabilities[:, torch.arange(len(self.labels)), self.labels]

    @property
    def named(self) -> Tensor:
        """The most probable class, (T, N)."""
        return self.probabilities.argmax(2)

    @property
    def clean_named(self) -> Tensor:
        """The same of the untouched pictures, (N,)."""
        return self.clean_probabilities.argmax(1)

    def relative(self, layer: str) -> Tensor:
        """(T, N): 1 is as far as another picture."""
        return self.distance[layer] / self.spread[layer]


@torch.no_grad()
def respond(
    trained: Trained, views: Iterable[tuple[Tensor, list[Tensor]]], labels: Tensor, *, total: int | None = None,
    progress: bool = False,
) -> Response:  # fmt: skip
    """Distances in every layer, probabilities and labels, all layers in one forward pass a view.

    Args:
        views: batches of (untouched, [one transformed copy for each change]), each (B, 3, S, S) as the network wants.
        labels: (N,), in the order of the batches.
        total: number of batches, for the progress bar.
    Raises:
        ValueError: fewer than two pictures.
    """
    network = trained.network
    layers = [name for name in network.layers if name != "fc8"]
    distance: dict[str, list[Tensor]] = {name: [] for name in layers}
    unit: dict[str, list[Tensor]] = {name: [] for name in layers}
    spreads: dict[str, list[Tensor]] = {name: [] for name in layers}
    scores, clean = [], []
    for untouched, changed in tqdm(views, total=total, unit="batch", desc="transforming", disable=not progress):
        found = network.features(untouched, network.layers)
        clean.append(found["fc8"].softmax(1).cpu())
        rows = {name: found[name].flatten(1) for name in layers}
        units = {name: F.normalize(row, dim=1) for name, row in rows.items()}
        for name, row in rows.items():
            if len(row) > 1:  # a last batch of one has nothing to be compared with
                spreads[name].append((row - row.roll(1, 0)).norm(dim=1).cpu())
        parts: dict[str, list[Tensor]] = {name: [] for name in layers}
        unit_parts: dict[str, list[Tensor]] = {name: [] for name in layers}
        own = []
        for x in changed:
            found = network.features(x, network.layers)
            own.append(found["fc8"].softmax(1).cpu())
            for name in layers:
                row = found[name].flatten(1)
                parts[name].append((row - rows[name]).norm(dim=1).cpu())
                unit_parts[name].append((F.normalize(row, dim=1) - units[name]).norm(dim=1).cpu())
        scores.append(torch.stack(own))
        for name in layers:
            distance[name].append(torch.stack(parts[name]))
            unit[name].append(torch.stack(unit_parts[name]))
    if not spreads[layers[0]]:
        raise ValueError("two pictures or more wanted: distances are told in units of that between two pictures")
    return Response(
        {name: torch.cat(parts, 1) for name, parts in distance.items()},
        {name: torch.cat(parts, 1) for name, parts in unit.items()},
        {name: float(torch.cat(parts).mean()) for name, parts in spreads.items()},
        torch.cat(scores, 1),
        torch.cat(clean),
        labels.cpu(),
    )


def respond_to(
    trained: Trained, seen: Tensor, labels: Tensor, changes: list[Change], fill: str = "zero", *, batch: int = 16,
    progress: bool = False,
) -> Response:  # fmt: skip
    """`respond` to warps of pictures in an order that mixes classes. seen: uint8 (N, 3, S, S), labels: (N,)."""

    def views():
        for part in seen.split(batch):
            yield trained.of_view(part), [trained.of_view(pictured(trained, part, c, fill)) for c in changes]

    return respond(trained, views(), labels, total=-(-len(seen) // batch), progress=progress)


@torch.no_grad()
def one_pixel(trained: Trained, stored: Tensor, *, batch: int = 32, progress: bool = False) -> dict[str, Tensor]:
    """The same pictures seen one pixel further right, down, or both: real pixels, nothing filled in.

    Args:
        stored: uint8 (N, 3, R, R), which leave the network's crop room to move.
    Returns:
        `same` bool (3, N), whether the label stays, and for each layer the distance relative to that of different
        pictures, (3, N).
    """
    size, room = trained.recipe.image_size, stored.shape[-1]
    if room < size + 1:
        raise ValueError(f"pictures of more than {size} px wanted, got {room}")
    offset = (room - size) // 2

    def at(part: Tensor, dy: int, dx: int) -> Tensor:
        # the mean image stays where it is: the scene moves, not what the network subtracts
        return trained.of_view(crop(part, offset + dy, offset + dx, size))

    views = ((at(part, 0, 0), [at(part, 0, 1), at(part, 1, 0), at(part, 1, 1)]) for part in stored.split(batch))
    found = respond(
        trained, views, torch.zeros(len(stored), dtype=torch.int64), total=-(-len(stored) // batch), progress=progress
    )  # fmt: skip
    layers = {name: found.relative(name) for name in found.distance}
    return {"same": found.named == found.clean_named} | layers


def linearity(amounts: Tensor, distances: Tensor) -> float:
    """How well a line through zero describes distances: R squared, 1 for a perfect line. Both (T,)."""
    x, y = amounts.double().abs(), distances.double()
    slope = (x * y).sum() / (x * x).sum()
    return float(1 - ((y - slope * x) ** 2).sum() / ((y - y.mean()) ** 2).sum().clamp_min(1e-30))


def changes_of(family: str, amounts: Iterable[float]) -> list[Change]:
    """The same family of changes by several amounts."""
    return [Change(family, float(amount)) for amount in amounts]
