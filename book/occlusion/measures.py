"""What the chapter reads off maps of occlusion: where they are low, and what lies there."""

import torch
import torch.nn.functional as F
from torch import Tensor

from zfrepro.occlusion import Occlusion


def share_covered(weights: Tensor, occlusion: Occlusion) -> Tensor:
    """Return the mean of `weights` under the window: of a mask, the share of the window on it.

    Args:
        weights: (B, H, W), bool or float.
    Returns:
        (B, R, Q).
    """
    sums = F.pad(weights.double().cumsum(1).cumsum(2), (1, 0, 1, 0))
    top, left = occlusion.rows[:, None], occlusion.columns
    bottom = (top + occlusion.window[0]).clamp_max(weights.shape[1])
    right = (left + occlusion.window[1]).clamp_max(weights.shape[2])
    above = sums[:, top, right] - sums[:, top, left]
    total = sums[:, bottom, right] - sums[:, bottom, left] - above
    return (total / ((bottom - top) * (right - left))).float()


def correlation(a: Tensor, b: Tensor) -> Tensor:
    """Return the Pearson correlation over positions, (B,), nan where one of them is constant.

    a, b: (B, R, Q).
    """
    a, b = (x.flatten(1).double() for x in (a, b))
    a, b = a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True)
    return ((a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1))).float()


def _middles(occlusion: Occlusion) -> tuple[Tensor, Tensor]:
    height, width = occlusion.window
    return occlusion.rows + height // 2, occlusion.columns + width // 2


def lowest(values: Tensor, occlusion: Occlusion) -> Tensor:
    """Return the middle pixel of the window where each map is lowest. (B, R, Q) -> (B, 2)."""
    flat, width = values.flatten(1).argmin(1), values.shape[2]
    rows, columns = _middles(occlusion)
    return torch.stack([rows[flat // width], columns[flat % width]], 1)


def middles_on(mask: Tensor, occlusion: Occlusion) -> Tensor:
    """Tell whether the middle of the window lies on the mask. (B, H, W) -> (B, R, Q), bool."""
    rows, columns = _middles(occlusion)
    return mask[:, rows[:, None], columns]


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
