"""Recorded measurements of the chapter on projections, over units as Fig. 2 shows them: one of the top-9 of a map.

A number is a mean over (unit, image) pairs, each of another map, with a bootstrap 95 % interval over pairs.
"""

import dataclasses
import functools
import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from zfrepro import deconvnet, gallery, linear_toy, projections
from zfrepro import picture_measures as measures
from zfrepro.data.transforms import centre_crop
from zfrepro.deconvnet import Units
from zfrepro.layers import contrast_norm
from zfrepro.networks import Network
from zfrepro.statistics import rounded, summary
from zfrepro.studies import Parts, Study

LAYERS = ("conv2", "conv3", "conv4", "conv5")
PAIRS, SEARCHED, BATCH = 80, 1000, 20
FEW = 40  # pairs a layer for what takes many passes
SEEDS = 2  # networks with random weights
RADIUS = 2.0  # of adversarial changes, in grey levels of 255
STEPS = {"fgsm": 1, "pgd": 10}

Summary = dict[str, float | int | None]


def summaries(values: dict[str, Tensor]) -> dict[str, Summary]:
    return {name: summary(found) for name, found in values.items()}


@dataclass(frozen=True)
class Pairs:
    """Units, the images they respond to, and another image for each."""

    layer: str
    images: Tensor  # (n,) indices into the validation split
    units: Units
    others: Tensor  # (n,)

    def chunks(self, most: int | None = None) -> Iterable["Pairs"]:
        for part in torch.arange(len(self.images))[:most].split(BATCH):
            yield Pairs(self.layer, self.images[part], self.units[part], self.others[part])


class Bench:
    """The trained network, the validation images, and pairs for each layer, found when first asked for."""

    def __init__(self, study: Study):
        self.trained, self.split, self.seed = study.networks["zfnet"], study.dataset.val, study.seed
        self.network: Network = self.trained.network
        self.progress = study.progress
        self.searched = self.generator().shuffled(len(self.split))[: study.images or SEARCHED]
        self.pairs_of = functools.cache(self._pairs_of)
        self.tops = functools.cache(self._tops)

    def generator(self, stream: int = 0) -> "Generator":
        return Generator(1000 * self.seed + stream)

    def fetch(self, indices: Tensor) -> Tensor:
        return self.trained.normalised(self.split.images[indices])

    def _tops(self) -> dict[str, gallery.Top]:
        batches = self.searched.split(32)
        found = map(self.fetch, batches)
        return gallery.top_units(self.network, found, LAYERS, progress=self.progress)

    def _pairs_of(self, layer: str) -> Pairs:
        draw = self.generator(1 + self.network.layers.index(layer))
        if layer == "fc8":
            chosen = self.searched[:PAIRS]
            scores = torch.cat([self.network(self.fetch(part)).cpu() for part in chosen.split(32)])
            right = (scores.argmax(1) == self.split.labels[chosen]) & (scores.amax(1) > 0)
            images, units = chosen[right], Units(scores.argmax(1)[right])
        else:
            top = self.tops()[layer]
            alive = (top.values > 0).all(1).nonzero().flatten()
            maps = alive[draw.shuffled(len(alive))[:PAIRS]]
            rank = torch.randint(top.values.shape[1], (len(maps),), generator=draw)
            images = self.searched[top.images[maps, rank]]
            units = Units(maps, top.rows[maps, rank], top.columns[maps, rank])
        step = torch.randint(1, len(self.searched), (len(images),), generator=draw)
        place = {int(image): i for i, image in enumerate(self.searched)}
        at = torch.tensor([place[int(image)] for image in images])
        return Pairs(layer, images, units, self.searched[(at + step) % len(self.searched)])

    def cut(self, pairs: Pairs, pictures: Tensor) -> Tensor:
        return projections.cut_to_field(self.network, pairs.layer, pairs.units, pictures)

    def field(self, pairs: Pairs, pictures: Tensor) -> Tensor:
        return projections.field_mask(self.network, pairs.layer, pairs.units, pictures)


