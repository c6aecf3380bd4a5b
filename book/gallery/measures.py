"""What the gallery chapter measures on the strongest units: purity, how alike pictures are, and
hits on the object."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from zfrepro import deconvnet, gallery, rules
from zfrepro.data import Split
from zfrepro.deconvnet import Units
from zfrepro.gallery import Fetch, Top, centered_grey, mean_pairwise_correlation
from zfrepro.models import Layered
from zfrepro.weights import Trained

PUREST = 16  # maps of a layer among which telling ones are chosen


def purity(top: Top, labels: Tensor) -> Tensor:
    """Return the share of a map's top images that belong to their most frequent class.

    labels: (N,) -> (C,), nan for maps that never respond.
    """
    classes = int(labels.max()) + 1
    responds = top.values > 0
    votes = (
        torch.nn.functional.one_hot(labels[top.images.clamp_min(0)], classes) * responds[:, :, None]
    )
    return votes.sum(1).amax(1) / responds.sum(1)


def contrast(pictures: Tensor) -> Tensor:
    """Return how much structure is where, at so few places a side that small shifts count little.

    Root mean square of the grey levels about the picture's mean.
    (M, K, C, F, F) -> (M, K, 1, 6, 6).
    """
    power = torch.nn.functional.adaptive_avg_pool2d(centered_grey(pictures).square(), 6)
    return power.sqrt()[:, :, None]


SIMILARITIES = {
    "pixels": mean_pairwise_correlation,
    "contrast": lambda pictures: mean_pairwise_correlation(contrast(pictures)),
}


def centered_windows(pictures: Tensor, network: Layered, layer: str, units: Units) -> Tensor:
    """Cut each unit's field out of a picture, nan beyond the border. (N, 3, S, S) -> (N, 3, F, F).

    The unit is always in the middle, unlike in `patches` where the field is larger than the image.
    """
    field = network.fields(layer).rows
    tops, lefts = (place * field.jump + field.start for place in (units.rows, units.columns))
    return deconvnet.crop(pictures, tops, lefts, field.size, torch.nan)


@torch.no_grad()
def random_responding_units(
    network: Layered, images: Tensor, layer: str, places: Units, generator: torch.Generator
) -> Units:
    """Draw, in each image, one of the maps that respond at the given row and column."""
    maps = network.features(images, [layer])[layer]
    responds = maps[torch.arange(len(images)), :, places.rows, places.columns] > 0
    chances = responds + 1e-9  # where none responds, any: its projection is blank
    drawn = torch.multinomial(chances.cpu(), 1, generator=generator)[:, 0]
    return Units(drawn, places.rows, places.columns)


def centered_pairs(
    network: Layered, images: Tensor, layer: str, units: Units
) -> tuple[Tensor, Tensor]:
    """Return projections of units and the patches they see, the unit in the middle of both.

    Twice (N, 3, F, F).
    """
    patches = centered_windows(images, network, layer, units)
    projected = rules.project_to_fields(network, images, layer, units).pixels
    if projected.shape == images.shape:  # the field is larger than the image
        projected = centered_windows(projected, network, layer, units)
    return projected.masked_fill(patches.isnan(), torch.nan).cpu(), patches.cpu()


def similarity_leads(
    network: Layered, fetch: Fetch, top: Top, maps: Sequence[int], images: int, seed: int = 0
) -> dict[str, Tensor]:
    """Return by how much more alike a map's projections are than its patches, each less its
    baseline: pictures of other images at the same places, with a map that responds there.

    Args:
        maps: maps that respond to K images.
        images: how many there are to draw others from.
    Returns:
        for each of `SIMILARITIES`, (len(maps),).
    """
    generator, layer = torch.Generator().manual_seed(seed), top.layer
    chosen, units = top.of(maps)
    other_images = torch.randint(images, chosen.shape, generator=generator)
    pairs = []
    for part in torch.arange(len(chosen)).split(16):
        exciting, other, places = fetch(chosen[part]), fetch(other_images[part]), units[part]
        drawn = random_responding_units(network, other, layer, places, generator)
        own = centered_pairs(network, exciting, layer, places)
        pairs.append((*own, *centered_pairs(network, other, layer, drawn)))
    pictures = [
        torch.cat(batches).unflatten(0, (len(maps), -1)) for batches in zip(*pairs, strict=True)
    ]
    leads = {}
    for how, like in SIMILARITIES.items():
        projections, patches, other_projections, other_patches = map(like, pictures)
        leads[how] = projections - other_projections - (patches - other_patches)
    return leads


def lead_on_mask(top: Top, network: Layered, mask: Tensor) -> Tensor:
    """Return how much more often a map's top units lie on the object than the same places of all
    images do, in points.

    A unit lies where the middle of its receptive field does.

    mask: (N, S, S) bool, the object in what the network sees -> (C,), nan for maps that never
    respond.
    """
    field = network.fields(top.layer).rows
    rows, columns = (
        (place * field.jump + field.start + field.size // 2).clamp(0, network.image_size - 1)
        for place in (top.rows, top.columns)
    )
    hit = mask[top.images.clamp_min(0), rows, columns].float()
    lead = 100 * (hit - mask.float().mean(0)[rows, columns])
    return lead.masked_fill(~(top.values > 0), torch.nan).nanmean(1)


def pictures_of(
    trained: Trained, split: Split, top: Top, maps: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """Return projections, signed, and patches, uint8, of some maps, (M, K, 3, F, F) each.

    split: the images that were searched, here and below.
    """
    images = split.images
    return (
        gallery.projections(trained.network, lambda i: trained.preprocess(images[i]), top, maps),
        gallery.patches(trained.network, lambda i: trained.center_crop(images[i]), top, maps),
    )


def telling_maps(
    trained: Trained, split: Split, tops: Mapping[str, Top], count: int = 1
) -> dict[str, list[int]]:
    """Choose maps of each layer that show one thing: nine images of one class, nine projections
    that are similar.

    A map's score is its purity times the similarity of its projections by contrast; of the
    stronger half of a layer the `PUREST` maps take part. The first layer chooses first. No two maps
    have the same class, as long as there are others, or a figure would show one thing often.
    """
    ranked = {layer: _ranked(trained, split, top) for layer, top in tops.items()}
    chosen: dict[str, list[int]] = {layer: [] for layer in tops}
    shown: set[int] = set()
    for _ in range(count):
        for layer in tops:
            left = [pair for pair in ranked[layer] if pair[0] not in chosen[layer]]
            new = [pair for pair in left if pair[1] not in shown]
            for number, label in (new or left)[:1]:
                chosen[layer].append(number)
                shown.add(label)
    return chosen


def _ranked(trained: Trained, split: Split, top: Top) -> list[tuple[int, int]]:
    """Return maps, the highest score first, each with the most frequent class of its images."""
    ninth = top.values[:, -1]
    strong = (ninth > 0) & (ninth >= ninth.median())
    shares = purity(top, split.labels).masked_fill(~strong, -1)
    order = shares.argsort(descending=True, stable=True)[:PUREST]
    purest = order[shares[order] > 0].tolist()
    projections, _ = pictures_of(trained, split, top, purest)
    score = shares[purest] * SIMILARITIES["contrast"](projections)
    classes = split.labels[top.images[purest]].mode(1).values
    best = score.nan_to_num(-1).argsort(descending=True, stable=True).tolist()
    return [(purest[i], int(classes[i])) for i in best]
