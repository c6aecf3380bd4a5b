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


def torch_norm(x: torch.Tensor, size: int = NORM_SIZE, alpha: float = NORM_ALPHA) -> torch.Tensor:
    return F.local_response_norm(x, size, alpha, NORM_BETA, NORM_K)


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
    found = conv(x)
    assert found.shape == (2, 3, high, wide)
    assert torch.allclose(found, plenty[:, :, :high, :wide], atol=1e-5)


def test_ceil_pool_of_torch_follows_the_same_rule():
    for size in range(3, 70):
        assert F.max_pool2d(torch.zeros(1, 1, size, size), 3, 2, ceil_mode=True).shape[
            -1
        ] == ceil_size(size, 3, 2)


# --- contrast norm -------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(
    "shape", [(2, 96, 9, 7), (1, 1, 4, 4), (3, 3, 5, 5), (2, 5, 1, 1), (1, 256, 6, 6)]
)
@pytest.mark.parametrize("spread", [1.0, 100.0])  # at 100 the squares outweigh k
def test_contrast_norm_equals_torch_both_ways(shape, layout, spread):
    x = (spread * torch.randn(shape, generator=torch.Generator().manual_seed(0))).contiguous(
        memory_format=layout
    )
    top = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    a, b = contrast_norm(ours), torch_norm(theirs)
    a.backward(top)
    b.backward(top)
    assert relative(a, b) < 1e-5 and relative(ours.grad, theirs.grad) < 1e-5
    assert torch.equal(ours.detach(), x)  # the input is left alone


@pytest.mark.parametrize(
    "size, alpha, beta, k", [(3, 0.5, 0.75, 1.0), (5, 1.0, 0.5, 2.0), (7, 0.3, 1.0, 0.1)]
)
def test_contrast_norm_with_other_numbers(size, alpha, beta, k):
    x = torch.randn(2, 8, 3, 3)
    assert (
        relative(
            contrast_norm(x, size, alpha, beta, k), F.local_response_norm(x, size, alpha, beta, k)
        )
        < 1e-5
    )


def test_contrast_norm_by_hand():
    x = torch.tensor([1.0, 2.0, 3.0]).view(1, 3, 1, 1)
    sums = torch.tensor([1 + 4, 1 + 4 + 9, 4 + 9.0])
    by_hand = x.flatten() / (1 + 6 / 3 * sums) ** 0.75
    assert torch.allclose(contrast_norm(x, size=3, alpha=6, beta=0.75, k=1).flatten(), by_hand)


@pytest.mark.parametrize("beta", [0.75, 0.5])
def test_contrast_norm_gradient_in_double(beta):
    x = torch.randn(2, 7, 2, 2, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: contrast_norm(x, 5, 0.7, beta, 1.5), x)


def test_contrast_norm_in_bf16_is_close():
    x = 10 * torch.randn(2, 96, 6, 6)
    assert relative(contrast_norm(x.bfloat16()).float(), torch_norm(x)) < 0.02


def test_contrast_norm_can_train_after_it_ran_in_inference_mode():
    with torch.inference_mode():  # what it caches there must not be an obstacle later
        contrast_norm(torch.randn(1, 13, 2, 2))
    x = torch.randn(1, 13, 2, 2, requires_grad=True)
    contrast_norm(x).sum().backward()
    assert x.grad.isfinite().all()


def test_contrast_norm_refuses_even_windows_and_other_shapes():
    with pytest.raises(ValueError, match="odd window"):
        contrast_norm(torch.zeros(1, 4, 2, 2), size=4)
    with pytest.raises(ValueError, match=r"\(4, 2, 2\)"):
        contrast_norm(torch.zeros(4, 2, 2))


# --- filter clipping -----------------------------------------------------------------------------


def test_clipping_equals_a_loop_and_leaves_small_filters_alone():
    weight = torch.randn(40, 3, 5, 5) * torch.linspace(0.01, 0.3, 40).view(-1, 1, 1, 1)
    clipped = clip_filters_(weight.clone(), 0.1)
    smaller = 0
    for before, after in zip(weight, clipped, strict=True):
        rms = (before**2).mean().sqrt()
        if rms > 0.1:
            assert torch.allclose(after, before * 0.1 / rms, rtol=1e-6)
            assert (after**2).mean().sqrt().item() == pytest.approx(0.1)
        else:
            assert torch.equal(after, before)
            smaller += 1
    assert 5 < smaller < 35


def test_radius_is_a_root_mean_square_and_not_a_length():
    # PAPER: RMS 0.1 of a 7x7x3 filter is an L2 norm of 0.1 * sqrt(147) = 1.21.
    weight = clip_filters_(torch.randn(4, 3, 7, 7), 0.1)
    assert torch.allclose(weight.flatten(1).norm(dim=1), torch.tensor(0.1 * 147**0.5))


def test_clipping_is_in_place_outside_autograd_and_harmless_to_zeros():
    conv = nn.Conv2d(3, 2, 3)
    with torch.no_grad():
        conv.weight[0] = 0
        conv.weight[1] = 5
    assert clip_filters_(conv.weight, 0.1) is conv.weight
    assert not conv.weight[0].any() and torch.allclose(conv.weight[1], torch.tensor(0.1))
    assert conv.weight.requires_grad and conv.weight.grad_fn is None
