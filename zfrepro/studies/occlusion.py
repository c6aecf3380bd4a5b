"""What Fig. 7 suggests, measured over validation images: does covering the object matter, and what do its maps share?

The heat maps and projections of the figure go to `results/occlusion/WORLD.safetensors`, so that the figure stands where
the photographs are not.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import save
from torch import Tensor

from zfrepro import deconvnet, device, gallery, occlusion, plots, records
from zfrepro.data import Split
from zfrepro.data.diorama import PART_NAMES
from zfrepro.deconvnet import Units, strongest
from zfrepro.occlusion import Occlusion, occlude
from zfrepro.statistics import rounded, summary
from zfrepro.studies import Parts, Study
from zfrepro.weights import Trained

LAYER, WATCHED = "conv5", "convs.conv5"
EXAMPLES = {"diorama": ("chapel", "zebra", "truck"), "imagenet20": ("Samoyed", "garbage truck", "French horn")}
COUNTS = {"diorama": 200}  # images of the main measurement
COUNT, COUNT_SETTINGS, COUNT_CLASS = 120, 50, 30  # elsewhere; for other squares; for the parts, a class
FEWEST = 8  # images for a part, and for a control of it
ASTRAY = 0.05  # of a moved shape, at most, where it should not be: large shapes have no room elsewhere
POSITIONS = 10  # a side, for statistics; the figure has 30
SETTINGS = (
    ("grey", 1.0), ("mean", 1.0), ("blur", 1.0), ("noise", 1.0), ("grey", 0.5), ("grey", 1.5), ("grey", 2.0),
)  # fmt: skip
TILE = 64  # pixels a kept projection is reduced to
OTHERS = 3  # further images for panel (c)


@dataclass(frozen=True)
class Row:
    """One row of Fig. 7."""

    index: int  # of the validation image
    label: int
    map: int  # panel (b)'s
    others: tuple[int, ...]  # images that excite the map most
    clean: float  # probability of the true class without the square
    activity: Tensor  # (30, 30)
    probability: Tensor  # (30, 30)
    predicted: Tensor  # (30, 30)
    projections: Tensor  # (1 + OTHERS, 3, F, F) as colours of 0 to 1, this image first


def grey(trained: Trained) -> Tensor:
    """Mid-grey, 128 of 255, as the network sees it: (1, 3, S, S)."""
    return trained.normalised(torch.full_like(trained.mean, 128)[None])


@torch.inference_mode()
def search(trained: Trained, split: Split) -> tuple[Tensor, gallery.Top]:
    """Class probabilities of all images (N, classes), and the images that excite each layer-5 map most."""
    network = trained.network
    tracker = gallery.TopTracker(LAYER, network.convs[LAYER].out_channels, OTHERS + 1, trained.mean.device)
    said = []
    for part in split.images.split(32):
        found = network.features(trained.normalised(part), [LAYER, "fc8"])
        tracker.add(found[LAYER])
        said.append(F.softmax(found["fc8"], 1).cpu())
    return torch.cat(said), tracker.top()


def examples(world: str, classes: tuple[str, ...], said: Tensor, labels: Tensor) -> list[int]:
    """The figure's images: of three classes, the first validation image that the network names rightly."""
    names = EXAMPLES.get(world, classes[:3])
    right = said.argmax(1).eq(labels)
    chosen = [(right & labels.eq(classes.index(name))).nonzero().flatten() for name in names]
    return [int(found[0]) for found in chosen if len(found)]


@torch.inference_mode()
def rows(trained: Trained, split: Split, top: gallery.Top, indices: list[int], *, progress: bool = False) -> list[Row]:
    """Fig. 7 for some validation images: a 30 x 30 map each, in single precision."""
    x, labels = trained.normalised(split.images[indices]), split.labels[indices]
    patch, stride = occlusion.paper_geometry(x.shape[-1])
    found = occlude(
        trained.network, x, patch=patch, stride=stride, fill=grey(trained), layer=WATCHED, progress=progress
    )
    return [
        _row(trained, split, top, found, k, index, int(label))
        for k, (index, label) in enumerate(zip(indices, labels, strict=True))
    ]


