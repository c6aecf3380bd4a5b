"""Absolute speed of training at the paper's size, on a GPU if there is one."""

from collections.abc import Iterator

import torch
from torch import Tensor

from benchmarks.result import Check, Result, difference
from benchmarks.timing import CPU, matmul_rate, medians
from benchmarks.training_step import CLASSES, made_up, plain_copy
from zfrepro import device as devices
from zfrepro.data import Split
from zfrepro.data.transforms import center_crop, normalise
from zfrepro.receptive_field import training_multiply_adds
from zfrepro.training import MODERN, SCALES, Recipe, State, start, train_epoch

GOAL = 25.0  # per cent of a GPU's measured matmul rate


def _check(recipe: Recipe, state: State, images: Tensor) -> Check:
    """Check probabilities against those of a network of stock parts in single precision."""
    state.network.eval()
    plain = plain_copy(state.network).to(images.device).eval()
    with torch.no_grad():
        with devices.autocast(images.device, recipe.precision):
            scores = state.trained(images).float()
        return Check(
            "class probabilities", difference(scores.softmax(1), plain(images).softmax(1)), 0.05
        )


def _measured(arch: str, device: torch.device, quick: bool) -> Iterator[Result]:
    on_gpu = device.type == "cuda"
    batch, steps, repeats = (2, 1, 1) if quick else (256, 8, 5) if on_gpu else (16, 1, 3)
    precision = devices.precision(device, Recipe().precision)
    options = {"arch": arch, "batch": batch, "precision": precision, "dataset": "imagenet20"}
    recipe = Recipe(**MODERN | SCALES["micro" if quick else "paper"] | options)
    number = batch * steps
    split, mean = made_up(recipe, number)
    split, mean = Split(split.images.to(device), split.labels), mean.to(device)
    state = start(recipe, CLASSES, device)
    state.trained = torch.compile(state.network, dynamic=False) if on_gpu else state.network
    views = normalise(split.images[:2], mean, recipe.input_scale)
    checks = (_check(recipe, state, center_crop(views, recipe.image_size)),)
    (epoch,) = medians(
        [lambda: train_epoch(recipe, state, split, mean, 0, progress=False)], repeats, at_least=0
    )
    seconds = epoch / number
    rate = training_multiply_adds(recipe.architecture(), recipe.image_size, CLASSES) / seconds
    name = f"training, {arch}, {recipe.image_size} px, batches of {batch}, {precision}"
    name += f", compiled, {devices.describe(device)}" if on_gpu else ""
    share = 100 * rate / matmul_rate(precision, device)
    yield Result(name, seconds, 1 / seconds, checks, unit="images/s")
    yield Result(
        name, seconds, share, checks, goal=GOAL if on_gpu else None, unit="% of the matmul rate"
    )


def run(quick: bool, device: torch.device = CPU) -> Iterator[Result]:
    """ZFNet and its rival with 4096 units at 224 px, views drawn and images kept on the device."""
    for arch in ("zfnet", "krizhevsky"):
        yield from _measured(arch, device, quick)
