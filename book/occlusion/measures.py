"""What the chapter reads off maps of occlusion: where they are low, and what lies there."""

import torch
import torch.nn.functional as F
from torch import Tensor

from zfrepro.occlusion import Occlusion


def share_covered(weights: Tensor, occlusion: Occlusion) -> Tensor:
    """Return the mean of `weights` under the window: of a mask, the share of the window on it.

    weights: (B, H, W), bool or float -> (B, R, Q).
    """
    every = F.avg_pool2d(weights.double(), occlusion.window, stride=1)
    return every[:, occlusion.rows[:, None], occlusion.columns].float()


def middles_on(mask: Tensor, occlusion: Occlusion) -> Tensor:
    """Tell whether the middle of the window lies on the mask. (B, H, W) -> (B, R, Q), bool."""
    height, width = occlusion.window
    return mask[:, occlusion.rows[:, None] + height // 2, occlusion.columns + width // 2]


def translate_off(mask: Tensor, avoid: Tensor) -> tuple[Tensor, Tensor]:
    """Translate each mask, cyclically, to where it overlaps `avoid` least; of ties, the nearest.

    What leaves at one border enters at the other, so that the area stays the same to the pixel.

    Args:
        mask, avoid: (B, H, W) bool.
    Returns:
        The translated masks, and which share of each still lies on `avoid`, (B,).
    """
    height, width = mask.shape[-2:]
    spectrum = torch.fft.rfft2(mask.double()).conj() * torch.fft.rfft2(avoid.double())
    overlap = torch.fft.irfft2(spectrum, s=(height, width)).round()
    rows, columns = (torch.arange(side, dtype=torch.float64) for side in (height, width))
    distance = torch.minimum(rows, height - rows)[:, None] + torch.minimum(columns, width - columns)
    best = (overlap + distance / (2 * height * width)).flatten(1).argmin(1)
    shifts = zip((best // width).tolist(), (best % width).tolist(), strict=True)
    translated = torch.stack([m.roll(shift, (0, 1)) for m, shift in zip(mask, shifts, strict=True)])
    return translated, (translated & avoid).sum((1, 2)) / translated.sum((1, 2)).clamp_min(1)