class Generator(torch.Generator):
    """A seeded generator that can also shuffle."""

    def __new__(cls, seed: int):
        return super().__new__(cls)

    def __init__(self, seed: int):
        super().__init__()
        self.manual_seed(seed)

    def shuffled(self, count: int) -> Tensor:
        return torch.randperm(count, generator=self)


class Gathered(dict):
    """Values by name, grown chunk by chunk."""

    def add(self, name: str, values: Tensor) -> None:
        self[name] = torch.cat([self[name], values.detach().cpu()]) if name in self else values.detach().cpu()


def alike(bench: Bench, pairs: Pairs, found: Gathered, name: str, a: Tensor, b: Tensor) -> None:
    """File how alike two pictures of units are in their receptive fields: SSIM, rank correlation, cosine."""
    where = bench.field(pairs, a)
    found.add(f"{name}/ssim", measures.ssim(bench.cut(pairs, a), bench.cut(pairs, b)))
    found.add(f"{name}/rank", measures.rank_correlation(a, b, where))
    found.add(f"{name}/cosine", F.cosine_similarity(a.flatten(1), b.flatten(1)))


def like_image(bench: Bench, pairs: Pairs, found: Gathered, name: str, picture: Tensor, image: Tensor) -> None:
    """File how a picture resembles an image: SSIM, and rank correlation of its energy with the image's contrast."""
    found.add(f"{name}/ssim", measures.ssim(bench.cut(pairs, picture), bench.cut(pairs, image)))
    energy, edges = measures.energy(picture)[:, None], measures.local_contrast(image)[:, None]
    found.add(f"{name}/edges", measures.rank_correlation(energy, edges, bench.field(pairs, picture)))


def nested(values: dict[str, Tensor]) -> dict[str, dict[str, Summary]]:
    """Summaries of values named `what/measure` as {what: {measure: summary}}."""
    out: dict[str, dict[str, Summary]] = {}
    for name, found in values.items():
        what, measure = name.rsplit("/", 1)
        out.setdefault(what, {})[measure] = summary(found)
    return out


def minus(values: dict[str, Tensor], a: str, b: str, names: Iterable[str]) -> dict[str, Summary]:
    """Differences within pairs, a - b, in each measure."""
    return {name: summary(values[f"{a}/{name}"] - values[f"{b}/{name}"]) for name in names}


CLARITY = {"coherence": measures.coherence, "fineness": measures.fineness, "sparsity": measures.sparsity}


def rules(bench: Bench, layer: str) -> dict:
    """How clear each rule's pictures are, and how like the deconvnet's."""
    found = Gathered()
    for pairs in bench.pairs_of(layer).chunks():
        images = bench.fetch(pairs.images)
        ways = {
            rule: projections.by_rule(bench.network, images, layer, pairs.units, rule) for rule in projections.RULES
        }
        for rule, picture in ways.items():
            for name, measure in CLARITY.items():
                found.add(f"{rule}/{name}", measure(bench.cut(pairs, picture)))
            alike(bench, pairs, found, rule, picture, ways["deconvnet"])
        for name, measure in CLARITY.items():
            found.add(f"image/{name}", measure(bench.cut(pairs, images)))
    gain = {rule: minus(found, "deconvnet", rule, CLARITY) for rule in ("forward mask", "gradient", "guided")}
    return {"rules": nested(found), "deconvnet_minus": gain}


def norm_factor(bench: Bench) -> dict:
    """What contrast norm multiplies the units that are on with: the least and the most over the searched images."""
    convs = [conv for conv in bench.network.architecture.convs if conv.norm]
    found = {conv.name: [math.inf, -math.inf] for conv in convs}
    for part in bench.searched.split(BATCH):
        maps = bench.network.features(bench.fetch(part), found)
        for conv in convs:
            x = bench.network.shrink(dataclasses.replace(conv, norm=False), maps[conv.name])  # ZFNet pools first
            least, most = (contrast_norm(x)[x > 0] / x[x > 0]).aminmax()
            found[conv.name] = [min(found[conv.name][0], least.item()), max(found[conv.name][1], most.item())]
    layers = {name: {"least": rounded(least, 6), "most": rounded(most, 6)} for name, (least, most) in found.items()}
    return {"images": len(bench.searched), "layers": layers}


