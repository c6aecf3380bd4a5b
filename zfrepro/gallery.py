"""What excites each feature map most (Fig. 2): the top-9 units over a data set, their projections and patches."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor
from tqdm.auto import tqdm

from zfrepro import deconvnet
from zfrepro import device as devices
from zfrepro.deconvnet import Units
from zfrepro.layers import require_index
from zfrepro.networks import Network
from zfrepro.receptive_field import stage


@dataclass(frozen=True)
class Top:
    """The strongest activations of every map of a layer, strongest first. All (C, K).

    At most one unit an image and map is kept, so that nine patches show nine images; the paper does not say.
    Empty places, when there are fewer than K images, have value -inf and image -1. Ties go to the earlier image.
    """

    layer: str
    values: Tensor  # float
    images: Tensor  # int64, index in the data set
    rows: Tensor  # int64, position in the feature map
    columns: Tensor

    def of(self, maps: Iterable[int]) -> tuple[Tensor, Units]:
        """Image indices and units of the given maps, (len(maps) * K,), map after map; empty places left out.

        Raises:
            ValueError: a map that is not there.
        """
        chosen = torch.as_tensor(list(maps), dtype=torch.int64)
        require_index(f"{self.layer}: map", chosen, len(self.values))
        images = self.images[chosen].flatten()
        units = Units(
            chosen.repeat_interleave(self.values.shape[1]),
            self.rows[chosen].flatten(),
            self.columns[chosen].flatten(),
        )
        there = images >= 0
        return images[there], units[there]


class TopTracker:
    """Keeps the K strongest units of each map of a layer over a stream of feature maps, in memory of fixed size."""

    def __init__(self, layer: str, maps: int, k: int = 9, device: torch.device | str = "cpu"):
        self.layer, self.seen = layer, 0
        self.values = torch.full((maps, k), -torch.inf, device=device)
        self.where = torch.full((maps, k, 3), -1, dtype=torch.int64, device=device)  # image, row, column

    def add(self, activations: Tensor) -> None:
        """Take in the next images' feature maps, (B, C, H, W).

        Raises:
            ValueError: activations that are not finite.
        """
        best = activations.amax((2, 3)).float()  # (B, C)
        if not torch.isfinite(best).all():
            raise ValueError(f"{self.layer}: activations are not finite; the images or the weights hold NaN or inf")
        values = torch.cat([self.values, best.T], 1)
        # a stable sort, so that of equal activations the earlier image stays
        k = self.values.shape[1]
        ordered, order = torch.sort(values, dim=1, descending=True, stable=True)
        self.values, kept = ordered[:, :k], order[:, :k]
        entering = kept >= k
        maps, places = entering.nonzero(as_tuple=True)
        images = kept[maps, places] - k
        # positions are looked up only for the few that enter: cheaper than a maximum with indices everywhere
        flat = activations[images, maps].flatten(1).argmax(1)
        width = activations.shape[3]
        self.where = self.where.gather(1, kept.clamp_max(k - 1)[:, :, None].expand(-1, -1, 3))
        self.where[maps, places] = torch.stack([images + self.seen, flat // width, flat % width], 1)
        self.seen += len(activations)

    def top(self) -> Top:
        """The result so far, on the CPU."""
        image, row, column = self.where.cpu().unbind(2)
        return Top(self.layer, self.values.cpu(), image, row, column)


@torch.no_grad()
def top_activations(
    network: Network, batches: Iterable[Tensor], layers: Iterable[str] | None = None, *, k: int = 9,
    total: int | None = None, progress: bool = True,
) -> dict[str, Top]:  # fmt: skip
    """One streaming pass that finds the strongest units of every map of the given conv layers.

    Args:
        batches: images as the network wants them, (B, 3, S, S) each, in data-set order.
        layers: default, all conv layers.
        total: number of batches, for the progress bar.
    Returns:
        layer name -> `Top`.
    Raises:
        ValueError: a layer without maps, no images, activations that are not finite.
    """
    layers = list(network.convs) if layers is None else list(layers)
    if odd := [name for name in layers if name not in network.convs]:
        raise ValueError(f"no conv layer {odd[0]!r} in {network.architecture.name}; it has {', '.join(network.convs)}")
    if k < 1:
        raise ValueError(f"k {k}: must be at least 1")
    device = next(network.parameters()).device
    trackers = {name: TopTracker(name, network.convs[name].out_channels, k, device) for name in layers}
    network.eval()
    bar = tqdm(batches, total=total, desc="searching", unit="batch", disable=not progress)
    for found in devices.in_pieces(lambda images: network.features(images.to(device), layers), bar):
        for name, activations in found.items():
            trackers[name].add(activations)
    if any(tracker.seen == 0 for tracker in trackers.values()):
        raise ValueError("no images to search; give at least one batch")
    return {name: tracker.top() for name, tracker in trackers.items()}


def projections(
    network: Network,
    fetch: Callable[[Tensor], Tensor],
    top: Top,
    maps: Iterable[int],
    *,
    batch: int = 16,
    progress: bool = False,
) -> Tensor:
    """Projections of the top units of some maps, cut to the receptive field.

    Args:
        fetch: from image indices (B,) to images as the network wants them, (B, 3, S, S).
        maps: which maps of the layer.
    Returns:
        (len(maps), K, 3, F, F); empty places are zero.
    """
    maps = list(maps)
    images, units = top.of(maps)

    def project(places: Tensor) -> Tensor:
        return deconvnet.project_crops(network, fetch(images[places]), top.layer, units[places]).pixels.cpu()

    chunks = torch.arange(len(images)).split(batch)
    bar = tqdm(chunks, desc=f"projecting {top.layer}", unit="batch", disable=not progress)
    return _in_places(torch.cat(list(devices.in_pieces(project, bar))), top, maps)


def patches(images: Tensor, network: Network, top: Top, maps: Iterable[int], *, fill: int = 128) -> Tensor:
    """The image patches that the top units of some maps see.

    Args:
        images: uint8 (N, 3, S, S), what the network saw before normalisation.
        fill: grey level outside the image.
    Returns:
        uint8 (len(maps), K, 3, F, F).
    """
    maps = list(maps)
    indices, units = top.of(maps)
    tops, lefts, size = deconvnet.window(network, top.layer, units)
    return _in_places(deconvnet.crop(images[indices], tops, lefts, size, fill), top, maps, fill)


def random_top(images: int, maps: int, *, k: int = 9, generator: torch.Generator | None = None) -> Top:
    """What `Top` would hold if nothing were learned: k different images at random for each map, for baselines."""
    chosen = torch.stack([torch.randperm(images, generator=generator)[:k] for _ in range(maps)])
    zeros = torch.zeros_like(chosen)
    return Top("random", torch.ones(chosen.shape), chosen, zeros, zeros)


def purity(top: Top, labels: Tensor) -> Tensor:
    """Share of a map's top images that belong to their most frequent class. labels: (N,) -> (C,), nan for dead maps."""
    classes = int(labels.max()) + 1
    there = (top.values > 0) & (top.images >= 0)
    votes = torch.nn.functional.one_hot(labels[top.images.clamp_min(0)], classes) * there[:, :, None]
    return votes.sum(1).amax(1) / there.sum(1)


