"""Occlusion sensitivity (section 4.2, Fig. 7 of the arXiv text): slide a square over an image, watch the classifier.

For any torch classifier. A map here has a value for each position of the square, as in the paper; it is not an average
over the squares that cover a pixel. Every position is a full forward pass; speed comes from layout, precision and batch
size alone.
"""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.transforms.functional import gaussian_blur
from tqdm.auto import tqdm

from zfrepro import device as devices
from zfrepro.layers import require_index

FILLS = ("grey", "mean", "blur", "noise")
PAPER_SIDE, PAPER_PATCH, PAPER_POSITIONS = 224, 50, 30  # pixels, pixels, positions a side: measured on the figure


def paper_geometry(image_size: int) -> tuple[int, float]:
    """Side of the square and its stride in pixels: 50 and 6 at 224 px, in proportion with 30 x 30 positions otherwise.

    The stride of another size is no whole number; `corners` rounds each position.
    """
    patch = round(image_size * PAPER_PATCH / PAPER_SIDE)
    return patch, (image_size - patch) / (PAPER_POSITIONS - 1)


def corners(size: int, patch: int, stride: float) -> Tensor:
    """First pixel of every position of the square along one side of the image. -> (positions,) int64.

    Raises:
        ValueError: a square that does not fit, or a stride below one pixel.
    """
    if not 1 <= patch <= size or stride < 1:
        raise ValueError(f"a {patch} px square every {stride} px on {size} px: needs 1 <= square <= image, stride >= 1")
    count = int((size - patch) / stride + 1e-9) + 1
    return torch.tensor([round(i * stride) for i in range(count)])


@dataclass(frozen=True)
class Occlusion:
    """What a classifier says at every position of the square. R x Q positions; corner (i, j) at rows[i], columns[j]."""

    probabilities: Tensor  # (B, R, Q, classes)
    clean: Tensor  # (B, classes), without the square
    activity: Tensor | None  # (B, R, Q, C): each watched map, rectified and summed over space
    clean_activity: Tensor | None  # (B, C)
    rows: Tensor  # (R,) pixels
    columns: Tensor  # (Q,)
    patch: int  # pixels

    @property
    def predicted(self) -> Tensor:
        """Most probable class at every position, (B, R, Q): panel (e)."""
        return self.probabilities.argmax(-1)

    def of(self, labels: Tensor) -> Tensor:
        """Probability of one class an image at every position. labels: (B,) -> (B, R, Q): panel (d).

        Raises:
            ValueError: a class that is not there.
        """
        require_index("class", labels, self.probabilities.shape[3])
        return self.probabilities[torch.arange(len(labels)), :, :, labels]

    def activity_of(self, maps: Tensor) -> Tensor:
        """Summed activity of one map an image. maps: (B,) -> (B, R, Q): panel (b).

        Raises:
            ValueError: no layer was watched, or a map that is not there.
        """
        if self.activity is None:
            raise ValueError("no layer was watched; give occlude(..., layer=...) one")
        require_index("map", maps, self.activity.shape[3])
        return self.activity[torch.arange(len(maps)), :, :, maps]

    @property
    def strongest(self) -> Tensor:
        """The map with the largest sum in each clean image, (B,)."""
        if self.clean_activity is None:
            raise ValueError("no layer was watched; give occlude(..., layer=...) one")
        return self.clean_activity.argmax(1)


def filling(
    kind: str, images: Tensor, patch: int, *, grey: Tensor | float = 0.0, generator: torch.Generator | None = None
) -> Tensor:
    """The picture that shows through the square.

    Args:
        kind: `grey`, the constant `grey`; `mean`, zero, which is the training mean in inputs with the mean subtracted;
            `blur`, the image blurred beyond recognition (sigma a quarter of the square); `noise`, Gaussian noise with
            the mean and standard deviation of each image's channels.
        images: (B, 3, H, W), as the classifier wants them.
        patch: side of the square in pixels.
        grey: mid-grey as the classifier sees it, a number or of a shape that fits the images.
        generator: of the noise, on the CPU.
    Returns:
        (B, 3, H, W).
    Raises:
        ValueError: unknown kind.
    """
    if kind == "grey":
        return torch.as_tensor(grey, dtype=images.dtype, device=images.device).expand_as(images)
    if kind == "mean":
        return torch.zeros_like(images)
    if kind == "blur":
        sigma = max(patch / 4, 1.0)
        # the kernel may not be wider than what reflection can pad
        width = min(2 * int(2 * sigma) + 1, 2 * (min(images.shape[-2:]) - 1) + 1)
        return gaussian_blur(images, [width, width], [sigma, sigma])
    if kind == "noise":
        noise = torch.randn(images.shape, generator=generator).to(images)
        return images.mean((2, 3), keepdim=True) + noise * images.std((2, 3), keepdim=True)
    raise ValueError(f"fill {kind!r}: choose among {', '.join(FILLS)}")