def switches(bench: Bench, layer: str) -> dict:
    """Likeness to the unit's own projection, and to its image, when switches or the unit are exchanged."""
    found, image_found, draw = Gathered(), Gathered(), bench.generator(20)
    for pairs in bench.pairs_of(layer).chunks():
        images, others = bench.fetch(pairs.images), bench.fetch(pairs.others)
        ways = projections.by_switches(bench.network, images, layer, pairs.units, others, draw)
        for name, picture in ways.items():
            alike(bench, pairs, found, name, picture, ways["own"])
            like_image(bench, pairs, image_found, name, picture, images)
        like_image(bench, pairs, image_found, "own, to another image", ways["own"], others)
    measured = ("ssim", "rank", "cosine")
    return {
        "to_own": nested(found),
        "to_image": nested(image_found),
        "other_unit_minus_other_switches": minus(found, "another unit", "another image's", measured),
        "other_unit_minus_unrelated": minus(found, "another unit", "another unit and image", measured),
        "other_switches_minus_unrelated": minus(found, "another image's", "another unit and image", measured),
        "own_minus_other_image": minus(image_found, "own", "own, to another image", ("ssim", "edges")),
    }


def random_weights(bench: Bench, layer: str) -> dict:
    """Likeness to the image for trained and random weights, with max-pool and with subsampling in its place."""
    found, draw = Gathered(), bench.generator(40)
    several = {"trained": [bench.network]}
    several["random"] = [projections.randomised(bench.network, draw) for _ in range(SEEDS)]
    for weights, networks in several.items():
        for pooling in ("max", "none"):
            for network in networks:
                network = network if pooling == "max" else projections.Subsampled.of(network)
                for pairs in bench.pairs_of(layer).chunks(FEW):
                    images, others = bench.fetch(pairs.images), bench.fetch(pairs.others)
                    for rule in ("deconvnet", "gradient", "guided"):
                        picture = projections.by_rule(network, images, layer, pairs.units, rule)
                        name = f"{rule}, {weights}, {pooling}"
                        like_image(bench, pairs, found, name, picture, images)
                        like_image(bench, pairs, found, f"{name}, other", picture, others)
    # a pair is one pair, however many networks saw it
    values = {
        name: found[name].view(len(several["random" if "random" in name else "trained"]), -1).mean(0) for name in found
    }
    names = [name.removesuffix("/ssim") for name in found if name.endswith("/ssim") and ", other" not in name]
    gaps = {f"{n}/{m}": values[f"{n}/{m}"] - values[f"{n}, other/{m}"] for n in names for m in ("ssim", "edges")}
    return {
        "to_image": nested({name: values[name] for name in gaps}),
        "above_other_image": nested(gaps),
        "max_minus_none": {
            weights: minus(gaps, f"deconvnet, {weights}, max", f"deconvnet, {weights}, none", ("ssim", "edges"))
            for weights in several
        },
    }


def cascades(bench: Bench, layer: str) -> dict:
    """Likeness to the trained network's picture as layers from the probed one down get random weights."""
    found, draw = Gathered(), bench.generator(60)
    stages = list(projections.cascade(bench.network, layer, draw))
    for pairs in bench.pairs_of(layer).chunks(FEW):
        images = bench.fetch(pairs.images)
        for rule in ("deconvnet", "gradient", "guided"):
            first = projections.by_rule(bench.network, images, layer, pairs.units, rule)
            for name, network in stages:
                picture = projections.by_rule(network, images, layer, pairs.units, rule)
                alike(bench, pairs, found, f"{rule}, {name}", picture, first)
                energies = [measures.energy(t)[:, None] for t in (picture, first)]
                where = bench.field(pairs, images)
                found.add(f"{rule}, {name}/energy", measures.rank_correlation(*energies, where))
    return {"stages": [name for name, _ in stages], "curves": nested(found)}


