"""Fig. 7, and what it suggests measured over validation images: does covering the object matter?

The heat maps and projections of the figure go to `results/occlusion/NAME.safetensors`, so that
the figure stands where the photographs are not.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import save
from torch import Tensor

from diorama import PART_NAMES
from zfrepro import device, gallery, occlusion, plots, records, rules
from zfrepro.data import Dataset, Split, photos
from zfrepro.data.transforms import stored_size
from zfrepro.deconvnet import Units, strongest
from zfrepro.measure import Parts, Study
from zfrepro.occlusion import Occlusion, occlude
from zfrepro.stats import correlation, rounded, summary
from zfrepro.weights import Trained

REVISION = 3  # without the drop of the main square, which nothing read
BOXES = "occlusion/boxes"  # record of the objects' boxes, drawn by hand on photographs
LAYER = "conv5"
ROWS, SCANNED, SCAN_POSITIONS = 3, 100, 5  # of the figure; images tried for it; positions a side
COUNTS = {"diorama": 200}  # images of the main measurement
COUNT = 300  # the same of other data sets
COUNT_SETTINGS, COUNT_CLASS = 50, 30  # for other squares; for the parts, a class
ON, BESIDE = 0.5, 0.05  # least share of a square on the object, and largest beside it
FEWEST = 8  # images for a part, and for a control of it
ASTRAY = 0.05  # of a moved shape, at most, where it should not be: large ones have no room
POSITIONS = 10  # a side, for statistics; the figure has 30
SETTINGS = (*((fill, 1.0) for fill in occlusion.FILLS), ("grey", 0.5), ("grey", 1.5), ("grey", 2.0))
TILE = 112  # px to which a recorded projection is resized
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
    patch: int  # side of the square in pixels


def grey(trained: Trained) -> Tensor:
    """Return mid-grey, 128 of 255, as the network sees it: (1, 3, S, S)."""
    return trained.preprocess(torch.full_like(trained.mean, 128)[None])


def slide(
    trained: Trained, x: Tensor, patch: int, positions: int, kind: str = "grey", **options: Any
) -> Occlusion:
    """Slide a square of `patch` px over images (B, 3, S, S) and watch layer 5.

    Args:
        positions: a side.
        kind: what the square shows, see `occlusion.filling`.
        options: of `occlude`.
    """
    generator = torch.Generator().manual_seed(0)
    fill = occlusion.filling(kind, x, patch, grey=grey(trained), generator=generator)
    stride = (x.shape[-1] - patch) / (positions - 1)
    options = {"progress": False, "layer": trained.network.module(LAYER)} | options
    return occlude(trained.network, x, patch=patch, stride=stride, fill=fill, **options)


@torch.inference_mode()
def search(trained: Trained, split: Split) -> tuple[Tensor, gallery.Top]:
    """Return class probabilities (N, classes), and the images that excite each layer-5 map most."""
    tracker, probabilities = None, []
    for part in split.images.split(32):
        outputs = trained.network.features(trained.preprocess(part), [LAYER, "fc8"])
        maps = outputs[LAYER]
        tracker = tracker or gallery.TopTracker(LAYER, maps.shape[1], OTHERS + 1, maps.device)
        tracker.add(maps)
        probabilities.append(F.softmax(outputs["fc8"], 1).cpu())
    return torch.cat(probabilities), tracker.top()


def evenly(right: Tensor, count: int) -> Tensor:
    """Return `count` images, evenly spaced among those that are right. (N,) bool -> (count,)."""
    indices = right.nonzero().flatten()
    return indices[torch.linspace(0, len(indices) - 1, min(count, len(indices))).long()]


def most_varied(trained: Trained, split: Split, probabilities: Tensor) -> list[int]:
    """Choose the figure's images: those whose probability depends most on where the square is.

    Of 100 images classified correctly, evenly spaced, the one of each class with the largest
    standard deviation of the true class's probability over 5 x 5 positions; of these the first.
    """
    indices = evenly(probabilities.argmax(1).eq(split.labels), SCANNED)
    x, labels = trained.preprocess(split.images[indices]), split.labels[indices]
    slid = slide(trained, x, occlusion.paper_geometry(x.shape[-1])[0], SCAN_POSITIONS, layer=None)
    spread = slid.of(labels).flatten(1).std(1)
    best: dict[int, int] = {}  # of each class the first, which is the most varied
    for k in spread.argsort(descending=True).tolist():
        best.setdefault(int(labels[k]), int(indices[k]))
    return list(best.values())[:ROWS]


@torch.inference_mode()
def rows(
    trained: Trained, split: Split, top: gallery.Top, indices: list[int], patch: int | None = None,
    kind: str = "grey",
) -> list[Row]:  # fmt: skip
    """Compute Fig. 7 for some validation images: maps of 30 x 30 positions, in single precision.

    patch: side of the square in pixels; default, in proportion with the paper's.
    """
    x = trained.preprocess(split.images[indices])
    patch = patch or occlusion.paper_geometry(x.shape[-1])[0]
    slid = slide(trained, x, patch, occlusion.PAPER_POSITIONS, kind)
    figure_rows = []
    for k, index in enumerate(indices):
        label, number = int(split.labels[index]), int(slid.strongest[k])
        exciting = tuple(i for i in top.images[number].tolist() if i not in (index, -1))[:OTHERS]
        images = trained.preprocess(split.images[[index, *exciting]])
        units = _strongest_units(trained, images, torch.full((len(images),), number))
        pixels = rules.project_to_fields(trained.network, images, LAYER, units).pixels.cpu()
        maps = slid.activity[k, ..., number], slid.probabilities[k, ..., label], slid.predicted[k]
        clean, colours = float(slid.clean[k, label]), plots.display(pixels[None])[0]
        figure_rows.append(Row(index, label, number, exciting, clean, *maps, colours, patch))
    return figure_rows


@torch.no_grad()
def _strongest_units(trained: Trained, images: Tensor, maps: Tensor) -> Units:
    """Return the strongest unit of one map of layer 5 an image. (B, 3, S, S), (B,) -> B units."""
    activations = trained.network.features(images, [LAYER])[LAYER][torch.arange(len(maps)), maps]
    units = strongest(activations[:, None])
    return Units(maps.to(images.device), units.rows, units.columns)


def energy(trained: Trained, images: Tensor, maps: Tensor) -> Tensor:
    """Return the squared projection of one map of layer 5 an image: (B, S, S)."""
    model, energies = trained.network.output(LAYER), []
    for x, numbers in zip(images.split(16), maps.split(16), strict=True):
        pixels = rules.project(model, x, _strongest_units(trained, x, numbers))
        energies.append(pixels.square().sum(1).cpu())
    return torch.cat(energies)


def share_covered(weights: Tensor, slid: Occlusion) -> Tensor:
    """Return the mean of `weights` under the window: of a mask, the share of the window on it.

    weights: (B, H, W), bool or float -> (B, R, Q).
    """
    every = F.avg_pool2d(weights.double(), slid.window, stride=1)
    return every[:, slid.rows[:, None], slid.columns].float()


def middles_on(mask: Tensor, slid: Occlusion) -> Tensor:
    """Tell whether the middle of the window lies on the mask. (B, H, W) -> (B, R, Q), bool."""
    height, width = slid.window
    return mask[:, slid.rows[:, None] + height // 2, slid.columns + width // 2]


def clean_of(slid: Occlusion, labels: Tensor) -> Tensor:
    """Return the probability of one class an image without a square. (B,) -> (B,)."""
    return slid.clean.gather(1, labels[:, None])[:, 0]


def of_objects(slid: Occlusion, labels: Tensor, mask: Tensor) -> dict[str, Any]:
    """Compare squares on the object with squares beside it, and play the pointing game.

    Squares on it have half of their area there, or as much as any has; squares beside it at most a
    twentieth. An image that no square leaves so free counts in the pointing game alone.

    mask: (B, S, S) bool, the object.
    """
    p, clean = slid.of(labels), clean_of(slid, labels)
    cover = share_covered(mask, slid)
    on = cover.ge(cover.flatten(1).amax(1).clamp_max(ON)[:, None, None])
    off = cover.le(BESIDE) & ~on
    covered, beside = ((p * where).sum((1, 2)) / where.sum((1, 2)) for where in (on, off))
    covered = covered.masked_fill(beside.isnan(), torch.nan)
    lower = covered.lt(beside).float().masked_fill(beside.isnan(), torch.nan)
    anywhere = middles_on(mask, slid).flatten(1).float()
    hit = anywhere.gather(1, p.flatten(1).argmin(1, keepdim=True))[:, 0]
    middle = mask[:, mask.shape[1] // 2, mask.shape[2] // 2].float()
    return {
        "lower": summary(lower),
        "drop": summary(clean - covered),
        "drop_beside": summary(clean - beside),
        "extra": summary(beside - covered),
        "pointing": summary(hit),
        "pointing_random": summary(anywhere.mean(1)),
        "pointing_centre": summary(middle),
        "pointing_gain": summary(hit - middle),
    }


def photographs_with_boxes(dataset: Dataset, root: Path | None) -> Split:
    """Load the photographs of `BOXES`; their `mask` is as the network sees it."""
    drawn, size = records.read(BOXES)["photographs"], dataset.image_size
    folder, stored = photos.find_folder(dataset.name, root), stored_size(size)
    images = [torch.tensor(photos.decode(folder / one["file"], stored)) for one in drawn]
    labels = torch.tensor([dataset.classes.index(one["class"]) for one in drawn])
    masks = torch.zeros(len(drawn), size, size, dtype=torch.bool)
    for mask, one in zip(masks, drawn, strict=True):
        for x0, y0, x1, y1 in torch.tensor(one["boxes"]).mul(size).round().int().tolist():
            mask[y0:y1, x0:x1] = True
    return Split(torch.stack(images).permute(0, 3, 1, 2), labels, {"mask": masks})


class _Measured:
    """The images of the measurement and what several parts share."""

    def __init__(self, study: Study):
        self.study, self.trained, self.split = study, study.trained, study.val
        self.precision = device.precision(study.device, "bf16")

    @cached_property
    def searched(self) -> tuple[Tensor, gallery.Top]:
        return search(self.trained, self.split)

    @cached_property
    def right(self) -> Tensor:
        return self.searched[0].argmax(1).eq(self.split.labels)

    @cached_property
    def main(self) -> Tensor:
        return evenly(self.right, self.study.images or COUNTS.get(self.study.dataset.name, COUNT))

    @cached_property
    def chosen(self) -> Split:
        return self.split.chosen(self.main)

    @cached_property
    def grey_squares(self) -> Occlusion:
        return self.squares(self.chosen.images)

    @cached_property
    def mask(self) -> Tensor:
        return self.trained.center_crop(self.chosen.truth["mask"][:, None])[:, 0]

    def squares(
        self, images: Tensor, *, kind: str = "grey", factor: float = 1.0,
        trained: Trained | None = None, precision: str | None = None,
    ) -> Occlusion:  # fmt: skip
        """Cover images at 10 x 10 positions with a square of `factor` times the paper's side.

        images: uint8, as the data set stores them; precision: default, bf16 where it is fast.
        """
        trained = trained or self.trained
        x = trained.preprocess(images)
        patch = round(occlusion.paper_geometry(x.shape[-1])[0] * factor)
        options = {"precision": precision or self.precision, "progress": self.study.progress}
        return slide(trained, x, patch, POSITIONS, kind, **options)


def parts(study: Study) -> Parts:
    """Return the measurements of the chapter; those of objects need masks, or boxes.

    Other fills and sizes are tried with our own network only.
    """
    m = _Measured(study)
    measurements: Parts = {
        "figure": lambda: _figure(m),
        "main": lambda: _labels(m),
        "maps": lambda: _maps(m),
        "projections": lambda: _projections(m),
        "agreement": lambda: _agreement(m),
    }
    if not study.adapted:
        measurements["settings"] = lambda: _settings(m)
    if "mask" in m.split.truth:
        measurements["objects"] = lambda: _compared(m, m.chosen, m.mask)
        measurements |= {"shapes": lambda: _shapes(m), "object_parts": lambda: _object_parts(m)}
    elif study.dataset.name == records.read(BOXES)["set"]:
        measurements["objects"] = lambda: _objects_in_boxes(m)
    return measurements


def _objects_in_boxes(m: _Measured) -> dict[str, Any]:
    drawn = photographs_with_boxes(m.study.dataset, m.study.root)
    right = drawn.chosen(m.trained.predict_proba(drawn.images).argmax(1).eq(drawn.labels))
    return _compared(m, right, right.truth["mask"])


def _compared(m: _Measured, split: Split, mask: Tensor) -> dict[str, Any]:
    # in bf16 positions tie, and the first of them, in a corner, would be the lowest
    slid = m.squares(split.images, precision="fp32")
    return of_objects(slid, split.labels, mask) | {"images": len(split)}


def _figure(m: _Measured) -> dict[str, Any]:
    """Keep Fig. 7's maps beside the record, and describe its rows."""
    probabilities, top = m.searched
    figure_rows = rows(m.trained, m.split, top, most_varied(m.trained, m.split, probabilities))
    tiles = [
        F.interpolate(r.projections, (TILE, TILE), mode="bilinear", antialias=True)
        for r in figure_rows
    ]
    tensors = {
        "activity": torch.stack([r.activity for r in figure_rows]).half(),
        "probability": torch.stack([r.probability for r in figure_rows]).half(),
        "predicted": torch.stack([r.predicted for r in figure_rows]).to(torch.int16),
        "projections": torch.stack(tiles).mul(255).round().to(torch.uint8).contiguous(),
    }
    file = records.results_root() / "occlusion" / f"{m.study.name}.safetensors"
    records.write_atomically(file, save(tensors))
    return {"rows": [describe(r, m.study.dataset.classes) for r in figure_rows]}


