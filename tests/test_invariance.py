"""Warps, distances of all layers, one-pixel shifts, and the verdicts that follow from a record."""

import copy

import pytest
import torch
from torchvision.transforms.v2 import functional as tv

from book.invariance import claims
from book.invariance import measure as study_of
from book.invariance.explorer import TransformExplorer
from tests.networks import small
from tests.worlds import tiny
from zfrepro.data import Split
from zfrepro.invariance import Change, changes_of, linearity, one_pixel, pictured, respond_to, warp
from zfrepro.networks import zfnet
from zfrepro.weights import Trained

CLASSES = tuple("abcdefghij")


@pytest.fixture(scope="module")
def trained():
    mean = torch.rand(3, 73, 73, generator=torch.Generator().manual_seed(1)) * 40 + 100
    return Trained(small(zfnet(), 64).requires_grad_(False), tiny(), CLASSES, mean)


@pytest.fixture(scope="module")
def pictures():
    draw = torch.Generator().manual_seed(0)
    coarse = torch.rand(6, 3, 12, 12, generator=draw) * 255
    return torch.nn.functional.interpolate(coarse, size=73, mode="bicubic").clamp(0, 255).to(torch.uint8)


def test_a_shift_by_whole_pixels_is_a_roll_with_the_fill():
    x = torch.rand(2, 3, 16, 16)
    down = warp(x, Change("translation", 3 / 16))
    assert torch.allclose(down[:, :, 3:], x[:, :, :-3], atol=1e-5)
    assert down[:, :, :3].abs().max() == 0
    edge = warp(x, Change("translation", -3 / 16), "edge")
    assert torch.allclose(edge[:, :, -3:], x[:, :, -1:].expand(-1, -1, 3, -1), atol=1e-5)
    mirrored = warp(x, Change("translation", 3 / 16), "reflected")
    assert torch.allclose(mirrored[:, :, :3], x[:, :, :3].flip(2), atol=1e-5)


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_right_angles_are_exact(turns):
    x = torch.rand(1, 3, 15, 15)
    assert torch.allclose(warp(x, Change("rotation", 90.0 * turns)), torch.rot90(x, turns, (2, 3)), atol=1e-5)


@pytest.mark.parametrize("change", [Change("rotation", 33.0), Change("scale", 1.4)])
def test_warps_agree_with_torchvision(change):
    x = torch.rand(1, 3, 33, 33)
    angle, scale = (-change.amount, 1.0) if change.family == "rotation" else (0.0, change.amount)
    theirs = tv.affine(x, angle, [0, 0], scale, [0.0, 0.0], interpolation=tv.InterpolationMode.BILINEAR)
    assert (warp(x, change) - theirs).abs()[..., 2:-2, 2:-2].max() < 1e-3


def test_zero_fill_is_zero_for_the_network(trained, pictures):
    seen = trained.seen(pictures)
    x = trained.of_view(pictured(trained, seen, Change("translation", 0.25)))
    assert x[:, :, :16].abs().max() < 1e-5
    assert torch.allclose(trained.of_view(seen), trained.normalised(pictures), atol=1e-5)


def test_response_is_what_a_plain_loop_finds(trained, pictures):
    seen, labels = trained.seen(pictures), torch.arange(6) % 10
    changes = [*changes_of("translation", (0.1, -0.2)), *changes_of("rotation", (30,))]
    found = respond_to(trained, seen, labels, changes, batch=4)
    with torch.no_grad():
        for n in range(6):
            clean = trained.network.features(trained.of_view(seen[n : n + 1]), trained.network.layers)
            for t, change in enumerate(changes):
                x = trained.of_view(pictured(trained, seen[n : n + 1], change))
                other = trained.network.features(x, trained.network.layers)
                for layer in ("conv1", "conv5", "fc7"):
                    expected = (other[layer] - clean[layer]).norm().item()
                    assert found.distance[layer][t, n].item() == pytest.approx(expected, rel=1e-3, abs=1e-4)
                    a, b = (v[layer].flatten() / v[layer].norm() for v in (other, clean))
                    assert found.unit[layer][t, n].item() == pytest.approx((a - b).norm().item(), abs=1e-3)
                p = other["fc8"].softmax(1)[0]
                assert found.probability[t, n].item() == pytest.approx(p[labels[n]].item(), abs=1e-5)
                assert found.named[t, n] == p.argmax()


def test_relative_distance_of_another_picture_is_about_one(trained, pictures):
    found = respond_to(trained, trained.seen(pictures), torch.zeros(6, dtype=torch.int64), changes_of("scale", (1.0,)))
    assert found.distance["conv1"].max() < 1e-3 * found.spread["conv1"]
    with torch.no_grad():
        rows = trained.network.features(trained.normalised(pictures), ["conv3"])["conv3"].flatten(1)
    assert found.spread["conv3"] == pytest.approx((rows - rows.roll(1, 0)).norm(dim=1).mean().item(), rel=1e-4)


