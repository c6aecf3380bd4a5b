"""Occlusion against the plain loop, its measures against hand-worked cases, and its memory."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from tests.networks import small
from zfrepro import occlusion
from zfrepro.networks import zfnet
from zfrepro.occlusion import corners, correlation, elsewhere, filling, lowest, occlude, share_covered


def plain_loop(model, images, patch, stride, fill, layer=None):
    """One forward pass a position, as the definition says."""
    said, sums = [], []
    for image, own in zip(images, fill, strict=True):
        for top in range(0, images.shape[2] - patch + 1, stride):
            for left in range(0, images.shape[3] - patch + 1, stride):
                x = image.clone()
                x[:, top : top + patch, left : left + patch] = own[:, top : top + patch, left : left + patch]
                said.append(model(x[None]).softmax(1)[0])
                if layer:
                    sums.append(model.features(x[None], [layer])[layer].sum((2, 3))[0])
    side = [(s - patch) // stride + 1 for s in images.shape[2:]]
    shape = (len(images), *side, -1)
    return torch.stack(said).view(shape), torch.stack(sums).view(shape) if layer else None


@pytest.fixture(scope="module")
def network():
    return small(zfnet(), 64)


@pytest.fixture(scope="module")
def images():
    return torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
@pytest.mark.parametrize("kind", occlusion.FILLS)
def test_equals_the_plain_loop(network, images, kind):
    fill = filling(kind, images, 20, grey=0.3, generator=torch.Generator().manual_seed(1))
    expected, sums = plain_loop(network, images, 20, 11, fill, "conv5")
    found = occlude(network, images, patch=20, stride=11, fill=fill, layer="convs.conv5", batch=7, progress=False)
    torch.testing.assert_close(found.probabilities, expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found.activity, sums, atol=1e-3, rtol=1e-4)
    torch.testing.assert_close(found.clean, network(images).softmax(1), atol=1e-5, rtol=1e-4)
    clean = network.features(images, ["conv5"])["conv5"].sum((2, 3))
    torch.testing.assert_close(found.clean_activity, clean, atol=1e-3, rtol=1e-4)
    labels = torch.tensor([3, 8])
    assert torch.equal(found.of(labels)[1], found.probabilities[1, :, :, 8])
    assert torch.equal(found.activity_of(found.strongest)[0], found.activity[0, :, :, clean[0].argmax()])
    assert torch.equal(found.predicted, found.probabilities.argmax(3))


@torch.no_grad()
def test_any_classifier_oblong_images_and_functions():
    torch.manual_seed(0)
    convs = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True)
    model = nn.Sequential(*convs, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 5))
    images = torch.randn(1, 3, 20, 32)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    found = occlude(model, images, patch=8, stride=4, layer="2", progress=False)
    expected, _ = plain_loop(model.eval(), images, 8, 4, torch.zeros_like(images))
    torch.testing.assert_close(found.probabilities, expected)
    assert found.probabilities.shape == (1, 4, 7, 5) and found.activity.shape == (1, 4, 7, 4)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert not model[2]._forward_hooks
    again = occlude(lambda x: model(x), images, patch=8, stride=4, progress=False)
    torch.testing.assert_close(again.probabilities, expected)


def test_a_model_in_training_is_left_in_training_and_seen_in_evaluation(network, images):
    network.train()
    try:
        a, b = (occlude(network, images, patch=30, stride=30, progress=False) for _ in range(2))
        assert network.training and torch.equal(a.probabilities, b.probabilities)
    finally:
        network.eval()


def test_bf16_is_near(network, images):
    full, half = (
        occlude(network, images, patch=20, stride=11, layer="convs.conv5", precision=p, progress=False)
        for p in ("fp32", "bf16")
    )
    assert (full.probabilities - half.probabilities).abs().max() < 0.03
    torch.testing.assert_close(full.activity, half.activity, atol=0.05 * full.activity.max().item(), rtol=0.1)


def test_the_papers_geometry():
    patch, stride = occlusion.paper_geometry(224)
    assert (patch, stride) == (50, 6)
    places = corners(224, patch, stride)
    assert len(places) == 30 and places[14] == 84 and places[2] == 12  # the square of the paper's example pictures
    for size in (96, 128):
        patch, stride = occlusion.paper_geometry(size)
        assert len(corners(size, patch, stride)) == 30 and corners(size, patch, stride)[-1] == size - patch


def test_memory_does_not_grow_with_positions():
    # 900 covered images of 128 px would take 177 MB; a 1000-class network, its memory measured after a first run
    code = """
