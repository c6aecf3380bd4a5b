"""Contrast norm and a training step against plain torch, and absolute speed at the paper's size."""

import copy
import itertools
from collections.abc import Callable, Iterator
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.result import Check, Result, compare, difference
from benchmarks.timing import CPU, matmul_rate, medians
from zfrepro import device as devices
from zfrepro.data import Split
from zfrepro.data.transforms import augment, center_crop, mean_image, normalise, stored_size
from zfrepro.layers import NORM_ALPHA, NORM_BETA, NORM_K, NORM_SIZE, contrast_norm
from zfrepro.networks import POOL_KERNEL, POOL_STRIDE, Conv, Network, build, initialise_, zfnet
from zfrepro.receptive_field import training_multiply_adds
from zfrepro.training import MODERN, SCALES, Recipe, State, start, train_epoch

CLASSES = 20
GOAL = 25.0  # per cent of a GPU's measured matmul rate


def torch_norm(x: Tensor) -> Tensor:
    """Compute `contrast_norm` by torch."""
    return F.local_response_norm(x, NORM_SIZE, NORM_ALPHA, NORM_BETA, NORM_K)


def _both_ways(norm: Callable, x: Tensor, above: Tensor) -> tuple[Tensor, Tensor]:
    y = norm(x)
    return y.detach(), torch.autograd.grad(y, x, above)[0]


def norm(quick: bool, device: torch.device = CPU) -> Iterator[Result]:
    """Contrast norm, forward and backward, on pooled maps of layers 1 and 2 at 224 px."""
    batch, repeats = (2, 1) if quick else (16, 31)
    generator = torch.Generator().manual_seed(0)
    for layer, maps, size in (("conv1", 96, 55), ("conv2", 256, 13)):
        shape, last = (batch, maps, size, size), torch.channels_last
        x = (torch.rand(shape, generator=generator) * 50).to(device, memory_format=last)
        above = torch.randn(shape, generator=generator).to(device, memory_format=last)
        norms = (contrast_norm, torch_norm)
        ours, plain = (partial(_both_ways, norm, x.requires_grad_(), above) for norm in norms)
        check = Check("values and gradients", max(map(difference, ours(), plain())), 1e-5)
        name, rivals = f"contrast norm of {layer}, {batch} images", {"F.local_response_norm": plain}
        yield compare(name, ours, rivals, (check,), repeats, goal=5)


# --- a training step -----------------------------------------------------------------------------


class PlainNetwork(Network):
    """The same network as one would write it without this package."""

    def pool_and_norm(self, conv: Conv, x: Tensor) -> Tensor:
        if conv.pool:
            x = F.max_pool2d(x, POOL_KERNEL, POOL_STRIDE, ceil_mode=True)
        return torch_norm(x) if conv.norm else x


def plain_copy(network: Network) -> PlainNetwork:
    plain = PlainNetwork(network.architecture, network.image_size, network.classes, network.dropout)
    plain.load_state_dict(network.state_dict())
    return plain.to(next(network.parameters()).device)


def random_zfnet(size: int, units: int = 8, classes: int = 10) -> tuple[Network, torch.Generator]:
    """Return ZFNet for images of `size` px with drawn weights, and a generator for its images."""
    generator = torch.Generator().manual_seed(0)
    network = initialise_(build(zfnet().with_units(units), size, classes), "modern", generator)
    return network.eval().requires_grad_(False), generator


def made_up(recipe: Recipe, number: int, device: torch.device) -> tuple[Split, Tensor]:
    """So many images of noise, stored for the recipe's image size, and their mean image."""
    side = stored_size(recipe.image_size)
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (number, 3, side, side), generator=generator).to(torch.uint8)
    split = Split(images.to(device), (torch.arange(number) % CLASSES).to(device))
    return split, mean_image(images).to(device)


def recipe_of(scale: str, device: torch.device, **options) -> Recipe:
    """The modern recipe at a scale, in the precision that is fastest here."""
    options |= {"precision": devices.precision(device, "bf16"), "dataset": "imagenet20"}
    return Recipe(**MODERN | SCALES[scale] | options)


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


