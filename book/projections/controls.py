"""What a projection can and cannot tell: one unit projected in other ways, and put to the test.

Units are probed before their ReLU, so that every rule has something to project even where a unit is
silent; for active units that changes nothing. `cut_to_field` cuts a projection to the unit's
receptive field.
"""

import copy
from collections.abc import Callable, Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zfrepro import deconvnet, rules
from zfrepro.deconvnet import Units
from zfrepro.models import Layered
from zfrepro.networks import POOL_STRIDE, Conv, Network

RULES = {  # name -> rule of the ReLU, and whether contrast norm is skipped on the way down
    "deconvnet": ("deconvnet", True),
    "forward mask": ("gradient", True),  # the variant that the paper's footnote 1 rejects
    "gradient": ("gradient", False),
    "guided": ("guided", True),
    "deconvnet, true norm": ("deconvnet", False),
}


class Middle(nn.Module):
    """Takes the middle of each window of a 3x3 max-pool of stride 2.

    Middles are in the map even where the last window overhangs.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, h, w)."""
        return x[..., 1::POOL_STRIDE, 1::POOL_STRIDE]


class Subsampled(Network):
    """A network that takes the middle of each pooling window, not its maximum: no switches."""

    @classmethod
    def of(cls, network: Network) -> "Subsampled":
        """Return a subsampled network that shares the weights of another."""
        subsampled = cls(network.architecture, network.image_size, network.classes, network.dropout)
        subsampled.convs, subsampled.fulls = network.convs, network.fulls
        return subsampled.train(network.training)

    def pool_and_norm(self, conv: Conv, x: Tensor) -> Tensor:
        """Subsample and normalise, in the architecture's order."""
        return super().pool_and_norm(conv, x, Middle())


def subsampled(network: Layered) -> Layered:
    """Return a network of the same weights that takes the middle of each pooling window.

    Of a network that others trained, every max-pool module is exchanged.

    Raises:
        ValueError: a max-pool of another kind than 3x3 with stride 2 and no padding.
    """
    if isinstance(network, Network):
        return Subsampled.of(network)
    memo = {id(tensor): tensor for tensor in network.state_dict(keep_vars=True).values()}
    changed = copy.deepcopy(network, memo)
    for parent in list(changed.modules()):
        for name, module in parent.named_children():
            if isinstance(module, nn.MaxPool2d):
                if (module.kernel_size, module.stride, module.padding) != (3, 2, 0):
                    raise ValueError(f"{module}: only 3x3 max-pools of stride 2 can be exchanged")
                setattr(parent, name, Middle())
    return changed


def before_relu(network: Layered, layer: str) -> Callable[[Tensor], Tensor]:
    """Return the function from images to a layer's values before its ReLU, for `fc8` the scores.

    Of a network that others trained, after it: a layer may join branches with ReLUs of their own.

    Raises:
        ValueError: a layer that is neither a conv layer nor `fc8`.
    """
    if layer == "fc8":
        return network
    if not isinstance(network, Network):
        return network.output(layer)
    if layer not in network.convs:
        raise ValueError(f"layer {layer!r}: choose among {', '.join((*network.convs, 'fc8'))}")
    convs = network.architecture.convs
    place = [c.name for c in convs].index(layer)

    def run(images: Tensor) -> Tensor:
        x = images
        if place:
            below = convs[place - 1]
            x = network.pool_and_norm(below, network.features(images, [below.name])[below.name])
        return network.convs[layer](x)

    return run


def unit_values(values: Tensor, units: Units) -> Tensor:
    """Return the value of each unit. values: (B, C, H, W) or (B, classes) -> (B,)."""
    batch = torch.arange(len(units), device=values.device)
    if units.rows is None:
        return values[batch, units.maps]
    return values[batch, units.maps, units.rows, units.columns]


