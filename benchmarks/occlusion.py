"""Occlusion against `captum.attr.Occlusion`: a 50 px square over 224 px, 1000 classes, the full network of Fig. 3.

Captum gets the batch size that suits it best, and the network once of stock parts (torch's response norm) and once with
the parts of this package. Its result, an average over the squares that cover a pixel, is worked out from ours.
"""

import functools
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.result import Check, Result, difference, faster
from benchmarks.timing import matmul_rate, medians
from benchmarks.training_step import plain_copy
from zfrepro import device as devices
from zfrepro.networks import build, initialise_, zfnet
from zfrepro.occlusion import Occlusion, occlude
from zfrepro.receptive_field import multiply_adds

PATCH, STRIDE, TARGET = 50, 29, 0  # 7 x 7 of the paper's 30 x 30 positions, from border to border
GOALS = {"fp32": 2, "bf16": 4}


def captum_map(model: nn.Module, image: Tensor, batch: int) -> Tensor:
    """Captum's attribution to the first class's probability, (1, 3, S, S)."""
    from captum.attr import Occlusion as CaptumOcclusion

    attribution = CaptumOcclusion(lambda x: F.softmax(model(x), 1))
    with torch.inference_mode():
        return attribution.attribute(
            image,
            (3, PATCH, PATCH),
            strides=(3, STRIDE, STRIDE),
            target=TARGET,
            baselines=0,
            perturbations_per_eval=batch,
        )


def averaged(drops: Tensor, found: Occlusion, size: tuple[int, int]) -> Tensor:
    """Average a score's drops over the windows that cover a pixel: what Captum returns.

    drops: (B, R, Q) -> (B, H, W), zero at pixels under no window.
    """
    total, covered = torch.zeros(len(drops), *size), torch.zeros(size)
    height, width = found.window
    for i, top in enumerate(found.rows.tolist()):
        for j, left in enumerate(found.columns.tolist()):
            under = (slice(top, top + height), slice(left, left + width))
            total[:, *under] += drops[:, i, j, None, None]
            covered[under] += 1
    return total / covered.clamp_min(1)


def run(quick: bool) -> Iterator[Result]:
    """Single precision and bf16, against both of Captum's networks."""
    size, units, repeats, sizes = (108, 32, 1, (3,)) if quick else (224, 4096, 2, (7, 25))
    generator = torch.Generator().manual_seed(0)
    network = build(zfnet().with_units(units), size, 1000).eval().requires_grad_(False)
    initialise_(network, "modern", generator)
    network.fulls["fc8"].weight.mul_(30)  # so that classes differ
    stock = plain_copy(network).eval().requires_grad_(False)
    image = torch.randn((1, 3, size, size), generator=generator)
    image.add_(2 * F.interpolate(torch.randn((1, 3, 7, 7), generator=generator), size=(size, size), mode="bilinear"))

    def ours(precision: str, batch: int) -> Occlusion:
        return occlude(network, image, patch=PATCH, stride=STRIDE, precision=precision, batch=batch, progress=False)

    count = ours("fp32", sizes[-1]).probabilities[0, :, :, 0].numel()
    expected = captum_map(stock, image, sizes[-1])
    rivals = {"stock parts": stock, "our layers": network}
    kinds = [p for p in GOALS if p == devices.precision(image.device, p)]
    runs = [(p, b) for p in kinds for b in sizes] + [(r, b) for r in rivals for b in sizes]
    taken = medians(
        [
            (lambda k=k, b=b: captum_map(rivals[k], image, b)) if k in rivals else (lambda k=k, b=b: ours(k, b))
            for k, b in runs
        ],
        repeats,
    )
    best = {k: min((t, b) for (own, b), t in zip(runs, taken, strict=True) if own == k) for k, _ in runs}
    exact = ours("fp32", sizes[-1]).probabilities
    for precision in kinds:
        found = ours(precision, best[precision][1])
        # bf16 keeps 8 bits: its probabilities are compared, since small falls are differences of them
        check = (
            Check("Captum's map", difference(averaged(found, size), expected[0, 0]), 1e-3) if precision == "fp32"
            else Check("probabilities", difference(found.probabilities, exact), 0.05)
        )  # fmt: skip
        least = multiply_adds(network.architecture, size, 1000) / matmul_rate(precision)
        for rival, goal in zip(rivals, (GOALS[precision], None), strict=True):
            seconds, batch = best[rival]
            work = functools.partial(ours, precision, best[precision][1]) if goal else None  # profiled once
            yield faster(
                f"occlusion, {precision}, {size} px, batches of {best[precision][1]}", best[precision][0] / count,
                f"Captum, {rival}, batches of {batch}", seconds / count, (check,), goal, least, work,
            )  # fmt: skip
