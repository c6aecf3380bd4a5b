"""Ceil borders, contrast norm and filter clipping against torch, brute force and the paper."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from tests.networks import relative
from zfrepro.layers import (
    NORM_ALPHA,
    NORM_BETA,
    NORM_K,
    NORM_SIZE,
    CeilConv2d,
    ceil_size,
    clip_filters_,
    contrast_norm,
)

# --- sizes ---------------------------------------------------------------------------------------


@given(st.integers(1, 300), st.integers(1, 11), st.integers(1, 5), st.integers(0, 3))
@settings(max_examples=300, deadline=None)
def test_ceil_size_is_the_fewest_windows_that_cover_everything(size, kernel, stride, padding):
    if size + 2 * padding < kernel:
        return
    windows = 1
    while (windows - 1) * stride + kernel < size + 2 * padding:
        windows += 1
    assert ceil_size(size, kernel, stride, padding) == windows


@given(
    st.integers(11, 60),
    st.sampled_from([(7, 2, 0), (5, 2, 0), (11, 4, 0), (3, 1, 1), (5, 1, 2), (3, 2, 1)]),
)
@settings(max_examples=40, deadline=None)
def test_ceil_conv_is_a_conv_with_enough_zeros_behind(size, shape):
    kernel, stride, padding = shape
    conv = CeilConv2d(2, 3, kernel, stride, padding)
    x = torch.randn(2, 2, size, size + 3)
    plenty = F.conv2d(F.pad(x, (padding, 20, padding, 20)), conv.weight, conv.bias, stride)
    high, wide = (ceil_size(s, kernel, stride, padding) for s in x.shape[-2:])
    maps = conv(x)
    assert maps.shape == (2, 3, high, wide)
    assert torch.allclose(maps, plenty[:, :, :high, :wide], atol=1e-5)


# --- contrast norm -------------------------------------------------------------------------------


PAPER = (NORM_SIZE, NORM_ALPHA, NORM_BETA, NORM_K)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("shape", [(2, 96, 9, 7), (3, 3, 5, 5), (2, 5, 1, 1)])
@pytest.mark.parametrize("spread", [1.0, 1000.0])  # at 1000 the squares outweigh k
def test_contrast_norm_equals_torch_both_ways(shape, layout, spread):
    generator = torch.Generator().manual_seed(0)
    x = spread * torch.randn(shape, generator=generator).contiguous(memory_format=layout)
    top = torch.randn(shape, generator=generator)
    ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    a, b = contrast_norm(ours), F.local_response_norm(theirs, *PAPER)
    a.backward(top)
    b.backward(top)
    assert relative(a, b) < 1e-5 and relative(ours.grad, theirs.grad) < 1e-4
    assert torch.equal(ours.detach(), x)  # the input is left alone


def test_contrast_norm_in_bf16_is_close():
    x = 10 * torch.randn(2, 96, 6, 6)
    assert relative(contrast_norm(x.bfloat16()).float(), F.local_response_norm(x, *PAPER)) < 0.02


def test_contrast_norm_refuses_other_shapes():
    with pytest.raises(ValueError, match=r"\(4, 2, 2\)"):
        contrast_norm(torch.zeros(4, 2, 2))


# --- filter clipping -----------------------------------------------------------------------------


def test_clipping_equals_a_loop_in_place_outside_autograd_and_leaves_small_filters_alone():
    sizes = torch.linspace(0, 0.3, 40)  # the first filter is zero
    weight = nn.Parameter(torch.randn(40, 3, 5, 5) * sizes.view(-1, 1, 1, 1))
    unclipped = weight.detach().clone()
    assert clip_filters_(weight, 0.1) is weight
    assert weight.requires_grad and weight.grad_fn is None
    large = unclipped.square().mean((1, 2, 3)).sqrt() > 0.1
    assert 5 < large.sum() < 35
    for before, after, is_large in zip(unclipped, weight, large, strict=True):
        scale = 0.1 / (before**2).mean().sqrt() if is_large else 1
        assert torch.allclose(after, before * scale, rtol=1e-6)
