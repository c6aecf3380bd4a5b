"""Recorded: distances, probabilities and labels under shifts, scales and turns of the images (arXiv Fig. 5)."""

from functools import partial
from typing import Any

import torch
from torch import Tensor

from zfrepro.data import Split, diorama
from zfrepro.data.transforms import stored_size
from zfrepro.invariance import FILLS, Response, changes_of, linearity, one_pixel, respond, respond_to
from zfrepro.studies import Parts, Study
from zfrepro.studies.projections import short, summary
from zfrepro.weights import Trained

PIXELS = (-60, -40, -20, -10, -5, 5, 10, 20, 40, 60)  # of 224, as in the paper's range
FACTORS = (1.05, 1.1, 1.2, 1.4, 1.6, 1.8)
DEGREES = (5, 10, 20, 45, 90, 135, 180, 225, 270, 315)
AMOUNTS = {"translation": tuple(p / 224 for p in PIXELS), "scale": FACTORS, "rotation": DEGREES}
SMALLEST = {"translation": (-5 / 224, 5 / 224), "scale": (1.05,), "rotation": (5,)}
YAWS = (5, 10, 20, 45, 90)
COMPARED = 300  # pictures for the comparison of fills, and drawn again in the diorama
SYMMETRIC = {"diorama": ("ball",), "imagenet20": ("golf ball",)}
"""Classes that look alike after any turn in the picture plane: spheres. The cassette player's box, like the paper's
entertainment centre, is so at right angles only, and is left with the others."""
QUANTILES = (0.1, 0.5, 0.9)


def parts(study: Study) -> Parts:
    """The three families over the validation set; fills; one-pixel shifts of both networks; scenes drawn again."""
    trained, split = study.networks["zfnet"], mixed(study.dataset.val, study.images, study.seed)
    seen = trained.seen(split.images)
    found: Parts = {}
    for family in AMOUNTS:
        found[family] = partial(whole, study, trained, seen, split.labels, family)
    for fill in FILLS:
        found[f"fill {fill}"] = partial(filled, study, trained, seen[:COMPARED], split.labels[:COMPARED], fill)
    for arch, network in study.networks.items():
        found[f"one pixel {arch}"] = partial(pixel, study, network, split.images)
    if study.dataset.name == "diorama":
        found["redrawn"] = partial(redrawn, study, trained)
    return found


def mixed(split: Split, count: int | None = None, seed: int = 0) -> Split:
    """The images in a random order, so that neighbours are of different classes; the first `count` of them."""
    order = torch.randperm(len(split), generator=torch.Generator().manual_seed(seed))[:count]
    truth = {name: values[order] for name, values in split.truth.items()}
    return Split(split.images[order], split.labels[order], truth)


def curves(found: Response, labels: Tensor) -> dict[str, Any]:
    """Of each amount: distances in every layer, probability of the true class, labels kept, labels right."""
    ratio = found.probability / found.clean_probability
    kept, right = found.named == found.clean_named, found.named == labels
    quantiles = torch.tensor(QUANTILES)

    def numbers(values: Tensor) -> list[float]:
        return [short(v) for v in values.tolist()]

    return {
        "n": len(labels),
        "relative": {
            layer: {
                "mean": numbers(found.relative(layer).mean(1)),
                "quantiles": [numbers(q) for q in torch.quantile(found.relative(layer), quantiles, dim=1)],
            }
            for layer in found.distance
        },
        "spread": {layer: short(value) for layer, value in found.spread.items()},
        "raw": {layer: numbers(values.mean(1)) for layer, values in found.distance.items()},
        "unit": {layer: numbers(values.mean(1)) for layer, values in found.unit.items()},
        "probability": numbers(found.probability.mean(1)),
        "clean_probability": short(found.clean_probability.mean().item()),
        "probability_kept_median": numbers(ratio.median(1).values),
        "kept": numbers(100 * kept.float().mean(1)),
        "right": numbers(100 * right.float().mean(1)),
        "clean_right": short(100 * (found.clean_named == labels).float().mean().item()),
        "worst_right": short(100 * (right.all(0) & (found.clean_named == labels)).float().mean().item()),
    }


