"""Recorded measurements of the chapter on projections, over units as Fig. 2 shows them.

A number is a mean over (unit, image) pairs, each one of the nine strongest units of another map,
with a bootstrap 95 % interval over pairs.
"""

import dataclasses
import functools
import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from book.projections import controls
from book.projections import picture_measures as measures
from book.projections.claims import LAYERS
from zfrepro import gallery
from zfrepro.data.transforms import center_crop
from zfrepro.deconvnet import Units
from zfrepro.layers import contrast_norm
from zfrepro.measure import Parts, Study
from zfrepro.models import Layered
from zfrepro.networks import max_pool
from zfrepro.stats import rounded, summary

PAIRS, SEARCHED, BATCH = 80, 1000, 20
FEW = 40  # pairs a layer for what takes many passes
SEEDS = 2  # networks with random weights
RADIUS = 2.0  # of adversarial changes, in grey levels of 255
REVISION = 3  # without the gradient's share of energy and the linear toy
PAIRS_ADAPTED = 16
RULES = ("deconvnet", "gradient", "guided")
CONTROLS = ("area", "contrast", "another unit")  # of the share of energy inside a part

Summary = dict[str, float | int | None]


@dataclass(frozen=True)
class Pairs:
    """Units, the images they respond to, and another image for each."""

    layer: str
    images: Tensor  # (n,) indices into the validation split
    units: Units
    others: Tensor  # (n,)


class Bench:
    """The trained network, the validation images, and pairs for each layer, found when needed."""

    def __init__(self, study: Study):
        self.trained, self.split, self.seed = study.trained, study.dataset.val, study.seed
        self.network: Layered = self.trained.network
        self.progress = study.progress
        # a pass of a network that others trained takes many times as long
        self.pairs, self.few = (PAIRS_ADAPTED,) * 2 if study.adapted else (PAIRS, FEW)
        order = torch.randperm(len(self.split), generator=self.generator())
        self.searched = order[: study.images or SEARCHED]
        self.pairs_of = functools.cache(self._pairs_of)

    def generator(self, stream: int = 0) -> torch.Generator:
        """Return a generator with a stream of its own."""
        return torch.Generator().manual_seed(1000 * self.seed + stream)

    def fetch(self, indices: Tensor) -> Tensor:
        """Return validation images as the network sees them."""
        return self.trained.preprocess(self.split.images[indices])

    @functools.cached_property
    def tops(self) -> dict[str, gallery.Top]:
        batches = map(self.fetch, self.searched.split(32))
        return gallery.top_units(self.network, batches, LAYERS, progress=self.progress)

    def _pairs_of(self, layer: str) -> Pairs:
        draw = self.generator(1 + self.network.layers.index(layer))
        if layer == "fc8":
            chosen = self.searched[: self.pairs]
            scores = torch.cat([self.network(self.fetch(part)).cpu() for part in chosen.split(32)])
            right = (scores.argmax(1) == self.split.labels[chosen]) & (scores.amax(1) > 0)
            images, units = chosen[right], Units(scores.argmax(1)[right])
        else:
            top = self.tops[layer]
            alive = (top.values > 0).all(1).nonzero().flatten()
            maps = alive[torch.randperm(len(alive), generator=draw)[: self.pairs]]
            rank = torch.randint(top.values.shape[1], (len(maps),), generator=draw)
            images = self.searched[top.images[maps, rank]]
            units = Units(maps, top.rows[maps, rank], top.columns[maps, rank])
        step = torch.randint(1, len(self.searched), (len(images),), generator=draw)
        at = (images[:, None] == self.searched).nonzero()[:, 1]
        return Pairs(layer, images, units, self.searched[(at + step) % len(self.searched)])

    def batches(
        self, layer: str, most: int | None = None
    ) -> Iterator[tuple[Pairs, Tensor, Tensor]]:
        """Yield a layer's first `most` pairs in batches, their images and the other ones."""
        pairs = self.pairs_of(layer)
        for part in torch.arange(len(pairs.images))[:most].split(BATCH):
            images, others = pairs.images[part], pairs.others[part]
            batch = Pairs(layer, images, pairs.units[part], others)
            yield batch, self.fetch(images), self.fetch(others)

    def cut(self, pairs: Pairs, pictures: Tensor) -> Tensor:
        """Cut pictures to the receptive fields of the units."""
        return controls.cut_to_field(self.network, pairs.layer, pairs.units, pictures)

    def field(self, pairs: Pairs, pictures: Tensor) -> Tensor:
        """Return which pixels lie in the receptive fields of the units."""
        return controls.field_mask(self.network, pairs.layer, pairs.units, pictures)

    def project(
        self, pairs: Pairs, images: Tensor, rule: str = "deconvnet", network: Layered | None = None
    ) -> Tensor:
        """Project the units of some images by a rule, in this or another network."""
        network = network or self.network
        return controls.project_by_rule(network, images, pairs.layer, pairs.units, rule)


