"""What the chapter on correspondence records: faces with their parts masked, in both worlds, with the controls."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import diorama
from zfrepro import correspondence as c
from zfrepro import records
from zfrepro.data import photos
from zfrepro.data.transforms import centre_crop, stored_size
from zfrepro.measure import Parts, Study
from zfrepro.networks import Network
from zfrepro.stats import rounded
from zfrepro.weights import Trained

LAYERS = ("conv1", "conv2", "conv3", "conv4", "conv5", "pool5", "fc6", "fc7")
PAPERS = ("conv5", "pool5", "fc7")  # the paper's layers 5 and 7; it does not say on which side of the pool
CONTROLS = ("random", "matched", "borrowed")
MEASURES = ("sign", "two signs", "beyond number", "equal number", "changed in both", "cosine", "cosine of maps")
SHARE = 1 / 8  # side of a mask as a share of the picture's: 28 px of 224
SHARES = (1 / 8, 1 / 6, 1 / 4)
FEWEST = 12  # images below which a comparison is not made
UNTRAINED = (0, 1, 2)  # seeds of the initial weights
TIMES = 2000  # bootstrap samples, permutations, shuffles of kinds
TURN = 0.3  # of an animal's turn away from us that is left: up to 21 or 24 degrees of 70 or 80
ANIMALS = ("dog", "cat", "bear", "rabbit", "horse", "zebra")
A_KIND, FACES_SEED = 40, 5  # drawings of a kind, and the world they are from, which no network has seen


@dataclass(frozen=True)
class Faces:
    """Faces seen from the front."""

    images: Tensor  # uint8 (N, 3, S, S), what the network sees
    places: Tensor  # (N, 3, 2), x and y of right eye, left eye and nose in these pixels
    kinds: Tensor  # int64 (N,)
    names: tuple[str, ...]  # of the kinds

    def __len__(self) -> int:
        return len(self.kinds)

    def __getitem__(self, rows) -> "Faces":
        return Faces(self.images[rows], self.places[rows], self.kinds[rows], self.names)


def drawn_faces(image_size: int, a_kind: int = A_KIND) -> Faces:
    """Animals of the diorama turned towards us, both eyes and the nose in sight, none so near that one mask hides two.

    Raises:
        ValueError: more faces of a kind are wanted than 1000 drawings and 100 for each face hold.
    """
    stored, side = stored_size(image_size), round(SHARE * image_size)
    offset = (stored - image_size) // 2
    images, places, kinds = [], [], []
    missing = dict.fromkeys(range(len(ANIMALS)), a_kind)
    for start in range(0, 1000 + 100 * a_kind, 200):
        scene = diorama.sample(torch.arange(start, start + 200), FACES_SEED)
        scene = scene.rows(torch.tensor([missing.get(label, 0) > 0 for label in scene.labels.tolist()]))
        shot = diorama.render(diorama.rotated(scene, (TURN - 1) * scene.yaw), stored)
        at = shot.keypoints[:, [1, 0, 2]] - offset
        apart = torch.stack([(at[:, a] - at[:, b]).abs().amax(1) > side / 2 for a, b in ((0, 1), (0, 2), (1, 2))])
        inside = ((at >= side / 2) & (at <= image_size - side / 2)).flatten(1).all(1)
        for i in (shot.visible.all(1) & apart.all(0) & inside).nonzero().flatten().tolist():
            kind = int(shot.labels[i])
            if missing[kind]:
                missing[kind] -= 1
                images.append(centre_crop(shot.images[i][None], image_size)[0])
                places.append(at[i])
                kinds.append(kind)
        if not any(missing.values()):
            return Faces(torch.stack(images), torch.stack(places), torch.tensor(kinds), ANIMALS)
    raise ValueError(f"fewer than {a_kind} faces of some kind in {1000 + 100 * a_kind} drawings")


def photographed_faces(image_size: int, root: Path | str | None, a_kind: int = A_KIND) -> Faces:
    """The dogs of `results/correspondence/dog_parts.json`, validation images of ImageNet-20, up to `a_kind` a breed."""
    from PIL import Image

    by_breed: dict[str, list[dict[str, Any]]] = {}
    for dog in records.read("correspondence/dog_parts")["dogs"]:
        by_breed.setdefault(dog["breed"], []).append(dog)
    listed = [dog for dogs in by_breed.values() for dog in dogs[:a_kind]]
    folder, stored = photos.find_folder("imagenet20", root), stored_size(image_size)
    names = tuple(by_breed)
    images, places = [], []
    for dog in listed:
        file = folder / dog["file"]
        images.append(torch.from_numpy(photos.decode(file, stored).copy()).permute(2, 0, 1))
        with Image.open(file) as picture:
            width, height = picture.size
        short = min(width, height)
        corner = torch.tensor([width - short, height - short]) / 2
        parts = torch.tensor([dog["right_eye"], dog["left_eye"], dog["nose"]])
        places.append((parts - corner) * stored / short - (stored - image_size) // 2)
    kinds = torch.tensor([names.index(dog["breed"]) for dog in listed])
    return Faces(centre_crop(torch.stack(images), image_size), torch.stack(places), kinds, names)


def faces_of(world: str, image_size: int, root: Path | str | None = None, a_kind: int = A_KIND) -> Faces:
    """The faces of a world."""
    return photographed_faces(image_size, root, a_kind) if world == "imagenet20" else drawn_faces(image_size, a_kind)


def features_of(trained: Trained, layers: Sequence[str] = LAYERS, network: Network | None = None) -> c.Features:
    """From pictures that the network sees, uint8 (B, 3, S, S), to the layers' features; pool5 is conv5 after its pool.

    Args:
        network: another network of the same geometry instead of the trained one.
    """
    network = network or trained.network
    fifth = next(conv for conv in network.architecture.convs if conv.layer == 5)

    @torch.no_grad()
    def features(images: Tensor) -> dict[str, Tensor]:
        x = trained.of_view(images)
        wanted = {"conv5" if layer == "pool5" else layer for layer in layers}
        found = {layer: y.float().cpu() for layer, y in network.features(x, wanted).items()}
        if "pool5" in layers:
            found["pool5"] = network.shrink(fifth, found["conv5"])
        return {layer: found[layer] for layer in layers}

    return features


def control_places(faces: Faces, side: int, draws: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Where the masks of each control lie: (draws, N, 2) for `random`, (3, N, 2), one a part, for the others."""
    count, size = len(faces), faces.images.shape[-1]
    by_part = faces.places.unbind(1)
    return {
        "random": torch.stack([c.random_places(count, size, side, generator) for _ in range(draws)]),
        "matched": torch.stack([c.matched_places(faces.images, p, faces.places, side, generator) for p in by_part]),
        "borrowed": torch.stack([c.borrowed_places(p, faces.places, side, generator) for p in by_part]),
    }


