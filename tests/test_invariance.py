"""Warps, distances of all layers, one-pixel shifts, and what follows from a record."""

import copy
from types import SimpleNamespace

import pytest
import torch
from torchvision.transforms.v2 import functional as tv

from book.invariance import figures
from book.invariance import measure as study_of
from book.invariance.explorer import TransformExplorer
from book.invariance.warps import (
    Change,
    changes_of,
    linearity,
    one_pixel,
    respond_to,
    warp,
    warp_view,
)
from tests.datasets import tiny
from tests.networks import small
from zfrepro import claims
from zfrepro.data import Split
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
    return (
        torch.nn.functional.interpolate(coarse, size=73, mode="bicubic")
        .clamp(0, 255)
        .to(torch.uint8)
    )


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
    assert torch.allclose(
        warp(x, Change("rotation", 90.0 * turns)), torch.rot90(x, turns, (2, 3)), atol=1e-5
    )


@pytest.mark.parametrize("change", [Change("rotation", 33.0), Change("scale", 1.4)])
def test_warps_agree_with_torchvision(change):
    x = torch.rand(1, 3, 33, 33)
    angle, scale = (-change.amount, 1.0) if change.family == "rotation" else (0.0, change.amount)
    theirs = tv.affine(
        x, angle, [0, 0], scale, [0.0, 0.0], interpolation=tv.InterpolationMode.BILINEAR
    )
    assert (warp(x, change) - theirs).abs()[..., 2:-2, 2:-2].max() < 1e-3


def test_zero_fill_is_zero_for_the_network(trained, pictures):
    seen = trained.center_crop(pictures)
    x = trained.preprocess_crop(warp_view(trained, seen, Change("translation", 0.25)))
    assert x[:, :, :16].abs().max() < 1e-5
    assert torch.allclose(trained.preprocess_crop(seen), trained.preprocess(pictures), atol=1e-5)


def test_response_is_what_a_plain_loop_finds(trained, pictures):
    seen, labels = trained.center_crop(pictures), torch.arange(6) % 10
    changes = [*changes_of("translation", (0.1, -0.2)), *changes_of("rotation", (30,))]
    found = respond_to(trained, seen, labels, changes, batch=4)
    with torch.no_grad():
        for n in range(6):
            clean = trained.network.features(
                trained.preprocess_crop(seen[n : n + 1]), trained.network.layers
            )
            for t, change in enumerate(changes):
                x = trained.preprocess_crop(warp_view(trained, seen[n : n + 1], change))
                other = trained.network.features(x, trained.network.layers)
                for layer in ("conv1", "conv5", "fc7"):
                    expected = (other[layer] - clean[layer]).norm().item()
                    assert found.distance[layer][t, n].item() == pytest.approx(
                        expected, rel=1e-3, abs=1e-4
                    )
                    a, b = (v[layer].flatten() / v[layer].norm() for v in (other, clean))
                    assert found.unit[layer][t, n].item() == pytest.approx(
                        (a - b).norm().item(), abs=1e-3
                    )
                p = other["fc8"].softmax(1)[0]
                assert found.probability[t, n].item() == pytest.approx(
                    p[labels[n]].item(), abs=1e-5
                )
                assert found.predicted[t, n] == p.argmax()


def test_relative_distance_of_another_picture_is_about_one(trained, pictures):
    found = respond_to(
        trained,
        trained.center_crop(pictures),
        torch.zeros(6, dtype=torch.int64),
        changes_of("scale", (1.0,)),
    )
    assert found.distance["conv1"].max() < 1e-3 * found.between["conv1"]
    with torch.no_grad():
        rows = trained.network.features(trained.preprocess(pictures), ["conv3"])["conv3"].flatten(1)
    assert found.between["conv3"] == pytest.approx(
        (rows - rows.roll(1, 0)).norm(dim=1).mean().item(), rel=1e-4
    )


def test_one_pixel_shifts_use_real_pixels(trained, pictures):
    found = one_pixel(trained, pictures)
    offset = (73 - 64) // 2
    with torch.no_grad():
        mean = trained.mean[:, offset : offset + 64, offset : offset + 64]
        raw = pictures[:, :, offset : offset + 64, offset + 1 : offset + 65].float()
        moved = trained.network((raw - mean) / trained.recipe.input_scale).argmax(1)
        still = trained.network(trained.preprocess(pictures)).argmax(1)
    assert torch.equal(found.label_kept[0], moved == still)
    with pytest.raises(ValueError, match="more than 64 px"):
        one_pixel(trained, pictures[..., :64, :64])


def test_linearity_knows_a_line_and_a_step():
    x = torch.linspace(0.1, 1, 10)
    assert linearity(x, 3 * x) == pytest.approx(1)
    assert linearity(-x, 3 * x) == pytest.approx(1)
    assert linearity(x, torch.ones(10) - 0.1 * torch.exp(-5 * x)) < 0
    assert linearity(x, 1 + 3 * x) < 0.9 and linearity(
        x, 1 + 3 * x, intercept=True
    ) == pytest.approx(1)


def test_bad_arguments_are_told():
    with pytest.raises(ValueError, match="unknown transformation"):
        Change("shear", 1.0)
    with pytest.raises(ValueError, match="above 0"):
        Change("scale", 0.0)
    with pytest.raises(ValueError, match="unknown fill"):
        warp(torch.rand(1, 3, 8, 8), Change("scale", 2), "pink")


def test_one_picture_has_no_other_to_compare_with(trained, pictures):
    with pytest.raises(ValueError, match="two pictures"):
        respond_to(
            trained,
            trained.center_crop(pictures[:1]),
            torch.zeros(1, dtype=torch.int64),
            changes_of("scale", (1.2,)),
        )


