"""First-layer filters in numbers: where their power lies, which are dead, what a stride aliases.

A frequency is in cycles per pixel of the network's input. A layer of stride s keeps every s-th
place of the map that the same filters give at every place, so it tells frequencies apart up to its
Nyquist limit, 1 / (2 s) on each axis. What lies above is not lost but *aliased*: it comes out as a
lower frequency that is not in the image.
"""

import math
from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from zfrepro.models import Layered
from zfrepro.networks import Network

SPECTRUM = 64  # points on each axis at which a filter's spectrum is evaluated
FAINT = 0.1  # of the layer's median strongest response
NOISE_SHARE = 0.99  # of filters of pure noise count as dead
PLAIN = 1.05  # times the centroid of a plain patch: a filter of no more is a blob of colour
HIGH = 0.25  # cycles per pixel: a shorter cycle has fewer than four pixels


def nyquist(stride: int) -> float:
    """Return the highest frequency that every `stride`-th place can tell from others."""
    return 0.5 / stride


def alias_frequency(frequency: float, stride: int) -> float:
    """Return the frequency on one axis that a grating has in a map of this stride.

    Args:
        frequency: of the grating, in cycles per pixel.
    """
    per_unit = frequency * stride
    return abs(per_unit - round(per_unit)) / stride


def axes(height: int, width: int) -> tuple[Tensor, Tensor]:
    """Return the frequencies of `torch.fft.fft2`: down (height, 1) and to the right (1, width)."""
    return torch.fft.fftfreq(height)[:, None], torch.fft.fftfreq(width)[None]


def above_nyquist(height: int, width: int, stride: int) -> Tensor:
    """Return which frequencies of `axes` exceed a stride's limit on either axis, bool."""
    down, right = axes(height, width)
    limit = nyquist(stride) + 1e-6
    return (down.abs() > limit) | (right.abs() > limit)


# --- filters -------------------------------------------------------------------------------------


def spectrum(weight: Tensor, size: int = SPECTRUM) -> Tensor:
    """Return the power of each filter by frequency, its colours summed.

    Args:
        weight: (C, 3, k, k).
        size: points on each axis, at least k.
    Returns:
        (C, size, size), as `axes`.
    """
    return torch.fft.fft2(weight.float(), s=(size, size)).abs().square().sum(1)


def centroid(weight: Tensor) -> Tensor:
    """Return the mean frequency of each filter's power, whatever the direction, nan for zeros.

    (C, 3, k, k) -> (C,), cycles per pixel.
    """
    power = spectrum(weight)
    radius = torch.hypot(*axes(SPECTRUM, SPECTRUM))
    return (power * radius).sum((1, 2)) / power.sum((1, 2))


LOW = PLAIN * centroid(torch.ones(1, 3, 7, 7)).item()
"""Centroid up to which a filter of either network is low: hardly above that of a plain patch of
7x7, the smaller size, whose centroid is the higher one."""


def middle(centroids: Sequence[float], low: float = LOW) -> list[bool]:
    """Return which filters are neither low nor above `HIGH`."""
    return [low < value <= HIGH for value in centroids]


def flatness(weight: Tensor) -> Tensor:
    """Return the spectral flatness: geometric over arithmetic mean of each filter's power.

    Near 1 for noise, 0 for order. (C, 3, k, k) -> (C,).
    """
    power = spectrum(weight, weight.shape[-1]).flatten(1).clamp_min(1e-30)
    return power.log().mean(1).exp() / power.mean(1)


def noise_flatness(shape: torch.Size) -> float:
    """Return the flatness that `NOISE_SHARE` of Gaussian noise filters of (3, k, k) exceed."""
    noise = torch.randn(2000, *shape, generator=torch.Generator().manual_seed(0))
    return torch.quantile(flatness(noise), 1 - NOISE_SHARE).item()


def dead(weight: Tensor, strongest: Tensor) -> dict[str, Tensor]:
    """Return which filters are dead, by what they do and by how they look.

    Args:
        weight: (C, 3, k, k).
        strongest: each filter's strongest activation over a data set, (C,).
    Returns:
        bool (C,) each: `silent`, no image excites it; `faint`, no image excites it to `FAINT` of
        what is usual; `noise`, as disordered as before training; `any` of these.
    """
    silent, faint = ~(strongest > 0), ~(strongest >= FAINT * strongest.median())
    noise = flatness(weight) >= noise_flatness(weight.shape[1:])
    return {"silent": silent, "faint": faint, "noise": noise, "any": silent | faint | noise}


# --- maps and strides ----------------------------------------------------------------------------


