"""Layers that torch lacks or has in a slow form: ceil borders, contrast norm, filter clipping.

And what a unit of a layer sees of the image (`Field`).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import handle_torch_function, has_torch_function_unary

# Krizhevsky et al. (2012), section 3.3; Zeiler & Fergus cite it and give no numbers.
NORM_SIZE, NORM_ALPHA, NORM_BETA, NORM_K = 5, 1e-4, 0.75, 2.0


def ceil_size(size: int, kernel: int, stride: int, padding: int = 0) -> int:
    """Return the output size of a convolution or pool whose last window may overhang, in pixels."""
    return -(-(size + 2 * padding - kernel) // stride) + 1


@dataclass(frozen=True)
class Field:
    """What one unit of a layer sees on one axis.

    Unit i covers pixels `start + i * jump` to `start + i * jump + size - 1`.
    """

    size: int  # pixels
    jump: int  # pixels between neighbouring units
    start: int  # first pixel of unit 0; negative where padding is in the field

    def window(self, unit: int) -> tuple[int, int]:
        """Return first pixel and the one after the last of a unit, not cut at the border."""
        first = self.start + unit * self.jump
        return first, first + self.size

    def through(self, kernel: int, stride: int, padding: int) -> "Field":
        """Return the field of units that filter or pool the units of this one."""
        size = self.size + (kernel - 1) * self.jump
        return Field(size, self.jump * stride, self.start - padding * self.jump)


@dataclass(frozen=True)
class Fields:
    """Receptive fields of a layer's units in images of one size."""

    rows: Field
    columns: Field
    image_size: tuple[int, int]  # height and width, pixels
    units: tuple[int, int]  # height and width of the feature map; (1, 1) for layers without maps
    exact: bool  # or an upper bound: no unit sees more, some may see less

    @property
    def window_size(self) -> tuple[int, int]:
        """Height and width of a unit's window; a field larger than the image is the image."""
        height, width = self.image_size
        return min(self.rows.size, height), min(self.columns.size, width)

    def windows(
        self, rows: Tensor | None, columns: Tensor | None, count: int
    ) -> tuple[Tensor, Tensor, tuple[int, int]]:
        """Return first row and column of some units' windows, (B,), and `window_size`.

        Args:
            rows, columns: (B,) of the units in the feature map; None for layers without maps.
        """
        firsts = []
        for places, field, side in zip(
            (rows, columns), (self.rows, self.columns), self.image_size, strict=True
        ):
            if places is None or field.size >= side:
                firsts.append(torch.zeros(count, dtype=torch.int64))
            else:
                firsts.append(places * field.jump + field.start)
        return *firsts, self.window_size


class CeilConv2d(nn.Conv2d):
    """`Conv2d` that rounds its output size up, so that 224 px give the 110 px of Fig. 3.

    Zeros are added at the right and the bottom until the last window fits.
    """

    def overhang(self, size: int) -> int:
        """Return the zeros to add behind `size` px so that the last, partial window counts."""
        return (self.kernel_size[0] - size - 2 * self.padding[0]) % self.stride[0]

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, Cin, H, W) -> (B, Cout, ceil_size(H), ceil_size(W))."""
        bottom, right = self.overhang(x.shape[-2]), self.overhang(x.shape[-1])
        if bottom or right:
            x = F.pad(x, (0, right, 0, bottom))
        return super().forward(x)


def require_index(what: str, indices: Tensor, count: int) -> None:
    """Refuse indices outside 0 to count - 1; torch would count negative ones from the end."""
    wrong = (indices < 0) | (indices >= count)
    if wrong.any():
        raise ValueError(f"{what} {int(indices[wrong][0])}: there are {count}, counted from 0")


BLOCK = 2**18  # values a thread, which stay in its cache from one step to the next


def _by_product(x: Tensor) -> bool:
    """Return whether a banded matrix product is the fastest sum: in bf16, and on a GPU."""
    return x.is_cuda or x.dtype == torch.bfloat16


def _window_sum(x: Tensor) -> Tensor:
    """Sum over NORM_SIZE neighbouring columns, with zeros beyond. x: (rows, maps) -> the same."""
    rows, maps = x.shape
    half = NORM_SIZE // 2
    if _by_product(x):
        index = torch.arange(maps, device=x.device)
        return x @ ((index[:, None] - index).abs() <= half).to(x.dtype)
    # Shifted copies of one long vector, in which zeros part the rows, are added as they are.
    wide = maps + NORM_SIZE - 1
    flat = x.new_zeros(rows * wide + NORM_SIZE - 1)
    flat[: rows * wide].view(rows, wide)[:, half : half + maps] = x
    total = flat[: rows * wide].clone()
    for shift in range(1, NORM_SIZE):
        total += flat[shift : shift + rows * wide]
    return total.view(rows, wide)[:, :maps]


def _blocks(*maps: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Yield the same pixels of each (B, C, H, W), channels-last, as matrices (pixels, C)."""
    pixels = [x.permute(0, 2, 3, 1).view(-1, x.shape[1]) for x in maps]
    whole = _by_product(pixels[0])
    count = len(pixels[0]) if whole else BLOCK * torch.get_num_threads() // pixels[0].shape[1]
    return zip(*(x.split(max(1, count)) for x in pixels), strict=True)