def distances(eps: Tensor, maps: int, equal: int) -> dict[str, Tensor]:
    """Every measure of `MEASURES`, (M, M) each. eps: (M, D), of `maps` maps; equal: units to keep in `equal number`."""
    sign = c.sign_distance(eps)
    return {
        "sign": sign,
        "two signs": c.sign_distance(eps, "positive"),
        "beyond number": sign / c.distance_by_number(eps),
        "equal number": c.sign_distance(c.strongest(eps, equal)),
        "changed in both": c.disagreement(eps),
        "cosine": c.cosine_distance(eps),
        "cosine of maps": c.cosine_distance(c.summed_over_maps(eps, maps)),
    }


class Masks:
    """Differences of all masks of some faces, and their distances, layer by layer."""

    def __init__(self, faces: Faces, features: c.Features, side: int, draws: int, seed: int):
        self.faces, self.draws = faces, draws
        self.places = control_places(faces, side, draws, torch.Generator().manual_seed(seed))
        self.clean = c.features_in_batches(features, faces.images)

        def eps(places: Tensor) -> dict[str, Tensor]:
            # An image without such a place gets any mask here and is left out in `compared`.
            instead = torch.where(places.isfinite(), places, faces.places[:, 0])
            return c.differences(features, self.clean, c.covered(faces.images, instead, side))

        self.of_part = [eps(places) for places in faces.places.unbind(1)]
        self.of_control = {name: [eps(p) for p in places] for name, places in self.places.items()}
        self.maps = {layer: x.shape[1] for layer, x in features(faces.images[:1]).items()}

    def joint(self, layer: str, part: int) -> tuple[dict[str, Tensor], dict[str, list[int]]]:
        """Distances between all masks of one part and its controls, and where each control's sets of N masks stand."""
        sets = [self.of_part[part][layer]]
        where: dict[str, list[int]] = {}
        for name, found in self.of_control.items():
            mine = found if name == "random" else [found[part]]
            where[name] = list(range(len(sets), len(sets) + len(mine)))
            sets += [eps[layer] for eps in mine]
        eps = torch.cat(sets)
        equal = max(1, int(eps.ne(0).sum(1).float().quantile(0.05)))
        return distances(eps, self.maps[layer], equal), where

    def usable(self, control: str, part: int | None) -> Tensor:
        """The images that have this control's mask for the part (for all parts, if None). bool (N,)."""
        finite = self.places[control].isfinite().all(-1)
        return finite.all(0) if part is None or control == "random" else finite[part]

    def changed(self, layer: str) -> dict[str, list[float]]:
        """Mean share of the units that change, a part or a draw."""
        sets = {"part": self.of_part, **self.of_control}
        return {name: [rounded(e[layer].ne(0).float().mean()) for e in found] for name, found in sets.items()}


