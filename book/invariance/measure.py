"""Distances and labels when images are shifted, enlarged or turned (arXiv Fig. 5)."""

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor

import diorama
from book.invariance.warps import BATCH, FILLS, one_pixel, respond, respond_to
from diorama.scene import Scene
from zfrepro.data.transforms import stored_size
from zfrepro.measure import Parts, Study
from zfrepro.stats import rounded, rounded_all, summary
from zfrepro.weights import Trained

PIXELS = (-60, -40, -20, -10, -5, 5, 10, 20, 40, 60)  # of 224, as in the paper's range
FACTORS = (1.05, 1.1, 1.2, 1.4, 1.6, 1.8)
DEGREES = (5, 10, 20, 45, 90, 135, 180, 225, 270, 315)
AMOUNTS = {"translation": tuple(p / 224 for p in PIXELS), "scale": FACTORS, "rotation": DEGREES}
SMALLEST = {"translation": (-5 / 224, 5 / 224), "scale": (1.05,), "rotation": (5,)}
PLACES = (-0.2, -0.1, -0.05, 0.05, 0.1, 0.2)  # sides of the picture, on the table
REVISION = 2  # of predictions, only the share kept by each image
COMPARED = 300  # pictures for the comparison of fills, and scenes that are rendered again
SYMMETRIC = {"diorama": ("ball",), "imagenet20": ("golf ball",)}
"""Spheres, which look alike after any turn in the picture plane. A box, like the cassette player or
the paper's entertainment center, does so at right angles only, and is left with the others."""
QUANTILES = (0.1, 0.5, 0.9)


def parts(study: Study) -> Parts:
    """Return the measurements of the chapter; scenes are rendered again in the Diorama only.

    Fills are compared for our own network only.
    """
    trained = study.trained
    split = study.val.shuffled(study.images, study.seed)
    seen, labels = trained.center_crop(split.images), split.labels
    measurements: Parts = {
        family: partial(whole, study, trained, seen, labels, family) for family in AMOUNTS
    }
    for fill in () if study.adapted else FILLS:
        few = (seen[:COMPARED], labels[:COMPARED])
        measurements[f"fill {fill}"] = partial(filled, study, trained, *few, fill)
    shifted = cache(
        lambda arch: one_pixel(study.networks[arch], split.images, progress=study.progress)
    )
    for arch in study.networks:
        measurements[f"one pixel {arch}"] = lambda arch=arch: {
            "kept": summary(kept_share(shifted(arch)))
        }
    if "krizhevsky" in study.networks:
        measurements["one pixel difference"] = lambda: summary(
            kept_share(shifted("zfnet")) - kept_share(shifted("krizhevsky"))
        )
    if study.dataset.name == "diorama":
        measurements["rendered"] = partial(rendered, study, trained)
    return measurements


def kept_share(unchanged: Tensor) -> Tensor:
    """Return for each picture the share of changes that leave its label, in per cent. (T, N)."""
    return 100 * unchanged.float().mean(0)


def whole(
    study: Study, trained: Trained, seen: Tensor, labels: Tensor, family: str
) -> dict[str, Any]:
    """Measure one family over the whole validation set, with zero fill."""
    amounts, quantiles = AMOUNTS[family], torch.tensor(QUANTILES)
    response = respond_to(trained, seen, labels, family, amounts, progress=study.progress)
    relative = {layer: response.relative(layer) for layer in response.distance}
    small = torch.tensor([amounts.index(a) for a in SMALLEST[family]])
    smallest = {layer: relative[layer][small].mean(0) for layer in ("conv1", "fc7")}
    right, sure = response.predicted == labels, response.clean_predicted == labels
    share = 100 * right.float().mean(0)  # of each picture, over the amounts
    record = {
        "amounts": rounded_all(amounts),
        "kept_share": summary(kept_share(response.label_kept)),
        "relative": {
            layer: {
                "mean": rounded_all(distances.mean(1)),
                "quantiles": [rounded_all(q) for q in torch.quantile(distances, quantiles, dim=1)],
            }
            for layer, distances in relative.items()
        },
        "between": {layer: rounded(value) for layer, value in response.between.items()},
        "small": {layer: summary(values) for layer, values in smallest.items()},
        "small_lead": summary(smallest["conv1"] - smallest["fc7"]),
        "right": rounded_all(100 * right.float().mean(1)),
        "right_share": summary(share[sure]),
        "clean_right": rounded(100 * sure.float().mean().item()),
        "worst_right": rounded(100 * (right.all(0) & sure).float().mean().item()),
    }
    if family == "rotation":
        masks = {name: sure & (labels == k) for k, name in enumerate(study.dataset.classes)}
        record["by_class"] = {name: summary(share[m]) for name, m in masks.items() if m.any()}
        record["symmetric"] = list(SYMMETRIC.get(study.dataset.name, ()))
    return record


def filled(
    study: Study, trained: Trained, seen: Tensor, labels: Tensor, fill: str
) -> dict[str, Any]:
    """Measure all families with one fill."""
    record, images = {}, (trained, seen, labels)
    for family, amounts in AMOUNTS.items():
        response = respond_to(*images, family, amounts, fill, progress=study.progress)
        record[family] = {
            "kept_share": summary(kept_share(response.label_kept)),
            "fc7": rounded_all(response.relative("fc7").mean(1)),
        }
    return record


def renderings(
    margin: float,
) -> dict[str, tuple[Callable[[Scene, float], Scene], tuple[float, ...]]]:
    """Return how a scene is changed before it is rendered again, and by which amounts.

    Args:
        margin: the network's share of the picture's side.
    """
    return {
        "translation": (lambda s, a: diorama.shifted(s, dy=a * margin), AMOUNTS["translation"]),
        "scale": (diorama.zoomed, FACTORS),
        "yaw": (diorama.rotated, (5, 10, 20, 45, 90)),
        "size": (diorama.scaled, (0.9, 0.8, 0.65, 0.5)),
        "distance": (lambda s, a: diorama.moved(s, dy=a * margin), PLACES),
        "place": (lambda s, a: diorama.moved(s, dx=a * margin), PLACES),
    }


def rendered(study: Study, trained: Trained) -> dict[str, Any]:
    """Change the scenes themselves, and compare with warps of their pictures by the same amounts.

    Lens shift and zoom show what a warp does, but nothing is filled in and nothing interpolated.
    """
    scenes = diorama.sample(range(min(study.images or COMPARED, COMPARED)), seed=1)
    size = trained.image_size
    stored, steps = stored_size(size), torch.arange(len(scenes)).split(BATCH)

    def view(scene: Scene) -> Tensor:
        return trained.preprocess(diorama.render(scene, stored).images)

    def views(change, amounts, rows):
        scene = scenes.rows(rows)
        return view(scene), [view(change(scene, amount)) for amount in amounts]

    record: dict[str, Any] = {}
    for name, (change, amounts) in renderings(size / stored).items():
        pairs = partial(views, change, amounts)
        response = respond(trained, steps, pairs, scenes.labels, progress=study.progress)
        record[name] = {
            "amounts": rounded_all(amounts),
            "kept": rounded_all(100 * response.label_kept.float().mean(1)),
            "kept_share": summary(kept_share(response.label_kept)),
        }
        if name in AMOUNTS:
            seen = trained.center_crop(diorama.render(scenes, stored).images)
            images = (trained, seen, scenes.labels)
            warped = respond_to(*images, name, amounts, progress=study.progress)
            gain = kept_share(response.label_kept) - kept_share(warped.label_kept)
            record[name]["gain"] = summary(gain)
    return record
