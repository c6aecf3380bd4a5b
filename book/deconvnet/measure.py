"""Is the deconvnet backpropagation with another ReLU, and do its pictures resemble what the unit
saw?
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from zfrepro import deconvnet, rules
from zfrepro.measure import Parts, Study
from zfrepro.stats import bootstrap, correlation, rounded, rounded_all
from zfrepro.weights import Trained

COUNT = 60  # images


def relation(trained: Trained, images: Tensor) -> dict[str, Any]:
    """Compare the explicit deconvnet with gradients of the same units, layer by layer.

    `rule_gap` is the largest relative difference over images from the gradient in which only the
    ReLU's rule and the norm are changed, `gradient_cosine` the cosine with the unchanged gradient.

    Args:
        images: (B, 3, S, S), as the network wants them.
    """
    network, by_layer = trained.network, {}
    for layer, maps in network.features(images, list(network.convs)).items():
        units, model = deconvnet.strongest(maps), network.output(layer)
        explicit = deconvnet.project(network, images, layer, units)
        general = rules.project(model, images, units)
        gradient = rules.project(model, images, units, rule="gradient", skip_norm=False)
        gap = (explicit - general).abs().amax((1, 2, 3)) / explicit.abs().amax((1, 2, 3))
        cosine = F.cosine_similarity(explicit.flatten(1), gradient.flatten(1))
        by_layer[layer] = {
            "rule_gap": rounded(gap.max(), 2), "gradient_cosine": rounded_all(bootstrap(cosine)),
        }  # fmt: skip
    return by_layer


def resemblance(trained: Trained, images: Tensor) -> dict[str, Any]:
    """Correlate the strongest unit's projection with the patch it saw and with another image's.

    The correlation is of grey levels; 0 where a picture is constant.

    Args:
        images: (B, 3, S, S), as the network wants them; the other image is the one before.
    Returns:
        for each layer `lead`, the difference of both: [mean, low, high] over images.
    """
    network, by_layer = trained.network, {}
    convs = [layer for layer in network.layers if layer.startswith("conv")]
    for layer, maps in network.features(images, convs).items():
        units = deconvnet.strongest(maps)
        projected = rules.project_to_fields(network, images, layer, units)
        side = projected.pixels.shape[-1]
        own_patch = deconvnet.crop(images, projected.tops, projected.lefts, side)
        other_patch = deconvnet.crop(images.roll(1, 0), projected.tops, projected.lefts, side)
        grey = projected.pixels.mean(1)
        same, different = (
            correlation(grey, patch.mean(1)).nan_to_num(0) for patch in (own_patch, other_patch)
        )
        by_layer[layer] = {"lead": rounded_all(bootstrap(same - different))}
    return by_layer


def parts(study: Study) -> Parts:
    """Return the recorded measurements, on validation images of all classes.

    The explicit deconvnet is of this package's own networks.
    """
    trained, split = study.trained, study.val
    count = study.images or COUNT
    chosen = torch.linspace(0, len(split) - 1, count).round().long()
    # in a random order, so that the other image, which is the one before, is seldom of the same
    # class
    chosen = chosen[torch.randperm(count, generator=torch.Generator().manual_seed(study.seed))]
    images = trained.preprocess(split.images[chosen])
    explicit = {} if study.adapted else {"relation": lambda: relation(trained, images[:12])}
    return explicit | {
        "resemblance": lambda: resemblance(trained, images),
        "untrained": lambda: resemblance(trained.untrained(study.seed), images),
    }
