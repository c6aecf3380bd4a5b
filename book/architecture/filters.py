"""First-layer filters in numbers: where their power lies, which are dead, what a stride does to their maps (Fig. 6).

A frequency is in cycles per pixel of the network's input. A layer of stride s keeps every s-th place of the map that
the same filters give at every place, so it can tell frequencies apart up to its Nyquist limit, 1 / (2 s) on each axis.
What lies beyond is not lost but *aliased*: it comes out as a lower frequency that is not in the image.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from zfrepro.networks import Network

SPECTRUM = 64  # points on each axis on which a filter's spectrum is evaluated
FAINT = 0.1  # of the layer's median strongest response
NOISE_SHARE = 0.99  # of filters of pure noise count as dead
PLAIN = 1.05  # times the centroid of a plain patch: a filter of no more is a blob of colour
HIGH = 0.25  # cycles per pixel, the Nyquist limit of stride 2: a shorter cycle has fewer than four pixels


def nyquist(stride: int) -> float:
    """Highest frequency that every `stride`-th place can tell from others, cycles per pixel on one axis."""
    return 0.5 / stride


def folded(frequency: float, stride: int) -> float:
    """The frequency on one axis, cycles per pixel, that a grating has in a map of this stride."""
    per_unit = frequency * stride
    return abs(per_unit - round(per_unit)) / stride


def axes(height: int, width: int) -> tuple[Tensor, Tensor]:
    """Frequencies of `torch.fft.rfft2` in cycles per pixel: down (height, 1) and to the right (1, width // 2 + 1)."""
    return torch.fft.fftfreq(height)[:, None], torch.fft.rfftfreq(width)[None]


def _counts(width: int) -> Tensor:
    """How often each column of `rfft2` stands for the whole plane: twice but for the first and an even width's last."""
    counts = torch.full((width // 2 + 1,), 2.0)
    counts[0] = 1
    if width % 2 == 0:
        counts[-1] = 1
    return counts


# --- filters ---------------------------------------------------------------------------------------------------------


def spectrum(weight: Tensor, size: int = SPECTRUM) -> Tensor:
    """Power of each filter by frequency, its colours summed. (C, 3, k, k) -> (C, size, size // 2 + 1), as `axes`.

    The whole plane's power, so that plain sums over the last axes are right.
    """
    if size < weight.shape[-1]:
        raise ValueError(f"a spectrum of {size} points cannot hold filters of {weight.shape[-1]} px")
    return torch.fft.rfft2(weight.float(), s=(size, size)).abs().square().sum(1) * _counts(size)


def centroid_and_bandwidth(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Mean frequency of each filter's power, whatever the direction, and its standard deviation around that mean.

    Args:
        weight: (C, 3, k, k).
    Returns:
        (C,) and (C,), cycles per pixel; nan for a filter of zeros. The bandwidth is at least some 0.4 / k, since a
        filter of k pixels cannot be narrower.
    """
    power = spectrum(weight).flatten(1)
    down, right = axes(SPECTRUM, SPECTRUM)
    radius = (down.square() + right.square()).sqrt().flatten()
    total = power.sum(1)
    centre = (power * radius).sum(1) / total
    spread = (power * (radius - centre[:, None]).square()).sum(1) / total
    return centre, spread.sqrt()


def lowest(kernel: int) -> dict[str, float]:
    """Centroids, cycles per pixel, up to which a filter of `kernel` pixels a side counts as low, in two readings.

    `plain`: hardly above that of a plain patch of its size, which is as low as a filter without structure gets, and the
    higher the smaller it is. `cycle`: less than one cycle across the filter.
    """
    patch, _ = centroid_and_bandwidth(torch.ones(1, 3, kernel, kernel))
    return {"plain": PLAIN * patch.item(), "cycle": 1 / kernel}


def middle(centroids: Sequence[float], kernel: int, reading: str = "plain") -> list[bool]:
    """Which filters of `kernel` pixels a side are neither low, by one of the readings of `lowest`, nor above `HIGH`."""
    low = lowest(kernel)[reading]
    return [low < centroid <= HIGH for centroid in centroids]


def beyond(weight: Tensor, stride: int) -> Tensor:
    """Share of each filter's power beyond a stride's Nyquist limit, before any ReLU. (C, 3, k, k) -> (C,)."""
    power = spectrum(weight)
    return (power * outside(SPECTRUM, SPECTRUM, stride)).sum((1, 2)) / power.sum((1, 2))


def flatness(weight: Tensor) -> Tensor:
    """Geometric over arithmetic mean of each filter's power over its own frequencies: near 1 for noise, 0 for order.

    (C, 3, k, k) -> (C,).
    """
    power = torch.fft.fft2(weight.float()).abs().square().sum(1).flatten(1)
    return power.clamp_min(1e-30).log().mean(1).exp() / power.mean(1).clamp_min(1e-30)


def noise_flatness(shape: tuple[int, ...], share: float = NOISE_SHARE, seed: int = 0, draws: int = 2000) -> float:
    """The flatness that this share of filters of Gaussian noise of one shape (3, k, k) exceed."""
    noise = torch.randn(draws, *shape, generator=torch.Generator().manual_seed(seed))
    return torch.quantile(flatness(noise), 1 - share).item()


@dataclass(frozen=True)
class Dead:
    """Which filters of a layer are dead, in three senses, all bool (C,)."""

    silent: Tensor  # no image excites it: the usual sense for a ReLU
    faint: Tensor  # no image excites it to a tenth of what is usual in its layer
    noise: Tensor  # as disordered as it was before training: the usual sense for the picture of a filter

    @property
    def any(self) -> Tensor:
        return self.silent | self.faint | self.noise


def dead(weight: Tensor, strongest: Tensor, faint: float = FAINT) -> Dead:
    """Dead filters, by what they do and by how they look.

    Args:
        weight: (C, 3, k, k).
        strongest: each filter's strongest activation over a data set, (C,).
        faint: share of the median strongest activation below which a filter is faint.
    """
    silent = ~(strongest > 0)
    noise = flatness(weight) >= noise_flatness(tuple(weight.shape[1:]))
    return Dead(silent, ~(strongest >= faint * strongest.median()), noise)


# --- maps and strides ------------------------------------------------------------------------------------------------


def outside(height: int, width: int, stride: int) -> Tensor:
    """Which frequencies of `axes` lie beyond the Nyquist limit of a stride on either axis. Bool (height, W)."""
    down, right = axes(height, width)
    limit = nyquist(stride) + 1e-6
    return (down.abs() > limit) | (right > limit)


def energies(maps: Tensor, strides: Iterable[int], *, window: bool = True) -> tuple[dict[int, Tensor], Tensor]:
    """Energy of maps that each stride aliases, and all their energy, means aside.

    Args:
        maps: values at every place, (..., H, W).
        strides: of the sampling to come.
        window: taper the maps towards their borders (Hann), which natural maps need; periodic ones are exact without.
    Returns:
        stride -> (...), and (...), in units of the maps squared; their ratio is the aliased share.
    """
    height, width = maps.shape[-2:]
    maps = maps.float().cpu()
    maps = maps - maps.mean((-2, -1), keepdim=True)
    if window:
        maps = maps * torch.hann_window(height)[:, None] * torch.hann_window(width)
    power = torch.fft.rfft2(maps).abs().square() * _counts(width)
    power[..., 0, 0] = 0
    return {s: (power * outside(height, width, s)).sum((-2, -1)) for s in strides}, power.sum((-2, -1))


def stride_of(network: Network) -> int:
    """Pixels between neighbouring units of layer 1, its low-pass filter included, before the pool."""
    first = network.architecture.convs[0]
    return first.stride * (2 if first.blur else 1)


@torch.no_grad()
def dense(network: Network, images: Tensor, *, periodic: bool = False) -> Tensor:
    """Layer 1 at every place of the image instead of every s-th, after its ReLU and its low-pass filter if it has one.

    A low-pass filter that works on every second place is here one with holes, so that every `stride_of(network)`-th
    place is what the network has.

    Args:
        images: (B, 3, S, S), as the network wants them.
        periodic: treat the image as endless, (B, C, S, S); else only whole windows are taken, (B, C, S - k + 1, ...).
    """
    first, conv = network.architecture.convs[0], network.convs["conv1"]
    if periodic:
        images = F.pad(images, (0, first.kernel - 1, 0, first.kernel - 1), mode="circular")
    maps = F.relu(F.conv2d(images, conv.weight, conv.bias))
    if not first.blur:
        return maps
    taps = torch.tensor([1.0, 2.0, 1.0], device=maps.device) / 4
    kernel = (taps[:, None] * taps).expand(maps.shape[1], 1, 3, 3)
    step = first.stride
    if periodic:
        maps = F.pad(maps, (step, step, step, step), mode="circular")
    return F.conv2d(maps, kernel, dilation=step, groups=maps.shape[1])


def grating(size: int, down: float, right: float, phase: float = 0.0) -> Tensor:
    """A grey grating of amplitude 1: frequencies in cycles per pixel, phase in radians. (3, size, size)."""
    at = torch.arange(size)
    wave = torch.cos(2 * math.pi * (down * at[:, None] + right * at) + phase)
    return wave.expand(3, -1, -1)


def sweep(size: int = 32) -> tuple[Tensor, Tensor]:
    """All frequencies and orientations whose gratings fit a periodic picture: both (size, size // 2 + 1), as `axes`."""
    down, right = axes(size, size)
    return down.expand(size, size // 2 + 1), right.expand(size, size // 2 + 1)


def response_to_gratings(
    network: Network, strides: tuple[int, ...] = (2, 4), size: int = 32, phases: int = 2, batch: int = 64
) -> dict[str, Tensor]:
    """What layer 1 makes of a grey grating of each frequency and orientation, exactly, on endless pictures.

    Args:
        strides: at which the maps would be sampled.
        size: period of the pictures in pixels, at least the filter's side.
        phases: averaged over.
    Returns:
        `energy` (size, size // 2 + 1), mean over filters, and for each stride `aliased N`, the share of it that the
        stride aliases; nan where nothing responds.
    """
    down, right = sweep(size)
    pictures = torch.stack([
        grating(size, v, u, 2 * math.pi * p / phases)
        for v, u in zip(down.flatten().tolist(), right.flatten().tolist(), strict=True) for p in range(phases)
    ])  # fmt: skip
    parts: dict[int, list[Tensor]] = {stride: [] for stride in strides}
    whole = []
    for chunk in pictures.to(network.convs["conv1"].weight.device).split(batch):
        maps = dense(network, chunk, periodic=True)
        lost, total = energies(maps, strides, window=False)
        for stride in strides:
            parts[stride].append(lost[stride].mean(1))
        whole.append(total.mean(1))

    def averaged(values: list[Tensor]) -> Tensor:
        return torch.cat(values).view(size, size // 2 + 1, phases).mean(2)

    energy = averaged(whole)
    floor = 1e-9 * energy.max()  # rounding errors of maps that do not vary
    shares = {f"aliased {s}": torch.where(energy > floor, averaged(parts[s]) / energy, math.nan) for s in strides}
    return {"energy": energy / size**4} | shares


def aliased(network: Network, images: Tensor, strides: tuple[int, ...] = (2, 4), batch: int = 16) -> dict[int, Tensor]:
    """Share of the energy of layer 1's maps that each stride aliases, image by image.

    Args:
        images: (B, 3, S, S), as the network wants them.
    Returns:
        stride -> (B,), from 0 to 1; nan for an image that excites nothing.
    """
    found: dict[int, list[Tensor]] = {stride: [] for stride in strides}
    for part in images.split(batch):
        lost, total = energies(dense(network, part), strides)
        for stride in strides:
            found[stride].append(lost[stride].sum(1) / total.sum(1))
    return {stride: torch.cat(shares) for stride, shares in found.items()}


# --- shifts ----------------------------------------------------------------------------------------------------------


def _mover(size: int, by: float) -> Tensor:
    """Matrix (size, size) that reads a signal, mirrored at its ends, `by` places further on, band-limited."""
    mirrored = torch.cat([torch.eye(size), torch.eye(size).flip(1)], 1)
    turn = torch.exp(2j * math.pi * by * torch.fft.rfftfreq(2 * size))
    return torch.fft.irfft(torch.fft.rfft(mirrored) * turn, n=2 * size)[:, :size].T


def moved(maps: Tensor, down: float, right: float) -> Tensor:
    """Maps read off between their places, by band-limited interpolation: where a shift would bring them, without alias.

    Args:
        maps: (..., H, W); beyond the border they go on as their mirror image.
        down, right: how far from its own place each value is read, in units of the map.
    Returns:
        (..., H, W).
    """
    height, width = maps.shape[-2:]
    return _mover(height, down).to(maps) @ maps @ _mover(width, right).to(maps).T


def consistency(before: Tensor, after: Tensor) -> Tensor:
    """Correlation of an image's feature maps with those of the shifted image, each map's mean removed.

    Args:
        before, after: (B, C, H, W).
    Returns:
        (B,), 1 if nothing moved; nan where nothing responds.
    """
    a, b = (x.float() - x.float().mean((2, 3), keepdim=True) for x in (before, after))
    return (a * b).sum((1, 2, 3)) / (a.square().sum((1, 2, 3)) * b.square().sum((1, 2, 3))).sqrt()
