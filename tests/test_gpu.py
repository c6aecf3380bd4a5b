"""A GPU does what the CPU does. Skipped where there is none."""

import copy
import warnings

import pytest
import torch
import torch.nn.functional as F

from tests.datasets import stripes, tiny
from zfrepro import device as devices
from zfrepro import gallery
from zfrepro.data.transforms import CROPS, augment
from zfrepro.layers import contrast_norm
from zfrepro.networks import build, initialise_, zfnet
from zfrepro.occlusion import occlude
from zfrepro.training import start, train, train_epoch

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def gpu():
    return devices.pick("cuda")


def seeded(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def close(on_gpu: torch.Tensor, on_cpu: torch.Tensor, tolerance: float) -> bool:
    return bool((on_gpu.float().cpu() - on_cpu).norm() <= tolerance * on_cpu.norm())


@pytest.fixture(scope="module")
def pair(gpu):
    """The same small network on the CPU and on the GPU."""
    architecture = zfnet().with_width(0.25).with_units(64)
    network = initialise_(
        build(architecture, 96, 10), "modern", torch.Generator().manual_seed(0)
    ).eval()
    network.requires_grad_(False)
    return network, copy.deepcopy(network).to(gpu, memory_format=torch.channels_last)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
def test_contrast_norm(gpu, dtype, tolerance):
    x, above = seeded(2, 96, 13, 13) * 20, seeded(2, 96, 13, 13, seed=1)
    on_cpu, on_gpu = x.clone().requires_grad_(), x.to(gpu, dtype).requires_grad_()
    expected, normed = F.local_response_norm(on_cpu, 5, 1e-4, 0.75, 2.0), contrast_norm(on_gpu)
    assert close(normed.detach(), expected.detach(), tolerance)
    (gradient,) = torch.autograd.grad(expected, on_cpu, above)
    (gpu_gradient,) = torch.autograd.grad(normed, on_gpu, above.to(gpu, dtype))
    assert close(gpu_gradient, gradient, tolerance)


@pytest.mark.parametrize("crops", CROPS)
def test_views_are_those_of_the_cpu(gpu, crops):
    images = seeded(8, 3, 110, 110)
    on_cpu, on_gpu = (
        augment(x, 96, crops, torch.Generator().manual_seed(3)) for x in (images, images.to(gpu))
    )
    assert close(on_gpu, on_cpu, 1e-4)


def test_fp32_training_follows_the_cpu(gpu, tmp_path):
    recipe, quiet = tiny(epochs=2, dropout=0.0, precision="fp32"), lambda *_, **__: None
    (on_cpu, mean), (on_gpu, gpu_mean) = (
        train(recipe, stripes(), tmp_path / where.type, device=where, progress=False, say=quiet)
        for where in (CPU, gpu)
    )
    assert torch.equal(gpu_mean.cpu(), mean)
    for name, expected in on_cpu.network.state_dict().items():
        assert close(on_gpu.network.state_dict()[name], expected, 0.02), name
    assert on_gpu.history[-1]["loss"] == pytest.approx(on_cpu.history[-1]["loss"], rel=0.01)


def test_bf16_training_learns_and_goes_on_from_its_checkpoint(gpu, tmp_path):
    whole = {"device": gpu, "progress": False, "say": lambda *_, **__: None}
    recipe = tiny(epochs=5, dropout=0.0, lr=0.05, precision="bf16")

    def stop(state, mean):
        if len(state.history) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(recipe, stripes(), tmp_path, after_epoch=stop, **whole)
    said = []
    state, _ = train(
        recipe, stripes(), tmp_path, **whole | {"say": lambda *text, **__: said.append(text[0])}
    )
    assert said[0].endswith("after epoch 2")
    assert state.history[-1]["loss"] < 0.5 * state.history[0]["loss"]
    assert state.history[-1]["val_top1_error"] < 20


@pytest.mark.parametrize("crops", CROPS)
def test_ten_more_steps_wait_for_the_gpu_once_more(gpu, crops):
    recipe = tiny(crops=crops, ema=0.9, epochs=1)
    mean = torch.zeros(stripes().train.images.shape[1:], device=gpu)

    def waits(steps: int) -> int:
        split = stripes(train=steps * recipe.batch).train
        state = start(recipe, 3, gpu)
        # the first steps choose algorithms
        train_epoch(recipe, state, split, mean, 0, progress=False)
        torch.cuda.set_sync_debug_mode("warn")
        try:
            with warnings.catch_warnings(record=True) as said:
                warnings.simplefilter("always")
                train_epoch(recipe, state, split, mean, 0, progress=False)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        return sum("synchronizing" in str(one.message) for one in said)

    assert waits(20) == waits(10) + 1  # the loss that is shown


@pytest.mark.parametrize("layer", ["conv3", "conv5"])
def test_search_and_projections(pair, layer):
    images = seeded(12, 3, 96, 96)
    tops = [
        gallery.top_units(network, images.split(5), [layer], progress=False)[layer]
        for network in pair
    ]
    assert close(tops[1].values, tops[0].values, 1e-4)
    same = tops[1].images.cpu() == tops[0].images
    assert same.float().mean() > 0.95  # ties may fall either way
    on_cpu, on_gpu = pair
    expected = gallery.projections(on_cpu, lambda i: images[i], tops[0], range(4))
    pictures = gallery.projections(
        on_gpu, lambda i: images[i.cpu()].to(on_gpu.convs.conv1.weight.device), tops[0], range(4)
    )
    assert close(pictures, expected, 1e-3)


def test_occlusion(pair, gpu):
    image = seeded(1, 3, 96, 96)
    on_cpu, on_gpu = (
        occlude(network, image.to(where), patch=24, stride=12, progress=False)
        for network, where in zip(pair, (CPU, gpu), strict=True)
    )
    assert close(on_gpu.probabilities, on_cpu.probabilities, 1e-4)