def project_by_rule(
    network: Layered, images: Tensor, layer: str, units: Units, rule: str = "deconvnet"
) -> Tensor:
    """Project one unit of each image by one of `RULES`, seeded with 1: (B, 3, S, S).

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


def cut_to_field(
    network: Layered, layer: str, units: Units, pictures: Tensor, fill: float = 0
) -> Tensor:
    """Cut pictures (B, C, S, S) to each unit's receptive field (B, C, F, F); whole for `fc8`.

    fill: what stands outside the picture.
    """
    if layer == "fc8":
        return pictures
    tops, lefts, size = deconvnet.window(network, layer, units)
    return deconvnet.crop(pictures, tops, lefts, size, fill)


def overwriting_unpool(x: Tensor, switches: Tensor, shape: torch.Size) -> Tensor:
    """Unpool so that the last of colliding values wins, in the order of rows, as naive code."""
    flat, places, values = x.new_zeros(shape).flatten(2), switches.flatten(2), x.flatten(2)
    order = torch.arange(places.shape[2], device=x.device).expand_as(places)
    last = order.new_full(flat.shape, -1).scatter_reduce(2, places, order, "amax")
    wins = last.gather(2, places) == order
    return flat.scatter_add_(2, places, values * wins).view(shape)


WAYS = ("own", "another image's", "another unit", "another unit and image", "overwritten")


@torch.no_grad()
def project_by_switches(
    network: Layered,
    images: Tensor,
    layer: str,
    units: Units,
    other_images: Tensor,
    generator: torch.Generator,
) -> dict[str, Tensor]:
    """Project one conv unit of each image with its own switches, others, and two controls.

    The way down depends on the image by its switches alone, so those of another image are borrowed
    by projecting the unit of that image.

    Args:
        other_images: another image for each, (B, 3, S, S).
    Returns:
        (B, 3, S, S) for each of `WAYS`: with the own switches; with the other image's; another map
        at the same place with either, the last telling how alike unrelated projections are; and, in
        this package's networks, with the own switches and collisions overwritten.
    """
    if layer == "fc8" or layer not in network.layers:
        raise ValueError(f"layer {layer!r}: switches are compared for conv layers")
    other = another_unit(network, layer, images, units, generator)
    seen = ((images, units), (other_images, units), (images, other), (other_images, other))
    ways = {
        way: project_by_rule(network, x, layer, unit)
        for way, (x, unit) in zip(WAYS, seen, strict=False)
    }
    if isinstance(network, Network):
        up = deconvnet.forward(network, images, layer)
        seed = deconvnet.seed(torch.ones_like(up.activations), units)
        down = deconvnet.backward(network, up, layer, seed, unpool=overwriting_unpool)
        ways["overwritten"] = down
    return ways


def another_unit(
    network: Layered, layer: str, images: Tensor, units: Units, generator: torch.Generator
) -> Units:
    """Draw another map for each unit, at the same place."""
    with torch.no_grad():
        maps = network.features(images[:1], [layer])[layer].shape[1]
    step = torch.randint(1, maps, (len(units),), generator=generator).to(units.maps.device)
    return Units((units.maps + step) % maps, units.rows, units.columns)


@torch.no_grad()
def randomize_(layer: nn.Module, generator: torch.Generator) -> None:
    """Draw Gaussian weights of the layer's own mean square and shuffle its biases, in place."""
    weight = layer.weight
    fresh = torch.randn(weight.shape, generator=generator).to(weight)
    weight.copy_(fresh * weight.square().mean().sqrt())
    layer.bias.copy_(
        layer.bias[torch.randperm(len(layer.bias), generator=generator).to(layer.bias.device)]
    )


def cascading_randomization(
    network: Layered, layer: str, generator: torch.Generator
) -> Iterator[tuple[str, Layered]]:
    """Randomise layers from the probed one down to conv1, one more each (Adebayo et al. 2018).

    Yields:
        the layer that was randomised last, and the network.
    """
    changed = copy.deepcopy(network)
    names = network.layers[: network.layers.index(layer) + 1]
    for name in reversed(names):
        for module in weighted(changed, name):
            randomize_(module, generator)
        yield name, copy.deepcopy(changed)


def weighted(network: Layered, layer: str) -> list[nn.Module]:
    """Return the modules with weights of a layer.

    Of a network that others trained, all between the layer below it in its list and itself.
    """
    if isinstance(network, Network):
        return [(network.convs if layer in network.convs else network.fulls)[layer]]
    names = [name for name, _ in network.model.named_modules()]
    ends = [0]
    for name in network.layers[: network.layers.index(layer) + 1]:
        module = network.module(name).removeprefix("model.")
        inside = [k for k, n in enumerate(names) if n == module or n.startswith(f"{module}.")]
        ends.append(len(names) if name == "fc8" else max(ends[-1], inside[-1] + 1))
    modules = dict(network.model.named_modules())
    return [m for n in names[ends[-2] : ends[-1]] if hasattr(m := modules[n], "weight")]