def block(matrix: Tensor, sets: Sequence[int], count: int, rows: Tensor) -> Tensor:
    """Some sets of a joint matrix, and of each set some images."""
    at = torch.cat([number * count + rows.nonzero().flatten() for number in sets])
    return matrix[at][:, at]


def compared(matrix: Tensor, sets: Sequence[int], count: int, rows: Tensor, seed: int) -> dict[str, Any]:
    """The part (set 0) against a control (the other sets): both means, their difference, interval and p.

    `better` is the control's mean less the part's: above 0 where the part is the more consistent. Its interval is of a
    bootstrap over images; p of a permutation of the masks of each image. With fewer than `FEWEST` images there is
    nothing but their number.
    """
    generator = torch.Generator().manual_seed(seed)
    used = int(rows.sum())
    if used < FEWEST:
        return {"images": used}
    counts = c.resamples(used, TIMES, generator)
    one, *others = (block(matrix, [number], count, rows) for number in (0, *sets))
    part, control = c.over_pairs(one), sum(c.over_pairs(o) for o in others) / len(others)
    samples = sum(c.over_pairs(o, counts) for o in others) / len(others) - c.over_pairs(one, counts)
    return {
        "part": rounded(part),
        "control": rounded(control),
        "better": rounded(control - part),
        "interval": [rounded(v) for v in c.interval(samples)],
        "p": rounded(c.permutation_p(block(matrix, [0, *sets], count, rows), used, TIMES, generator)),
        "images": used,
    }


def layer_table(masks: Masks, layer: str, seed: int, measures: Sequence[str] = MEASURES) -> dict[str, Any]:
    """Every part and their mean against every control: {part: {measure: {control: as `compared` says}}}."""
    joints = [masks.joint(layer, part) for part in range(len(c.PARTS))]
    where = joints[0][1]
    found: dict[str, Any] = {name: {measure: {} for measure in measures} for name in (*c.PARTS, "mean")}
    for measure, control in itertools.product(measures, CONTROLS):
        by_part = [joint[measure] for joint, _ in joints]
        for part, name in enumerate(found):
            matrix = torch.stack(by_part).nanmean(0) if name == "mean" else by_part[part]
            rows = masks.usable(control, None if name == "mean" else part)
            found[name][measure][control] = compared(matrix, where[control], len(masks.faces), rows, seed)
    return found


def fives(faces: Faces, times: int, generator: torch.Generator) -> list[Tensor]:
    """Random sets of five images of five kinds, as the paper's five dogs are."""
    kinds = faces.kinds.unique()
    if len(kinds) < 5:
        raise ValueError(f"five kinds wanted, there are {len(kinds)}")
    rows = {int(k): (faces.kinds == k).nonzero().flatten() for k in kinds}

    def one() -> Tensor:
        chosen = kinds[torch.randperm(len(kinds), generator=generator)[:5]].tolist()
        return torch.stack([rows[k][torch.randint(len(rows[k]), (), generator=generator)] for k in chosen])

    return [one() for _ in range(times)]


