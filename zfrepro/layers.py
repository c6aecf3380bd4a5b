"""The layers that torch lacks or has in a slow form: ceil borders, contrast norm, filter clipping."""

import functools
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import handle_torch_function, has_torch_function_unary

# Krizhevsky et al. (2012), section 3.3; Zeiler & Fergus cite it and give no numbers.
NORM_SIZE, NORM_ALPHA, NORM_BETA, NORM_K = 5, 1e-4, 0.75, 2.0


def ceil_size(size: int, kernel: int, stride: int, padding: int = 0) -> int:
    """Output size of a convolution or pool whose last window may overhang the border, as in cuda-convnet. In pixels."""
    return math.ceil((size + 2 * padding - kernel) / stride) + 1


class CeilConv2d(nn.Conv2d):
    """`Conv2d` that rounds its output size up, so that 224 px give the 110 px of Fig. 3.

    Zeros are added at the right and the bottom until the last window fits.
    """

    def overhang(self, size: int) -> int:
        """Zeros to add behind an input of `size` px so that the last, partial window is computed too."""
        kernel, stride, padding = self.kernel_size[0], self.stride[0], self.padding[0]
        return (ceil_size(size, kernel, stride, padding) - 1) * stride + kernel - size - 2 * padding

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, Cin, H, W) -> (B, Cout, ceil_size(H), ceil_size(W))."""
        bottom, right = self.overhang(x.shape[-2]), self.overhang(x.shape[-1])
        if bottom or right:
            x = F.pad(x, (0, right, 0, bottom))
        return super().forward(x)


@functools.lru_cache
def _band(maps: int, size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """(maps, maps, 1, 1) matrix of ones within `size // 2` of the diagonal."""
    index = torch.arange(maps, device=device)
    near = (index[:, None] - index[None, :]).abs() <= size // 2
    return near.to(dtype)[:, :, None, None]


def _power(s: Tensor, beta: float) -> Tensor:
    """s ** -beta; for 3/4 by two square roots, which are many times faster than `pow`."""
    if beta == 0.75:
        root = s.rsqrt()
        return root * root.sqrt()
    return s.pow(-beta)


class _ContrastNorm(torch.autograd.Function):
    """The window over maps is a banded matrix, so that its sum is one 1x1 convolution in both directions."""

    @staticmethod
    def forward(ctx, x, size, alpha, beta, k):
        band = _band(x.shape[1], size, x.dtype, x.device)
        s = F.conv2d(x.square(), band).mul_(alpha / size).add_(k)
        ctx.save_for_backward(x, s)
        ctx.size, ctx.alpha, ctx.beta = size, alpha, beta
        return x * _power(s, ctx.beta)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        x, s = ctx.saved_tensors
        band = _band(x.shape[1], ctx.size, x.dtype, x.device)
        direct = grad * _power(s, ctx.beta)
        through = F.conv2d((direct * x).div_(s), band)
        return direct.addcmul_(through, x, value=-2 * ctx.alpha * ctx.beta / ctx.size), None, None, None, None


def contrast_norm(
    x: Tensor, size: int = NORM_SIZE, alpha: float = NORM_ALPHA, beta: float = NORM_BETA, k: float = NORM_K
) -> Tensor:
    """Local response normalisation across feature maps, x / (k + alpha/size * sum of squares)^beta.

    Equal to `torch.nn.functional.local_response_norm` (which, like cuda-convnet, divides alpha by the window) and
    several times faster.

    Args:
        x: feature maps, (B, C, H, W).
        size: odd number of neighbouring maps in the window, itself included.
    Returns:
        (B, C, H, W).
    Raises:
        ValueError: if `size` is even (torch's window is then lopsided) or x has not four axes.
    """
    if size % 2 == 0 or x.ndim != 4:
        raise ValueError(f"contrast_norm: needs an odd window and (B, C, H, W), got {size} and {tuple(x.shape)}")
    if has_torch_function_unary(x):  # lets `zfrepro.backward_rules` see it, like torch's own functions
        return handle_torch_function(contrast_norm, (x,), x, size=size, alpha=alpha, beta=beta, k=k)
    return _ContrastNorm.apply(x, size, alpha, beta, k)


def blur_down(x: Tensor) -> Tensor:
    """Low-pass filter each map with 1-2-1 on both axes and keep every second unit (Zhang 2019, anti-aliasing).

    x: (B, C, H, W) -> (B, C, ceil(H / 2), ceil(W / 2)); beyond the border are zeros, and the last window may overhang.
    """
    maps, (high, wide) = x.shape[1], x.shape[-2:]
    taps = torch.tensor([1.0, 2.0, 1.0], dtype=x.dtype, device=x.device) / 4
    x = F.pad(x, (0, 1 - wide % 2, 0, 1 - high % 2))
    return F.conv2d(x, (taps[:, None] * taps).expand(maps, 1, 3, 3), stride=2, padding=1, groups=maps)


@torch.no_grad()
def clip_filters_(weight: Tensor, radius: float = 0.1) -> Tensor:
    """Rescale, in place, each filter whose root mean square exceeds `radius` to that radius (section 3.1).

    Args:
        weight: (Cout, Cin, k, k).
        radius: in weight units; the paper's 0.1 is an RMS, not an L2 norm.
    Returns:
        `weight`.
    """
    rms = weight.square().mean(dim=(1, 2, 3), keepdim=True).sqrt_()
    return weight.mul_((radius / rms.clamp_min_(1e-12)).clamp_max_(1))
