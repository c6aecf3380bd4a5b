"""What the chapter on correspondence records: faces with their parts masked, with the controls."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

import diorama
from zfrepro import correspondence as c
from zfrepro import records
from zfrepro.data import photos
from zfrepro.data.transforms import center_crop, stored_size
from zfrepro.measure import Parts, Study
from zfrepro.stats import bootstrap, of_samples, rounded
from zfrepro.weights import Trained

REVISION = 2
LAYERS = ("conv1", "conv2", "conv3", "conv4", "conv5", "pool5", "fc6", "fc7")
PAPERS = ("conv5", "pool5", "fc7")  # layers 5 and 7; the paper does not name a side of the pool
TESTED = ("conv5", "fc7")  # by all distances
CONTROLS = ("random", "matched", "borrowed")
# From differences (N, D), the number of maps and how many units to keep, to distances (N, N).
MEASURES = {
    "sign": lambda eps, maps, keep: c.sign_distance(eps),
    "two signs": lambda eps, maps, keep: c.sign_distance(eps, "positive"),
    "equal number": lambda eps, maps, keep: c.sign_distance(c.keep_strongest(eps, keep)),
    "changed in both": lambda eps, maps, keep: c.opposite_share(eps),
    "cosine": lambda eps, maps, keep: c.cosine_distance(eps),
    "cosine of maps": lambda eps, maps, keep: c.cosine_distance(c.sum_over_space(eps, maps)),
}
SHARE = 1 / 8  # side of a mask as a share of the image's: 28 px of 224
SHARES = (1 / 8, 1 / 6, 1 / 4)
FEWEST = 12  # images below which a comparison is not made
UNTRAINED = (0, 1, 2)  # seeds of the initial weights
TIMES = 2000  # bootstrap samples
FIVES = 1000
TURN = 0.3  # of an animal's turn away from us that is left: up to 21 or 24 degrees of 70 or 80
ANIMALS = ("dog", "cat", "bear", "rabbit", "horse", "zebra")
A_CLASS = 40  # images of a class
FACES_SEED = 5  # of synthetic images that no network has seen


@dataclass(frozen=True)
class Faces:
    """Faces seen from the front."""

    images: Tensor  # uint8 (N, 3, S, S), what the network sees
    places: Tensor  # (N, 3, 2), x and y of right eye, left eye and nose in these pixels
    classes: Tensor  # int64 (N,)
    names: tuple[str, ...]  # of the classes

    def __len__(self) -> int:
        return len(self.classes)

    def __getitem__(self, rows) -> "Faces":
        return Faces(self.images[rows], self.places[rows], self.classes[rows], self.names)


def diorama_faces(image_size: int, a_class: int = A_CLASS) -> Faces:
    """Render animals turned towards us, with both eyes and the nose in sight and apart.

    One mask never hides two parts.
    """
    stored, side = stored_size(image_size), round(SHARE * image_size)
    offset = (stored - image_size) // 2
    images, places, classes = [], [], []
    missing = dict.fromkeys(range(len(ANIMALS)), a_class)
    for start in itertools.count(0, 200):
        scene = diorama.sample(torch.arange(start, start + 200), FACES_SEED)
        wanted = [missing.get(label, 0) > 0 for label in scene.labels.tolist()]
        scene = scene.rows(torch.tensor(wanted))
        shot = diorama.render(diorama.rotated(scene, (TURN - 1) * scene.yaw), stored)
        at = shot.keypoints[:, [1, 0, 2]] - offset
        gaps = (at[:, [0, 0, 1]] - at[:, [1, 2, 2]]).abs().amax(-1)
        inside = ((at >= side / 2) & (at <= image_size - side / 2)).all(-1)
        fits = (shot.visible & (gaps > side / 2) & inside).all(1)
        for i in fits.nonzero().flatten().tolist():
            label = int(shot.labels[i])
            if missing[label]:
                missing[label] -= 1
                images.append(center_crop(shot.images[i][None], image_size)[0])
                places.append(at[i])
                classes.append(label)
        if not any(missing.values()):
            break
    return Faces(torch.stack(images), torch.stack(places), torch.tensor(classes), ANIMALS)


def photographed_faces(image_size: int, root: Path | str | None, a_class: int = A_CLASS) -> Faces:
    """Load the dogs of `dog_parts.json`: validation images of ImageNet-20, by breed."""
    by_breed: dict[str, list[dict[str, Any]]] = {}
    for dog in records.read("correspondence/dog_parts")["dogs"]:
        by_breed.setdefault(dog["breed"], []).append(dog)
    listed = [dog for dogs in by_breed.values() for dog in dogs[:a_class]]
    folder, stored = photos.find_folder("imagenet20", root), stored_size(image_size)
    names = tuple(by_breed)
    images, places = [], []
    for dog in listed:
        file = folder / dog["file"]
        images.append(torch.tensor(photos.decode(file, stored)).permute(2, 0, 1))
        with Image.open(file) as picture:
            width, height = picture.size
        short = min(width, height)
        corner = torch.tensor([width - short, height - short]) / 2
        parts = torch.tensor([dog["right_eye"], dog["left_eye"], dog["nose"]])
        places.append((parts - corner) * stored / short - (stored - image_size) // 2)
    classes = torch.tensor([names.index(dog["breed"]) for dog in listed])
    return Faces(center_crop(torch.stack(images), image_size), torch.stack(places), classes, names)


def faces_of(
    dataset: str, image_size: int, root: Path | str | None = None, a_class: int = A_CLASS
) -> Faces:
    """Return the faces of a data set, up to `a_class` of a class."""
    if dataset == "imagenet20":
        return photographed_faces(image_size, root, a_class)
    return diorama_faces(image_size, a_class)


def features_of(trained: Trained, layer: str) -> c.Features:
    """Return the function from images to a layer's features; pool5 is conv5 after its pool."""
    network = trained.network

    @torch.no_grad()
    def features(images: Tensor) -> dict[str, Tensor]:
        of_layer = network.output("conv5" if layer == "pool5" else layer)
        y = of_layer(trained.preprocess_crop(images)).float().cpu()
        if layer == "pool5":
            fifth = next(conv for conv in network.architecture.convs if conv.layer == 5)
            y = network.pool_and_norm(fifth, y)
        return {layer: y}

    return features


