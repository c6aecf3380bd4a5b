"""What Fig. 2 suggests, in numbers: class purity of the top nine, likeness of pictures, and hits on the object."""

import math
from typing import Any

import torch
from torch import Tensor

from zfrepro import gallery
from zfrepro.data.transforms import centre_crop
from zfrepro.gallery import Top
from zfrepro.statistics import bootstrap, rounded_all
from zfrepro.studies import Parts, Study
from zfrepro.weights import Trained

MAPS = {"conv1": 24, "conv2": 24, "conv3": 24, "conv4": 16, "conv5": 16}  # at random, whose pictures are compared
DRAWS = 2000
NEIGHBOURS = (("conv2", "conv3"), ("conv3", "conv4"), ("conv4", "conv5"), ("conv2", "conv5"))


def difference(a: Tensor, b: Tensor, seed: int) -> list[float | None]:
    """Mean of b less mean of a, with its 95 % bootstrap interval over maps, which are drawn in each layer."""
    generator = torch.Generator().manual_seed(seed)
    draws = [values[torch.randint(len(values), (DRAWS, len(values)), generator=generator)].mean(1) for values in (a, b)]
    low, high = torch.quantile(draws[1] - draws[0], torch.tensor([0.025, 0.975])).tolist()
    return rounded_all([(b.mean() - a.mean()).item(), low, high])


def purity(tops: dict[str, Top], labels: Tensor, seed: int) -> dict[str, Any]:
    """Purity of every layer, in per cent: [mean, low, high] over maps that respond; steps between layers."""
    found = {layer: 100 * gallery.purity(top, labels) for layer, top in tops.items()}
    alive = {layer: values[~values.isnan()] for layer, values in found.items()}
    draws = gallery.random_top(len(labels), 2000, generator=torch.Generator().manual_seed(seed))
    return {
        "maps": {layer: len(values) for layer, values in found.items()},
        "dead": {layer: len(found[layer]) - len(values) for layer, values in alive.items()},
        "layers": {layer: rounded_all(bootstrap(values, seed)) for layer, values in alive.items()},
        "steps": {f"{a} {b}": difference(alive[a], alive[b], seed) for a, b in NEIGHBOURS},
        "random": rounded_all(bootstrap(100 * gallery.purity(draws, labels), seed)),
    }


def likeness(trained: Trained, images: Tensor, tops: dict[str, Top], seed: int) -> dict[str, Any]:
    """Mean correlation among a map's nine projections and among its nine patches, at the same size."""
    generator, seen, found = torch.Generator().manual_seed(seed), trained.seen(images), {}
    for layer, top in tops.items():
        alive = (top.values[:, -1] > 0).nonzero().flatten()
        maps = alive[torch.randperm(len(alive), generator=generator)[: MAPS[layer]]].tolist()
        projections = gallery.projections(trained.network, lambda i: trained.normalised(images[i]), top, maps)
        ours = gallery.likeness(projections)
        theirs = gallery.likeness(gallery.patches(seen, trained.network, top, maps))
        found[layer] = {
            "maps": len(maps),
            "projections": rounded_all(bootstrap(ours, seed)),
            "patches": rounded_all(bootstrap(theirs, seed)),
            "lead": rounded_all(bootstrap(ours - theirs, seed)),
            "more_alike": int((ours > theirs).sum()),
        }
    return found


def on_object(trained: Trained, tops: dict[str, Top], masks: Tensor, seed: int) -> dict[str, Any]:
    """How often the middle of a top unit's receptive field lies on the object, in per cent, by layer, over maps."""
    mask = centre_crop(masks[:, None], trained.recipe.image_size)[:, 0]
    found = {}
    for layer, top in tops.items():
        shares = 100 * gallery.on_mask(top, trained.network, mask).nanmean(1)
        found[layer] = rounded_all(bootstrap(shares, seed))
    return {"layers": found, "random_place": float(f"{100 * mask.float().mean():.4g}")}


def parts(study: Study) -> Parts:
    """The recorded measurements, over the validation images."""
    trained, split = study.networks["zfnet"], study.dataset.val
    count = min(study.images or len(split), len(split))
    images, labels = split.images[:count], split.labels[:count]
    kept: list[dict[str, Top]] = []

    def tops() -> dict[str, Top]:
        if not kept:
            batches = (trained.normalised(part) for part in images.split(32))
            total = math.ceil(count / 32)
            kept.append(gallery.top_activations(trained.network, batches, total=total, progress=study.progress))
        return kept[0]

    def masks() -> dict[str, Any] | None:
        if "mask" not in split.truth:
            return None  # nobody drew the masks of photographs
        return on_object(trained, tops(), split.truth["mask"][:count], study.seed)

    return {
        "count": lambda: count,
        "purity": lambda: purity(tops(), labels, study.seed),
        "likeness": lambda: likeness(trained, images, tops(), study.seed),
        "on_object": masks,
    }
