"""Measure correspondence between parts of images: section 4.3, Fig. 8 of the arXiv text.

The same part, say the right eye, is masked in several images. If a layer knows the part, its
features change in the same way each time. With x_i the features of image i and x~_i those of its
masked copy, eps_i = x_i - x~_i, and

    Delta = mean over pairs i != j of the share of units where sign(eps_i) and sign(eps_j) differ.

Lower is more consistent. Features are ReLU outputs, so most differences are 0; unless said
otherwise, sign(0) = 0 is a third value (see `ZERO`). Delta is then low where few units change,
whatever they do: hence the other distances here.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

# the animal's own right and left, in the order of the paper's table
PARTS = ("right eye", "left eye", "nose")
GREY = 124  # measured in the paper's occlusion figure; section 4.3 names no colour
ZERO = ("third", "positive")
CANDIDATES = 300  # places among which `matched_places` chooses

# uint8 (B, 3, S, S) -> the layers' features, (B, ...) each
Features = Callable[[Tensor], dict[str, Tensor]]


def mask_corners(places: Tensor, side: int, size: int) -> Tensor:
    """Return the top left corners of square masks, moved as little as keeps them inside the image.

    places: (N, 2), x and y of the centres; `side` of the masks and `size` of the images, all in
    pixels -> int64 (N, 2). A mask larger than the image or a place that is not finite is refused.
    """
    if not 0 < side <= size:
        raise ValueError(f"a mask of {side} px does not fit into images of {size} px")
    if not bool(places.isfinite().all()):
        raise ValueError("a place to mask is not finite: this image lacks the part")
    return (places - side / 2).round().long().clamp(0, size - side)


def mask_squares(images: Tensor, places: Tensor, side: int) -> Tensor:
    """Return copies of images, uint8 (N, 3, S, S), with a square of level `GREY` on each.

    places: (N, 2), x and y of the centres, and `side`, in pixels; see `mask_corners`.
    """
    corner = mask_corners(places, side, images.shape[-1])[:, :, None]
    at = torch.arange(images.shape[-1])
    across, down = ((at >= corner[:, axis]) & (at < corner[:, axis] + side) for axis in (0, 1))
    inside = down[:, None, :, None] & across[:, None, None, :]
    return torch.where(inside, torch.full_like(images[:1, :, :1, :1], GREY), images)


def grey_under_mask(images: Tensor, places: Tensor, side: int) -> Tensor:
    """Return mean and standard deviation of the grey levels (of 255) under masks.

    The mean says how far a grey mask lies from what it hides, the deviation how much there is.
    images: uint8 (N, 3, S, S); places: (N, K, 2), K masks an image -> (N, K, 2).
    """
    x, y = mask_corners(places.flatten(0, 1), side, images.shape[-1]).view(places.shape).unbind(-1)
    grey, rows = images.double().mean(1), torch.arange(len(images))[:, None]

    def under(values: Tensor) -> Tensor:
        along = F.avg_pool2d(values, (side, 1), stride=1)
        return F.avg_pool2d(along, (1, side), stride=1)[rows, y, x]

    mean, square = under(grey), under(grey.square())
    return torch.stack([mean, (square - mean.square()).clamp_min(0).sqrt()], -1).float()


def avoids_parts(places: Tensor, parts: Tensor, side: int) -> Tensor:
    """Return whether a mask at each place lies at least its side away from all parts' centres.

    places (N, K, 2), parts (N, P, 2) -> bool (N, K).
    """
    return ((places[:, :, None] - parts[:, None]).abs().amax(-1) >= side).all(-1)


def random_places(count: int, size: int, side: int, generator: torch.Generator) -> Tensor:
    """Draw places of masks that lie anywhere inside an image: (count, 2)."""
    return side / 2 + torch.randint(size - side + 1, (count, 2), generator=generator)


def matched_places(
    images: Tensor, places: Tensor, parts: Tensor, side: int, generator: torch.Generator
) -> Tensor:
    """Draw for each mask one of the same distance from the centre and contrast that avoids parts.

    Of random places on the circle through the part (to a pixel), take the one most like the part
    in mean and standard deviation of the grey levels under the mask.
    images: uint8 (N, 3, S, S); places: (N, 2), where the part is; parts: (N, P, 2), all to avoid
    -> (N, 2), nan where no candidate avoids the parts.
    """
    count, size = len(images), images.shape[-1]
    middle = size / 2
    radius = (mask_corners(places, side, size) + side / 2 - middle).norm(dim=1, keepdim=True)
    radius = radius + 2 * torch.rand(count, CANDIDATES, generator=generator) - 1
    angle = 2 * torch.pi * torch.rand(count, CANDIDATES, generator=generator)
    rings = middle + radius[..., None] * torch.stack([angle.cos(), angle.sin()], -1)
    fits = ((rings >= side / 2) & (rings <= size - side / 2)).all(-1)
    fits &= avoids_parts(rings, parts, side)
    grey = grey_under_mask(images, torch.cat([places[:, None], rings], 1), side)
    miss = torch.where(fits, (grey[:, 1:] - grey[:, :1]).norm(dim=-1), torch.inf)
    best = rings[torch.arange(count), miss.argmin(1)]
    return torch.where(fits.any(1)[:, None], best, torch.nan)


def borrowed_places(places: Tensor, parts: Tensor, side: int, generator: torch.Generator) -> Tensor:
    """Draw for each image the place that the part has in another one: as scattered as the parts.

    places: (N, 2), where the part is; parts: (N, P, 2), all to avoid -> (N, 2), nan where every
    other image has the part within `side` of one of this image's parts.
    """
    fits = avoids_parts(places.expand(len(places), -1, -1), parts, side).fill_diagonal_(False)
    draw = torch.rand(fits.shape, generator=generator).masked_fill(~fits, -1)
    return torch.where(fits.any(1)[:, None], places[draw.argmax(1)], torch.nan)


def batched_features(features: Features, images: Tensor, batch: int = 40) -> dict[str, Tensor]:
    """Return each layer's features of many images, flat: (N, D). images: uint8 (N, 3, S, S)."""
    outputs = [features(part) for part in images.split(batch)]
    return {layer: torch.cat([out[layer].flatten(1) for out in outputs]) for layer in outputs[0]}