def energies(
    maps: Tensor, strides: Iterable[int], *, window: bool = True
) -> tuple[dict[int, Tensor], Tensor]:
    """Return the energy of maps that each stride aliases, and all their energy, means aside.

    Args:
        maps: values at every place, (..., H, W).
        window: taper the maps towards their borders (Hann), which natural maps need; periodic
            ones are exact without.
    Returns:
        stride -> (...), and (...); their ratio is the aliased share.
    """
    height, width = maps.shape[-2:]
    maps = maps.float().cpu()
    maps = maps - maps.mean((-2, -1), keepdim=True)
    if window:
        maps = maps * torch.hann_window(height)[:, None] * torch.hann_window(width)
    power = torch.fft.fft2(maps).abs().square()
    power[..., 0, 0] = 0
    aliased = {s: (power * above_nyquist(height, width, s)).sum((-2, -1)) for s in strides}
    return aliased, power.sum((-2, -1))


def _blurred(network: Layered) -> bool:
    return isinstance(network, Network) and network.architecture.convs[0].blur


def stride_of(network: Layered) -> int:
    """Return the pixels between units of layer 1, its low-pass filter included, before the pool."""
    return network.first().stride[0] * (2 if _blurred(network) else 1)


@torch.no_grad()
def stride1_response(network: Layered, images: Tensor, *, periodic: bool = False) -> Tensor:
    """Return layer 1 at every place instead of every s-th, after its ReLU and low-pass filter.

    A low-pass filter that works on every second place is here one with holes, so that every
    `stride_of(network)`-th place is what the network has.

    Args:
        images: (B, 3, S, S), as the network wants them.
        periodic: treat the image as endless, (B, C, S, S); else only whole windows are taken.
    """
    conv = network.first()
    if periodic:
        reach = conv.kernel_size[0] - 1
        images = F.pad(images, (0, reach, 0, reach), mode="circular")
    maps = F.relu(F.conv2d(images, conv.weight, conv.bias))
    if not _blurred(network):
        return maps
    taps = torch.tensor([1.0, 2.0, 1.0], device=maps.device) / 4
    kernel = (taps[:, None] * taps).expand(maps.shape[1], 1, 3, 3)
    step = conv.stride[0]
    if periodic:
        maps = F.pad(maps, (step, step, step, step), mode="circular")
    return F.conv2d(maps, kernel, dilation=step, groups=maps.shape[1])


def grating(size: int, down: float, right: float) -> Tensor:
    """Return a grey grating of amplitude 1, cycles per pixel on each axis. (3, size, size)."""
    at = torch.arange(size)
    return torch.cos(2 * math.pi * (down * at[:, None] + right * at)).expand(3, -1, -1)


def aliased(network: Layered, images: Tensor, strides: tuple[int, ...]) -> dict[int, Tensor]:
    """Return the share of the energy of layer 1's maps that each stride aliases, by image.

    Args:
        images: (B, 3, S, S), as the network wants them.
    Returns:
        stride -> (B,), from 0 to 1; nan for an image that excites nothing.
    """
    parts = [energies(stride1_response(network, part), strides) for part in images.split(16)]
    return {s: torch.cat([lost[s].sum(1) / whole.sum(1) for lost, whole in parts]) for s in strides}


# --- shifts --------------------------------------------------------------------------------------


def _interpolation(size: int, by: float) -> Tensor:
    """Return the matrix that reads a signal, mirrored at its ends, `by` places further on."""
    mirrored = torch.cat([torch.eye(size), torch.eye(size).flip(1)], 1)
    turn = torch.exp(2j * math.pi * by * torch.fft.rfftfreq(2 * size))
    return torch.fft.irfft(torch.fft.rfft(mirrored) * turn, n=2 * size)[:, :size].T


def subpixel_shift(maps: Tensor, down: float, right: float) -> Tensor:
    """Return maps read off between their places, by band-limited interpolation.

    Maps without alias end where a shift of the image brings them; aliased ones do not.

    Args:
        maps: (..., H, W); beyond the border they go on as their mirror image.
        down, right: how far from its own place each value is read, in units of the map.
    """
    height, width = maps.shape[-2:]
    rows, columns = _interpolation(height, down).to(maps), _interpolation(width, right).to(maps)
    return rows @ maps @ columns.T


def consistency(before: Tensor, after: Tensor) -> Tensor:
    """Return the correlation of an image's maps with those of the shifted image, means removed.

    (B, C, H, W) twice -> (B,), 1 if nothing moved; nan where nothing responds.
    """
    a, b = (x.float() - x.float().mean((2, 3), keepdim=True) for x in (before, after))
    return (a * b).sum((1, 2, 3)) / (a.square().sum((1, 2, 3)) * b.square().sum((1, 2, 3))).sqrt()