def randomized(network: Layered, generator: torch.Generator) -> Layered:
    """Return a network of the same shape with random weights everywhere."""
    *_, (_, last) = cascading_randomization(network, network.layers[-1], generator)
    return last


FRACTIONS = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75)


@torch.no_grad()
def deletion_curve(
    network: Layered, images: Tensor, layer: str, units: Units, ranking: Tensor,
    fractions: Sequence[float] = FRACTIONS,
) -> Tensor:  # fmt: skip
    """Return what is left of each unit's activation as pixels become those of the mean image.

    Args:
        ranking: (B, S, S), highest goes first.
        fractions: of the pixels of the unit's field that are deleted.
    Returns:
        (B, len(fractions)), activation over that of the whole image, not below 0.
    Raises:
        ValueError: a unit that does not respond to its image.
    """
    model = before_relu(network, layer)
    start = unit_values(model(images), units)
    if not bool((start > 0).all()):
        raise ValueError(
            f"{layer}: a unit does not respond to its image, so there is nothing to lose"
        )
    field = field_mask(network, layer, units, images)
    count = field.flatten(1).sum(1)
    inside = ranking.masked_fill(~field, -torch.inf).flatten(1)
    order = inside.argsort(dim=1, descending=True, stable=True)
    place = order.argsort(1)  # of each pixel in the order
    left = []
    for fraction in fractions:
        gone = (place < (fraction * count).round()[:, None]).view(ranking.shape)
        deleted = images.masked_fill(gone[:, None], 0)
        left.append(unit_values(model(deleted), units).clamp_min(0) / start)
    return torch.stack(left, 1)


def field_mask(network: Layered, layer: str, units: Units, images: Tensor) -> Tensor:
    """Return the pixels in each unit's receptive field, (B, S, S) bool; all for `fc8`."""
    if layer == "fc8":
        return images.new_ones(len(images), *images.shape[-2:], dtype=torch.bool)
    tops, lefts, size = deconvnet.window(network, layer, units)
    places, firsts = torch.arange(images.shape[-1]), (tops.cpu(), lefts.cpu())
    rows, columns = (
        (places >= first[:, None]) & (places < first[:, None] + size) for first in firsts
    )
    return (rows[:, :, None] & columns[:, None, :]).to(images.device)


def area_under(curves: Tensor, fractions: Sequence[float] = FRACTIONS) -> Tensor:
    """Return the mean height of curves (B, len(fractions)): low if the right pixels go first."""
    x = torch.tensor(fractions)
    return torch.trapezoid(curves, x, dim=1) / (x[-1] - x[0])


@torch.no_grad()
def most_needed_part(
    network: Layered, images: Tensor, layer: str, units: Units, parts: Tensor, smallest: int = 9
) -> Tensor:
    """Return the part of the object whose masking by the mean image costs each unit most.

    Args:
        parts: (B, S, S) integers, 0 off the object.
        smallest: parts with fewer visible pixels in the field are passed over.
    Returns:
        (B,) number of the part; 0 where masking none lowers the activation.
    """
    model, field = before_relu(network, layer), field_mask(network, layer, units, images)
    start = unit_values(model(images), units)
    best, loss = parts.new_zeros(len(images)), torch.zeros_like(start)
    for part in parts.unique().tolist():
        covered = (parts == part) & field
        visible = covered.flatten(1).sum(1) >= smallest
        if part == 0 or not visible.any():
            continue
        chosen = visible.nonzero().flatten()
        masked = images[chosen].masked_fill(covered[chosen, None], 0)
        drop = start[chosen] - unit_values(model(masked), units[chosen])
        larger = drop > loss[chosen]
        best[chosen[larger]], loss[chosen[larger]] = part, drop[larger]
    return best


def adversarial_images(
    network: Layered, images: Tensor, labels: Tensor, radius: float, steps: int = 10
) -> Tensor:
    """Change each pixel by at most `radius` so that the network answers another class, if it can.

    Projected gradient ascent of the loss (Madry et al. 2018) from the image itself.

    images: (B, 3, S, S), as the network sees them -> the same; labels: (B,), those to be left.
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
