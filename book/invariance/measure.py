"""Recorded: distances, probabilities and labels under shifts, scales and turns of the images (arXiv Fig. 5)."""

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor

import diorama
from diorama.scene import Scene
from zfrepro.data.transforms import stored_size
from zfrepro.invariance import FILLS, Response, changes_of, linearity, one_pixel, respond, respond_to
from zfrepro.measure import Parts, Study
from zfrepro.stats import rounded, rounded_all, summary
from zfrepro.weights import Trained

PIXELS = (-60, -40, -20, -10, -5, 5, 10, 20, 40, 60)  # of 224, as in the paper's range
FACTORS = (1.05, 1.1, 1.2, 1.4, 1.6, 1.8)
DEGREES = (5, 10, 20, 45, 90, 135, 180, 225, 270, 315)
AMOUNTS = {"translation": tuple(p / 224 for p in PIXELS), "scale": FACTORS, "rotation": DEGREES}
SMALLEST = {"translation": (-5 / 224, 5 / 224), "scale": (1.05,), "rotation": (5,)}
YAWS = (5, 10, 20, 45, 90)  # degrees
SIZES = (0.9, 0.8, 0.65, 0.5)
PLACES = (-0.2, -0.1, -0.05, 0.05, 0.1, 0.2)  # sides of the picture, on the table: along it, or towards the camera
BATCH = 16
COMPARED = 300  # pictures for the comparison of fills, and drawn again in the diorama
SYMMETRIC = {"diorama": ("ball",), "imagenet20": ("golf ball",)}
"""Classes that look alike after any turn in the picture plane: spheres. The cassette player's box, like the paper's
entertainment centre, is so at right angles only, and is left with the others."""
QUANTILES = (0.1, 0.5, 0.9)


def parts(study: Study) -> Parts:
    """The three families over the validation set; fills; one-pixel shifts of both networks; scenes drawn again."""
    trained, split = study.networks["zfnet"], study.dataset.val.shuffled(study.images, study.seed)
    seen = trained.seen(split.images)
    found: Parts = {}
    for family in AMOUNTS:
        found[family] = partial(whole, study, trained, seen, split.labels, family)
    for fill in FILLS:
        found[f"fill {fill}"] = partial(filled, study, trained, seen[:COMPARED], split.labels[:COMPARED], fill)
    shifted = cache(lambda arch: one_pixel(study.networks[arch], split.images, progress=study.progress))
    for arch in study.networks:
        found[f"one pixel {arch}"] = lambda arch=arch: pixel(shifted(arch))
    found["one pixel difference"] = lambda: pixel_difference(shifted("zfnet")["same"], shifted("krizhevsky")["same"])
    if study.dataset.name == "diorama":
        found["redrawn"] = partial(redrawn, study, trained)
    return found


def curves(found: Response, labels: Tensor) -> dict[str, Any]:
    """Of each amount: distances in every layer, probability of the true class, labels kept, labels right."""
    kept, right = found.named == found.clean_named, found.named == labels
    quantiles = torch.tensor(QUANTILES)
    return {
        "n": len(labels),
        "relative": {
            layer: {
                "mean": rounded_all(found.relative(layer).mean(1)),
                "quantiles": [rounded_all(q) for q in torch.quantile(found.relative(layer), quantiles, dim=1)],
            }
            for layer in found.distance
        },
        "spread": {layer: rounded(value) for layer, value in found.spread.items()},
        "raw": {layer: rounded_all(values.mean(1)) for layer, values in found.distance.items()},
        "unit": {layer: rounded_all(values.mean(1)) for layer, values in found.unit.items()},
        "probability": rounded_all(found.probability.mean(1)),
        "kept": rounded_all(100 * kept.float().mean(1)),
        "right": rounded_all(100 * right.float().mean(1)),
        "clean_right": rounded(100 * (found.clean_named == labels).float().mean().item()),
        "worst_right": rounded(100 * (right.all(0) & (found.clean_named == labels)).float().mean().item()),
    }


