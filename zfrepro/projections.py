"""What a projection can and cannot tell: the same unit carried back in other ways, and pictures put to the test.

Units are probed before their ReLU, so that every rule has something to carry down even where a unit is silent; for
active units that changes nothing. A picture is cut to its unit's receptive field by `cut_to_field`.
"""

import copy
import dataclasses
from collections.abc import Callable, Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zfrepro import crops, deconvnet, rules
from zfrepro.deconvnet import Forward, Units
from zfrepro.layers import ceil_size
from zfrepro.networks import POOL_KERNEL, POOL_STRIDE, Conv, Network

RULES = {  # name -> rule of the ReLU, and whether contrast norm is skipped on the way down
    "deconvnet": ("deconvnet", True),
    "forward mask": ("gradient", True),  # the variant that the paper's footnote 1 rejects
    "gradient": ("gradient", False),
    "guided": ("guided", True),
    "deconvnet, true norm": ("deconvnet", False),
}


class Subsampled(Network):
    """The network with the middle of every pooling window in the place of its maximum: no max-pool, no switches."""

    @classmethod
    def of(cls, network: Network) -> "Subsampled":
        """The same weights, shared."""
        found = cls(network.architecture, network.image_size, network.classes, network.dropout)
        found.convs, found.fulls = network.convs, network.fulls
        return found.train(network.training)

    def shrink(self, conv: Conv, x: Tensor) -> Tensor:
        """As `Network.shrink`; the middles of the windows are inside the map also where the last window overhangs."""
        without = dataclasses.replace(conv, pool=False)
        if not conv.pool:
            return super().shrink(without, x)
        if conv.norm and not self.architecture.norm_before_pool:
            return super().shrink(without, x[..., 1::POOL_STRIDE, 1::POOL_STRIDE])
        return super().shrink(without, x)[..., 1::POOL_STRIDE, 1::POOL_STRIDE]


def before_relu(network: Network, layer: str) -> Callable[[Tensor], Tensor]:
    """The function from images to what a layer's ReLU is given: (B, C, H, W), or class scores for `fc8`.

    Raises:
        ValueError: a layer that is neither a conv layer nor `fc8`.
    """
    if layer == "fc8":
        return network
    if layer not in network.convs:
        raise ValueError(f"layer {layer!r}: choose among {', '.join((*network.convs, 'fc8'))}")
    convs = network.architecture.convs
    place = [c.name for c in convs].index(layer)

    def run(images: Tensor) -> Tensor:
        x = images
        if place:
            below = convs[place - 1]
            x = network.shrink(below, network.features(images, [below.name])[below.name])
        return network.convs[layer](x)

    return run


def values_of(found: Tensor, units: Units) -> Tensor:
    """The units' own values. found: (B, C, H, W) or (B, classes) -> (B,)."""
    batch = torch.arange(len(units), device=found.device)
    return found[batch, units.maps] if units.rows is None else found[batch, units.maps, units.rows, units.columns]


def by_rule(network: Network, images: Tensor, layer: str, units: Units, rule: str = "deconvnet") -> Tensor:
    """One unit of each image carried back by one of `RULES`, seeded with 1. (B, 3, S, S).

    Raises:
        ValueError: unknown rule or layer.
    """
    if rule not in RULES:
        raise ValueError(f"rule {rule!r}: choose among {', '.join(RULES)}")
    name, skip_norm = RULES[rule]
    model = before_relu(network, layer)
    if layer == network.layers[0]:
        name = "gradient"  # below it is no ReLU, whose rule the others are
    return rules.project(model, images, units, rule=name, skip_norm=skip_norm, seed="one")


def cut_to_field(network: Network, layer: str, units: Units, pictures: Tensor, fill: float = 0) -> Tensor:
    """Pictures or images (B, C, S, S), each cut to its unit's receptive field (B, C, F, F); whole for `fc8`.

    Args:
        fill: what stands outside the picture.
    """
    if layer == "fc8":
        return pictures
    tops, lefts, size = crops.window(network, layer, units)
    return crops.cut(pictures, tops, lefts, size, fill)


# --- switches --------------------------------------------------------------------------------------------------------


def _window(shape: torch.Size) -> tuple[Tensor, Tensor, int, int]:
    """First row (h, 1) and column (1, w) of each pooling window of maps of the given shape, and the map's size."""
    height, width = shape[-2:]
    firsts = [torch.arange(ceil_size(n, POOL_KERNEL, POOL_STRIDE)) * POOL_STRIDE for n in (height, width)]
    return firsts[0][:, None], firsts[1], height, width