def papers_table(masks: Masks, layer: str, seed: int, times: int = 1000) -> dict[str, Any]:
    """The paper's experiment, five images of five kinds, again and again.

    Returns:
        {row: [mean, spread, low, high]}: over all fives the mean of Delta, the mean of the standard deviation over the
        ten pairs (what a +- may mean), and the central 95 % of Delta; `below`: the share of fives in which a part is
        below random, and in which all three are.
    """
    groups = torch.stack(fives(masks.faces, times, torch.Generator().manual_seed(seed)))
    upper = torch.triu_indices(5, 5, 1)

    def pairs(eps: Tensor) -> Tensor:
        distance = c.sign_distance(eps)
        return distance[groups[:, upper[0]], groups[:, upper[1]]]  # (times, 10)

    rows = {name: pairs(masks.of_part[i][layer]) for i, name in enumerate(c.PARTS)}
    rows["random"] = torch.cat([pairs(eps[layer]) for eps in masks.of_control["random"]], 1)
    means = {name: values.mean(1) for name, values in rows.items()}
    found: dict[str, Any] = {
        name: [
            rounded(means[name].mean()),
            rounded(values.std(1).mean()),
            *(rounded(v) for v in c.interval(means[name])),
        ]
        for name, values in rows.items()
    }
    below = {name: means[name] < means["random"] for name in c.PARTS}
    found["below"] = {name: rounded(b.float().mean()) for name, b in below.items()}
    found["below"]["all"] = rounded(torch.stack(list(below.values())).all(0).float().mean())
    return found