class Gathered(dict):
    """Values by name, grown chunk by chunk."""

    def add(self, name: str, values: Tensor) -> None:
        """Append values, (B,)."""
        values = values.detach().cpu()
        self[name] = torch.cat([self[name], values]) if name in self else values

    def minus(self, a: str, b: str) -> Summary:
        """Summarise the differences within pairs, a - b."""
        return summary(self[a] - self[b])

    def summaries(self) -> dict[str, Summary]:
        """Summarise all values."""
        return {name: summary(values) for name, values in self.items()}


def similarity(bench: Bench, pairs: Pairs, a: Tensor, b: Tensor) -> Tensor:
    """Return the rank correlation of two projections in their receptive fields: (B,)."""
    return measures.rank_correlation(a, b, bench.field(pairs, a))


def similarity_as_shown(bench: Bench, pairs: Pairs, a: Tensor, b: Tensor) -> Tensor:
    """Return the SSIM of two pictures cut to their receptive fields: (B,)."""
    return measures.ssim(bench.cut(pairs, a), bench.cut(pairs, b))


def rules(bench: Bench, layer: str) -> dict:
    """Measure how clear each rule's projections are, and whether the norm's gradient matters."""
    coherence, fineness, same = Gathered(), Gathered(), Gathered()
    for pairs, images, _ in bench.batches(layer):
        projections = {
            rule: bench.project(pairs, images, rule)
            for rule in ("deconvnet", "forward mask", "guided")
        }
        with_norm = bench.project(pairs, images, "deconvnet, true norm").flatten(1)
        same.add("norm", F.cosine_similarity(with_norm, projections["deconvnet"].flatten(1)))
        for name, picture in (projections | {"image": images}).items():
            coherence.add(name, measures.coherence(bench.cut(pairs, picture)))
            fineness.add(name, measures.fineness(bench.cut(pairs, picture)))
    gain = {
        "coherence": coherence.minus("deconvnet", "forward mask"),
        "fineness": fineness.minus("deconvnet", "forward mask"),
    }
    return {
        "coherence": coherence.summaries(),
        "true_norm_cosine": summary(same["norm"]),
        "deconvnet_minus": {"forward mask": gain},
    }


def norm_factor(bench: Bench) -> dict:
    """Find the least and the most that contrast norm multiplies active units with."""
    names = [conv.name for conv in bench.network.architecture.convs if conv.norm]
    factors = Gathered()
    for part in bench.searched.split(BATCH):
        for name, maps in bench.network.features(bench.fetch(part), names).items():
            x = max_pool(maps)  # ZFNet pools first
            factors.add(name, torch.stack((contrast_norm(x)[x > 0] / x[x > 0]).aminmax()))
    layers = {
        name: {"least": rounded(values.min(), 6), "most": rounded(values.max(), 6)}
        for name, values in factors.items()
    }
    return {"images": len(bench.searched), "layers": layers}


def switches(bench: Bench, layer: str) -> dict:
    """Compare a unit's projection with those whose switches, or unit, are exchanged."""
    rank, ssim, draw = Gathered(), Gathered(), bench.generator(20)
    for pairs, images, other_images in bench.batches(layer):
        ways = controls.project_by_switches(
            bench.network, images, layer, pairs.units, other_images, draw
        )
        projection = ways.pop("own")
        for name, picture in ways.items():
            if name == "overwritten":
                ssim.add(name, similarity_as_shown(bench, pairs, picture, projection))
            else:
                rank.add(name, similarity(bench, pairs, picture, projection))
    other_switches = "another image's"
    return {
        "rank": rank.summaries(),
        **ssim.summaries(),
        "other_unit_minus_other_switches": rank.minus("another unit", other_switches),
        "other_switches_minus_unrelated": rank.minus(other_switches, "another unit and image"),
    }


def random_weights(bench: Bench, layer: str) -> dict:
    """Measure similarity to the own image above that to another, by weights and pooling."""
    draw = bench.generator(40)
    several = {"trained": [bench.network]}
    several["random"] = [controls.randomized(bench.network, draw) for _ in range(SEEDS)]
    gaps = Gathered()
    for weights, pooling, rule in itertools.product(
        several, ("max", "none"), ("deconvnet", "guided")
    ):
        ssim = Gathered()
        for network in several[weights]:
            network = network if pooling == "max" else controls.subsampled(network)
            for pairs, images, other_images in bench.batches(layer, bench.few):
                picture = bench.project(pairs, images, rule, network)
                ssim.add("own", similarity_as_shown(bench, pairs, picture, images))
                ssim.add("other", similarity_as_shown(bench, pairs, picture, other_images))
        # a pair is one pair, however many networks saw it
        gap = (ssim["own"] - ssim["other"]).view(len(several[weights]), -1).mean(0)
        gaps.add(f"{rule}, {weights}, {pooling}", gap)
    return {
        "above_other_image": gaps.summaries(),
        "max_minus_none": gaps.minus("deconvnet, random, max", "deconvnet, random, none"),
    }