def centre_switches(shape: torch.Size) -> Tensor:
    """Switches at the middle of every window. shape: (B, C, H, W) before the pool -> int64 (B, C, h, w)."""
    rows, columns, _, width = _window(shape)
    flat = (rows + 1) * width + columns + 1
    return flat.expand(shape[0], shape[1], -1, -1).contiguous()


def random_switches(shape: torch.Size, generator: torch.Generator) -> Tensor:
    """Switches drawn evenly from every window's places inside the map; as `centre_switches`."""
    rows, columns, height, width = _window(shape)
    size = (*shape[:2], len(rows), len(columns))

    def within(firsts: Tensor, end: int) -> Tensor:
        room = (end - firsts).clamp_max(POOL_KERNEL)
        return firsts + (torch.rand(size, generator=generator) * room).long()

    return within(rows, height) * width + within(columns, width)


def with_switches(up: Forward, choose: Callable[[torch.Size], Tensor]) -> Forward:
    """A way up whose switches are replaced by others, `choose(shape before the pool)`."""
    switches = {name: (choose(shape).to(own.device), shape) for name, (own, shape) in up.switches.items()}
    return dataclasses.replace(up, switches=switches)


def overwriting_unpool(x: Tensor, switches: Tensor, shape: torch.Size) -> Tensor:
    """Unpooling in which the last of colliding values wins, in the order of rows: what naive code does."""
    flat, places, values = x.new_zeros(shape).flatten(2), switches.flatten(2), x.flatten(2)
    order = torch.arange(places.shape[2], device=x.device).expand_as(places)
    last = order.new_full(flat.shape, -1).scatter_reduce(2, places, order, "amax")
    wins = last.gather(2, places) == order
    return flat.scatter_add_(2, places, values * wins).view(shape)


SWITCHES = ("own", "centre", "random", "another image's")


@torch.no_grad()
def by_switches(
    network: Network, images: Tensor, layer: str, units: Units, others: Tensor, generator: torch.Generator
) -> dict[str, Tensor]:
    """One conv unit of each image, projected with its own switches, others, and two controls. All (B, 3, S, S).

    Args:
        others: another image for each, (B, 3, S, S), whose switches are borrowed.
    Returns:
        `SWITCHES`; `another unit`, a random map at the same place with the own switches; `another unit and image`,
        the same with the borrowed ones, which says how alike unrelated projections are; `overwritten`, own switches
        with collisions overwritten.
    """
    if layer not in network.convs:
        raise ValueError(f"layer {layer!r}: switches are compared for {', '.join(network.convs)}")
    up = deconvnet.forward(network, images, layer)
    borrowed = dataclasses.replace(up, switches=deconvnet.forward(network, others, layer).switches)
    step = torch.randint(1, up.activations.shape[1], (len(units),), generator=generator).to(units.maps.device)
    other = dataclasses.replace(units, maps=(units.maps + step) % up.activations.shape[1])
    own_seed, other_seed = (_one_hot(up.activations, u) for u in (units, other))
    ways = {
        "own": (up, own_seed),
        "centre": (with_switches(up, centre_switches), own_seed),
        "random": (with_switches(up, lambda shape: random_switches(shape, generator)), own_seed),
        "another image's": (borrowed, own_seed),
        "another unit": (up, other_seed),
        "another unit and image": (borrowed, other_seed),
    }
    found = {name: deconvnet.backward(network, way, layer, x) for name, (way, x) in ways.items()}
    found["overwritten"] = deconvnet.backward(network, up, layer, own_seed, unpool=overwriting_unpool)
    return found


def _one_hot(like: Tensor, units: Units) -> Tensor:
    return deconvnet.seed(torch.ones_like(like), units)


# --- weights ---------------------------------------------------------------------------------------------------------


@torch.no_grad()
def randomise_(layer: nn.Module, generator: torch.Generator) -> None:
    """Gaussian weights of the layer's own mean square, and its biases in another order, in place."""
    weight = layer.weight
    fresh = torch.randn(weight.shape, generator=generator).to(weight)
    weight.copy_(fresh * weight.square().mean().sqrt())
    layer.bias.copy_(layer.bias[torch.randperm(len(layer.bias), generator=generator).to(layer.bias.device)])


def cascade(network: Network, layer: str, generator: torch.Generator) -> Iterator[tuple[str, Network]]:
    """Networks with random weights from the probed layer down to conv1 (Adebayo et al. 2018), one layer more each.

    Layers above the probed one take no part in a projection, so they are left alone.

    Yields:
        the layer that was randomised last, and the network.
    """
    changed = copy.deepcopy(network)
    names = network.layers[: network.layers.index(layer) + 1]
    for name in reversed(names):
        randomise_(changed.get_submodule(f"{'convs' if name in network.convs else 'fulls'}.{name}"), generator)
        yield name, copy.deepcopy(changed)


