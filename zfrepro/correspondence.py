"""Do features know which part of a face they see? Section 4.3 and Fig. 8 of the arXiv text (Table 3 of its version 1).

The same part, say the right eye, is covered in several images. If a layer knows the part, its features change in the
same way each time. With x_i the features of image i and x~_i those of its covered copy, eps_i = x_i - x~_i, and

    Delta = mean over all pairs i != j of the share of units where sign(eps_i) and sign(eps_j) differ.

Lower is more consistent. Features are ReLU outputs, so most of them are 0 on both sides: sign(0) is 0, a third value,
unless said otherwise (`ZERO`), and two signs differ when they are not the same one of three. The score is then low
where few units change, whatever they do, which is why there are other measures here beside it.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

PARTS = ("right eye", "left eye", "nose")  # the animal's own right and left, in the order of the paper's table
GREY = 124  # measured in the paper's occlusion figure; section 4.3 names no colour
ZERO = ("third", "positive")


# --- masks -----------------------------------------------------------------------------------------------------------


def corners(places: Tensor, side: int, size: int) -> Tensor:
    """Top left corners (N, 2), x and y, of squares centred on places, moved as little as keeps them in the picture."""
    if not 0 < side <= size:
        raise ValueError(f"a mask of {side} px does not fit into pictures of {size} px")
    if not bool(places.isfinite().all()):
        raise ValueError("a place to cover is not finite: this image lacks the part")
    return (places - side / 2).round().long().clamp(0, size - side)


def _inside(places: Tensor, side: int, size: int) -> Tensor:
    corner = corners(places, side, size)[:, :, None]
    at = torch.arange(size)
    across, down = ((at >= corner[:, axis]) & (at < corner[:, axis] + side) for axis in (0, 1))
    return down[:, :, None] & across[:, None, :]


def covered(images: Tensor, places: Tensor, side: int, grey: int = GREY) -> Tensor:
    """Copies with a grey square on each. images: uint8 (N, 3, S, S); places: (N, 2), x and y of the centres in pixels.

    Raises:
        ValueError: a square larger than the picture, or a place that is not finite.
    """
    inside = _inside(places, side, images.shape[-1])
    return torch.where(inside[:, None], torch.full_like(images[:1, :, :1, :1], grey), images)


def under(images: Tensor, places: Tensor, side: int) -> Tensor:
    """Mean and standard deviation of the grey levels under each mask, (N, 2), in levels of 255.

    The first says how far a grey mask lies from what it hides, the second how much there is to hide. Arguments as for
    `covered`.
    """
    inside = _inside(places, side, images.shape[-1])
    grey = images.float().mean(1)[inside].view(len(images), -1)
    return torch.stack([grey.mean(1), grey.std(1, correction=0)], 1)


def off_parts(places: Tensor, parts: Tensor, side: int) -> Tensor:
    """Whether a mask at each place keeps off all parts: none of their centres lies within a mask's side of its own.

    Args:
        places: (N, K, 2).
        parts: (N, P, 2).
    Returns:
        bool (N, K).
    """
    return ((places[:, :, None] - parts[:, None]).abs().amax(-1) >= side).all(-1)


def random_places(count: int, size: int, side: int, generator: torch.Generator) -> Tensor:
    """Places of squares that lie anywhere inside a picture, (count, 2)."""
    return side / 2 + torch.randint(size - side + 1, (count, 2), generator=generator)


def matched_places(
    images: Tensor, places: Tensor, parts: Tensor, side: int, generator: torch.Generator, candidates: int = 300
) -> Tensor:
    """For every mask one of the same area, distance from the centre and contrast that keeps off the parts.

    Of random places on the circle through the part (to a pixel), the one most like the part in mean and standard
    deviation of the grey levels under the mask.

    Args:
        places: (N, 2), where the part is.
        parts: (N, P, 2), all parts to keep off.
    Returns:
        (N, 2); nan where no candidate keeps off the parts.
    """
    count, size = len(images), images.shape[-1]
    middle = size / 2
    radius = (corners(places, side, size) + side / 2 - middle).norm(dim=1, keepdim=True)
    radius = radius + 2 * torch.rand(count, candidates, generator=generator) - 1
    angle = 2 * torch.pi * torch.rand(count, candidates, generator=generator)
    rings = middle + radius[..., None] * torch.stack([angle.cos(), angle.sin()], -1)
    fits = ((rings >= side / 2) & (rings <= size - side / 2)).all(-1) & off_parts(rings, parts, side)
    wanted = under(images, places, side)
    found = torch.stack([under(images, ring, side) for ring in rings.unbind(1)], 1)
    miss = torch.where(fits, (found - wanted[:, None]).norm(dim=-1), torch.inf)
    best = rings[torch.arange(count), miss.argmin(1)]
    return torch.where(fits.any(1)[:, None], best, torch.nan)


def borrowed_places(places: Tensor, parts: Tensor, side: int, generator: torch.Generator) -> Tensor:
    """For every image the place that the part has in another one: as scattered as the parts are, but beside them.

    Returns:
        (N, 2); nan where every other image has the part within a mask's side of one of this image's parts.
    """
    fits = off_parts(places.expand(len(places), -1, -1), parts, side).fill_diagonal_(False)
    draw = torch.rand(fits.shape, generator=generator).masked_fill(~fits, -1)
    return torch.where(fits.any(1)[:, None], places[draw.argmax(1)], torch.nan)


# --- differences -----------------------------------------------------------------------------------------------------

Features = Callable[[Tensor], dict[str, Tensor]]


def features_in_batches(features: Features, images: Tensor, batch: int = 40) -> dict[str, Tensor]:
    """Every layer's features of many images, flat: (N, D) each. images: uint8 (N, 3, S, S)."""
    found = [features(part) for part in images.split(batch)]
    return {layer: torch.cat([f[layer].flatten(1) for f in found]) for layer in found[0]}


