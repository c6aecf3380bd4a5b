"""From stored uint8 images to what a network sees: subtract mean, crop, flip (section 3)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from zfrepro import device as devices

CROPS = ("ten", "random", "resized")


def stored_size(image_size: int) -> int:
    """Return the side of stored images: 256 px for a network of 224 px, else in proportion."""
    return round(image_size * 256 / 224)


def pixel_sum(images: Tensor, chunk: int = 512) -> Tensor:
    """Return the exact sum of images. uint8 (N, 3, R, R) -> double (3, R, R)."""
    total = torch.zeros(images.shape[1:], dtype=torch.float64, device=images.device)
    for part in images.split(chunk):
        total += part.float().sum(0)
    return total


def mean_image(images: Tensor, chunk: int = 512) -> Tensor:
    """Return the mean of every pixel. uint8 (N, 3, R, R) -> float (3, R, R), 0 to 255."""
    return (pixel_sum(images, chunk) / len(images)).float()


def normalise(images: Tensor, mean: Tensor, scale: float | Tensor) -> Tensor:
    """Return (image - mean image) / scale, in new memory: float (B, 3, R, R), channels-last.

    images: uint8 or float in 0 to 255, (B, 3, R, R); mean: (3, R, R); scale: a number, or (3, 1, 1)
    with one a colour.
    """
    # `float()` would subtract from the caller's own floats
    images = images.to(torch.float32, copy=True)
    return images.sub_(mean).div_(scale).contiguous(memory_format=torch.channels_last)


def crop(images: Tensor, tops: Tensor | int, lefts: Tensor | int, size: int) -> Tensor:
    """Cut a size x size window out of each image. -> (B, 3, size, size).

    `tops` and `lefts` are one number or (B,) integers; ValueError if the window does not fit.
    """
    if size > min(images.shape[-2:]):
        raise ValueError(
            f"a crop of {size} px does not fit into images of {tuple(images.shape[-2:])} px"
        )
    if isinstance(tops, int) and isinstance(lefts, int):
        return images[:, :, tops : tops + size, lefts : lefts + size]
    windows = images.unfold(2, size, 1).unfold(3, size, 1)  # every window, as a view
    index = torch.arange(len(images), device=images.device)
    rows, columns = (torch.as_tensor(starts, device=images.device) for starts in (tops, lefts))
    return windows[index, :, rows, columns].contiguous(memory_format=torch.channels_last)


def center_crop(images: Tensor, size: int) -> Tensor:
    """Cut the middle out of images. (B, 3, R, R) -> (B, 3, size, size)."""
    offset = (images.shape[-1] - size) // 2
    return crop(images, offset, offset, size)


def _five_offsets(stored: int, size: int) -> list[tuple[int, int]]:
    far, middle = stored - size, (stored - size) // 2
    return [(0, 0), (0, far), (far, 0), (far, far), (middle, middle)]


def ten_crops(images: Tensor, size: int) -> Tensor:
    """Cut four corners and the centre, each also flipped. -> (10, B, 3, size, size)."""
    five = [crop(images, top, left, size) for top, left in _five_offsets(images.shape[-1], size)]
    return torch.stack(five + [view.flip(-1) for view in five])


def _flips(count: int, generator: torch.Generator) -> Tensor:
    return torch.rand(count, generator=generator) < 0.5


def _draws(
    n: int,
    stored: int,
    size: int,
    crops: str,
    generator: torch.Generator,
    area: tuple[float, float],
) -> tuple[Tensor, ...]:
    """Draw what chance decides of n training views.

    Returns (n,) each: rows, columns and flips of crops, or windows (`_windows`).
    """
    if crops == "ten":
        chosen = torch.randint(5, (n,), generator=generator)
        offsets = torch.tensor(_five_offsets(stored, size))[chosen]
        return offsets[:, 0], offsets[:, 1], _flips(n, generator)
    if crops == "random":
        tops, lefts = torch.randint(stored - size + 1, (2, n), generator=generator)
        return tops, lefts, _flips(n, generator)
    shares = torch.empty(n).uniform_(*area, generator=generator)
    ratio = torch.empty(n).uniform_(-0.2877, 0.2877, generator=generator).exp().sqrt()  # log(4/3)
    wide, high = (shares.sqrt() * ratio).clamp_max(1), (shares.sqrt() / ratio).clamp_max(1)
    x = (2 * torch.rand(n, generator=generator) - 1) * (1 - wide)
    y = (2 * torch.rand(n, generator=generator) - 1) * (1 - high)
    # A mirrored window costs nothing, a mirrored image does.
    return x, y, torch.where(_flips(n, generator), -wide, wide), high


def _windows(images: Tensor, size: int, x: Tensor, y: Tensor, wide: Tensor, high: Tensor) -> Tensor:
    """Resample windows bilinearly to size x size.

    Middle and half sides are (B,) each, in units of half the image.
    """
    n = len(images)
    x, y, wide, high = devices.to_device(
        torch.stack([x, y, wide, high]).to(images.dtype), images.device
    )
    # of the output's pixels, from -1 to 1
    centres = (2 * torch.arange(size, device=images.device) + 1) / size - 1
    columns = (x[:, None] + wide[:, None] * centres)[:, None, :].expand(n, size, size)
    rows = (y[:, None] + high[:, None] * centres)[:, :, None].expand(n, size, size)
    return F.grid_sample(
        images, torch.stack([columns, rows], -1), padding_mode="reflection", align_corners=False
    )


def augment(
    images: Tensor, size: int, crops: str, generator: torch.Generator,
    area: tuple[float, float] = (0.35, 1.0), *, of: int | None = None, share: slice = slice(None),
) -> Tensor:  # fmt: skip
    """Draw one random training view of each image.

    Args:
        images: normalised, (B, 3, R, R).
        crops: `ten`, one of the paper's ten fixed views; `random`, a random window and flip
            (Krizhevsky's reading); `resized`, windows of random size (`area`, a share of the image)
            and aspect (3/4 to 4/3; the modern habit).
        generator: a CPU generator, so that a run repeats on any device.
        of, share: the images are this share of a batch of so many. Chance is drawn for the whole
            batch, so that the views do not depend on how many processes share it.
    Returns:
        (B, 3, size, size).
    """
    if crops not in CROPS:
        raise ValueError(f"crops {crops!r}: choose among {', '.join(CROPS)}")
    drawn = _draws(of or len(images), images.shape[-1], size, crops, generator, area)
    drawn = tuple(values[share] for values in drawn)
    if crops == "resized":
        views = _windows(images, size, *drawn)
    else:
        tops, lefts, flips = (devices.to_device(values, images.device) for values in drawn)
        views = crop(images, tops, lefts, size)
        views = torch.where(flips[:, None, None, None], views.flip(-1), views)
    return views.contiguous(memory_format=torch.channels_last)
