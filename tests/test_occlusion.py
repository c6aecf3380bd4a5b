"""Occlusion against the plain loop, its measures against hand-worked cases, and its memory."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from tests.networks import small
from tests.worlds import stripes, tiny
from zfrepro import claims, deconvnet, occlusion, records
from zfrepro.data import Split
from zfrepro.data.transforms import mean_image
from zfrepro.explorers_occlusion import OcclusionExplorer
from zfrepro.figures import occlusion as figures
from zfrepro.networks import zfnet
from zfrepro.occlusion import corners, correlation, filling, lowest, occlude, share_covered, translate_off
from zfrepro.studies import occlusion as study
from zfrepro.studies.occlusion import Row
from zfrepro.weights import Trained


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
    rows, columns = torch.tensor(rows), torch.tensor(columns)
    return occlusion.Occlusion(None, None, None, None, rows, columns, (patch, patch))


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


def test_translate_off_moves_off_the_object_without_change_of_area():
    mask = torch.zeros(2, 12, 12, dtype=torch.bool)
    mask[0, 2:6, 3:7] = True
    mask[1] = True  # nowhere to go
    moved, left = translate_off(mask, mask)
    assert torch.equal(moved.sum((1, 2)), mask.sum((1, 2))) and left.tolist() == [0, 1]
    part = torch.zeros_like(mask)
    part[:, 2, 3] = True
    moved, left = translate_off(part, mask)
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


# --- what is built on it ---


def rows_for(classes: int = 6) -> list[Row]:
    p = torch.rand(30, 30, generator=torch.Generator().manual_seed(0))
    winners = torch.randint(classes, (30, 30), generator=torch.Generator().manual_seed(1))
    return [Row(0, k, 7, (1, 2, 3), 0.9, 5 * p, p, winners, torch.rand(4, 3, 20, 20)) for k in range(2)]


@pytest.mark.parametrize("photographs", [True, False])
def test_the_figure_has_five_panels_a_row(photographs):
    images = torch.zeros(2, 3, 96, 96, dtype=torch.uint8) if photographs else None
    figure = figures.fig7(rows_for(), [f"class {k}" for k in range(6)], images, image_size=96)
    panels = [ax for ax in figure.axes if ax.get_label() != "<colorbar>"]
    assert len(panels) == 10 and "(e)" in panels[4].get_title()
    square = panels[0].patches[0]
    assert (square.get_width(), square.get_x(), square.get_y()) == (21, 4.5, 35.5)  # 12 and 84 of 224, at 96
    assert "r = +1.00" in panels[3].get_xlabel()
    named = [text.get_text() for text in panels[4].get_legend().get_texts()]
    assert len(named) == 5 and named[0].startswith("class 0") and named[-1].startswith("2 more")
    shares = [int(text.split()[-2]) for text in named]
    assert sum(shares) == pytest.approx(100, abs=3)


def told(mean: float, half: float = 0.05) -> dict:
    return {"mean": mean, "low": mean - half, "high": mean + half, "n": 50}


def record(**changes) -> dict:
    """A record in which every claim holds, and what is changed in it."""
    good = {
        "extra": 0.3, "lower": 0.9, "shape_extra": 0.4, "shape_lower": 0.9, "pointing": 0.9, "pointing_random": 0.4,
        "pointing_gain": 0.2, "own": -0.5, "other": -0.1, "negative": 0.3, "kept": 0.8, "changes": 0.9,
    } | changes  # fmt: skip
    squares = {k: told(good[k]) for k in ("extra", "lower", "pointing", "pointing_random", "pointing_gain")}
    return {
        "main": {
            "object": squares | {"pointing_centre": told(0.7)}, "label_kept": told(good["kept"]),
            "label_changes": told(good["changes"]),
        },
        "shapes": {"extra": told(good["shape_extra"]), "lower": told(good["shape_lower"])},
        "projections": {k: told(good[k]) for k in ("own", "other")} | {"left_own": told(0.4), "left_other": told(0.8)},
        "maps": {"strongest": told(0.3), "negative": told(good["negative"]), "positive": told(0.5)},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "partly", "failing"),
    [
        ("object", {"extra": 0.01}, {"extra": 0.01, "shape_lower": 0.5}),
        ("pointing", {"pointing_gain": 0.01}, {"pointing_gain": 0.0, "pointing": 0.45}),
        ("projection", {"other": -0.48}, {"own": -0.02, "other": -0.02}),
        ("strongest-map", {"negative": 0.12}, {"negative": 0.05}),
        ("label", {"kept": 0.4}, {"kept": 0.4, "changes": 0.3}),
    ],
)
def test_claims_can_hold_hold_partly_and_fail(name, partly, failing):
    claim = next(c for c in claims.of_chapter("occlusion") if c.name == f"occlusion-{name}")
    verdicts = [claim.judge(record(**changes)).verdict for changes in ({}, partly, failing)]
    assert verdicts == ["reproduced", "partly", "not reproduced"]


def test_claims_on_masks_are_not_tested_without_masks():
    bare = record()
    del bare["shapes"], bare["main"]["object"]
    verdicts = {c.name: c.judge(bare).verdict for c in claims.of_chapter("occlusion")}
    assert [n for n, v in verdicts.items() if v == "not tested"] == ["occlusion-object", "occlusion-pointing"]


def test_records_hold_what_the_claims_and_figures_read():
    for world in claims.WORLDS:
        rows, names = figures.recorded(world)
        assert len(rows) >= 3 and len(names) == len(rows)
        for row, kept in zip(rows, records.read(f"occlusion/{world}")["figure"]["rows"], strict=True):
            assert row.probability.min().item() == pytest.approx(kept["min"], abs=1e-3)
            assert row.predicted.eq(row.label).float().mean().item() == pytest.approx(kept["kept"], abs=1e-3)
    assert all(f.numbers for c in claims.of_chapter("occlusion") for f in map(c.finding, claims.WORLDS))


def test_the_study_on_a_made_up_world():
    data = stripes(train=12, val=12, image_size=64)
    mask = torch.zeros(12, 73, 73, dtype=torch.bool)
    mask[:, 20:40, 25:50] = True
    split = Split(data.val.images, data.val.labels, {"mask": mask, "parts": mask.to(torch.uint8)})
    recipe = tiny()
    trained = Trained(recipe.network(3).eval(), recipe, data.classes, mean_image(data.train.images))
    said, top = study.search(trained, split)
    assert said.shape == (12, 3) and top.layer == "conv5"
    right = study.examples("made-up", data.classes, said, split.labels)
    assert all(said[i].argmax() == split.labels[i] for i in right)
    (row,) = study.rows(trained, split, top, [4])
    by_hand = trained.network(trained.normalised(split.images[[4]])).softmax(1)[0, row.label]
    assert row.clean == pytest.approx(by_hand.item(), abs=1e-5) and row.probability.shape == (30, 30)
    x, seen = trained.normalised(split.images), trained.seen(mask[:, None])[:, 0]
    found = occlude(
        trained.network, x, patch=20, stride=11, fill=study.grey(trained), layer="convs.conv5", progress=False
    )
    summary = study.of_squares(found, split.labels, seen)
    assert 0 <= summary["object"]["pointing"]["mean"] <= 1 and summary["clean"]["n"] == 12
    energy = study.energy(trained, x[:2], found.strongest[:2])
    whole = deconvnet.project(trained.network, x[:1], "conv5", study._units(trained, x[:1], found.strongest[:1]))
    torch.testing.assert_close(energy[0], whole[0].square().sum(0), atol=1e-6, rtol=1e-3)


@pytest.mark.parametrize(("roomy", "found"), [(9, 9), (7, 0)])
def test_a_control_counts_where_its_shape_has_room_and_only_with_enough_images(monkeypatch, roomy, found):
    monkeypatch.setattr(study, "_covered", lambda _, indices, masks: masks.float().mean((1, 2)))
    mask = torch.zeros(12, 20, 20, dtype=torch.bool)
    mask[:, :5, :5] = True
    mask[roomy:, :, :18] = True  # nine tenths of the picture: no room beside
    said = study._moved(None, torch.arange(12), mask, mask)
    assert said.isnan().logical_not().sum() == found
    assert (said[:found] == 25 / 400).all()


def test_the_explorer_says_what_the_network_says():
    data = stripes(train=6, val=6, image_size=64)
    recipe = tiny()
    trained = Trained(recipe.network(3).eval(), recipe, data.classes, mean_image(data.train.images))
    explorer = OcclusionExplorer(trained, data.val, start=2)
    explorer.row.value, explorer.column.value, explorer.patch.value = 5, 9, 20
    x, square = explorer.covered()
    assert torch.equal(square[..., 5:25, 9:29], study.grey(trained)[..., 5:25, 9:29])
    assert square.ne(x).any(1).sum() <= 400
    p = trained.network(square).softmax(1)[0, data.val.labels[2]]
    assert f"{p:.3f} with it" in explorer.note.value
    explorer.patch.value = 64  # the whole image: the square can no longer move
    assert explorer.row.value == explorer.column.value == 0