def _row(trained: Trained, split: Split, top: gallery.Top, found: Occlusion, k: int, index: int, label: int) -> Row:
    number = int(found.strongest[k])
    others = tuple(i for i in top.images[number].tolist() if i not in (index, -1))[:OTHERS]
    pixels = map_projections(
        trained, trained.normalised(split.images[[index, *others]]), torch.full((1 + len(others),), number)
    )
    return Row(
        index, label, number, others, float(found.clean[k, label]), found.activity[k, :, :, number],
        found.probabilities[k, :, :, label], found.predicted[k], plots.shown(pixels),
    )  # fmt: skip


@torch.inference_mode()
def map_projections(trained: Trained, images: Tensor, maps: Tensor) -> Tensor:
    """Projection of the strongest unit of one layer-5 map an image. (B, 3, S, S), (B,) -> (B, 3, F, F)."""
    return deconvnet.project_crops(trained.network, images, LAYER, _units(trained, images, maps)).pixels.cpu()


def _units(trained: Trained, images: Tensor, maps: Tensor) -> Units:
    own = trained.network.features(images, [LAYER])[LAYER][torch.arange(len(maps)), maps]
    units = strongest(own[:, None])
    return Units(maps.to(images.device), units.rows, units.columns)


@torch.inference_mode()
def energy(trained: Trained, images: Tensor, maps: Tensor) -> Tensor:
    """Squared projection of one layer-5 map an image, in its place in the image. -> (B, S, S)."""
    found = []
    for x, own in zip(images.split(16), maps.split(16), strict=True):
        p = deconvnet.project_crops(trained.network, x, LAYER, _units(trained, x, own))
        size = p.pixels.shape[-1]
        out = torch.zeros(len(x), *x.shape[-2:])
        for k, (top, left) in enumerate(zip(p.tops.tolist(), p.lefts.tolist(), strict=True)):
            y0, y1 = max(top, 0), min(top + size, x.shape[-2])
            x0, x1 = max(left, 0), min(left + size, x.shape[-1])
            squared = p.pixels[k].cpu().square().sum(0)
            out[k, y0:y1, x0:x1] = squared[y0 - top : y1 - top, x0 - left : x1 - left]
        found.append(out)
    return torch.cat(found)


