"""A training step at 128 px against a plain loop in fp32 with torch's response norm."""

import copy
import itertools
from collections.abc import Iterator
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.contrast import torch_norm
from benchmarks.result import Check, Result, difference, faster
from benchmarks.timing import CPU, medians
from zfrepro import device as devices
from zfrepro.data import Split
from zfrepro.data.transforms import augment, mean_image, normalise, stored_size
from zfrepro.networks import POOL_KERNEL, POOL_STRIDE, Conv, Network
from zfrepro.training import MODERN, SCALES, Recipe, start, train_epoch

CLASSES = 20


class PlainNetwork(Network):
    """The same network as one would write it without this package."""

    def pool_and_norm(self, conv: Conv, x: Tensor) -> Tensor:
        if conv.pool:
            x = F.max_pool2d(x, POOL_KERNEL, POOL_STRIDE, ceil_mode=True)
        return torch_norm(x) if conv.norm else x


def plain_copy(network: Network) -> PlainNetwork:
    plain = PlainNetwork(network.architecture, network.image_size, network.classes, network.dropout)
    plain.load_state_dict(network.state_dict())
    return plain


def made_up(recipe: Recipe, number: int) -> tuple[Split, Tensor]:
    """So many images of noise, stored for the recipe's image size, and their mean image."""
    side = stored_size(recipe.image_size)
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (number, 3, side, side), generator=generator).to(torch.uint8)
    return Split(images, torch.arange(number) % CLASSES), mean_image(images)


def plain_step(
    network: Network, optimiser: torch.optim.Optimizer, recipe: Recipe, split: Split, mean: Tensor
) -> None:
    """Take a step in torch's default layout and precision, without clipping and average."""
    images = normalise(split.images, mean, recipe.input_scale)
    generator = torch.Generator().manual_seed(0)
    images = augment(images, recipe.image_size, recipe.crops, generator, (recipe.area, 1.0))
    loss = F.cross_entropy(
        network(images.contiguous()), split.labels, label_smoothing=recipe.label_smoothing
    )
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()


def _loss_and_gradients(
    network: Network, images: Tensor, labels: Tensor, precision: str
) -> tuple[Tensor, ...]:
    network.eval()  # without dropout
    with devices.autocast(images.device, precision):
        loss = F.cross_entropy(network(images).to(network.convs.conv1.weight.dtype), labels)
    return loss.detach(), *torch.autograd.grad(loss, list(network.parameters()))


def _checks(
    ours: Network, plain: Network, images: Tensor, labels: Tensor, precision: str
) -> tuple[Check, ...]:
    # In double precision, where rounding hardly ever moves a maximum of a pool to a neighbour.
    exact = [
        _loss_and_gradients(copy.deepcopy(n).double(), images.double(), labels, "fp32")
        for n in (ours, plain)
    ]
    checks = (Check("fp64 loss and gradients", max(map(difference, *exact)), 1e-6),)
    if precision == "fp32":
        return checks
    loss, *gradients = (g.float() for g in exact[1])
    rounded, *rounded_gradients = _loss_and_gradients(ours, images, labels, precision)
    directions = [torch.cat([g.flatten() for g in part]) for part in (rounded_gradients, gradients)]
    turned = 1 - F.cosine_similarity(*directions, dim=0).item()
    return (
        *checks,
        Check(f"{precision} loss", difference(rounded, loss), 0.02),
        Check("direction", turned, 0.02),
    )


def run(quick: bool, device: torch.device = CPU) -> Iterator[Result]:
    """Compare the modern recipe at compact scale, in the precision that is fastest here."""
    repeats, batch = (1, 8) if quick else (5, Recipe().batch)
    precision = devices.precision(device, Recipe().precision)
    options = {"batch": batch, "precision": precision, "dataset": "imagenet20"}
    recipe = Recipe(**MODERN | SCALES["compact"] | options)
    split, mean = made_up(recipe, batch)
    split, mean = Split(split.images.to(device), split.labels.to(device)), mean.to(device)
    state = start(recipe, CLASSES, device)
    plain = plain_copy(state.network).to(device)
    views = normalise(split.images[:4], mean, recipe.input_scale)
    views = views[..., : recipe.image_size, : recipe.image_size]
    checks = _checks(state.network, plain, views, split.labels[:4], precision)
    state.network.train()
    plain.train()
    optimiser = torch.optim.SGD(
        plain.parameters(), recipe.lr, recipe.momentum, weight_decay=recipe.weight_decay
    )
    epochs = itertools.cycle(range(recipe.epochs))

    def step() -> None:
        train_epoch(recipe, state, split, mean, next(epochs), progress=False)

    plain_one = partial(plain_step, plain, optimiser, recipe, split, mean)
    seconds, rival_seconds = medians([step, plain_one], repeats, at_least=0)
    name = f"training step, 128 px, {batch} images, {precision}"
    yield faster(name, seconds, "plain fp32 loop", rival_seconds, checks, 3)