def differences(
    features: Features, clean: dict[str, Tensor], masked: Tensor, batch: int = 40
) -> dict[str, Tensor]:
    """Return eps = x - x~ of each layer, (N, D).

    A difference below a millionth of the layer's largest activation is rounding, and set to 0.
    clean: x, from `batched_features`, (N, D) a layer, or (1, D) if all copies are of one image;
    masked: the copies, uint8 (N, 3, S, S).
    """
    by_layer = {}
    for layer, hidden in batched_features(features, masked, batch).items():
        eps = clean[layer] - hidden
        eps[eps.abs() <= 1e-6 * clean[layer].abs().amax()] = 0
        by_layer[layer] = eps
    return by_layer


def keep_strongest(eps: Tensor, count: int) -> Tensor:
    """Set all but the `count` largest entries of each row to 0, so that all rows change as many."""
    if not 0 < count <= eps.shape[1]:
        raise ValueError(f"cannot keep {count} of {eps.shape[1]} units")
    chosen = eps.abs().topk(count, dim=1).indices
    return torch.zeros_like(eps).scatter_(1, chosen, eps.gather(1, chosen))


def sign_distance(eps: Tensor, zero: str = "third") -> Tensor:
    """Return the paper's distance, the share of units whose signs differ. (N, D) -> (N, N).

    zero: `third`, sign(0) = 0 is a value of its own; `positive`, sign(0) = 1, two values only.
    """
    if zero not in ZERO:
        raise ValueError(f"zero {zero!r}: choose among {', '.join(ZERO)}")
    units = eps.shape[1]
    if zero == "positive":
        signs = torch.where(eps < 0, -1.0, 1.0)
        return (units - signs @ signs.T) / (2 * units)
    signs, changed = eps.sign().float(), eps.ne(0).float()
    same, both, number = signs @ signs.T, changed @ changed.T, changed.sum(1)
    neither = units - number[:, None] - number + both
    return (units - (both + same) / 2 - neither) / units


def opposite_share(eps: Tensor) -> Tensor:
    """Return, of the units that change in both images, the share that changes oppositely.

    (N, D) -> (N, N). Chance is 0.5; nan where no unit changes in both.
    """
    signs, changed = eps.sign(), eps.ne(0).float()
    both = changed @ changed.T
    return (both - signs @ signs.T) / (2 * both)