def randomised(network: Network, generator: torch.Generator) -> Network:
    """A network of the same shape with random weights everywhere."""
    *_, (_, found) = cascade(network, network.layers[-1], generator)
    return found


# --- deletion --------------------------------------------------------------------------------------------------------

FRACTIONS = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75)


@torch.no_grad()
def deletion(
    network: Network, images: Tensor, layer: str, units: Units, ranking: Tensor, fractions: Sequence[float] = FRACTIONS
) -> Tensor:
    """What is left of each unit's activation when the first pixels of a ranking are replaced by the mean image.

    Args:
        ranking: (B, S, S), highest goes first; only pixels of the unit's receptive field are counted and deleted.
        fractions: of the field's pixels.
    Returns:
        (B, len(fractions)), activation over that of the whole image, not below 0.
    Raises:
        ValueError: a unit that does not respond to its image.
    """
    model = before_relu(network, layer)
    start = values_of(model(images), units)
    if not bool((start > 0).all()):
        raise ValueError(f"{layer}: a unit does not respond to its image, so there is nothing to lose")
    field = field_mask(network, layer, units, images)
    count = field.flatten(1).sum(1)
    order = ranking.masked_fill(~field, -torch.inf).flatten(1).argsort(dim=1, descending=True, stable=True)
    place = order.argsort(1)  # of each pixel in the order
    left = []
    for fraction in fractions:
        gone = (place < (fraction * count).round()[:, None]).view(ranking.shape)
        left.append(values_of(model(images.masked_fill(gone[:, None], 0)), units).clamp_min(0) / start)
    return torch.stack(left, 1)


def field_mask(network: Network, layer: str, units: Units, images: Tensor) -> Tensor:
    """The pixels in each unit's receptive field, (B, S, S) bool; all of them for `fc8`."""
    if layer == "fc8":
        return images.new_ones(len(images), *images.shape[-2:], dtype=torch.bool)
    tops, lefts, size = crops.window(network, layer, units)
    places, firsts = torch.arange(images.shape[-1]), (tops.cpu(), lefts.cpu())
    rows, columns = ((places >= first[:, None]) & (places < first[:, None] + size) for first in firsts)
    return (rows[:, :, None] & columns[:, None, :]).to(images.device)


def area_under(curves: Tensor, fractions: Sequence[float] = FRACTIONS) -> Tensor:
    """Mean height of deletion curves (B, len(fractions)) by the trapezoidal rule: low if the right pixels go first."""
    x = torch.tensor(fractions)
    return torch.trapezoid(curves, x, dim=1) / (x[-1] - x[0])


@torch.no_grad()
def best_part(network: Network, images: Tensor, layer: str, units: Units, parts: Tensor, smallest: int = 9) -> Tensor:
    """The part of the object whose covering by the mean image costs each unit most: what it truly responds to.

    Args:
        parts: (B, S, S) integers, 0 off the object.
        smallest: parts with fewer visible pixels in the receptive field are passed over.
    Returns:
        (B,) number of the part; 0 where there is none, or where covering none lowers the activation.
    """
    model, field = before_relu(network, layer), field_mask(network, layer, units, images)
    start = values_of(model(images), units)
    best, loss = parts.new_zeros(len(images)), torch.zeros_like(start)
    for part in parts.unique().tolist():
        covered = (parts == part) & field
        there = covered.flatten(1).sum(1) >= smallest
        if part == 0 or not there.any():
            continue
        chosen = there.nonzero().flatten()
        fell = start[chosen] - values_of(model(images[chosen].masked_fill(covered[chosen, None], 0)), units[chosen])
        better = fell > loss[chosen]
        best[chosen[better]], loss[chosen[better]] = part, fell[better]
    return best


# --- adversarial images ----------------------------------------------------------------------------------------------


def adversarial(network: Network, images: Tensor, labels: Tensor, radius: float, steps: int = 10) -> Tensor:
    """Images within `radius` of each pixel value that the network takes for another class, where it can be had.

    Projected gradient ascent of the loss (Madry et al. 2018) from the image itself; one step is FGSM.

    Args:
        images: (B, 3, S, S) as the network sees them.
        labels: (B,), the classes to be left.
        radius: in the units of `images`.
    Returns:
        (B, 3, S, S).
    """
    network.eval()
    moved = images.clone()
    for _ in range(steps):
        moved = moved.detach().requires_grad_()
        with torch.enable_grad():
            loss = F.cross_entropy(network(moved), labels.to(moved.device), reduction="sum")
            (slope,) = torch.autograd.grad(loss, moved)
        step = 2.5 * radius / steps if steps > 1 else radius
        moved = images + (moved.detach() + step * slope.sign() - images).clamp(-radius, radius)
    return moved.detach()