def describe(r: Row, classes: tuple[str, ...]) -> dict[str, Any]:
    """Return a row of Fig. 7 in numbers."""
    p = r.probability
    numbers = {
        "clean": r.clean,
        "min": p.min(),
        "median": p.median(),
        "max": p.max(),
        "kept": r.predicted.eq(r.label).float().mean(),
        "correlation": correlation(r.activity[None], p[None]),
    }
    which = {"index": r.index, "class": classes[r.label], "label": r.label, "map": r.map}
    return which | {"others": list(r.others)} | {k: rounded(v) for k, v in numbers.items()}


def _labels(m: _Measured) -> dict[str, Any]:
    """Measure at how many positions the true class stays the most probable, and whether at all."""
    kept = m.grey_squares.predicted.eq(m.chosen.labels[:, None, None]).float().mean((1, 2))
    shares = {"label_kept": summary(kept), "label_changes": summary(kept.lt(1))}
    return shares | {"precision": m.precision}


def _maps(m: _Measured) -> dict[str, Any]:
    """Correlate layer-5 activity with the class's probability over positions, image by image."""
    slid, p = m.grey_squares, m.grey_squares.of(m.chosen.labels)
    by_sum = correlation(slid.activity_of(slid.strongest), p)
    maps = range(slid.activity.shape[-1])
    every = torch.stack([correlation(slid.activity[..., c], p) for c in maps], 1)
    return {
        "strongest": summary(by_sum),
        "any_map": summary(every.nanmean(1)),
        "negative": summary(by_sum.lt(0).float().masked_fill(by_sum.isnan(), torch.nan)),
        "values": [round(v, 3) for v in by_sum[~by_sum.isnan()].tolist()],
    }


