"""What Fig. 2 suggests, in numbers: purity of the top nine, similarity of pictures, hits on the
object."""

import functools
from typing import Any

import torch
from torch import Tensor

from book.gallery import measures
from book.gallery.claims import DEEP, UNTRAINED
from zfrepro import gallery, plots
from zfrepro.data import Split
from zfrepro.data.transforms import center_crop
from zfrepro.gallery import Top
from zfrepro.measure import Parts, Study
from zfrepro.stats import bootstrap, rounded_all
from zfrepro.weights import Trained

REVISION = 2  # of similarity and of units on objects, only what is shown or judged
MAPS = 24  # a layer, at random, whose pictures are compared
DRAWS = 2000
CONVS = ("conv1", *DEEP)
SHOWN, TELLING = DEEP[1:], 2  # layers whose projections are kept to be shown, and maps of each
PAIRS = (*zip(DEEP, DEEP[1:], strict=False), ("conv2", "conv5"))


def difference(a: Tensor, b: Tensor, seed: int) -> list[float | None]:
    """Return mean of b less mean of a, and its 95 % bootstrap interval; maps are drawn in each."""
    generator = torch.Generator().manual_seed(seed)
    means = []
    for values in (a, b):
        drawn = torch.randint(len(values), (DRAWS, len(values)), generator=generator)
        means.append(values[drawn].mean(1))
    low, high = torch.quantile(means[1] - means[0], torch.tensor([0.025, 0.975])).tolist()
    return rounded_all([(b.mean() - a.mean()).item(), low, high])


def responding(values: Tensor) -> Tensor:
    """Leave out the values of maps that never respond, which are nan."""
    return values[~values.isnan()]


def purity(tops: dict[str, Top], labels: Tensor, seed: int) -> dict[str, Any]:
    """Return the purity of every layer, in per cent: [mean, low, high] over maps that respond."""
    shares = {layer: 100 * measures.purity(top, labels) for layer, top in tops.items()}
    alive = {layer: responding(values) for layer, values in shares.items()}
    generator, count = torch.Generator().manual_seed(seed), len(labels)
    drawn = torch.stack([torch.randperm(count, generator=generator)[:9] for _ in range(DRAWS)])
    nine_at_random = Top(None, torch.ones(drawn.shape), drawn)
    return {
        "maps": {layer: len(values) for layer, values in shares.items()},
        "dead": {layer: len(shares[layer]) - len(values) for layer, values in alive.items()},
        "layers": {layer: rounded_all(bootstrap(values, seed)) for layer, values in alive.items()},
        "steps": {f"{a} {b}": difference(alive[a], alive[b], seed) for a, b in PAIRS},
        "random": rounded_all(bootstrap(100 * measures.purity(nine_at_random, labels), seed)),
    }


def similarity(trained: Trained, images: Tensor, tops: dict[str, Top], seed: int) -> dict[str, Any]:
    """Return by how much more similar a map's projections are than its patches, [mean, low, high].

    By layer and measure of similarity, over maps, see `measures.similarity_leads`.
    """
    generator, by_layer = torch.Generator().manual_seed(seed), {}
    for layer, top in tops.items():
        alive = (top.values[:, -1] > 0).nonzero().flatten()
        maps = alive[torch.randperm(len(alive), generator=generator)[:MAPS]].tolist()
        leads = measures.similarity_leads(
            trained.network, lambda i: trained.preprocess(images[i]), top, maps, len(images), seed
        )
        by_layer[layer] = {
            how: {"lead": rounded_all(bootstrap(lead, seed))} for how, lead in leads.items()
        }
    return by_layer


def search(trained: Trained, images: Tensor, progress: bool = False) -> dict[str, Top]:
    """Return the strongest nine units of every map over stored images, uint8 (N, 3, R, R)."""
    batches = (trained.preprocess(part) for part in images.split(32))
    return gallery.top_units(trained.network, batches, CONVS, progress=progress)


def on_object(
    trained: Trained, images: Tensor, tops: dict[str, Top], masks: Tensor, seed: int
) -> dict[str, Any]:
    """Return how much more often the middle of a top unit's field lies on the object than the same
    places of all images do, `lead`, in points over maps.

    Objects stand in the middle and fields lie on a grid, so a share says little by itself. `over`
    is how much larger the lead of layer 5 is than that of untrained networks.
    """
    mask = center_crop(masks[:, None], trained.image_size)[:, 0]

    leads = {k: measures.lead_on_mask(top, trained.network, mask) for k, top in tops.items()}
    controls = {}
    for number in UNTRAINED:
        other = trained.untrained(number)
        top = search(other, images)["conv5"]
        controls[f"untrained {number}"] = measures.lead_on_mask(top, other.network, mask)
    highest = responding(leads["conv5"])
    return {
        "lead": {k: rounded_all(bootstrap(lead, seed)) for k, lead in (controls | leads).items()},
        "over": {k: difference(responding(lead), highest, seed) for k, lead in controls.items()},
    }


def pictures(
    trained: Trained, split: Split, classes: tuple[str, ...], tops: dict[str, Top]
) -> dict[str, list[Any]]:
    """Return telling maps of layers 3 to 5: their nine projections on a sheet, and the classes.

    The photographs themselves may not be kept.
    """
    maps = measures.telling_maps(trained, split, {layer: tops[layer] for layer in SHOWN}, TELLING)
    by_layer: dict[str, list[Any]] = {layer: [] for layer in SHOWN}
    for layer, chosen in maps.items():
        projections, _ = measures.pictures_of(trained, split, tops[layer], chosen)
        for number, shown in zip(chosen, plots.display(projections), strict=True):
            sheet = plots.tiled(plots.resized(shown), 3, gap=2)
            labels = split.labels[tops[layer].images[number]]
            names = [classes[label] for label in labels.tolist()]
            by_layer[layer].append({"map": number, "classes": names, "sheet": plots.as_jpeg(sheet)})
    return by_layer


def parts(study: Study) -> Parts:
    """Return the recorded measurements, over the validation images.

    All of them, also those that a network of others was trained on: nine of few images
    would be hardly chosen.
    """
    trained, split = study.trained, study.dataset.val
    count = min(study.images or len(split), len(split))
    images, labels = split.images[:count], split.labels[:count]
    tops = functools.cache(lambda: search(trained, images, study.progress))

    def masks() -> dict[str, Any] | None:
        if "mask" not in split.truth:
            return None  # photographs come without masks
        return on_object(trained, images, tops(), split.truth["mask"][:count], study.seed)

    measurements: Parts = {
        "purity": lambda: purity(tops(), labels, study.seed),
        "similarity": lambda: similarity(trained, images, tops(), study.seed),
        "on_object": masks,
    }
    if study.dataset.photographs and not (study.untrained or study.repeat):
        subset, classes = Split(images, labels), study.dataset.classes
        measurements["pictures"] = lambda: pictures(trained, subset, classes, tops())
    return measurements