def likeness(pictures: Tensor) -> Tensor:
    """Mean correlation over all pairs of a map's K pictures, as grey levels. (M, K, C, F, F) -> (M,).

    Places that are nan count as the picture's mean, so they make no two pictures more alike.
    """
    grey = torch.nn.functional.normalize(_centred(pictures).flatten(2), dim=2)
    k = grey.shape[1]
    pairs = grey @ grey.transpose(1, 2)
    return (pairs.sum((1, 2)) - pairs.diagonal(dim1=1, dim2=2).sum(1)) / (k * (k - 1))


def contrast(pictures: Tensor, places: int = 6) -> Tensor:
    """How much structure is where, at so few places a side that small shifts count little.

    Root mean square of the grey levels about the picture's mean. (M, K, C, F, F) -> (M, K, 1, places, places).
    """
    return torch.nn.functional.adaptive_avg_pool2d(_centred(pictures).square(), places).sqrt()[:, :, None]


LIKENESSES = {"pixels": likeness, "contrast": lambda pictures: likeness(contrast(pictures))}


def _centred(pictures: Tensor) -> Tensor:
    """Grey levels less their mean, 0 where nan. (M, K, C, F, F) -> (M, K, F, F)."""
    grey = pictures.float().mean(2)
    return (grey - grey.flatten(2).nanmean(2)[:, :, None, None]).nan_to_num(0)


def in_step(pictures: Tensor, network: Network, layer: str, units: Units) -> Tensor:
    """What each unit's field holds of a picture, nan beyond the picture's border. (N, 3, S, S) -> (N, 3, F, F).

    Unlike `patches`, also where the field is larger than the image: the unit is always in the middle.
    """
    field = stage(network.architecture, network.image_size, layer).field
    tops, lefts = (place * field.jump + field.start for place in (units.rows, units.columns))
    return deconvnet.crop(pictures, tops, lefts, field.size, torch.nan)