ORDERS = ("deconvnet", "gradient", "guided", "contrast", "another unit", "random")


def rankings(bench: Bench, pairs: Pairs, images: Tensor, draw: Generator) -> dict[str, Tensor]:
    """Energy of every pixel by method, (B, S, S): three rules, an edge detector, another unit's deconvnet, random."""
    network, layer, units = bench.network, pairs.layer, pairs.units
    found = {
        rule: measures.energy(projections.by_rule(network, images, layer, units, rule))
        for rule in ("deconvnet", "gradient", "guided")
    }
    maps = network.classes if layer == "fc8" else network.convs[layer].out_channels
    step = torch.randint(1, maps, (len(units),), generator=draw)
    other = Units((units.maps + step) % maps, units.rows, units.columns)
    found["contrast"] = measures.local_contrast(images)
    found["another unit"] = measures.energy(projections.by_rule(network, images, layer, other))
    found["random"] = torch.rand(len(images), *images.shape[-2:], generator=draw).to(images.device)
    return found


def deletions(bench: Bench, layer: str) -> dict:
    """Deletion curves of every order, the mean height of each, and differences within pairs."""
    curves, draw = Gathered(), bench.generator(80)
    for pairs in bench.pairs_of(layer).chunks(FEW):
        images = bench.fetch(pairs.images)
        for name, ranking in rankings(bench, pairs, images, draw).items():
            curves.add(name, projections.deletion(bench.network, images, layer, pairs.units, ranking))
    areas = {name: projections.area_under(found) for name, found in curves.items()}
    return {
        "fractions": list(projections.FRACTIONS),
        "curves": {name: [summary(column) for column in found.T] for name, found in curves.items()},
        "areas": summaries(areas),
        "deconvnet_minus": {name: summary(areas["deconvnet"] - areas[name]) for name in ORDERS[1:]},
    }


def truth(bench: Bench, layer: str) -> dict:
    """Share of a picture's energy inside the object, and inside the part that the unit responds to."""
    found, draw = Gathered(), bench.generator(100)
    size = bench.network.image_size
    for pairs in bench.pairs_of(layer).chunks():
        images = bench.fetch(pairs.images)
        parts = centre_crop(bench.split.truth["parts"][pairs.images][:, None], size)[:, 0].to(images.device)
        best = projections.best_part(bench.network, images, layer, pairs.units, parts)
        field = projections.field_mask(bench.network, layer, pairs.units, images)
        masks = {
            "object": (parts > 0) & field,
            "part": (parts == best[:, None, None]) & (best > 0)[:, None, None] & field,
        }
        for where, mask in masks.items():
            area = mask.flatten(1).sum(1) / field.flatten(1).sum(1)
            # what covers nothing, or all, of the field has no contrast to find
            area = area.masked_fill((area == 0) | (area > 0.95), torch.nan)
            found.add(f"{where}, area/share", area)
            for name, energies in rankings(bench, pairs, images, draw).items():
                share = measures.share_inside(energies * field, mask)
                found.add(f"{where}, {name}/share", share.masked_fill(area.isnan(), torch.nan))
    gain = {
        where: {name: summary(found[f"{where}, deconvnet/share"] - found[f"{where}, {name}/share"])
                for name in ("area", *ORDERS[1:])}
        for where in ("object", "part")
    }  # fmt: skip
    shares = {where: {name: summary(found[f"{where}, {name}/share"]) for name in ("area", *ORDERS)} for where in gain}
    return {"shares": shares, "deconvnet_minus": gain}


