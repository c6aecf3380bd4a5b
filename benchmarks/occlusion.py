"""Occlusion against `captum.attr.Occlusion`: a 50 px square over 224 px, the network of Fig. 3.

Captum gets the batch size that suits it best, and the network of stock parts with torch's response
norm. Its result, an average over the squares that cover a pixel, is worked out from ours.
"""

from collections.abc import Iterator
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.result import Check, Result, difference, faster
from benchmarks.timing import CPU, medians
from benchmarks.training import plain_copy, random_zfnet
from zfrepro import device as devices
from zfrepro.occlusion import Occlusion, occlude

PATCH, STRIDES, TARGET = 50, (6, 29), 0  # 30 x 7 of the paper's 30 x 30 positions
GOALS = {"fp32": 1.6, "bf16": 3}


def captum_map(model: nn.Module, image: Tensor, strides: tuple[int, int], batch: int) -> Tensor:
    """Compute Captum's attribution to the first class's probability, (1, 3, S, S)."""
    from captum.attr import Occlusion as CaptumOcclusion

    attribution = CaptumOcclusion(lambda x: F.softmax(model(x), 1))
    with torch.inference_mode():
        return attribution.attribute(
            image, (3, PATCH, PATCH), strides=(3, *strides), target=TARGET, baselines=0,
            perturbations_per_eval=batch,
        )  # fmt: skip


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


def squares(quick: bool, device: torch.device = CPU) -> Iterator[Result]:
    """Occlusion by a 50 px square over 224 px, in fp32 and, where this machine has it, bf16."""
    size, units, repeats, batches = (108, 32, 1, (3,)) if quick else (224, 4096, 5, (8, 25))
    strides = (29, 29) if quick else STRIDES
    network, generator = random_zfnet(size, units, 1000)
    network.fulls["fc8"].weight.mul_(30)  # so that classes differ
    network = network.to(device)
    stock = plain_copy(network).eval().requires_grad_(False)
    image = torch.randn((1, 3, size, size), generator=generator)
    coarse = torch.randn((1, 3, 7, 7), generator=generator)
    image.add_(2 * F.interpolate(coarse, size=(size, size), mode="bilinear"))
    image = image.to(device)
    ours = partial(occlude, network, image, patch=PATCH, stride=strides, progress=False)

    precisions = [p for p in GOALS if p == devices.precision(image.device, p)]
    jobs = {(p, b): partial(ours, precision=p, batch=b) for p in precisions for b in batches}
    jobs |= {("captum", b): partial(captum_map, stock, image, strides, b) for b in batches}
    times = dict(zip(jobs, medians(list(jobs.values()), repeats), strict=True))
    best = {p: min(times[p, b] for b in batches) for p in (*precisions, "captum")}

    exact = ours(precision="fp32")
    drops = exact.clean[:, None, None, TARGET] - exact.probabilities[..., TARGET]
    expected = captum_map(stock, image, strides, batches[-1])[0, 0].cpu()
    error = difference(averaged(drops, exact, (size, size))[0], expected)
    checks = {"fp32": Check("Captum's map", error, 1e-3)}
    if "bf16" in precisions:  # 8 bits: small drops would be differences of rounded probabilities
        rounded = ours(precision="bf16").probabilities
        checks["bf16"] = Check("probabilities", difference(rounded, exact.probabilities), 0.05)
    for precision in precisions:
        mine, theirs = (best[side] / drops.numel() for side in (precision, "captum"))
        name, check = f"occlusion of a position, {precision}, {size} px", (checks[precision],)
        yield faster(name, mine, "Captum, its best batch", theirs, check, GOALS[precision])
