"""Warps, distances of all layers, one-pixel shifts, and what is recorded of them."""

from types import SimpleNamespace

import pytest
import torch
from torch.testing import assert_close
from torchvision.transforms.v2 import functional as tv

from book.invariance import figures
from book.invariance import measure as study_of
from book.invariance.warps import linearity, one_pixel, respond_to, warp, warp_view
from tests.datasets import tiny
from tests.networks import small
from zfrepro.networks import zfnet
from zfrepro.weights import Trained

CLASSES = tuple("abcdefghij")
LABELS = torch.arange(6)


@pytest.fixture(scope="module")
def trained():
    mean = torch.rand(3, 73, 73, generator=torch.Generator().manual_seed(1)) * 40 + 100
    return Trained(small(zfnet(), 64).requires_grad_(False), tiny(), CLASSES, mean)


@pytest.fixture(scope="module")
def pictures():
    coarse = torch.rand(6, 3, 12, 12, generator=torch.Generator().manual_seed(0)) * 255
    smooth = torch.nn.functional.interpolate(coarse, size=73, mode="bicubic")
    return smooth.clamp(0, 255).to(torch.uint8)


def test_a_shift_by_whole_pixels_is_a_roll_with_the_fill():
    x = torch.rand(2, 3, 16, 16)
    nothing, mirrored = torch.zeros(2, 3, 3, 16), x[:, :, :3].flip(2)
    last = x[:, :, :1].expand(-1, -1, 3, -1)
    for fill, above in (("zero", nothing), ("edge", last), ("reflected", mirrored)):
        expected = torch.cat([above, x[:, :, :-3]], 2)
        assert torch.allclose(warp(x, "translation", 3 / 16, fill), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("family", "amount", "angle", "scale"),
    [("rotation", 33.0, -33.0, 1.0), ("scale", 1.4, 0.0, 1.4)],
)
def test_warps_agree_with_torchvision(family, amount, angle, scale):
    x, mode = torch.rand(1, 3, 33, 33), tv.InterpolationMode.BILINEAR
    theirs = tv.affine(x, angle, [0, 0], scale, [0.0, 0.0], interpolation=mode)
    assert (warp(x, family, amount) - theirs).abs()[..., 2:-2, 2:-2].max() < 1e-3


def test_response_is_what_a_plain_loop_finds(trained, pictures):
    seen, layers = trained.center_crop(pictures), trained.network.layers
    amounts = (0.1, -0.2)
    response = respond_to(trained, seen, LABELS, "translation", amounts)

    def features(view):
        return trained.network.features(trained.preprocess_crop(view), layers)

    rows = features(seen)["conv3"].flatten(1)
    apart = (rows - rows.roll(1, 0)).norm(dim=1).mean().item()
    assert response.between["conv3"] == pytest.approx(apart, rel=1e-4)
    for n, view in enumerate(seen.split(1)):
        clean = features(view)
        for t, amount in enumerate(amounts):
            other = features(warp_view(trained, view, "translation", amount))
            for layer in ("conv1", "conv5", "fc7"):
                a, b = other[layer], clean[layer]
                assert_close(response.distance[layer][t, n], (a - b).norm(), rtol=1e-3, atol=1e-4)
            unit = (a / a.norm() - b / b.norm()).norm()  # of the last layer
            assert_close(response.unit[t, n], unit, rtol=0, atol=1e-3)
            p = other["fc8"].softmax(1)[0]
            assert_close(response.probability[t, n], p[LABELS[n]], rtol=0, atol=1e-5)
            assert response.predicted[t, n] == p.argmax()


def test_one_pixel_shifts_use_real_pixels(trained, pictures):
    offset = (73 - 64) // 2
    mean = trained.mean[:, offset : offset + 64, offset : offset + 64]
    raw = pictures[:, :, offset : offset + 64, offset + 1 : offset + 65].float()
    moved = trained.network((raw - mean) / trained.recipe.input_scale).argmax(1)
    still = trained.network(trained.preprocess(pictures)).argmax(1)
    assert torch.equal(one_pixel(trained, pictures)[0], moved == still)


def test_linearity_knows_a_line_and_a_step():
    x = torch.linspace(0.1, 1, 10)
    assert linearity(x, 3 * x) == pytest.approx(1) == linearity(-x, 3 * x)
    assert linearity(x, torch.ones(10) - 0.1 * torch.exp(-5 * x)) < 0
    assert linearity(x, 1 + 3 * x) < 0.9
    assert linearity(x, 1 + 3 * x, intercept=True) == pytest.approx(1)


def test_bad_arguments_are_told(trained, pictures):
    seen = trained.center_crop(pictures)
    with pytest.raises(ValueError, match="unknown transformation"):
        warp(seen.float(), "shear", 1.0)
    with pytest.raises(ValueError, match="sees 64 px"):
        one_pixel(trained, seen)


def test_the_study_on_some_pictures(trained, pictures):
    seen, dataset = trained.center_crop(pictures), SimpleNamespace(classes=CLASSES, name="diorama")
    study = SimpleNamespace(progress=False, dataset=dataset, images=3)
    record = study_of.whole(study, trained, seen, LABELS, "rotation")
    response = respond_to(trained, seen, LABELS, "rotation", record["amounts"])
    sure = response.clean_predicted == LABELS
    assert record["right_share"]["n"] == sum(one["n"] for one in record["by_class"].values())
    assert record["right_share"]["n"] == sure.sum()
    small = response.relative("conv1")[0] - response.relative("fc7")[0]
    assert record["small_lead"]["mean"] == pytest.approx(small.mean().item(), rel=1e-3)
    again = study_of.rendered(study, trained)
    assert set(again) == set(study_of.renderings(1)) and again["scale"]["gain"]["n"] == 3
    assert len(figures.scene_renderings(trained, 3, {"rendered": again}).axes) == 10
