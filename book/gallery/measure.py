"""What Fig. 2 suggests, in numbers: class purity of the top nine, likeness of pictures, and hits on the object."""

import math
from typing import Any

import torch
from torch import Tensor

from zfrepro import gallery
from zfrepro.data.transforms import center_crop
from zfrepro.gallery import Top
from zfrepro.measure import Parts, Study
from zfrepro.probes import untrained
from zfrepro.stats import bootstrap, rounded, rounded_all
from zfrepro.weights import Trained

MAPS = 24  # a layer, at random, whose pictures are compared
DRAWS = 2000
UNTRAINED = (0, 1, 2)  # seeds of the networks that have learned nothing
NEIGHBOURS = (("conv2", "conv3"), ("conv3", "conv4"), ("conv4", "conv5"), ("conv2", "conv5"))


def difference(a: Tensor, b: Tensor, seed: int) -> list[float | None]:
    """Mean of b less mean of a, with its 95 % bootstrap interval over maps, which are drawn in each layer."""
    generator = torch.Generator().manual_seed(seed)
    draws = [values[torch.randint(len(values), (DRAWS, len(values)), generator=generator)].mean(1) for values in (a, b)]
    low, high = torch.quantile(draws[1] - draws[0], torch.tensor([0.025, 0.975])).tolist()
    return rounded_all([(b.mean() - a.mean()).item(), low, high])


def living(values: Tensor) -> Tensor:
    """Without those of maps that never respond, which are nan."""
    return values[~values.isnan()]


def purity(tops: dict[str, Top], labels: Tensor, seed: int) -> dict[str, Any]:
    """Purity of every layer, in per cent: [mean, low, high] over maps that respond; steps between layers."""
    found = {layer: 100 * gallery.purity(top, labels) for layer, top in tops.items()}
    alive = {layer: living(values) for layer, values in found.items()}
    draws = gallery.random_top(len(labels), 2000, generator=torch.Generator().manual_seed(seed))
    return {
        "maps": {layer: len(values) for layer, values in found.items()},
        "dead": {layer: len(found[layer]) - len(values) for layer, values in alive.items()},
        "layers": {layer: rounded_all(bootstrap(values, seed)) for layer, values in alive.items()},
        "steps": {f"{a} {b}": difference(alive[a], alive[b], seed) for a, b in NEIGHBOURS},
        "random": rounded_all(bootstrap(100 * gallery.purity(draws, labels), seed)),
    }


def likeness(trained: Trained, images: Tensor, tops: dict[str, Top], seed: int) -> dict[str, Any]:
    """How alike a map's nine projections and its nine patches are, over maps, by layer and by kind of likeness.

    `lead` is by how much more alike the projections are, see `gallery.patches_vary_more`.
    """
    generator, found = torch.Generator().manual_seed(seed), {}
    for layer, top in tops.items():
        alive = (top.values[:, -1] > 0).nonzero().flatten()
        maps = alive[torch.randperm(len(alive), generator=generator)[:MAPS]].tolist()
        alike = gallery.likenesses(
            trained.network, lambda i: trained.preprocess(images[i]), top, maps, len(images), seed=seed
        )
        found[layer] = {"maps": len(maps)}
        for how, values in alike.items():
            values = values | {"lead": gallery.patches_vary_more(values)}
            found[layer][how] = {name: rounded_all(bootstrap(own, seed)) for name, own in values.items()}
    return found


def searched(trained: Trained, images: Tensor, progress: bool = False) -> dict[str, Top]:
    """The strongest nine units of every map over stored images."""
    batches = (trained.preprocess(part) for part in images.split(32))
    return gallery.top_activations(trained.network, batches, total=math.ceil(len(images) / 32), progress=progress)


def on_object(trained: Trained, images: Tensor, tops: dict[str, Top], masks: Tensor, seed: int) -> dict[str, Any]:
    """How often the middle of a top unit's receptive field lies on the object, in per cent, over maps.

    Objects stand in the middle and fields lie on a grid, so a share says little by itself. `lead` is its difference
    from all images at the same places; `over` how much larger that of layer 5 is than those of layer 1, and of layer 5
    of networks without training.
    """
    mask = center_crop(masks[:, None], trained.recipe.image_size)[:, 0]
    layers = {layer: gallery.shares_on_mask(top, trained.network, mask) for layer, top in tops.items()}
    leads = {layer: 100 * (own - elsewhere) for layer, (own, elsewhere) in layers.items()}
    controls = {"conv1": leads["conv1"]}
    for number in UNTRAINED:
        other = untrained(trained, number)
        own, elsewhere = gallery.shares_on_mask(searched(other, images)["conv5"], other.network, mask)
        controls[f"untrained {number}"] = 100 * (own - elsewhere)
    return {
        "layers": {layer: rounded_all(bootstrap(100 * own, seed)) for layer, (own, _) in layers.items()},
        "same_places": {layer: rounded(100 * elsewhere.nanmean()) for layer, (_, elsewhere) in layers.items()},
        "lead": {name: rounded_all(bootstrap(own, seed)) for name, own in (controls | leads).items()},
        "over": {name: difference(living(own), living(leads["conv5"]), seed) for name, own in controls.items()},
    }


def parts(study: Study) -> Parts:
    """The recorded measurements, over the validation images."""
    trained, split = study.networks["zfnet"], study.dataset.val
    count = min(study.images or len(split), len(split))
    images, labels = split.images[:count], split.labels[:count]
    kept: list[dict[str, Top]] = []

    def tops() -> dict[str, Top]:
        if not kept:
            kept.append(searched(trained, images, study.progress))
        return kept[0]

    def masks() -> dict[str, Any] | None:
        if "mask" not in split.truth:
            return None  # nobody drew the masks of photographs
        return on_object(trained, images, tops(), split.truth["mask"][:count], study.seed)

    return {
        "count": lambda: count,
        "purity": lambda: purity(tops(), labels, study.seed),
        "likeness": lambda: likeness(trained, images, tops(), study.seed),
        "on_object": masks,
    }