def test_pictures_of_another_size_are_refused(trained, pictures):
    with pytest.raises(ValueError, match="64 px"):
        trained.preprocess_crop(pictures)


def told(mean: float, half: float = 1.0) -> dict:
    return {"mean": mean, "low": mean - half, "high": mean + half, "n": 50}


def made_up() -> dict:
    """Return a record in which every claim holds."""
    amounts = [1.1, 1.2, 1.4, 1.8]
    curve = {"conv1": {"mean": [0.5, 0.6, 0.61, 0.61]}, "fc7": {"mean": [0.1, 0.2, 0.4, 0.8]}}
    family = {
        "amounts": amounts, "relative": curve, "small_lead": told(0.4, 0.1), "right_share": told(90)
    }  # fmt: skip
    record = {name: copy.deepcopy(family) for name in ("translation", "scale", "rotation")}
    record["translation"]["amounts"] = [0.1, 0.2, 0.4, 0.8]
    kinds = {"ball": told(95), "cup": told(40), "dog": told(20)}
    record["rotation"] |= {"right_share": told(40), "by_class": kinds, "symmetric": ["ball"]}
    record["rendered"] = {name: {"gain": told(2)} for name in ("translation", "scale")}
    return record | {"one pixel difference": told(3)}


def changed(path: str, value: object) -> dict:
    record = made_up()
    *keys, last = path.split("/")
    inner = record
    for key in keys:
        inner = inner[key]
    inner[last] = value
    return record


@pytest.mark.parametrize(
    ("name", "path", "open_", "failing"),
    [
        ("small", "scale/small_lead", told(0.4, 0.5), told(-0.4, 0.1)),
        ("stable", "scale/right_share", told(86, 4), told(60)),
        ("rotation", "rotation/right_share", told(85, 9), told(90, 0.1)),
        ("symmetry", "rotation/by_class/cup", told(95), told(98)),
        ("rendered", "rendered/scale/gain", told(0.5), told(-2)),
        ("pixel", "one pixel difference", told(0.5), told(-2)),
    ],
)
def test_claims_can_agree_stay_open_and_be_contradicted(name, path, open_, failing):
    claim = next(c for c in claims.of_chapter("invariance") if c.name == f"invariance-{name}")
    records = [made_up(), changed(path, open_), changed(path, failing)]
    outcomes = [claim.judge(record).outcome for record in records]
    assert outcomes == ["agrees", "not resolved", "contradicts"]


def test_a_line_that_starts_with_a_jump_is_another_size():
    claim = next(c for c in claims.of_chapter("invariance") if c.name == "invariance-linear")
    jump = changed("scale/relative/fc7/mean", [0.6, 0.7, 0.9, 1.3])
    step = changed("scale/relative/fc7/mean", [0.1, 0.8, 0.8, 0.8])
    outcomes = [claim.judge(record).outcome for record in (made_up(), jump, step)]
    assert outcomes == ["agrees", "same direction, other size", "contradicts"]


def test_claims_that_a_record_cannot_answer_are_not_tested():
    bare = changed("rotation/symmetric", ["globe"])
    del bare["rendered"]
    outcomes = {c.name: c.judge(bare).outcome for c in claims.of_chapter("invariance")}
    untested = [name for name, outcome in outcomes.items() if outcome == "not tested"]
    assert untested == ["invariance-symmetry", "invariance-rendered"]


def test_records_hold_what_the_claims_and_figures_read():
    found = {
        dataset: claims.of_chapter("invariance")[0].read(dataset) for dataset in claims.DATASETS
    }
    assert len(figures.layers(found).axes) == 6 and figures.labels(found) and figures.fills(found)
    assert len(figures.kept_when_rendered(found["diorama"]).axes[0].get_yticks()) == 9
    findings = [c.finding(d) for c in claims.of_chapter("invariance") for d in claims.DATASETS]
    assert all(f.evidence or f.reason for f in findings)


def test_the_study_on_some_pictures(trained, pictures):
    seen, labels = trained.center_crop(pictures), torch.arange(6) % 10
    study = SimpleNamespace(
        progress=False, dataset=SimpleNamespace(classes=CLASSES, name="diorama"), images=3
    )
    record = study_of.whole(study, trained, seen, labels, "rotation")
    found = respond_to(trained, seen, labels, changes_of("rotation", record["amounts"]))
    sure = found.clean_predicted == labels
    assert record["right_share"]["n"] == sum(one["n"] for one in record["by_class"].values())
    assert record["right_share"]["n"] == sure.sum()
    small = found.relative("conv1")[0] - found.relative("fc7")[0]
    assert record["small_lead"]["mean"] == pytest.approx(small.mean().item(), rel=1e-3)
    again = study_of.rendered(study, trained)
    assert set(again) == set(study_of.renderings(1)) and again["scale"]["gain"]["n"] == 3
    assert len(figures.scene_renderings(trained, 3, {"rendered": again}).axes) == 10


def test_the_live_explorer_answers(trained, pictures):
    explorer = TransformExplorer(
        trained, Split(pictures, torch.arange(6)), {"conv1": 1.0, "fc7": 1.0}
    )
    assert "rotation 90 degrees" in explorer.note.value  # not a picture that nothing has changed
    before = explorer.view.value
    explorer.amount.value = 175.0
    assert "rotation 175 degrees" in explorer.note.value and explorer.view.value != before
    explorer.family.value = "translation"
    explorer.amount.value = -60.0
    assert "translation -60 px" in explorer.note.value