def differences(features: Features, clean: dict[str, Tensor], masked: Tensor, batch: int = 40) -> dict[str, Tensor]:
    """eps = x - x~ of every layer, (N, D) each.

    A difference below a millionth of the layer's largest activation is rounding, and set to 0.

    Args:
        features: from uint8 (B, 3, S, S) to the layers' features, (B, ...) each.
        clean: x, from `features_in_batches`: (N, D) a layer, or (1, D) if all copies are of one image.
        masked: uint8 (N, 3, S, S), the covered copies.
    """
    found = {}
    for layer, hidden in features_in_batches(features, masked, batch).items():
        eps = clean[layer] - hidden
        eps[eps.abs() <= 1e-6 * clean[layer].abs().amax()] = 0
        found[layer] = eps
    return found


def strongest(eps: Tensor, count: int) -> Tensor:
    """Each row with all but its `count` largest entries (by size) set to 0, so that all rows change equally many."""
    if not 0 < count <= eps.shape[1]:
        raise ValueError(f"cannot keep {count} of {eps.shape[1]} units")
    chosen = eps.abs().topk(count, dim=1).indices
    return torch.zeros_like(eps).scatter_(1, chosen, eps.gather(1, chosen))


# --- measures: (N, D) differences -> (N, N), one number for each pair of images ---------------------------------------


def sign_distance(eps: Tensor, zero: str = "third") -> Tensor:
    """Hamming distance of the signs, as a share of the units: the paper's measure.

    Args:
        zero: `third`, sign(0) = 0 is a value of its own; `positive`, sign(0) = 1, two values only.
    """
    if zero not in ZERO:
        raise ValueError(f"zero {zero!r}: choose among {', '.join(ZERO)}")
    units = eps.shape[1]
    if zero == "positive":
        signs = torch.where(eps < 0, -1.0, 1.0)
        return (units - signs @ signs.T) / (2 * units)
    signs, some = eps.sign(), eps.ne(0).float()
    same, both, number = (signs @ signs.T), (some @ some.T), some.sum(1)
    alike = (both + same) / 2 + (units - number[:, None] - number + both)  # both + or both -, and both 0
    return (units - alike) / units


def distance_by_number(eps: Tensor) -> Tensor:
    """`sign_distance` of two images whose units change as many times up and down, but each where it likes."""
    up, down = (side.float().mean(1) for side in (eps > 0, eps < 0))
    same = 1 - up - down
    return 1 - torch.outer(up, up) - torch.outer(down, down) - torch.outer(same, same)


def disagreement(eps: Tensor) -> Tensor:
    """Among the units that change in both images, the share that changes in opposite ways; nan where none does."""
    signs, some = eps.sign(), eps.ne(0).float()
    both = some @ some.T
    return (both - signs @ signs.T) / (2 * both)


def cosine_distance(eps: Tensor) -> Tensor:
    """1 - cosine of the angle between differences; 1 where one of them is 0 everywhere."""
    unit = F.normalize(eps, dim=1)
    return 1 - unit @ unit.T


# --- search: where else in a picture does a mask do what it does on the part? -----------------------------------------


def grid_places(size: int, side: int, stride: int) -> Tensor:
    """Centres of squares, `stride` apart from the top left corner on, row after row: (K, 2)."""
    at = torch.arange(0, size - side + 1, stride) + side / 2
    return torch.stack(torch.meshgrid(at, at, indexing="xy"), -1).reshape(-1, 2)


def summed_over_maps(eps: Tensor, maps: int) -> Tensor:
    """Differences of each map, wherever they are: (N, maps * H * W) -> (N, maps)."""
    return eps.view(len(eps), maps, -1).sum(2)


def examples_of_others(eps: Tensor) -> Tensor:
    """For each image the mean direction of the other images' differences. (N, D) -> (N, D)."""
    unit = F.normalize(eps, dim=1)
    return F.normalize(unit.sum(0) - unit, dim=1)