def mask_places(faces: Faces, side: int, draws: int, seed: int) -> dict[str, Tensor]:
    """Return where the masks on the parts lie, and draw where those of each control do.

    Returns:
        (draws, N, 2) for `random`; (3, N, 2), one a part, for the others.
    """
    draw, images, parts = torch.Generator().manual_seed(seed), faces.images, faces.places
    count, size, by_part = len(faces), images.shape[-1], parts.unbind(1)
    places = {
        "part": by_part,
        "random": [c.random_places(count, size, side, draw) for _ in range(draws)],
        "matched": [c.matched_places(images, at, parts, side, draw) for at in by_part],
        "borrowed": [c.borrowed_places(at, parts, side, draw) for at in by_part],
    }
    return {name: torch.stack(at) for name, at in places.items()}


class Masks:
    """Differences that masks on the parts, and on the control places, make in one layer.

    features: of that layer alone; signs: keep no more than signs, since the differences of the
    lowest layers would fill half a gigabyte for each set of masks.
    """

    def __init__(
        self, faces: Faces, features: c.Features, side: int, draws: int, seed: int, *,
        signs: bool = False,
    ):  # fmt: skip
        self.faces, self.seed = faces, seed
        self.places = mask_places(faces, side, draws, seed)
        (layer,) = clean = c.batched_features(features, faces.images)
        self.clean = clean[layer]

        def eps(places: Tensor) -> Tensor:
            # An image without such a place gets any mask here and is left out in `layer_table`.
            instead = torch.where(places.isfinite(), places, faces.places[:, 0])
            masked = c.mask_squares(faces.images, instead, side)
            difference = c.differences(features, clean, masked)[layer]
            return difference.sign().to(torch.int8) if signs else difference

        self.eps = {name: [eps(at) for at in places] for name, places in self.places.items()}
        self.maps = features(faces.images[:1])[layer].shape[1]

    def distances(self, measure: str) -> dict[str, Tensor]:
        """Return distances for each set of masks, mean over the parts.

        (K, N, N) each; K is 1, or the draws of `random`.
        """
        by_set: dict[str, list[Tensor]] = {name: [] for name in self.eps}
        for part in range(len(c.PARTS)):
            sets = {
                name: group if name == "random" else [group[part]]
                for name, group in self.eps.items()
            }
            changed = [eps.ne(0).sum(1) for group in sets.values() for eps in group]
            keep = max(1, int(torch.cat(changed).float().quantile(0.05)))
            to_distance = partial(MEASURES[measure], maps=self.maps, keep=keep)
            for name, group in sets.items():
                by_set[name].append(torch.stack([*map(to_distance, group)]))
        return {name: torch.stack(by_part).nanmean(0) for name, by_part in by_set.items()}

    def usable(self, control: str) -> Tensor:
        """Return which images have this control's masks for all parts. bool (N,)."""
        return self.places[control].isfinite().all(-1).all(0)

    def changed(self) -> dict[str, float]:
        """Return the mean share of the units that change, for each set of masks."""
        return {
            name: rounded(torch.stack([eps.ne(0).float().mean() for eps in group]).mean())
            for name, group in self.eps.items()
        }