def whole(study: Study, trained: Trained, seen: Tensor, labels: Tensor, family: str) -> dict[str, Any]:
    """One family over the whole validation set, with zero fill."""
    amounts = AMOUNTS[family]
    found = respond_to(trained, seen, labels, changes_of(family, amounts), progress=study.progress)
    small = torch.tensor([amounts.index(a) for a in SMALLEST[family]])
    lead = found.relative("conv1")[small].mean(0) - found.relative("fc7")[small].mean(0)
    size = torch.tensor(amounts) - (1.0 if family == "scale" else 0.0)
    kept = 100 * (found.named == found.clean_named).float().mean(0)  # of each picture, over the amounts
    right = 100 * (found.named == labels).float().mean(0)  # of each picture, over the amounts
    sure = found.clean_named == labels  # what was never recognised cannot be lost
    return {"amounts": [short(a) for a in amounts]} | curves(found, labels) | {
        "small": {layer: summary(found.relative(layer)[small].mean(0)) for layer in found.distance},
        "small_lead": summary(lead),
        "linearity": {layer: short(linearity(size, found.relative(layer).mean(1))) for layer in ("conv1", "fc7")},
        "kept_share": summary(kept),
        "by_class": {
            name: summary(right[sure & (labels == k)])
            for k, name in enumerate(study.dataset.classes)
            if (sure & (labels == k)).any()
        },
        "symmetric": list(SYMMETRIC[study.dataset.name]),
    }  # fmt: skip


def filled(study: Study, trained: Trained, seen: Tensor, labels: Tensor, fill: str) -> dict[str, Any]:
    """All families with one fill, on the first pictures."""
    found = {}
    for family, amounts in AMOUNTS.items():
        told = curves(
            respond_to(trained, seen, labels, changes_of(family, amounts), fill, progress=study.progress), labels
        )  # fmt: skip
        found[family] = {k: told[k] for k in ("n", "raw", "unit", "probability", "kept")}
        found[family]["relative"] = {layer: told["relative"][layer]["mean"] for layer in told["relative"]}
    return found


def pixel(study: Study, trained: Trained, stored: Tensor) -> dict[str, Any]:
    """One-pixel shifts over the validation set: labels that stay, in per cent, and relative distances."""
    found = one_pixel(trained, stored, progress=study.progress)
    same = found.pop("same")
    return {
        "kept": summary(100 * same.float().mean(0)),
        "relative": {layer: summary(values.mean(0)) for layer, values in found.items()},
    }


def redrawn(study: Study, trained: Trained) -> dict[str, Any]:
    """The scenes themselves moved, enlarged and turned, beside warps of their pictures by the same amounts.

    The lens shift and the zoom show what a warp does, but nothing has to be filled in and nothing is interpolated.
    """
    count = min(study.images or COMPARED, COMPARED)
    scene = diorama.sample(range(count), seed=1)  # the first validation scenes
    margin = trained.recipe.image_size / stored_size(trained.recipe.image_size)  # the crop's share of the picture
    makers = {
        "translation": lambda part, amount: diorama.shifted(part, dy=amount * margin),
        "scale": diorama.zoomed,
        "yaw": diorama.rotated,
        "distance": lambda part, factor: diorama.scaled(part, factor),
        "place": lambda part, amount: diorama.moved(part, dx=amount * margin),
    }
    amounts = {"translation": AMOUNTS["translation"], "scale": FACTORS, "yaw": YAWS, "distance": (0.9, 0.8, 0.65, 0.5),
               "place": (-0.2, -0.1, -0.05, 0.05, 0.1, 0.2)}  # fmt: skip
    found: dict[str, Any] = {}
    for name, make in makers.items():
        answer = respond(
            trained, scenes(trained, scene, partial(map_amounts, make, amounts[name])), scene.labels,
            total=-(-count // 16), progress=study.progress,
        )  # fmt: skip
        found[name] = {"amounts": [short(a) for a in amounts[name]]} | curves(answer, scene.labels)
        kept = 100 * (answer.named == answer.clean_named).float().mean(0)
        found[name]["kept_share"] = summary(kept)
        if name in AMOUNTS:
            seen = trained.seen(diorama.render(scene, stored_size(trained.recipe.image_size)).images)
            warped = respond_to(trained, seen, scene.labels, changes_of(name, amounts[name]), progress=study.progress)
            both = 100 * (warped.named == warped.clean_named).float().mean(0)
            found[name]["warped"] = {k: curves(warped, scene.labels)[k] for k in ("kept", "probability", "relative")}
            found[name]["gain"] = summary(kept - both)
    return found


def map_amounts(make, amounts, part) -> list:
    """The changed scenes, one for each amount."""
    return [make(part, amount) for amount in amounts]


def scenes(trained: Trained, scene: diorama.scene.Scene, change, batch: int = 16):
    """Batches of the scene and its changed versions as the network wants them, for `respond`."""
    size = stored_size(trained.recipe.image_size)
    for start in range(0, len(scene), batch):
        part = scene.rows(torch.arange(len(scene))[start : start + batch])
        yield view(trained, part, size), [view(trained, other, size) for other in change(part)]


def view(trained: Trained, scene: diorama.scene.Scene, size: int) -> Tensor:
    """What the network sees of a scene, mean subtracted."""
    return trained.normalised(diorama.render(scene, size).images)