def cascade(bench: Bench) -> dict:
    """Compare class pictures with the trained network's as layers from fc8 down become random."""
    similarities, draw = Gathered(), bench.generator(60)
    stages = list(controls.cascading_randomization(bench.network, "fc8", draw))
    for pairs, images, _ in bench.batches("fc8", bench.few):
        for rule in RULES:
            trained = bench.project(pairs, images, rule)
            for name, network in stages:
                picture = bench.project(pairs, images, rule, network)
                similarities.add(f"{rule}, {name}", similarity(bench, pairs, picture, trained))
    return {"curves": similarities.summaries()}


def rankings(
    bench: Bench, pairs: Pairs, images: Tensor, draw: torch.Generator
) -> dict[str, Tensor]:
    """Return the energy of each pixel by two rules and three controls: (B, S, S) each."""
    other = controls.another_unit(bench.network, pairs.layer, images, pairs.units, draw)
    random = torch.rand(len(images), *images.shape[-2:], generator=draw)
    pictures = {
        "deconvnet": bench.project(pairs, images),
        "gradient": bench.project(pairs, images, "gradient"),
        "another unit": bench.project(dataclasses.replace(pairs, units=other), images),
    }
    energies = {name: picture.square().sum(1) for name, picture in pictures.items()}
    contrast = measures.local_contrast(images)
    return energies | {"contrast": contrast, "random": random.to(images.device)}


def deletions(bench: Bench, layer: str) -> dict:
    """Measure by how much the mean height of deletion curves differs, within pairs."""
    heights, draw = Gathered(), bench.generator(80)
    compared = ("gradient", "another unit", "random")
    for pairs, images, _ in bench.batches(layer, bench.few):
        ranking = rankings(bench, pairs, images, draw)
        for name in ("deconvnet", *compared):
            units = pairs.units
            height = controls.deletion_height(bench.network, images, layer, units, ranking[name])
            heights.add(name, height)
    return {"deconvnet_minus": {name: heights.minus("deconvnet", name) for name in compared}}


def truth(bench: Bench, layer: str) -> dict:
    """Measure the share of a projection's energy inside the part that the unit responds to."""
    shares, draw = Gathered(), bench.generator(100)
    size = bench.network.image_size
    for pairs, images, _ in bench.batches(layer):
        parts = center_crop(bench.split.truth["parts"][pairs.images][:, None], size)[:, 0]
        parts = parts.to(images.device)
        best = controls.most_needed_part(bench.network, images, layer, pairs.units, parts)
        field = bench.field(pairs, images)
        mask = (parts == best[:, None, None]) & (best > 0)[:, None, None] & field
        area = mask.flatten(1).sum(1) / field.flatten(1).sum(1)
        # what covers nothing, or all, of the field has no contrast to find
        area = area.masked_fill((area == 0) | (area > 0.95), torch.nan)
        shares.add("area", area)
        energies = rankings(bench, pairs, images, draw)
        for name in ("deconvnet", "contrast", "another unit"):
            share = measures.share_inside(energies[name] * field, mask)
            shares.add(name, share.masked_fill(area.isnan(), torch.nan))
    gain = {name: shares.minus("deconvnet", name) for name in CONTROLS}
    return {"shares": shares.summaries(), "deconvnet_minus": gain}


def adversarial(bench: Bench) -> dict:
    """Measure what a faint change that flips the class does to the true class's picture."""
    network, cosines, draw = bench.network, Gathered(), bench.generator(120)
    radius = RADIUS / bench.trained.scale
    flipped, tried = 0, 0
    for pairs, images, other_images in bench.batches("fc8"):
        labels = bench.split.labels[pairs.images]
        moved = controls.adversarial_images(network, images, labels, radius)
        flips = (network(moved).argmax(1).cpu() != labels).nonzero().flatten()
        flipped, tried = flipped + len(flips), tried + len(labels)
        if not len(flips):
            continue
        images, unit = images[flips], Units(labels[flips])
        sign = (torch.randint(0, 2, images.shape, generator=draw) * 2.0 - 1).to(images.device)
        versions = {"adversarial": moved[flips], "noise": images + radius * sign}
        versions["another image"] = other_images[flips]
        for (name, version), rule in itertools.product(versions.items(), RULES):
            before, after = (
                controls.project_by_rule(network, x, "fc8", unit, rule).flatten(1)
                for x in (images, version)
            )
            cosines.add(f"{name}, {rule}", F.cosine_similarity(before, after))
    return {"radius": RADIUS, "tried": tried, "flipped": flipped, "moved": cosines.summaries()}


def parts(study: Study) -> Parts:
    """Return every measurement, a layer each; that of the norm is of our own networks alone."""
    bench = Bench(study)
    measurements: Parts = {} if study.adapted else {"norm": lambda: norm_factor(bench)}
    measurements |= {
        "adversarial": lambda: adversarial(bench),
        "cascade-fc8": lambda: cascade(bench),
    }
    each = {"rules": rules, "switches": switches, "random": random_weights, "deletion": deletions}
    if "parts" in bench.split.truth:
        each["truth"] = truth
    for (name, run), layer in itertools.product(each.items(), LAYERS):
        measurements[f"{name}-{layer}"] = functools.partial(run, bench, layer)
    return measurements