def _projections(m: _Measured) -> dict[str, Any]:
    """Correlate a map's activity with the energy of its projection under the square."""
    slid, x = m.grey_squares, m.trained.preprocess(m.chosen.images)
    under = share_covered(energy(m.trained, x, slid.strongest), slid)
    activity, another = slid.activity_of(slid.strongest), under.roll(1, 0)
    return {
        "own": summary(correlation(under, activity)),
        "other": summary(correlation(another, activity)),
    }


def _agreement(m: _Measured) -> dict[str, Any]:
    """Correlate the probability maps of two networks, of the same image or of another.

    The other network is Krizhevsky's; for a network that others trained, our ZFNet.
    """
    probability, study = m.grey_squares.of(m.chosen.labels), m.study
    if study.adapted:
        other = m.squares(study.our_images().images[m.main], trained=study.ours).of(m.chosen.labels)
    else:
        other = m.squares(m.chosen.images, trained=study.networks["krizhevsky"]).of(m.chosen.labels)
    return {
        "same": summary(correlation(probability, other)),
        "other": summary(correlation(probability, other.roll(1, 0))),
    }


def _settings(m: _Measured) -> list[dict[str, Any]]:
    """Try other fills and sizes, one changed at a time, on fewer images."""
    some = m.split.chosen(evenly(m.right, min(len(m.main), COUNT_SETTINGS)))
    results = []
    for kind, factor in SETTINGS:
        slid = m.squares(some.images, kind=kind, factor=factor)
        drop = clean_of(slid, some.labels) - slid.of(some.labels).flatten(1).amin(1)
        results.append({"fill": kind, "factor": factor, "worst_drop": summary(drop)})
    return results


