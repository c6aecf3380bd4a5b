"""Is the deconvnet backpropagation with another ReLU, and do its pictures resemble what the unit saw?"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from zfrepro import deconvnet, rules
from zfrepro.measure import Parts, Study
from zfrepro.probes import untrained
from zfrepro.stats import bootstrap, rounded_all
from zfrepro.weights import Trained

COUNT = 60  # images


def correlation(a: Tensor, b: Tensor) -> Tensor:
    """Pearson correlation of two stacks of pictures as grey levels, picture by picture. (N, 3, H, W) -> (N,)."""
    a, b = (t.float().mean(1).flatten(1) for t in (a, b))
    return F.cosine_similarity(a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True), dim=1)


def relation(trained: Trained, images: Tensor) -> dict[str, Any]:
    """Explicit deconvnet against gradients of the same units, as the largest relative difference over images.

    `rule` changes only what a ReLU passes back and lets the norm through; `gradient` changes nothing.
    """
    network, found = trained.network, {}
    for layer, maps in network.features(images, list(network.convs)).items():
        units = deconvnet.strongest(maps)

        def model(x: Tensor, layer: str = layer) -> Tensor:
            return network.features(x, [layer])[layer]

        explicit = deconvnet.project(network, images, layer, units)
        general = rules.project(model, images, units)
        gradient = rules.project(model, images, units, rule="gradient", skip_norm=False)
        peak = explicit.abs().amax((1, 2, 3))
        found[layer] = {
            "rule_gap": float(f"{((explicit - general).abs().amax((1, 2, 3)) / peak).max():.2g}"),
            "gradient_cosine": rounded_all(bootstrap(F.cosine_similarity(explicit.flatten(1), gradient.flatten(1)))),
        }
    return found


def resemblance(trained: Trained, images: Tensor) -> dict[str, Any]:
    """Correlation of the strongest unit's projection with the patch it saw, and with the same place of another image.

    Returns for each layer [mean, low, high] over images: `own`, `other` and `lead`, their paired difference.
    """
    network, found = trained.network, {}
    for layer, maps in network.features(images, list(network.convs)).items():
        units = deconvnet.strongest(maps)
        projected = deconvnet.project_crops(network, images, layer, units)
        side = projected.pixels.shape[-1]
        own = deconvnet.crop(images, projected.tops, projected.lefts, side)
        other = deconvnet.crop(images.roll(1, 0), projected.tops, projected.lefts, side)
        like = {"own": correlation(projected.pixels, own), "other": correlation(projected.pixels, other)}
        like["lead"] = like["own"] - like["other"]
        found[layer] = {name: rounded_all(bootstrap(values)) for name, values in like.items()}
    return found


def parts(study: Study) -> Parts:
    """The recorded measurements, on validation images at equal distances, so that all classes are among them."""
    trained, split = study.networks["zfnet"], study.dataset.val
    count = study.images or COUNT
    chosen = torch.linspace(0, len(split) - 1, count).round().long()
    # mixed, so that the neighbour in the list, taken as the other image, is seldom of the same class
    chosen = chosen[torch.randperm(count, generator=torch.Generator().manual_seed(study.seed))]
    images = trained.preprocess(split.images[chosen])
    return {
        "count": lambda: count,
        "relation": lambda: relation(trained, images[:12]),
        "resemblance": lambda: resemblance(trained, images),
        "untrained": lambda: resemblance(untrained(trained, study.seed), images),
    }