def test_one_pixel_shifts_use_real_pixels(trained, pictures):
    found = one_pixel(trained, pictures)
    offset = (73 - 64) // 2
    with torch.no_grad():
        mean = trained.mean[:, offset : offset + 64, offset : offset + 64]
        raw = pictures[:, :, offset : offset + 64, offset + 1 : offset + 65].float()
        moved = trained.network((raw - mean) / trained.recipe.input_scale).argmax(1)
        still = trained.network(trained.normalised(pictures)).argmax(1)
    assert torch.equal(found["same"][0], moved == still)
    with pytest.raises(ValueError, match="more than 64 px"):
        one_pixel(trained, pictures[..., :64, :64])


def test_linearity_knows_a_line_and_a_step():
    x = torch.linspace(0.1, 1, 10)
    assert linearity(x, 3 * x) == pytest.approx(1)
    assert linearity(-x, 3 * x) == pytest.approx(1)
    assert linearity(x, torch.ones(10) - 0.1 * torch.exp(-5 * x)) < 0


def test_bad_arguments_are_told():
    with pytest.raises(ValueError, match="unknown transformation"):
        Change("shear", 1.0)
    with pytest.raises(ValueError, match="above 0"):
        Change("scale", 0.0)
    with pytest.raises(ValueError, match="unknown fill"):
        warp(torch.rand(1, 3, 8, 8), Change("scale", 2), "pink")


def test_one_picture_has_no_other_to_compare_with(trained, pictures):
    with pytest.raises(ValueError, match="two pictures"):
        respond_to(trained, trained.seen(pictures[:1]), torch.zeros(1, dtype=torch.int64), changes_of("scale", (1.2,)))


def test_pictures_of_another_size_are_refused(trained, pictures):
    with pytest.raises(ValueError, match="64 px"):
        trained.of_view(pictures)


def made_up() -> dict:
    def share(mean):
        return {"mean": mean, "low": mean - 1, "high": mean + 1, "n": 50}

    record = {}
    for family in claims.FAMILIES:
        record[family] = {
            "n": 50, "small": {"conv1": share(0.5), "fc7": share(0.1)},
            "small_lead": {"mean": 0.4, "low": 0.3, "high": 0.5, "n": 50}, "linearity": {"conv1": 0.0, "fc7": 0.97},
            "kept_share": share(90), "worst_right": 60.0, "clean_right": 88.0,
            "symmetric": ["ball"], "by_class": {"ball": share(95), "cup": share(40), "dog": share(20)},
        }  # fmt: skip
    record["rotation"]["kept_share"] = share(40)
    return record


def test_verdicts_follow_the_record():
    good = made_up()
    assert [claim.judge(good).verdict for claim in claims.CLAIMS] == ["reproduced"] * 5
    bad = copy.deepcopy(good)
    for family in claims.FAMILIES:
        bad[family]["small_lead"]["low"] = -0.1
        bad[family]["linearity"]["fc7"] = 0.5
        bad[family]["kept_share"] = good["rotation"]["kept_share"]
    bad["rotation"]["kept_share"] = good["scale"]["kept_share"]
    kinds = bad["rotation"]["by_class"]
    kinds["ball"], kinds["dog"] = kinds["dog"], kinds["ball"]
    assert [claim.judge(bad).verdict for claim in claims.CLAIMS] == ["not reproduced"] * 5


def test_the_live_explorer_answers(trained, pictures):
    explorer = TransformExplorer(trained, Split(pictures, torch.arange(6)), {"conv1": 1.0, "fc7": 1.0})
    before = explorer.view.value
    explorer.family.value = "rotation"
    explorer.amount.value = 90.0
    assert "rotation 90 degrees" in explorer.note.value and explorer.view.value != before
    explorer.family.value = "translation"
    explorer.amount.value = -60.0
    assert "translation -60 px" in explorer.note.value


def test_a_sphere_that_another_class_beats_is_no_proof_of_symmetry():
    record = made_up()
    record["rotation"]["by_class"]["cup"] = {"mean": 97, "low": 96, "high": 98, "n": 50}
    found = claims.symmetric(record)
    assert found.verdict == "partly" and "rank 2 of 3" in found.numbers


def test_one_pixel_shifts_of_two_networks_are_compared_image_by_image():
    ours = torch.tensor([[True, True, False], [True, True, False], [True, True, False]])
    his = torch.tensor([[True, False, False], [True, False, True], [True, False, False]])
    found = study_of.pixel_difference(ours, his)
    assert found["n"] == 3 and found["mean"] == pytest.approx(100 * (0 + 1 - 1 / 3) / 3, abs=0.01)
    told = study_of.pixel({"same": his, "conv1": torch.tensor([[1.0], [2.0], [3.0]])})
    assert told["kept"]["mean"] == pytest.approx(100 * 4 / 9, abs=0.01) and told["relative"]["conv1"]["mean"] == 2