def _power(s: Tensor) -> Tensor:
    """Return s ** -NORM_BETA by two square roots, which are much faster than `pow`."""
    root = s.rsqrt()
    return root.sqrt().mul_(root)


class _ContrastNorm(torch.autograd.Function):
    """Forward and backward, each in one pass over blocks of pixels."""

    @staticmethod
    def forward(ctx, x):
        x = x.contiguous(memory_format=torch.channels_last)
        y = torch.empty_like(x)
        sums = torch.empty_like(x) if ctx.needs_input_grad[0] else y
        for value, s, out in _blocks(x, sums, y):
            torch.mul(_window_sum(value.square()), NORM_ALPHA / NORM_SIZE, out=s).add_(NORM_K)
            torch.mul(_power(s), value, out=out)
        ctx.save_for_backward(x, sums)
        return y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        x, sums = ctx.saved_tensors
        grad_x = torch.empty_like(x)
        grad = grad.contiguous(memory_format=torch.channels_last)
        scale = -2 * NORM_ALPHA * NORM_BETA / NORM_SIZE
        for value, s, above, out in _blocks(x, sums, grad, grad_x):
            direct = _power(s).mul_(above)
            through = _window_sum((direct * value).div_(s))
            torch.add(direct, through.mul_(value), alpha=scale, out=out)
        return grad_x


def contrast_norm(x: Tensor) -> Tensor:
    """Normalise feature maps, (B, C, H, W): x / (k + alpha/5 * sum of squares)^beta, the sum over
    5 neighbouring maps.

    Equal to `torch.nn.functional.local_response_norm` (which, like cuda-convnet, divides alpha by
    the window) and several times faster.
    """
    if x.ndim != 4:
        raise ValueError(f"contrast_norm: needs (B, C, H, W), got {tuple(x.shape)}")
    if has_torch_function_unary(x):  # lets `zfrepro.rules` see it, like torch's own functions
        return handle_torch_function(contrast_norm, (x,), x)
    return _ContrastNorm.apply(x)


def blur_down(x: Tensor) -> Tensor:
    """Low-pass filter maps with 1-2-1 on both axes and keep every second unit (Zhang 2019).

    x: (B, C, H, W) -> (B, C, H // 2 + 1, W // 2 + 1); beyond the border are zeros, and the last
    window may overhang.
    """
    maps, (high, wide) = x.shape[1], x.shape[-2:]
    taps = torch.tensor([1.0, 2.0, 1.0], dtype=x.dtype, device=x.device) / 4
    x = F.pad(x, (0, 1 - wide % 2, 0, 1 - high % 2))
    return F.conv2d(
        x, (taps[:, None] * taps).expand(maps, 1, 3, 3), stride=2, padding=1, groups=maps
    )


@torch.no_grad()
def clip_filters_(weight: Tensor, radius: float = 0.1) -> Tensor:
    """Rescale, in place, each filter whose RMS exceeds `radius` to it (section 3).

    weight: (Cout, Cin, k, k), which is returned; the paper's 0.1 is an RMS, not an L2 norm.
    """
    rms = weight.square().mean(dim=(1, 2, 3), keepdim=True).sqrt_()
    return weight.mul_((radius / rms.clamp_min_(1e-12)).clamp_max_(1))