def _covered(m: _Measured, indices: Tensor, masks: Tensor) -> Tensor:
    """Return the probability of the true class when exactly the masked pixels are grey. -> (B,)."""
    x, fill = m.trained.preprocess(m.split.images[indices]), grey(m.trained)
    covered = occlude(m.trained.network, x, masks=[masks], fill=fill, progress=False)
    return covered.of(m.split.labels[indices])[:, 0]


def _shapes(m: _Measured) -> dict[str, Any]:
    """Cover the object to the pixel, and the same shape elsewhere, of objects that leave room."""
    clean, off = m.searched[0][m.main, m.chosen.labels], _moved(m, m.main, m.mask, m.mask)
    on = _covered(m, m.main, m.mask).masked_fill(off.isnan(), torch.nan)
    return {"drop": summary(clean - on), "drop_elsewhere": summary(clean - off)}


def _object_parts(m: _Measured) -> list[dict[str, Any]]:
    """Cover each part of each class, and the same shape beside the object and elsewhere on it."""
    part_rows = []
    for k, name in enumerate(m.study.dataset.classes):
        indices = (m.right & m.split.labels.eq(k)).nonzero().flatten()[:COUNT_CLASS]
        if not len(indices):
            continue
        numbers = m.trained.center_crop(m.split.truth["parts"][indices][:, None])[:, 0]
        for number in numbers.unique().tolist():
            mask = numbers.eq(number)
            large = mask.float().mean((1, 2)).gt(0.002)  # of the picture: some 18 pixels of 96 x 96
            if number == 0 or large.sum() < FEWEST:
                continue
            with_part, mask, whole = indices[large], mask[large], numbers[large].gt(0)
            clean, on = m.searched[0][with_part, k], _covered(m, with_part, mask)
            beside = _moved(m, with_part, mask, whole)
            rest = _moved(m, with_part, mask, mask | ~whole)
            drops = {"drop": on, "drop_beside": beside, "drop_on_object": rest}
            row = {key: summary(clean - p) for key, p in drops.items()}
            row["extra"] = summary(rest - on)
            part_rows.append({"class": name, "part": PART_NAMES[number]} | row)
    return sorted(part_rows, key=lambda row: -row["drop"]["mean"])