def compared(part: Tensor, controls: Tensor, seed: int) -> dict[str, Any]:
    """Compare the distances of masks on parts, (N, N), with those of control masks, (K, N, N).

    Returns:
        both means, and `margin`: how much lower the part's is, in per cent of the control's (above
        0 where parts are the more consistent), with its interval of a bootstrap over images. Empty
        for fewer than `FEWEST` images.
    """
    count = len(part)
    if count < FEWEST:
        return {}
    weights = c.bootstrap_counts(count, TIMES, torch.Generator().manual_seed(seed))
    on_part = c.mean_over_pairs(part)
    control = sum(map(c.mean_over_pairs, controls)) / len(controls)
    samples = sum(c.mean_over_pairs(other, weights) for other in controls) / len(controls)
    samples = samples - c.mean_over_pairs(part, weights)
    lower = 100 * (control - on_part) / control
    margin = of_samples(lower, 100 * samples / control, count)
    return {"part": rounded(on_part), "control": rounded(control), "margin": margin.record()}


def layer_table(masks: Masks, measures: Sequence[str] = tuple(MEASURES)) -> dict[str, Any]:
    """Compare parts with every control: {measure: {control: as `compared` says}}."""
    table: dict[str, Any] = {measure: {} for measure in measures}
    for measure in measures:
        distance = masks.distances(measure)
        for control in CONTROLS:
            rows = masks.usable(control)
            part, controls = (distance[name][:, rows][:, :, rows] for name in ("part", control))
            table[measure][control] = compared(part[0], controls, masks.seed)
    return table


def fives(faces: Faces, times: int, generator: torch.Generator) -> Tensor:
    """Draw sets of five images of five classes, as the paper's five dogs are: (times, 5)."""
    classes = faces.classes.unique()
    rows = {int(k): (faces.classes == k).nonzero().flatten() for k in classes}

    def one() -> list[Tensor]:
        chosen = classes[torch.randperm(len(classes), generator=generator)[:5]].tolist()
        return [rows[k][torch.randint(len(rows[k]), (), generator=generator)] for k in chosen]

    return torch.tensor([one() for _ in range(times)])


def papers_table(masks: Masks) -> dict[str, Any]:
    """Repeat the paper's experiment, five images of five classes, many times.

    Returns:
        {row: [mean of Delta, mean standard deviation over the ten pairs, which a +- may mean]}, and
        `all below`, the share of fives in which all three parts are below random. Of random masks
        all draws count together.
    """
    groups = fives(masks.faces, FIVES, torch.Generator().manual_seed(masks.seed))
    upper = torch.triu_indices(5, 5, 1)

    def pairs(eps: Tensor) -> Tensor:
        return c.sign_distance(eps)[groups[:, upper[0]], groups[:, upper[1]]]  # (times, 10)

    rows = {name: pairs(eps) for name, eps in zip(c.PARTS, masks.eps["part"], strict=True)}
    rows["random"] = torch.cat([pairs(eps) for eps in masks.eps["random"]], 1)
    random = rows["random"].mean(1)
    below = torch.stack([rows[name].mean(1) < random for name in c.PARTS]).all(0)
    table: dict[str, Any] = {
        name: [rounded(d.mean()), rounded(d.std(1).mean())] for name, d in rows.items()
    }
    return table | {"all below": rounded(below.float().mean())}


