"""Measures of two signed pictures (are they similar?) and of one (is it clear?).

All take pictures (B, C, H, W), signed, zero meaning nothing, and return one number a picture, (B,).
None depends on a picture's scale, since a projection's is arbitrary.
"""

import warnings

import torch
import torch.nn.functional as F
from scipy.stats import ConstantInputWarning, spearmanr
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure
from torchvision.transforms.functional import gaussian_blur

LOUDEST = 0.998  # quantile of absolute values that a picture is scaled by
SMOOTH = 1.5  # px, standard deviation of the neighbourhood over which directions must agree


def _scaled(pictures: Tensor) -> Tensor:
    flat = pictures.float().abs().flatten(1)
    scale = torch.quantile(flat, LOUDEST, dim=1)
    scale = torch.where(scale > 0, scale, flat.amax(1)).clamp_min(1e-30)
    return (pictures / scale[:, None, None, None]).clamp(-1, 1)


def ssim(a: Tensor, b: Tensor) -> Tensor:
    """Return the structural similarity (Wang et al. 2004) of pictures, each normalised per image.

    1 for equal pictures. Two pictures that are blank in the same places are alike there: read it
    against a floor. It compares windows of 11 px, so none may be smaller.
    """
    a, b = (_scaled(t).contiguous() for t in (a, b))
    return structural_similarity_index_measure(a, b, data_range=2.0, reduction="none").reshape(-1)


def rank_correlation(a: Tensor, b: Tensor, where: Tensor) -> Tensor:
    """Return Spearman's correlation over all values; 0 where one of them is constant.

    Args:
        where: (B, H, W) bool, the pixels to compare. What both leave blank would make them alike.
    """
    chosen = where[:, None].expand_as(a)
    pairs = [(x[m].cpu(), y[m].cpu()) for x, y, m in zip(a, b, chosen, strict=True)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConstantInputWarning)
        return torch.tensor([spearmanr(*pair).statistic for pair in pairs]).nan_to_num(0).float()


def _gradients(pictures: Tensor) -> tuple[Tensor, Tensor]:
    """Return central differences down and across, each (B, C, H - 2, W - 2)."""
    down = pictures[..., 2:, 1:-1] - pictures[..., :-2, 1:-1]
    across = pictures[..., 1:-1, 2:] - pictures[..., 1:-1, :-2]
    return down.float(), across.float()


def local_contrast(pictures: Tensor) -> Tensor:
    """Return the squared gradient, summed over channels: an edge detector. -> (B, H, W)."""
    down, across = _gradients(pictures)
    return F.pad((down.square() + across.square()).sum(1), (1, 1, 1, 1))


def coherence(pictures: Tensor) -> Tensor:
    """Return how much of a picture's contrast lies in lines.

    The structure tensor J of the gradients, summed over channels (Di Zenzo 1986) and over a
    Gaussian neighbourhood of 1.5 px, has eigenvalues l1 >= l2; the measure is the sum of l1 - l2
    over that of l1 + l2. Clean edges and stripes of any direction have 1, white
    noise in three channels about 0.15 (0 in the limit of a large neighbourhood).

    Returns:
        (B,), 0 to 1; nan for a blank picture.
    """
    down, across = _gradients(pictures)
    pairs = (down * down, across * across, down * across)
    # a neighbourhood ends at three standard deviations
    jyy, jxx, jxy = (gaussian_blur(t.sum(1), [11, 11], [SMOOTH] * 2) for t in pairs)
    difference = ((jxx - jyy).square() + 4 * jxy.square()).sqrt()
    return difference.sum((1, 2)) / (jxx + jyy).sum((1, 2))


def fineness(pictures: Tensor) -> Tensor:
    """Return the share of power above half of the highest frequency, under a Hann window.

    Returns:
        (B,), 0 to 1, much for speckle; nan for a blank picture. White noise has the share of
        frequencies that lie there, about 0.8.
    """
    height, width = pictures.shape[-2:]
    sides = [torch.hann_window(n, periodic=False, device=pictures.device) for n in (height, width)]
    window = sides[0][:, None] * sides[1]
    power = torch.fft.fft2(pictures.float() * window).abs().square().sum(1)
    rows, columns = (torch.fft.fftfreq(n, device=pictures.device) for n in (height, width))
    fine = (rows[:, None].square() + columns.square()).sqrt() > 0.25  # cycles a pixel, of 0.5
    return (power * fine).sum((1, 2)) / power.sum((1, 2))


def share_inside(energies: Tensor, mask: Tensor) -> Tensor:
    """Return the share of energy (B, H, W) inside a mask (B, H, W): (B,), nan if blank."""
    return (energies * mask).sum((1, 2)) / energies.sum((1, 2))
