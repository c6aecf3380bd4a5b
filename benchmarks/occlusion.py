"""Occlusion against `captum.attr.Occlusion`: a 50 px square over 224 px, the network of Fig. 3.

Captum gets the batch size that suits it best, and the network once of stock parts (torch's response
norm) and once with the parts of this package. Its result, an average over the squares that cover a
pixel, is worked out from ours.
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

PATCH, STRIDES, TARGET = 50, (6, 29), 0  # 30 x 7 of the paper's 30 x 30 positions
GOALS = {"fp32": 1.6, "bf16": 3}


def captum_map(model: nn.Module, image: Tensor, strides: tuple[int, int], batch: int) -> Tensor:
    """Compute Captum's attribution to the first class's probability, (1, 3, S, S)."""
    from captum.attr import Occlusion as CaptumOcclusion

    attribution = CaptumOcclusion(lambda x: F.softmax(model(x), 1))
    with torch.inference_mode():
        return attribution.attribute(
            image,
            (3, PATCH, PATCH),
            strides=(3, *strides),
            target=TARGET,
            baselines=0,
            perturbations_per_eval=batch,
        )


def averaged(drops: Tensor, result: Occlusion, size: tuple[int, int]) -> Tensor:
    """Average a score's drops over the windows that cover a pixel: what Captum returns.

    drops: (B, R, Q) -> (B, H, W), zero at pixels under no window.
    """
    total, covered = torch.zeros(len(drops), *size), torch.zeros(size)
    height, width = result.window
    for i, top in enumerate(result.rows.tolist()):
        for j, left in enumerate(result.columns.tolist()):
            under = (slice(top, top + height), slice(left, left + width))
            total[:, *under] += drops[:, i, j, None, None]
            covered[under] += 1
    return total / covered.clamp_min(1)


def run(quick: bool) -> Iterator[Result]:
    """Compare fp32 and bf16 with both of Captum's networks."""
    size, units, repeats, sizes = (108, 32, 1, (3,)) if quick else (224, 4096, 2, (8, 25))
    strides = (29, 29) if quick else STRIDES
    generator = torch.Generator().manual_seed(0)
    network = build(zfnet().with_units(units), size, 1000).eval().requires_grad_(False)
    initialise_(network, "modern", generator)
    network.fulls["fc8"].weight.mul_(30)  # so that classes differ
    stock = plain_copy(network).eval().requires_grad_(False)
    image = torch.randn((1, 3, size, size), generator=generator)
    coarse = torch.randn((1, 3, 7, 7), generator=generator)
    image.add_(2 * F.interpolate(coarse, size=(size, size), mode="bilinear"))
    ours = functools.partial(occlude, network, image, patch=PATCH, stride=strides, progress=False)
    rivals = {"stock parts": stock, "our layers": network}
    precisions = [p for p in GOALS if p == devices.precision(image.device, p)]

    jobs = {
        (p, b): functools.partial(ours, precision=p, batch=b) for p in precisions for b in sizes
    }
    for name, model in rivals.items():
        jobs |= {(name, b): functools.partial(captum_map, model, image, strides, b) for b in sizes}
    times = dict(zip(jobs, medians(list(jobs.values()), repeats), strict=True))

    def best(name: str) -> tuple[float, int]:
        """Return the fewest seconds, and the batch size that took them."""
        return min((seconds, b) for (owner, b), seconds in times.items() if owner == name)

    exact = ours(precision="fp32")
    drops = exact.clean[:, None, None, TARGET] - exact.probabilities[..., TARGET]
    expected = captum_map(stock, image, strides, sizes[-1])[0, 0]
    count = drops.numel()
    for precision in precisions:
        seconds, batch = best(precision)
        work = functools.partial(ours, precision=precision, batch=batch)
        if precision == "fp32":
            error = difference(averaged(drops, exact, (size, size))[0], expected)
            check = Check("Captum's map", error, 1e-3)
        else:  # 8 bits: small drops would be differences of rounded probabilities
            error = difference(work().probabilities, exact.probabilities)
            check = Check("probabilities", error, 0.05)
        least = multiply_adds(network.architecture, size, 1000) / matmul_rate(precision)
        for rival, goal in zip(rivals, (GOALS[precision], None), strict=True):
            rival_seconds, rival_batch = best(rival)
            yield faster(
                f"occlusion, {precision}, {size} px, batches of {batch}",
                seconds / count,
                f"Captum, {rival}, batches of {rival_batch}",
                rival_seconds / count,
                (check,),
                goal,
                least,
                work if goal else None,  # profiled once
            )