@contextmanager
def _ready(model: Callable[[Tensor], Tensor], precision: str) -> Iterator[Callable[[Tensor], Tensor]]:
    """A copy in evaluation mode, channels-last and with weights in the precision of the arithmetic.

    Autocast alone would convert the weights again for every batch.
    """
    if not isinstance(model, nn.Module):
        yield model
        return
    ready = copy.deepcopy(model).eval().requires_grad_(False).to(memory_format=torch.channels_last)
    if precision == "bf16":
        for module in ready.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                module.bfloat16()
    yield ready


@contextmanager
def _watching(model: Callable, layer: str | None) -> Iterator[list[Tensor]]:
    """Holds, after the model has run, the layer's maps rectified and summed over space, (B, C)."""
    sums: list[Tensor] = []
    if layer is None:
        yield sums
        return
    modules = dict(model.named_modules()) if isinstance(model, nn.Module) else {}
    if layer not in modules:
        raise ValueError(f"no submodule {layer!r}; there are: {', '.join(name for name in modules if name)}")

    def add(module, inputs, output):
        # summed here: a ReLU that follows may work in place, and whole maps would fill the memory
        sums[:] = (output.clamp_min(0).sum((2, 3), dtype=torch.float32),)

    handle = modules[layer].register_forward_hook(add)
    try:
        yield sums
    finally:
        handle.remove()


@torch.inference_mode()
def occlude(
    model: Callable[[Tensor], Tensor], images: Tensor, *, patch: int, stride: float, fill: Tensor | float = 0.0,
    layer: str | None = None, precision: str = "fp32", batch: int = 16, progress: bool = True,
) -> Occlusion:  # fmt: skip
    """Cover each image with a square at every position and record what the classifier says.

    Args:
        model: from images (B, 3, H, W) to class scores (B, classes); not changed.
        images: (B, 3, H, W), as the model wants them, on its device.
        patch: side of the square in pixels.
        stride: pixels between neighbouring positions; of a fraction, corners are rounded.
        fill: what the square shows: a number, or a picture that fits the images (see `filling`).
        layer: name of a submodule (B, C, h, w) to watch, as in `model.named_modules()`. What is summed is its positive
            part, so that a convolution and the ReLU behind it give the same: `convs.conv5` is layer 5 here.
        precision: `fp32` or `bf16`.
        batch: covered images in memory at once, or fewer where a GPU's does not suffice. Nothing else grows with the
            number of positions but the result.
        progress: show a bar.
    Returns:
        `Occlusion`, on the CPU.
    Raises:
        ValueError: no images or pixels that are not finite, a square or fill that does not fit, unknown layer or
            precision.
    """
    if images.ndim != 4 or not len(images):
        raise ValueError(f"images {tuple(images.shape)}: wanted (B, 3, H, W), at least one")
    if batch < 1:
        raise ValueError(f"batch {batch}: must be at least 1")
    if not images.isfinite().all():
        number = int(images.isfinite().flatten(1).all(1).int().argmin())
        raise ValueError(f"image {number}: holds NaN or infinite pixels; mend it or leave it out")
    n, _, height, width = images.shape
    rows, columns = corners(height, patch, stride), corners(width, patch, stride)
    try:
        fill = torch.as_tensor(fill, dtype=images.dtype, device=images.device).expand_as(images)
    except RuntimeError as error:
        raise ValueError(f"fill {tuple(fill.shape)} does not fit images {tuple(images.shape)}") from error
    places = [(i, top, left) for i in range(n) for top in rows.tolist() for left in columns.tolist()]

    def covered() -> Iterator[Tensor]:
        yield from images.split(batch)  # clean ones first
        for start in range(0, len(places), batch):
            part = places[start : start + batch]
            x = images[[i for i, _, _ in part]].contiguous(memory_format=torch.channels_last)
            for own, (i, top, left) in zip(x, part, strict=True):
                square = (slice(None), slice(top, top + patch), slice(left, left + patch))
                own[square] = fill[i][square]
            yield x

    with (
        devices.autocast(images.device, precision), _ready(model, precision) as ready,
        _watching(ready, layer) as sums,
        tqdm(total=len(places), desc="covering", unit="position", disable=not progress) as bar,
    ):  # fmt: skip

        def answer(x: Tensor) -> tuple[Tensor, ...]:
            said = F.softmax(ready(x.contiguous(memory_format=torch.channels_last)).float(), 1)
            return said.cpu(), *(s.cpu() for s in sums)

        answers, done = [], 0
        for one in devices.in_pieces(answer, covered()):
            answers.append(one)
            done += len(one[0])
            if done > n:
                bar.update(len(one[0]))
    found, *watched = (torch.cat(parts) for parts in zip(*answers, strict=True))
    activity = watched[0] if layer else None
    shape = (n, len(rows), len(columns), -1)
    return Occlusion(
        found[n:].view(shape), found[:n], None if activity is None else activity[n:].view(shape),
        None if activity is None else activity[:n], rows, columns, patch,
    )  # fmt: skip