def classes_table(masks: Masks) -> dict[str, Any]:
    """Measure how well features tell classes apart, and the parts' margin (cosine) by class."""
    classes = masks.faces.classes
    cosine = 1 - c.cosine_distance(masks.clean)
    table: dict[str, Any] = {
        "accuracy": rounded(100 * c.nearest_mean(cosine, classes).eq(classes).float().mean())
    }
    part = torch.stack([c.cosine_distance(eps) for eps in masks.eps["part"]]).mean(0)
    on_random = masks.eps["random"]
    random = torch.stack([c.cosine_distance(eps) for eps in on_random]).mean(0)
    weights = c.bootstrap_counts(len(classes), TIMES, torch.Generator().manual_seed(masks.seed))
    margins = {}
    for name, pairs in zip(("within", "between"), c.same_and_other_class(classes), strict=True):
        margin = torch.where(pairs, random - part, torch.nan)
        margins[name] = c.mean_over_pairs(margin), c.mean_over_pairs(margin, weights)
        table[name] = of_samples(*margins[name], len(classes)).record()
    (within, samples), (between, other) = margins["within"], margins["between"]
    gained = of_samples(within - between, samples - other, len(classes))
    return table | {"gained": gained.record()}


def search_table(faces: Faces, features: c.Features, side: int) -> dict[str, Any]:
    """Measure how often a search finds the part by the example of other faces.

    Of all squares of a chessboard, the one on the part should be the most similar.

    Returns:
        {part: hits of layer 5 in per cent}, and `chance`, which is one square.
    """
    across = (faces.images.shape[-1] - side) // side + 1
    column, row = (faces.places / side).long().clamp(max=across - 1).unbind(-1)
    target = row * across + column  # (N, 3)
    everyone = list(range(len(faces)))
    maps = c.similarity_maps(features, "conv5", faces.images, faces.places, side, side, everyone)
    hits = 100 * maps.argmax(2).eq(target).float()
    rows = zip(c.PARTS, hits.T, strict=True)
    by_part = {name: bootstrap(of_part).record() for name, of_part in rows}
    return {"chance": rounded(100 / across**2), **by_part}


def parts(study: Study) -> Parts:
    """Return the recorded measurements. `study.images` is the largest number of faces of a class.

    Masks of other sizes, and the search, are for our own network only.

    Raises:
        ValueError: another data set than Diorama or ImageNet-20.
    """
    trained, dataset, size = study.trained, study.dataset.name, study.dataset.image_size
    layers = LAYERS
    if study.adapted:  # what it has; its two lowest, of larger images, would fill the memory
        layers = [k for k in LAYERS[2:] if k in trained.network.layers]
    if dataset not in ("diorama", "imagenet20"):
        raise ValueError(f"correspondence is measured on diorama or imagenet20, not on {dataset}")
    faces = faces_of(dataset, size, study.root, study.images or A_CLASS)
    draws = 2 if len(faces) < 100 else 1
    side = round(SHARE * size)

    def masks_on(layer: str, of: Trained = trained, side: int = side) -> Masks:
        signs = layer not in TESTED
        return Masks(faces, features_of(of, layer), side, draws, study.seed, signs=signs)

    masks = lru_cache(1)(masks_on)

    def described() -> dict[str, Any]:
        counts = {name: int((faces.classes == k).sum()) for k, name in enumerate(faces.names)}
        return {"images": len(faces), "classes": counts, "side": side, "draws": draws}

    def layer_part(layer: str) -> dict[str, Any]:
        measures = tuple(MEASURES) if layer in TESTED else ("sign",)
        return layer_table(masks(layer), measures) | {"changed": masks(layer).changed()}

    def tested(measures: Sequence[str] = tuple(MEASURES), **options: Any) -> dict[str, Any]:
        return {layer: layer_table(masks_on(layer, **options), measures) for layer in TESTED}

    def untrained(seed: int) -> Trained:
        if study.adapted:
            return trained.untrained(seed)
        network = replace(trained.recipe, seed=seed).network(len(trained.classes))
        return replace(trained, network=network.eval().to(trained.mean.device))

    def searched(of: Trained = trained) -> dict[str, Any]:
        return search_table(faces, features_of(of, "conv5"), side)

    sides = [round(share * size) for share in SHARES]
    further: Parts = {
        "sizes": lambda: {str(s): tested(("sign", "cosine"), side=s) for s in sides},
        "search": searched,
        "search untrained": lambda: searched(untrained(0)),
    }
    measurements: Parts = {
        "faces": described,
        "table": lambda: {layer: papers_table(masks(layer)) for layer in PAPERS if layer in layers},
        **{layer: partial(layer_part, layer) for layer in layers},
        "classes": lambda: {layer: classes_table(masks(layer)) for layer in TESTED},
        "untrained": lambda: {str(seed): tested(of=untrained(seed)) for seed in UNTRAINED},
    }
    return measurements if study.adapted else measurements | further