@torch.no_grad()
def responding(network: Network, images: Tensor, layer: str, places: Units, generator: torch.Generator) -> Units:
    """In each image a map that responds at the given row and column, drawn at random among those that do."""
    maps = network.features(images, [layer])[layer]
    there = maps[torch.arange(len(images)), :, places.rows, places.columns] > 0
    chances = there + 1e-9  # where none responds, any: its projection is blank
    return Units(torch.multinomial(chances.cpu(), 1, generator=generator)[:, 0], places.rows, places.columns)


def in_step_pairs(network: Network, images: Tensor, layer: str, units: Units) -> tuple[Tensor, Tensor]:
    """Projections of units and the patches they see, both with the unit in the middle. Twice (N, 3, F, F)."""
    patches = in_step(images, network, layer, units)
    projected = deconvnet.project_crops(network, images, layer, units).pixels
    if projected.shape == images.shape:  # the field is larger than the image
        projected = in_step(projected, network, layer, units)
    return projected.masked_fill(patches.isnan(), torch.nan).cpu(), patches.cpu()


def likenesses(
    network: Network, fetch: Callable[[Tensor], Tensor], top: Top, maps: Iterable[int], images: int, *, seed: int = 0,
    batch: int = 16,
) -> dict[str, dict[str, Tensor]]:  # fmt: skip
    """How alike a map's projections and its patches are, and pictures that share nothing but their places.

    Args:
        fetch: from image indices (B,) to images as the network wants them, (B, 3, S, S).
        maps: maps that respond to K images.
        images: how many there are to draw others from.
    Returns:
        for each of `LIKENESSES`, (len(maps),) each: `projections`, `patches`, and `random projections` and `random
        patches`, of other images at the same places, with a map that responds there.
    """
    generator, layer, maps = torch.Generator().manual_seed(seed), top.layer, list(maps)
    chosen, units = top.of(maps)
    others = torch.randint(images, chosen.shape, generator=generator)
    rows: dict[str, list[Tensor]] = {}
    for part in torch.arange(len(chosen)).split(batch):
        own, other, places = fetch(chosen[part]), fetch(others[part]), units[part]
        drawn = responding(network, other, layer, places, generator)
        for name, seen, whose in (("", own, places), ("random ", other, drawn)):
            for kind, found in zip(("projections", "patches"), in_step_pairs(network, seen, layer, whose), strict=True):
                rows.setdefault(name + kind, []).append(found)
    pictures = {name: torch.cat(found).unflatten(0, (len(maps), -1)) for name, found in rows.items()}
    return {how: {name: like(own) for name, own in pictures.items()} for how, like in LIKENESSES.items()}


def patches_vary_more(found: dict[str, Tensor]) -> Tensor:
    """By how much more alike projections are than patches, both less what chance pictures at their places are. (M,)."""
    return (found["projections"] - found["random projections"]) - (found["patches"] - found["random patches"])


def on_mask(top: Top, network: Network, mask: Tensor) -> Tensor:
    """Whether the middle of each top unit's receptive field lies on the object.

    Args:
        mask: (N, S, S) bool, the object in what the network sees; or float, its share at each place.
    Returns:
        (C, K) float, 1 on the object, 0 off it (or the share), nan in empty places and for units that do not respond.
    """
    field = stage(network.architecture, network.image_size, top.layer).field
    middles = [
        (place * field.jump + field.start + field.size // 2).clamp(0, network.image_size - 1)
        for place in (top.rows, top.columns)
    ]
    hit = mask[top.images.clamp_min(0), middles[0], middles[1]].float()
    return hit.masked_fill(~(top.values > 0), torch.nan)


def shares_on_mask(top: Top, network: Network, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Shares of a map's top units that lie on the object, in their own images and at their places in all images.

    Args:
        mask: (N, S, S) bool.
    Returns:
        (C,) each, nan for maps that never respond.
    """
    anywhere = mask.float().mean(0).expand(mask.shape)
    return on_mask(top, network, mask).nanmean(1), on_mask(top, network, anywhere).nanmean(1)


def _in_places(found: Tensor, top: Top, maps: list[int], empty: float = 0) -> Tensor:
    """(number of filled places, ...) -> (len(maps), K, ...)."""
    there = top.images[torch.as_tensor(maps)] >= 0
    out = found.new_full((*there.shape, *found.shape[1:]), empty)
    out[there] = found
    return out