def translate_off(mask: Tensor, avoid: Tensor) -> tuple[Tensor, Tensor]:
    """Translate each mask, cyclically, to where it overlaps `avoid` least; of ties, the nearest.

    What leaves at one border enters at the other, so that the area stays the same to the pixel.

    Args:
        mask, avoid: (B, H, W) bool.
    Returns:
        The translated masks, and which share of each still lies on `avoid`, (B,).
    """
    height, width = mask.shape[-2:]
    spectrum = torch.fft.rfft2(mask.double()).conj() * torch.fft.rfft2(avoid.double())
    overlap = torch.fft.irfft2(spectrum, s=(height, width)).round()
    rows, columns = (torch.arange(side, dtype=torch.float64) for side in (height, width))
    distance = torch.minimum(rows, height - rows)[:, None] + torch.minimum(columns, width - columns)
    best = (overlap + distance / (2 * height * width)).flatten(1).argmin(1)
    shifts = zip((best // width).tolist(), (best % width).tolist(), strict=True)
    translated = torch.stack([m.roll(shift, (0, 1)) for m, shift in zip(mask, shifts, strict=True)])
    return translated, (translated & avoid).sum((1, 2)) / translated.sum((1, 2)).clamp_min(1)


def _moved(m: _Measured, indices: Tensor, mask: Tensor, avoid: Tensor) -> Tensor:
    """Return `_covered` with each shape moved off `avoid`; nan where it finds no room.

    It is nan everywhere if too few images have room.
    """
    moved, left = translate_off(mask, avoid)
    free = left < ASTRAY
    if free.sum() < FEWEST:
        free[:] = False
    return _covered(m, indices, moved).masked_fill(~free, torch.nan)