def kinds_table(masks: Masks, layer: str, seed: int) -> dict[str, Any]:
    """Kind or part? How features and differences separate kinds, and the lead of the part within and between kinds."""
    faces = masks.faces
    generator = torch.Generator().manual_seed(seed)

    def told_apart(vectors: Tensor) -> dict[str, float]:
        found = c.separation(1 - c.cosine_distance(vectors), faces.kinds, TIMES // 4, generator)
        return {name: rounded(value) for name, value in vars(found).items()}

    found: dict[str, Any] = {"features": told_apart(masks.clean[layer])}
    for name, eps in zip(c.PARTS, masks.of_part, strict=True):
        found[name] = told_apart(eps[layer])
    counts = c.resamples(len(faces), TIMES, generator)
    for measure, distance in (("sign", c.sign_distance), ("cosine", c.cosine_distance)):
        part = torch.stack([distance(eps[layer]) for eps in masks.of_part]).mean(0)
        random = torch.stack([distance(eps[layer]) for eps in masks.of_control["random"]]).mean(0)
        samples = {}
        for name, pairs in zip(("within", "between"), c.pairs_of(faces.kinds), strict=True):
            lead = torch.where(pairs, random - part, torch.nan)
            samples[name] = c.over_pairs(lead, counts)
            found.setdefault(measure, {})[name] = {
                "part": rounded(c.over_pairs(torch.where(pairs, part, torch.nan))),
                "random": rounded(c.over_pairs(torch.where(pairs, random, torch.nan))),
                "better": rounded(c.over_pairs(lead)),
                "interval": [rounded(v) for v in c.interval(samples[name])],
            }
        gained = samples["within"] - samples["between"]
        both = found[measure]
        found[measure]["gained"] = rounded(both["within"]["better"] - both["between"]["better"])
        found[measure]["gained interval"] = [rounded(v) for v in c.interval(gained)]
    return found


def likeness_maps(
    faces: Faces, features: c.Features, layers: Sequence[str], side: int, stride: int, searched: Sequence[int]
) -> dict[str, Tensor]:
    """How like masks all over a picture are to masks on the part in the other pictures, (M, 3, K), of each layer.

    The likeness is the cosine of differences summed over each map, so that places do not matter.

    Args:
        searched: the M pictures to search; all are examples.
    """
    grid = c.grid_places(faces.images.shape[-1], side, stride)
    width = {layer: x.shape[1] for layer, x in features(faces.images[:1]).items()}

    clean = c.features_in_batches(features, faces.images)

    def moved(rows: slice, masked: Tensor) -> dict[str, Tensor]:
        eps = c.differences(features, {layer: clean[layer][rows] for layer in layers}, masked)
        return {layer: c.summed_over_maps(eps[layer], width[layer]) for layer in layers}

    masked = [moved(slice(None), c.covered(faces.images, p, side)) for p in faces.places.unbind(1)]
    examples = {layer: torch.stack([c.examples_of_others(eps[layer]) for eps in masked]) for layer in layers}
    found: dict[str, list[Tensor]] = {layer: [] for layer in layers}
    for i in searched:
        one = slice(i, i + 1)
        here = moved(one, c.covered(faces.images[one].expand(len(grid), -1, -1, -1), grid, side))
        for layer in layers:
            found[layer].append(examples[layer][:, i] @ torch.nn.functional.normalize(here[layer], dim=1).T)
    return {layer: torch.stack(maps) for layer, maps in found.items()}


def search_table(faces: Faces, features: c.Features, side: int, seed: int) -> dict[str, Any]:
    """Whether, of all squares of a chessboard, the one that holds the part is most like the part in other faces.

    Returns:
        {layer: {part: hits in per cent (`chance` is one square), mean rank in per cent (50 is chance), intervals}}.
    """
    layers = ("conv5", "fc7")
    size = faces.images.shape[-1]
    across = (size - side) // side + 1
    column, row = (faces.places / side).long().clamp(max=across - 1).unbind(-1)
    target = row * across + column  # (N, 3)
    counts = c.resamples(len(faces), TIMES, torch.Generator().manual_seed(seed)) / len(faces)
    maps = likeness_maps(faces, features, layers, side, side, range(len(faces)))
    found: dict[str, Any] = {"chance": rounded(100 / across**2)}
    for layer in layers:
        found[layer] = {}
        for part, name in enumerate(c.PARTS):
            likeness = maps[layer][:, part]
            values = {
                "hit": 100 * likeness.argmax(1).eq(target[:, part]).float(),
                "rank": 100 * c.rank_of(likeness, target[:, part]),
            }
            found[layer][name] = {
                key: [rounded(v.mean()), *(rounded(x) for x in c.interval(counts @ v))] for key, v in values.items()
            }
    return found


def parts(study: Study) -> Parts:
    """The recorded measurements. `study.images` is the largest number of faces of a kind."""
    trained, world, size = study.networks["zfnet"], study.dataset.name, study.dataset.image_size
    if world not in ("diorama", "imagenet20"):
        raise ValueError(f"correspondence is measured on diorama or imagenet20, not on {world}")
    faces = faces_of(world, size, study.root, study.images or A_KIND)
    draws = 2 if len(faces) < 100 else 1
    side = round(SHARE * size)
    features = features_of(trained)
    kept: list[Masks] = []

    def masks() -> Masks:
        if not kept:
            kept.append(Masks(faces, features, side, draws, study.seed))
        return kept[0]

    def described() -> dict[str, Any]:
        apart = (faces.places[:, 0] - faces.places[:, 1]).norm(dim=1)
        return {
            "images": len(faces),
            "kinds": {name: int((faces.kinds == k).sum()) for k, name in enumerate(faces.names)},
            "side": side,
            "draws": draws,
            "eye_distance_px": [rounded(v) for v in apart.quantile(torch.tensor([0.0, 0.5, 1.0]))],
        }

    def sizes() -> dict[str, Any]:
        found = {}
        for share in SHARES:
            own = Masks(faces, features_of(trained, ("conv5", "fc7")), round(share * size), draws, study.seed)
            found[str(round(share * size))] = {
                layer: layer_table(own, layer, study.seed, ("sign", "cosine"))["mean"] for layer in ("conv5", "fc7")
            }
        return found

    def untrained_network(seed: int) -> Network:
        return replace(trained.recipe, seed=seed).network(len(trained.classes)).eval().to(trained.mean.device)

    def untrained() -> dict[str, Any]:
        found = {}
        for seed in UNTRAINED:
            features = features_of(trained, ("conv5", "fc7"), untrained_network(seed))
            own = Masks(faces, features, side, draws, study.seed)
            found[str(seed)] = {layer: layer_table(own, layer, study.seed)["mean"] for layer in ("conv5", "fc7")}
        return found

    def kinds() -> dict[str, Any]:
        return {layer: kinds_table(masks(), layer, study.seed) for layer in LAYERS}

    by_layer: dict[str, Callable[[], Any]] = {
        layer: (lambda layer=layer: layer_table(masks(), layer, study.seed) | {"changed": masks().changed(layer)})
        for layer in LAYERS
    }
    return {
        "faces": described,
        "table": lambda: {layer: papers_table(masks(), layer, study.seed) for layer in PAPERS},
        **by_layer,
        "kinds": kinds,
        "sizes": sizes,
        "untrained": untrained,
        "search": lambda: search_table(faces, features_of(trained, ("conv5", "fc7")), side, study.seed),
        "search untrained": lambda: search_table(
            faces, features_of(trained, ("conv5", "fc7"), untrained_network(0)), side, study.seed
        ),
    }