def _loss_and_gradients(network: Network, images: Tensor, labels: Tensor) -> tuple[Tensor, ...]:
    """In double precision, where rounding hardly ever moves a maximum of a pool to a neighbour."""
    network = copy.deepcopy(network).double().eval()  # without dropout
    loss = F.cross_entropy(network(images.double()), labels)
    return loss.detach(), *torch.autograd.grad(loss, list(network.parameters()))


def step(quick: bool, device: torch.device = CPU) -> Iterator[Result]:
    """A training step at 128 px against a plain loop in fp32 with torch's response norm."""
    repeats, batch = (1, 8) if quick else (11, Recipe().batch)
    recipe = recipe_of("compact", device, batch=batch)
    split, mean = made_up(recipe, batch, device)
    state = start(recipe, CLASSES, device)
    plain = plain_copy(state.network)
    views = normalise(split.images[:4], mean, recipe.input_scale)
    views = views[..., : recipe.image_size, : recipe.image_size]
    exact = [_loss_and_gradients(n, views, split.labels[:4]) for n in (state.network, plain)]
    check = Check("fp64 loss and gradients", max(map(difference, *exact)), 1e-6)
    state.network.train()
    plain.train()
    optimiser = torch.optim.SGD(
        plain.parameters(), recipe.lr, recipe.momentum, weight_decay=recipe.weight_decay
    )
    epochs = itertools.cycle(range(recipe.epochs))

    def ours() -> None:
        train_epoch(recipe, state, split, mean, next(epochs), progress=False)

    rivals = {"plain fp32 loop": partial(plain_step, plain, optimiser, recipe, split, mean)}
    name = f"training step, 128 px, {batch} images, {recipe.precision}"
    yield compare(name, ours, rivals, (check,), repeats, goal=3, at_least=0)


# --- absolute speed ------------------------------------------------------------------------------


def _check(recipe: Recipe, state: State, images: Tensor) -> Check:
    """Check probabilities against those of a network of stock parts in single precision."""
    state.network.eval()
    plain = plain_copy(state.network).eval()
    with torch.no_grad():
        with devices.autocast(images.device, recipe.precision):
            scores = state.trained(images).float()
        error = difference(scores.softmax(1), plain(images).softmax(1))
    return Check("class probabilities", error, 0.05)


def absolute(quick: bool, device: torch.device = CPU) -> Iterator[Result]:
    """ZFNet and its rival with 4096 units at 224 px, views drawn and images kept on the device."""
    on_gpu = device.type == "cuda"
    batch, steps, repeats = (2, 1, 1) if quick else (256, 8, 9) if on_gpu else (16, 1, 5)
    for arch in ("zfnet", "krizhevsky"):
        recipe = recipe_of("micro" if quick else "paper", device, arch=arch, batch=batch)
        number = batch * steps
        split, mean = made_up(recipe, number, device)
        state = start(recipe, CLASSES, device)
        state.trained = torch.compile(state.network, dynamic=False) if on_gpu else state.network
        views = normalise(split.images[:2], mean, recipe.input_scale)
        checks = (_check(recipe, state, center_crop(views, recipe.image_size)),)
        epoch = partial(train_epoch, recipe, state, split, mean, 0, progress=False)
        (seconds,) = medians([epoch], repeats, at_least=0)
        seconds /= number
        rate = training_multiply_adds(recipe.architecture(), recipe.image_size, CLASSES) / seconds
        name = f"training, {arch}, {recipe.image_size} px, batches of {batch}, {recipe.precision}"
        name += f", compiled, {devices.describe(device)}" if on_gpu else ""
        share, goal = 100 * rate / matmul_rate(recipe.precision, device), GOAL if on_gpu else None
        yield Result(name, seconds, 1 / seconds, checks, unit="images/s")
        yield Result(name, seconds, share, checks, goal=goal, unit="% of the matmul rate")