import torch
from benchmarks.growth import peak
from tests.networks import small
from zfrepro.networks import build, zfnet
from zfrepro.occlusion import occlude
network, image = build(zfnet().with_width(0.1).with_units(64), 128, 1000).eval(), torch.randn(1, 3, 128, 128)
def covered(stride):
    found = occlude(network, image, patch=28, stride=stride, batch=8, layer="convs.conv5", progress=False)
    return found.probabilities.shape[1]
few, many = [peak(lambda: print(covered(stride))) for stride in (50, 50, 100 / 29)][1:]
print(many - few)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    *sides, grown = run.stdout.split()
    assert sides == ["3", "3", "30"] and float(grown) < 40  # MB; the result itself has 4


def test_fills():
    images = (
        torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)) + torch.arange(2.0)[:, None, None, None]
    )
    assert filling("mean", images, 16).eq(0).all()
    assert filling("grey", images, 16, grey=0.5).eq(0.5).all()
    blurred = filling("blur", images, 16)
    assert blurred.std() < 1 and blurred[0].std() < images[0].std() / 10
    noise = filling("noise", images, 16, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(noise.mean((2, 3)), images.mean((2, 3)), atol=0.03, rtol=0)
    torch.testing.assert_close(noise.std((2, 3)), images.std((2, 3)), atol=0.03, rtol=0)


def of_shape(rows, columns, patch):
    return occlusion.Occlusion(None, None, None, None, torch.tensor(rows), torch.tensor(columns), patch)


def test_share_under_the_square_by_hand():
    mask = torch.zeros(1, 4, 4, dtype=torch.bool)
    mask[0, :2, 1] = True  # two pixels
    found = share_covered(mask, of_shape([0, 1, 2], [0, 2], 2))
    assert torch.equal(found, torch.tensor([[[0.5, 0.0], [0.25, 0.0], [0.0, 0.0]]]))


def test_lowest_and_middles_by_hand():
    square = of_shape([0, 3], [0, 2, 4], 2)
    values = torch.tensor([[[3.0, 2.0, 5.0], [9.0, 9.0, 1.0]]])
    assert lowest(values, square).tolist() == [[4, 5]]
    mask = torch.zeros(1, 6, 6, dtype=torch.bool)
    mask[0, 4, 5] = True
    assert occlusion.middles_on(mask, square).tolist() == [[[False] * 3, [False, False, True]]]


def test_correlation_agrees_with_numpy_and_is_nan_for_constants():
    a, b = torch.rand(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    b[2] = 1
    found = correlation(a, b)
    for i in range(2):
        assert found[i].item() == pytest.approx(np.corrcoef(a[i].flatten(), b[i].flatten())[0, 1], abs=1e-5)
    assert found[2].isnan()


def test_elsewhere_moves_off_the_object_without_change_of_area():
    mask = torch.zeros(2, 12, 12, dtype=torch.bool)
    mask[0, 2:6, 3:7] = True
    mask[1] = True  # nowhere to go
    moved, left = elsewhere(mask, mask)
    assert torch.equal(moved.sum((1, 2)), mask.sum((1, 2))) and left.tolist() == [0, 1]
    part = torch.zeros_like(mask)
    part[:, 2, 3] = True
    moved, left = elsewhere(part, mask)
    assert left[0] == 0 and not (moved[0] & mask[0]).any()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"patch": 65}, "needs 1 <= square"),
        ({"stride": 0.5}, "stride >= 1"),
        ({"layer": "conv9"}, "no submodule 'conv9'"),
        ({"precision": "fp8"}, "choose among fp32, bf16"),
        ({"batch": 0}, "at least 1"),
        ({"fill": torch.zeros(3, 3, 3)}, "does not fit"),
    ],
)
def test_bad_input_is_refused_clearly(network, images, changes, says):
    with pytest.raises(ValueError, match=says):
        occlude(network, images, **({"patch": 20, "stride": 20, "progress": False} | changes))


def test_unknown_fill_and_unwatched_layers_are_refused(network, images):
    with pytest.raises(ValueError, match="choose among grey"):
        filling("black", images, 5)
    found = occlude(network, images, patch=30, stride=30, progress=False)
    for ask in (lambda: found.strongest, lambda: found.activity_of(torch.zeros(2, dtype=torch.int64))):
        with pytest.raises(ValueError, match="no layer was watched"):
            ask()


def test_the_hook_is_removed_when_the_model_fails(images):
    class Failing(nn.Sequential):
        def forward(self, x):
            super().forward(x)
            raise RuntimeError("inside")

    model = Failing(nn.Conv2d(3, 2, 3))
    with pytest.raises(RuntimeError, match="inside"):
        occlude(model, images, patch=30, stride=30, layer="0", progress=False)
    assert not model[0]._forward_hooks