# --- measures --------------------------------------------------------------------------------------------------------


def share_covered(weights: Tensor, occlusion: Occlusion) -> Tensor:
    """Sum of `weights` under the square, over its area: for a mask, the share of the square that lies on it.

    Args:
        weights: (B, H, W), bool or float.
    Returns:
        (B, R, Q).
    """
    sums = F.pad(weights.double().cumsum(1).cumsum(2), (1, 0, 1, 0))
    r, q, p = occlusion.rows[:, None], occlusion.columns[None, :], occlusion.patch
    inside = sums[:, r + p, q + p] - sums[:, r, q + p] - sums[:, r + p, q] + sums[:, r, q]
    return (inside / p**2).float()


def correlation(a: Tensor, b: Tensor) -> Tensor:
    """Pearson correlation over positions. a, b: (B, R, Q) -> (B,), nan where one of them is constant."""
    a, b = (x.flatten(1).double() for x in (a, b))
    a, b = a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True)
    return ((a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1))).float()


def lowest(values: Tensor, occlusion: Occlusion) -> Tensor:
    """Middle pixel of the square where each map is lowest. values: (B, R, Q) -> (B, 2) row, column."""
    flat, width = values.flatten(1).argmin(1), values.shape[2]
    half = occlusion.patch // 2
    return torch.stack([occlusion.rows[flat // width], occlusion.columns[flat % width]], 1) + half


def middles_on(mask: Tensor, occlusion: Occlusion) -> Tensor:
    """Whether the middle of the square lies on the mask, at every position. mask: (B, H, W) bool -> (B, R, Q) bool."""
    half = occlusion.patch // 2
    return mask[:, (occlusion.rows + half)[:, None], (occlusion.columns + half)[None, :]]


def elsewhere(mask: Tensor, avoid: Tensor) -> tuple[Tensor, Tensor]:
    """The same shape in another place: each mask shifted to where it overlaps `avoid` least.

    What is shifted over the border comes in at the other side, so that the area stays the same to the pixel.

    Args:
        mask, avoid: (B, H, W) bool.
    Returns:
        The shifted masks, and which share of each still lies on `avoid`, (B,).
    """
    height, width = mask.shape[-2:]
    overlap = torch.fft.irfft2(
        torch.fft.rfft2(mask.double()).conj() * torch.fft.rfft2(avoid.double()), s=(height, width)
    )
    # of equally good shifts the shortest: not from one border of the picture to the other
    away = torch.minimum(torch.arange(height), height - torch.arange(height))[:, None].double()
    away = away + torch.minimum(torch.arange(width), width - torch.arange(width))[None, :]
    best = (overlap.round() + away / (2 * height * width)).flatten(1).argmin(1)
    moved = torch.stack([m.roll((int(k) // width, int(k) % width), (0, 1)) for m, k in zip(mask, best, strict=True)])
    return moved, (moved & avoid).sum((1, 2)) / moved.sum((1, 2)).clamp_min(1)