def of_squares(found: Occlusion, labels: Tensor, mask: Tensor | None) -> dict[str, Any]:
    """Means over images of what one kind of square does.

    Args:
        mask: (B, S, S) bool, the object, where it is known.
    """
    p, clean = found.of(labels), found.clean[torch.arange(len(labels)), labels]
    together = occlusion.correlation(found.activity_of(found.strongest), p)
    kept = found.predicted.eq(labels[:, None, None]).float().mean((1, 2))
    out = {
        "patch": found.patch,
        "clean": summary(clean),
        "worst_drop": summary(clean - p.flatten(1).amin(1)),
        "typical_drop": summary(clean - p.flatten(1).median(1).values),
        "label_kept": summary(kept),
        "label_changes": summary(kept.lt(1)),
        "together": summary(together),
    }
    if mask is None:
        return out
    cover = occlusion.share_covered(mask, found)
    most, least = cover.flatten(1).amax(1)[:, None, None], cover.flatten(1).amin(1)[:, None, None]
    on, off = cover.ge(most.clamp_max(0.5)), cover.le(least.clamp_min(0.05))  # half and a twentieth of the square
    covered, beside = ((p * where).sum((1, 2)) / where.sum((1, 2)) for where in (on, off))
    at = occlusion.lowest(p, found)
    hit = mask[torch.arange(len(mask)), at[:, 0], at[:, 1]].float()
    middle = mask[:, mask.shape[1] // 2, mask.shape[2] // 2].float()
    changed = found.predicted.ne(labels[:, None, None])
    out["object"] = {
        "cover": summary((cover * on).sum((1, 2)) / on.sum((1, 2))),
        "cover_beside": summary((cover * off).sum((1, 2)) / off.sum((1, 2))),
        "lower": summary(covered < beside),
        "drop": summary(clean - covered),
        "drop_beside": summary(clean - beside),
        "extra": summary(beside - covered),
        "pointing": summary(hit),
        "pointing_random": summary(occlusion.middles_on(mask, found).float().mean((1, 2))),
        "pointing_centre": summary(middle),
        "pointing_gain": summary(hit - middle),
        "cover_changed": summary((cover * changed).sum((1, 2)) / changed.sum((1, 2))),
        "cover_kept": summary((cover * ~changed).sum((1, 2)) / (~changed).sum((1, 2))),
    }
    return out


class _Measured:
    """The images of the measurement and what several parts share."""

    def __init__(self, study: Study):
        self.study, self.trained, self.split = study, study.networks["zfnet"], study.dataset.val
        self.precision = device.precision(study.device, "bf16")
        self._cache: dict[str, Any] = {}

    def once(self, name: str, make: Callable[[], Any]) -> Any:
        if name not in self._cache:
            self._cache[name] = make()
        return self._cache[name]

    @property
    def searched(self) -> tuple[Tensor, gallery.Top]:
        return self.once("search", lambda: search(self.trained, self.split))

    def chosen(self, count: int) -> Tensor:
        """Evenly spaced among the images that the network names rightly."""
        right = self.searched[0].argmax(1).eq(self.split.labels).nonzero().flatten()
        return right[torch.linspace(0, len(right) - 1, min(count, len(right))).long()]

    def main(self) -> Tensor:
        return self.chosen(self.study.images or COUNTS.get(self.study.dataset.name, COUNT))

    def mask(self, indices: Tensor) -> Tensor | None:
        mask = self.split.truth.get("mask")
        return None if mask is None else self.trained.seen(mask[indices][:, None])[:, 0]

    def squares(self, indices: Tensor, *, kind: str = "grey", factor: float = 1.0, arch: str = "zfnet") -> Occlusion:
        """10 x 10 positions of a square of `factor` times the paper's side."""
        trained = self.study.networks[arch]
        x = trained.normalised(self.split.images[indices])
        patch = round(occlusion.paper_geometry(x.shape[-1])[0] * factor)
        generator = torch.Generator().manual_seed(self.study.seed)
        fill = occlusion.filling(kind, x, patch, grey=grey(trained), generator=generator)
        return occlude(
            trained.network, x, patch=patch, stride=(x.shape[-1] - patch) / (POSITIONS - 1), fill=fill,
            layer=WATCHED, precision=self.precision, progress=self.study.progress,
        )  # fmt: skip

    @property
    def grey_squares(self) -> Occlusion:
        return self.once("main", lambda: self.squares(self.main()))


def parts(study: Study) -> Parts:
    """See the module."""
    m = _Measured(study)
    found: Parts = {
        "figure": lambda: _figure(m),
        "main": lambda: of_squares(m.grey_squares, m.split.labels[m.main()], m.mask(m.main())) | _choice(m),
        "maps": lambda: _maps(m),
        "projections": lambda: _projections(m),
        "agreement": lambda: _agreement(m),
        "settings": lambda: _settings(m),
    }
    if "mask" in m.split.truth:
        found |= {"shapes": lambda: _shapes(m), "object_parts": lambda: _object_parts(m)}
    return found


def _choice(m: _Measured) -> dict[str, Any]:
    """Which images, and how far from the middle of the picture their minima lie, in units of half its side."""
    found, labels = m.grey_squares, m.split.labels[m.main()]
    side = m.trained.recipe.image_size / 2
    at = (occlusion.lowest(found.of(labels), found) - side).float().norm(dim=1) / side
    places = (found.rows + found.patch // 2 - side).float() / side
    everywhere = (places[:, None].square() + places[None].square()).sqrt().mean()
    return {
        "positions": POSITIONS, "precision": m.precision, "images": len(labels),
        "right": rounded(m.searched[0].argmax(1).eq(m.split.labels).float().mean().item()),
        "validation": len(m.split), "from_middle": summary(at), "from_middle_random": rounded(everywhere.item()),
    }  # fmt: skip


def _figure(m: _Measured) -> dict[str, Any]:
    said, top = m.searched
    classes = m.study.dataset.classes
    found = rows(m.trained, m.split, top, examples(m.study.dataset.name, classes, said, m.split.labels))
    patch, stride = occlusion.paper_geometry(m.trained.recipe.image_size)
    tensors = {
        "activity": torch.stack([r.activity for r in found]).half(),
        "probability": torch.stack([r.probability for r in found]).half(),
        "predicted": torch.stack([r.predicted for r in found]).to(torch.int16),
        "projections": (255 * torch.stack([_tiles(r.projections) for r in found])).round().to(torch.uint8),
    }
    file = records.results_root() / "occlusion" / f"{m.study.dataset.name}.safetensors"
    records.write_atomically(file, save(tensors))
    x = m.trained.normalised(m.split.images[[r.index for r in found]])
    half = occlude(
        m.trained.network, x, patch=patch, stride=stride, fill=grey(m.trained), precision="bf16", progress=False
    )
    whole = torch.stack([r.probability for r in found])
    off = (half.of(torch.tensor([r.label for r in found])) - whole).abs()
    return {
        "patch": patch, "stride": rounded(stride),
        "bf16_error": {"mean": rounded(off.mean().item()), "max": rounded(off.max().item())},
        "rows": [_told(r, classes) for r in found],
    }  # fmt: skip


def _tiles(projections: Tensor) -> Tensor:
    """(1 + OTHERS, 3, TILE, TILE), grey where there are fewer other images."""
    out = torch.full((1 + OTHERS, 3, TILE, TILE), plots.GREY)
    out[: len(projections)] = F.interpolate(projections, size=(TILE, TILE), mode="area")
    return out


def _told(r: Row, classes: tuple[str, ...]) -> dict[str, Any]:
    p = r.probability
    counts = Counter(r.predicted.flatten().tolist())
    return {
        "index": r.index, "class": classes[r.label], "label": r.label, "map": r.map, "others": list(r.others),
        "clean": rounded(r.clean), "min": rounded(p.min().item()), "median": rounded(p.median().item()),
        "max": rounded(p.max().item()), "kept": rounded(counts[r.label] / p.numel()),
        "winners": {classes[k]: n for k, n in counts.most_common(4)},
        "together": rounded(occlusion.correlation(r.activity[None], p[None]).item()),
    }  # fmt: skip


def _maps(m: _Measured) -> dict[str, Any]:
    """Correlation over positions of a layer-5 map's activity with the class's probability, image by image."""
    found, labels = m.grey_squares, m.split.labels[m.main()]
    p = found.of(labels)
    by_sum = occlusion.correlation(found.activity_of(found.strongest), p)
    x = m.trained.normalised(m.split.images[m.main()])
    with torch.inference_mode():
        peaks = torch.cat([m.trained.network.features(part, [LAYER])[LAYER].amax((2, 3)).cpu() for part in x.split(16)])
    by_peak = occlusion.correlation(found.activity_of(peaks.argmax(1)), p)
    every = torch.stack(
        [occlusion.correlation(found.activity[..., c], p) for c in range(found.activity.shape[-1])], 1
    )  # (B, C)
    return {
        "strongest": summary(by_sum),
        "strongest_by_peak": summary(by_peak),
        "any_map": summary(every.nanmean(1)),
        "rank": summary((every < by_sum[:, None]).sum(1) / (~every.isnan()).sum(1)),
        "positive": summary(by_sum.gt(0.3).float().masked_fill(by_sum.isnan(), torch.nan)),
        "negative": summary(by_sum.lt(0).float().masked_fill(by_sum.isnan(), torch.nan)),
        "values": [round(v, 3) for v in by_sum[~by_sum.isnan()].tolist()],
    }


def _projections(m: _Measured) -> dict[str, Any]:
    """Does a map lose its activity where its projection is covered? Correlation with the energy under the square."""
    found, x = m.grey_squares, m.trained.normalised(m.split.images[m.main()])
    under = occlusion.share_covered(energy(m.trained, x, found.strongest), found)
    activity = found.activity_of(found.strongest)
    other = under.roll(1, 0)  # the control: another image's projection
    at = [e.flatten(1).argmax(1)[:, None] for e in (under, other)]
    clean = found.clean_activity.gather(1, found.strongest[:, None])[:, 0]
    left = [activity.flatten(1).gather(1, a)[:, 0] / clean for a in at]
    return {
        "own": summary(occlusion.correlation(under, activity)),
        "other": summary(occlusion.correlation(other, activity)),
        "left_own": summary(left[0]),
        "left_other": summary(left[1]),
        "lower": summary(left[0] < left[1]),
    }


def _agreement(m: _Measured) -> dict[str, Any]:
    """Do two networks agree on where it hurts? Correlation of their probability maps, the same image or another's."""
    labels = m.split.labels[m.main()]
    ours = m.grey_squares.of(labels)
    theirs = m.squares(m.main(), arch="krizhevsky").of(labels)
    return {
        "same": summary(occlusion.correlation(ours, theirs)),
        "other": summary(occlusion.correlation(ours, theirs.roll(1, 0))),
    }


def _settings(m: _Measured) -> list[dict[str, Any]]:
    """Other fills and sizes, one changed at a time, on fewer images."""
    indices = m.chosen(min(len(m.main()), COUNT_SETTINGS))
    found = []
    for kind, factor in SETTINGS:
        squares = m.squares(indices, kind=kind, factor=factor)
        found.append({"fill": kind, "factor": factor, **of_squares(squares, m.split.labels[indices], m.mask(indices))})
    return found


@torch.inference_mode()
def _covered(m: _Measured, indices: Tensor, masks: Tensor) -> Tensor:
    """Probability of the true class when exactly the masked pixels are grey. -> (B,)."""
    fill, said = grey(m.trained), []
    for part, mask in zip(indices.split(32), masks.split(32), strict=True):
        x = torch.where(mask[:, None].to(fill.device), fill, m.trained.normalised(m.split.images[part]))
        said.append(F.softmax(m.trained.network(x), 1)[torch.arange(len(part)), m.split.labels[part]].cpu())
    return torch.cat(said)


def _shapes(m: _Measured) -> dict[str, Any]:
    """The object covered to the pixel, and the same shape covered elsewhere."""
    indices = m.main()
    mask = m.mask(indices)
    moved, left = occlusion.elsewhere(mask, mask)
    free = left < ASTRAY
    indices, mask, moved, left = indices[free], mask[free], moved[free], left[free]
    clean = m.searched[0][indices, m.split.labels[indices]]
    on, off = _covered(m, indices, mask), _covered(m, indices, moved)
    return {
        "area": summary(mask.float().mean((1, 2))),
        "overlap": summary(left),
        "lower": summary(on < off),
        "drop": summary(clean - on),
        "drop_elsewhere": summary(clean - off),
        "extra": summary(off - on),
    }


def _object_parts(m: _Measured) -> list[dict[str, Any]]:
    """Each part of each class covered to the pixel; the same shape beside the object; the same elsewhere on it."""
    said, _ = m.searched
    labels, classes = m.split.labels, m.study.dataset.classes
    right = said.argmax(1).eq(labels)
    found = []
    for k, name in enumerate(classes):
        indices = (right & labels.eq(k)).nonzero().flatten()[:COUNT_CLASS]
        if not len(indices):
            continue
        numbers = m.trained.seen(m.split.truth["parts"][indices][:, None])[:, 0]
        for number in numbers.unique().tolist():
            mask = numbers.eq(number)
            large = mask.float().mean((1, 2)).gt(0.002)  # of the picture: some 18 pixels of 96 x 96
            if number == 0 or large.sum() < FEWEST:
                continue
            own, mask, whole = indices[large], mask[large], numbers[large].gt(0)
            clean, on = said[own, k], _covered(m, own, mask)
            beside, rest = _moved(m, own, mask, whole), _moved(m, own, mask, mask | ~whole)
            found.append({
                "class": name, "part": PART_NAMES[number], "area": summary(mask.float().mean((1, 2))),
                "drop": summary(clean - on), "drop_beside": summary(clean - beside),
                "drop_on_object": summary(clean - rest), "extra": summary(rest - on),
            })  # fmt: skip
    return sorted(found, key=lambda row: -row["drop"]["mean"])


def _moved(m: _Measured, indices: Tensor, mask: Tensor, avoid: Tensor) -> Tensor:
    """`_covered` with each shape moved off `avoid`; nan where there is no room, and everywhere if that leaves few."""
    moved, left = occlusion.elsewhere(mask, avoid)
    free = left < ASTRAY
    if free.sum() < FEWEST:
        free[:] = False
    return _covered(m, indices, moved).masked_fill(~free, torch.nan)