def adversarials(bench: Bench) -> dict:
    """What a faint change that flips the class does to projections and to the strongest maps."""
    network, found, draw = bench.network, Gathered(), bench.generator(120)
    radius = RADIUS / bench.trained.recipe.input_scale
    flips, tried = {"fgsm": 0, "pgd": 0}, 0
    for part in bench.pairs_of("fc8").chunks():
        images, labels = bench.fetch(part.images), bench.split.labels[part.images]
        moved = {name: projections.adversarial(network, images, labels, radius, n) for name, n in STEPS.items()}
        wrong = {name: network(x).argmax(1).cpu() != labels for name, x in moved.items()}
        flips = {name: flips[name] + int(wrong[name].sum()) for name in STEPS}
        tried += len(labels)
        kept = wrong["pgd"].nonzero().flatten()
        if not len(kept):
            continue
        images, labels = images[kept], labels[kept]
        sign = (torch.randint(0, 2, images.shape, generator=draw) * 2.0 - 1).to(images.device)
        versions = {"adversarial": moved["pgd"][kept], "noise": images + radius * sign}
        versions["another image"] = bench.fetch(part.others[kept])
        before = network.features(images, LAYERS)
        units = {"conv5": deconvnet.strongest(before["conv5"]), "fc8": Units(labels)}
        for name, version in versions.items():
            after = network.features(version, LAYERS)
            for layer in LAYERS:
                found.add(f"{name}, {layer}/top9", kept_share(*(t[layer].amax((2, 3)) for t in (before, after))))
                both = (t[layer].flatten(1) for t in (before, after))
                found.add(f"{name}, {layer}/activations", F.cosine_similarity(*both))
            for layer, unit in units.items():
                pairs = Pairs(layer, part.images[kept], unit, part.others[kept])
                for rule in ("deconvnet", "gradient", "guided"):
                    a, b = (projections.by_rule(network, x, layer, unit, rule) for x in (images, version))
                    alike(bench, pairs, found, f"{name}, {layer}, {rule}", a, b)
        # the picture of the new, wrong class beside that of the true one
        a = projections.by_rule(network, images, "fc8", units["fc8"])
        taken = versions["adversarial"]
        b = projections.by_rule(network, taken, "fc8", Units(network(taken).argmax(1)))
        alike(bench, pairs, found, "wrong class, fc8, deconvnet", a, b)
    return {"radius": RADIUS, "tried": tried, "flipped": flips, "moved": nested(found)}


def kept_share(a: Tensor, b: Tensor, k: int = 9) -> Tensor:
    """Share of the k strongest maps of an image that are among the k strongest of another. (B, C) each -> (B,)."""
    first, second = (t.topk(k, 1).indices for t in (a, b))
    return (first[:, :, None] == second[:, None, :]).any(2).float().mean(1)


def toy() -> dict:
    """The linear model, for three angles between signal and distractor."""
    rows = []
    for angle in (0.0, 0.4, 0.8):
        made = linear_toy.made(angle)
        pictures = {"filter": made.filter, "pattern": made.pattern}
        rows.append(
            {"angle": angle}
            | {f"{name}_signal": rounded(linear_toy.cosine(p, made.signal)) for name, p in pictures.items()}
            | {f"{name}_distractor": rounded(linear_toy.cosine(p, made.distractor)) for name, p in pictures.items()}
        )
    return {"rows": rows}


def parts(study: Study) -> Parts:
    """Every measurement, a layer each."""
    bench = Bench(study)
    found: Parts = {"toy": toy, "norm": lambda: norm_factor(bench), "adversarial": lambda: adversarials(bench)}
    each = [("rules", rules, (*LAYERS, "fc8")), ("switches", switches, LAYERS), ("random", random_weights, LAYERS)]
    each += [("cascade", cascades, (*LAYERS, "fc8")), ("deletion", deletions, (*LAYERS, "fc8"))]
    if "parts" in bench.split.truth:
        each.append(("truth", truth, (*LAYERS, "fc8")))
    for name, run, layers in each:
        for layer in layers:
            found[f"{name}-{layer}"] = functools.partial(run, bench, layer)
    return found
