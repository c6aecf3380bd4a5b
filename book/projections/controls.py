"""What a projection can and cannot tell: one unit projected in other ways, and put to the test.

Units are probed before their ReLU, so that every rule has something to project even where a unit is
silent; for active units that changes nothing. `cut_to_field` cuts a projection to the unit's
receptive field.
"""

import copy
from collections.abc import Iterator, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zfrepro import deconvnet, rules
from zfrepro.deconvnet import Units
from zfrepro.models import Layered
from zfrepro.networks import POOL_STRIDE, Network

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


def subsampled(network: Layered) -> Layered:
    """Return a network of the same weights that takes the middle of each pooling window.

    Of a network that others trained, every max-pool module is exchanged.

    Raises:
        ValueError: a max-pool of another kind than 3x3 with stride 2 and no padding.
    """
    if isinstance(network, Network):
        changed = copy.copy(network)
        changed.pool_and_norm = partial(network.pool_and_norm, pool=Middle())
        return changed
    memo = {id(tensor): tensor for tensor in network.state_dict(keep_vars=True).values()}
    changed = copy.deepcopy(network, memo)
    for parent in list(changed.modules()):
        for name, module in parent.named_children():
            if isinstance(module, nn.MaxPool2d):
                if (module.kernel_size, module.stride, module.padding) != (3, 2, 0):
                    raise ValueError(f"{module}: only 3x3 max-pools of stride 2 can be exchanged")
                setattr(parent, name, Middle())
    return changed


def module_of(network: Layered, layer: str) -> str | None:
    """Return the name of the module that gives a layer before its ReLU; None for the scores.

    Of a network that others trained, after it: a layer may join branches with ReLUs of their own.
    """
    return None if layer == "fc8" else network.module(layer)


def unit_values(network: Layered, images: Tensor, layer: str, units: Units) -> Tensor:
    """Return the value of one unit of each image before the ReLU: (B,)."""
    values = rules.activations_of(network, images, module_of(network, layer))
    return values[(torch.arange(len(units)), *units.places)]


def project_by_rule(
    network: Layered, images: Tensor, layer: str, units: Units, rule: str = "deconvnet"
) -> Tensor:
    """Project one unit of each image by one of `RULES`, seeded with 1: (B, 3, S, S).

    layer: above the first, for below that is no ReLU, whose rule the others are.
    """
    name, skip_norm = RULES[rule]
    options = {"rule": name, "skip_norm": skip_norm, "seed": "one"}
    return rules.project(network, images, units, module_of(network, layer), **options)


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
    """Return the modules with weights of a layer: all behind the layer below, up to its own."""
    modules = dict(network.named_modules())
    names, ends = list(modules), [0]
    for name in network.layers[: network.layers.index(layer) + 1]:
        module = network.module(name)
        inside = [k for k, n in enumerate(names) if n == module or n.startswith(f"{module}.")]
        ends.append(len(names) if name == "fc8" else max(ends[-1], inside[-1] + 1))
    return [m for n in names[ends[-2] : ends[-1]] if hasattr(m := modules[n], "weight")]


def randomized(network: Layered, generator: torch.Generator) -> Layered:
    """Return a network of the same shape with random weights everywhere."""
    *_, (_, last) = cascading_randomization(network, network.layers[-1], generator)
    return last


FRACTIONS = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75)


def deletion_height(
    network: Layered, images: Tensor, layer: str, units: Units, ranking: Tensor,
    fractions: Sequence[float] = FRACTIONS,
) -> Tensor:  # fmt: skip
    """Return the mean height of each unit's deletion curve: low if the right pixels go first.

    The curve is what is left of the activation, over that of the whole image and not below 0, as
    pixels become those of the mean image.

    Args:
        ranking: (B, S, S), highest goes first.
        fractions: of the pixels of the unit's field that are deleted.
    Returns:
        (B,)
    Raises:
        ValueError: a unit that does not respond to its image.
    """
    start = unit_values(network, images, layer, units)
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
        left.append(unit_values(network, deleted, layer, units).clamp_min(0) / start)
    shares = torch.tensor(fractions, device=start.device)
    return torch.trapezoid(torch.stack(left, 1), shares, dim=1) / (shares[-1] - shares[0])


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


SMALLEST = 9  # pixels


def most_needed_part(
    network: Layered, images: Tensor, layer: str, units: Units, parts: Tensor
) -> Tensor:
    """Return the part of the object whose masking by the mean image costs each unit most.

    Args:
        parts: (B, S, S) integers, 0 off the object. Parts with fewer than `SMALLEST` visible pixels
            in the field are passed over.
    Returns:
        (B,) number of the part; 0 where masking none lowers the activation.
    """
    field = field_mask(network, layer, units, images)
    start = unit_values(network, images, layer, units)
    best, loss = parts.new_zeros(len(images)), torch.zeros_like(start)
    for part in parts.unique().tolist():
        covered = (parts == part) & field
        visible = covered.flatten(1).sum(1) >= SMALLEST
        if part == 0 or not visible.any():
            continue
        chosen = visible.nonzero().flatten()
        masked = images[chosen].masked_fill(covered[chosen, None], 0)
        drop = start[chosen] - unit_values(network, masked, layer, units[chosen])
        larger = drop > loss[chosen]
        best[chosen[larger]], loss[chosen[larger]] = part, drop[larger]
    return best


STEPS = 10  # of an adversarial change


def adversarial_images(network: Layered, images: Tensor, labels: Tensor, radius: float) -> Tensor:
    """Change each pixel by at most `radius` so that the network answers another class, if it can.

    Projected gradient ascent of the loss (Madry et al. 2018) from the image itself.

    images: (B, 3, S, S), as the network sees them -> the same; labels: (B,), those to be left.
    """
    moved, step = images, 2.5 * radius / STEPS
    for _ in range(STEPS):
        moved = moved.detach().requires_grad_()
        with torch.enable_grad():
            loss = F.cross_entropy(network(moved), labels.to(moved.device), reduction="sum")
            (slope,) = torch.autograd.grad(loss, moved)
        moved = images + (moved.detach() + step * slope.sign() - images).clamp(-radius, radius)
    return moved