def rank_of(likeness: Tensor, target: Tensor) -> Tensor:
    """Share of a picture's other places that are less like the example than the target is, ties half: 0.5 is chance.

    Args:
        likeness: (N, K), of each picture's K places.
        target: int64 (N,), the place that is on the part.
    """
    own = likeness.gather(1, target[:, None])
    below = (likeness < own).sum(1) + ((likeness == own).sum(1) - 1) / 2
    return below / (likeness.shape[1] - 1)


# --- statistics ------------------------------------------------------------------------------------------------------


def over_pairs(distance: Tensor, weights: Tensor | None = None) -> Tensor:
    """Mean over all pairs of different images, pairs that are nan left out: the paper's Delta.

    Args:
        distance: (N, N).
        weights: (B, N), how often each image is taken in each of B samples; default: once.
    Returns:
        (B,), or a scalar without weights.
    """
    weights_ = torch.ones(1, len(distance)) if weights is None else weights
    valid = distance.isfinite().float().fill_diagonal_(0)
    total = torch.einsum("bi,ij,bj->b", weights_, distance.nan_to_num(0) * valid, weights_)
    found = total / torch.einsum("bi,ij,bj->b", weights_, valid, weights_)
    return found[0] if weights is None else found


def resamples(count: int, times: int, generator: torch.Generator) -> Tensor:
    """How often each of `count` images is drawn in each of `times` bootstrap samples, (times, count)."""
    drawn = torch.randint(count, (times, count), generator=generator)
    return torch.zeros(times, count).scatter_add_(1, drawn, torch.ones(times, count))


def interval(samples: Tensor, level: float = 0.95) -> tuple[float, float]:
    """Percentile interval of bootstrap samples, nan left out."""
    tail = (1 - level) / 2
    low, high = torch.nanquantile(samples.double(), torch.tensor([tail, 1 - tail], dtype=torch.double)).tolist()
    return low, high


def permutation_p(distance: Tensor, count: int, times: int, generator: torch.Generator) -> float:
    """Probability that masks chosen without regard to the part agree as well as the masks on the part.

    Each image has K masks, one of them on the part. If the part did not matter, any of the K could stand for it.

    Args:
        distance: (K * N, K * N) between all masks, the first N those on the part, then the others' sets of N.
        count: N.
        times: permutations.
    Returns:
        One-sided p: small when the part's masks agree better.
    """
    masks = len(distance) // count
    if masks < 2 or masks * count != len(distance):
        raise ValueError(f"{len(distance)} masks are not at least two for each of {count} images")
    choice = torch.randint(masks, (times, count), generator=generator)
    choice[0] = 0  # the part itself
    chosen = F.one_hot(choice, masks).float().transpose(1, 2).flatten(1)
    found = over_pairs(distance, chosen)
    return float((found <= found[0] + 1e-7).float().mean())


# --- kinds -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Separation:
    """How well vectors tell kinds apart."""

    accuracy: float  # of the nearest mean, each image left out in turn, in per cent
    chance: float  # the same with kinds shuffled among the images, mean over shuffles
    gap: float  # mean cosine of pairs of one kind less that of pairs of two kinds
    p: float  # share of shuffles with a gap at least as large


def nearest_mean(cosine: Tensor, kinds: Tensor) -> Tensor:
    """The kind whose mean direction is nearest, each image left out of its own kind's mean.

    Args:
        cosine: (N, N), products of the images' unit vectors: all that the answer depends on.
        kinds: int64 (N,).
    Returns:
        (N,) kinds.
    Raises:
        ValueError: a kind with a single image.
    """
    values, numbers = kinds.unique(return_inverse=True)
    member = F.one_hot(numbers).float()
    if bool((member.sum(0) < 2).any()):
        raise ValueError("every kind needs two images or more")
    own = cosine.diagonal()[:, None]
    dots = cosine @ member  # of image i with the sum over kind k
    squares = (member * dots).sum(0) - member * (2 * dots - own)  # of that sum's length, without image i
    dots = dots - member * own
    return values[(dots / squares.clamp_min(1e-12).sqrt()).argmax(1)]


def separation(cosine: Tensor, kinds: Tensor, shuffles: int, generator: torch.Generator) -> Separation:
    """Leave-one-out accuracy of the kind, and how much more alike images of one kind are; arguments as above."""

    def accuracy(order: Tensor) -> float:
        return 100 * float((nearest_mean(cosine, order) == order).float().mean())

    def gap(order: Tensor) -> float:
        same, apart = pairs_of(order)
        return float(cosine[same].mean() - cosine[apart].mean())

    orders = [kinds[torch.randperm(len(kinds), generator=generator)] for _ in range(shuffles)]
    found = gap(kinds)
    larger = sum(gap(order) >= found for order in orders)
    chance = [accuracy(order) for order in orders[:100]]
    return Separation(accuracy(kinds), sum(chance) / len(chance), found, (1 + larger) / (1 + shuffles))


def pairs_of(kinds: Tensor) -> tuple[Tensor, Tensor]:
    """Which pairs of different images are of one kind, and which are of two. bool (N, N) each."""
    same = kinds[:, None] == kinds
    return same.clone().fill_diagonal_(False), ~same