def whole(study: Study, trained: Trained, seen: Tensor, labels: Tensor, family: str) -> dict[str, Any]:
    """One family over the whole validation set, with zero fill."""
    amounts = AMOUNTS[family]
    found = respond_to(trained, seen, labels, changes_of(family, amounts), progress=study.progress)
    small = torch.tensor([amounts.index(a) for a in SMALLEST[family]])
    lead = found.relative("conv1")[small].mean(0) - found.relative("fc7")[small].mean(0)
    size = torch.tensor(amounts) - (1.0 if family == "scale" else 0.0)
    right = 100 * (found.named == labels).float().mean(0)  # of each picture, over the amounts
    sure = found.clean_named == labels  # what was never recognised cannot be lost
    return {"amounts": rounded_all(amounts)} | curves(found, labels) | {
        "small": {layer: summary(found.relative(layer)[small].mean(0)) for layer in found.distance},
        "small_lead": summary(lead),
        "linearity": {layer: rounded(linearity(size, found.relative(layer).mean(1))) for layer in ("conv1", "fc7")},
        "kept_share": summary(kept_share(found)),
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


def pixel(found: dict[str, Tensor]) -> dict[str, Any]:
    """What `one_pixel` found over the validation set: labels that stay, in per cent, and relative distances."""
    return {
        "kept": summary(100 * found["same"].float().mean(0)),
        "relative": {layer: summary(values.mean(0)) for layer, values in found.items() if layer != "same"},
    }


def pixel_difference(ours: Tensor, his: Tensor) -> dict[str, Any]:
    """How many more labels stay in ZFNet than in Krizhevsky's network, image by image, in points. (3, N) bool each."""
    return summary(100 * (ours.float().mean(0) - his.float().mean(0)))


def redrawn(study: Study, trained: Trained) -> dict[str, Any]:
    """The scenes themselves moved, enlarged and turned, beside warps of their pictures by the same amounts.

    The lens shift and the zoom show what a warp does, but nothing has to be filled in and nothing is interpolated.
    """
    scene = diorama.sample(range(min(study.images or COMPARED, COMPARED)), seed=1)  # the first validation scenes
    stored = stored_size(trained.recipe.image_size)
    margin = trained.recipe.image_size / stored  # the network's share of the picture's side
    makers: dict[str, tuple[Callable[[Scene, float], Scene], tuple[float, ...]]] = {
        "translation": (lambda part, a: diorama.shifted(part, dy=a * margin), AMOUNTS["translation"]),
        "scale": (diorama.zoomed, FACTORS),
        "yaw": (diorama.rotated, YAWS),
        "size": (diorama.scaled, SIZES),
        "distance": (lambda part, a: diorama.moved(part, dy=a * margin), PLACES),
        "place": (lambda part, a: diorama.moved(part, dx=a * margin), PLACES),
    }

    def views(change, amounts):
        for rows in torch.arange(len(scene)).split(BATCH):
            shown = [scene.rows(rows), *(change(scene.rows(rows), amount) for amount in amounts)]
            untouched, *changed = (trained.normalised(diorama.render(one, stored).images) for one in shown)
            yield untouched, changed

    found: dict[str, Any] = {}
    for name, (change, amounts) in makers.items():
        total = -(-len(scene) // BATCH)
        answer = respond(trained, views(change, amounts), scene.labels, total=total, progress=study.progress)
        kept = kept_share(answer)
        found[name] = {"amounts": rounded_all(amounts), "kept_share": summary(kept)} | curves(answer, scene.labels)
        if name in AMOUNTS:
            seen = trained.seen(diorama.render(scene, stored).images)
            warped = respond_to(trained, seen, scene.labels, changes_of(name, amounts), progress=study.progress)
            found[name]["gain"] = summary(kept - kept_share(warped))
    return found


def kept_share(found: Response) -> Tensor:
    """Of each picture, the share of changes that leave its label, in per cent. (N,)."""
    return 100 * (found.named == found.clean_named).float().mean(0)
