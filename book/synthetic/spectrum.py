"""Statistics of pictures: how their power drops with frequency, and what a thumbnail holds."""

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

LOWEST = 3  # cycles a picture; below it the window, not the picture, is measured


def radial_power(images: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean power of grey pictures at each frequency, under a Hann window.

    images: (N, 3, S, S), uint8 or float -> frequencies in whole cycles a picture, from 3 to below
    S / 3, and their power over all directions, both (F,) float.
    """
    side = images.shape[-1]
    grey = images.float().mean(1)
    window = torch.hann_window(side)
    centred = grey - grey.mean((1, 2), keepdim=True)
    power = torch.fft.fft2(centred * window * window[:, None]).abs().square().mean(0)
    frequency = torch.fft.fftfreq(side) * side
    radius = (frequency[:, None] ** 2 + frequency**2).sqrt().round().long()
    bands = torch.arange(LOWEST, side // 3)
    return bands.float(), torch.stack([power[radius == band].mean() for band in bands])


def power_slope(images: Tensor, highest: int | None = None) -> float:
    """Return the slope of log power over log frequency (see `radial_power`).

    White noise has 0, photographs have about -2 or less.

    Args:
        images: as for `radial_power`.
        highest: fit frequencies up to this one, in cycles a picture; default all.
    """
    frequency, power = radial_power(images)
    low = frequency <= (highest or torch.inf)
    return float(np.polyfit(frequency[low].log().numpy(), power[low].log().numpy(), 1)[0])


def thumbnails(images: Tensor, side: int = 8) -> Tensor:
    """Return the mean colours of side x side fields, 0 to 1, as one row a picture.

    images: uint8 (N, 3, S, S) -> (N, 3 * side * side).
    """
    return adaptive_avg_pool2d(images.float() / 255, side).flatten(1)