def cosine_distance(eps: Tensor) -> Tensor:
    """Return 1 - cosine between differences, 1 where one of them is 0. (N, D) -> (N, N)."""
    unit = F.normalize(eps, dim=1)
    return 1 - unit @ unit.T


def sum_over_space(eps: Tensor, maps: int) -> Tensor:
    """Sum the differences of each map, wherever they are. (N, maps * H * W) -> (N, maps)."""
    return eps.view(len(eps), maps, -1).sum(2)


def mean_over_pairs(distance: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return the mean over all pairs of different images, nan left out: the paper's Delta.

    distance: (N, N); weights: (B, N), how often each image is taken in each of B samples -> (B,),
    or a scalar without weights, where each is taken once.
    """
    counts = torch.ones(1, len(distance)) if weights is None else weights
    valid = distance.isfinite().float().fill_diagonal_(0)
    total = torch.einsum("bi,ij,bj->b", counts, distance.nan_to_num(0) * valid, counts)
    means = total / torch.einsum("bi,ij,bj->b", counts, valid, counts)
    return means[0] if weights is None else means


def bootstrap_counts(count: int, times: int, generator: torch.Generator) -> Tensor:
    """Draw how often each image is taken in each of `times` bootstrap samples: (times, count)."""
    drawn = torch.randint(count, (times, count), generator=generator)
    return torch.zeros(times, count).scatter_add_(1, drawn, torch.ones(times, count))


def grid_places(size: int, side: int, stride: int) -> Tensor:
    """Return the centres of squares, `stride` apart from the top left on, row by row: (K, 2)."""
    at = torch.arange(0, size - side + 1, stride) + side / 2
    return torch.cartesian_prod(at, at).flip(1)


def similarity_maps(
    features: Features, layer: str, images: Tensor, places: Tensor, side: int, stride: int,
    searched: list[int],
) -> Tensor:  # fmt: skip
    """Return how similar masks all over an image are to masks on the part in the other images.

    The similarity is the cosine of differences summed over each map, so that places do not matter.

    Args:
        features: what the network makes of images; `layer` one of its layers, (B, C, H, W).
        images: uint8 (N, 3, S, S).
        places: (N, P, 2), x and y of P parts in pixels.
        side: of the masks, `stride` pixels apart.
        searched: the M images to search; all are examples.
    Returns:
        (M, P, K), one value for each of the K squares of `grid_places`.
    """
    grid = grid_places(images.shape[-1], side, stride)
    maps = features(images[:1])[layer].shape[1]
    clean = batched_features(features, images)

    def direction(rows: slice, masked: Tensor) -> Tensor:
        eps = differences(features, {name: x[rows] for name, x in clean.items()}, masked)
        return F.normalize(sum_over_space(eps[layer], maps), dim=1)

    everyone = slice(None)
    on_parts = [direction(everyone, mask_squares(images, at, side)) for at in places.unbind(1)]
    units = torch.stack(on_parts)  # (P, N, maps)
    of_others = F.normalize(units.sum(1, keepdim=True) - units, dim=2)  # mean direction
    similarities = []
    for i in searched:
        row = slice(i, i + 1)
        copies = images[row].expand(len(grid), -1, -1, -1)
        similarities.append(of_others[:, i] @ direction(row, mask_squares(copies, grid, side)).T)
    return torch.stack(similarities)


def nearest_mean(cosine: Tensor, classes: Tensor) -> Tensor:
    """Return the class whose mean direction is nearest, each image left out of its own mean.

    cosine: (N, N), products of the images' unit vectors; classes: int64 (N,), two images of each
    or more -> (N,) classes.
    """
    values, numbers = classes.unique(return_inverse=True)
    member = F.one_hot(numbers).float()
    if bool((member.sum(0) < 2).any()):
        raise ValueError("every class needs two images or more")
    with_itself = cosine.diagonal()[:, None]
    dots = cosine @ member  # of image i with the sum over class k
    # of that sum's length, without image i
    squares = (member * dots).sum(0) - member * (2 * dots - with_itself)
    dots = dots - member * with_itself
    return values[(dots / squares.clamp_min(1e-12).sqrt()).argmax(1)]


def same_and_other_class(classes: Tensor) -> tuple[Tensor, Tensor]:
    """Return which pairs of images are of one class, and which are of two. bool (N, N) each."""
    same = classes[:, None] == classes
    return same.clone().fill_diagonal_(False), ~same
