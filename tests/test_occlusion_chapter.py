"""The chapter on occlusion: its figure, its study and its claims on made-up data."""

from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from book.occlusion import figures, measures
from book.occlusion import measure as study
from book.occlusion.explorer import OcclusionExplorer
from book.occlusion.measure import Row
from tests.datasets import stripes, tiny
from zfrepro import claims, deconvnet, records
from zfrepro.data import Dataset, Split
from zfrepro.data.transforms import center_crop, mean_image
from zfrepro.occlusion import Occlusion, occlude
from zfrepro.weights import Trained


@pytest.fixture(scope="module")
def data():
    return stripes(train=12, val=12, image_size=64)


@pytest.fixture(scope="module")
def trained(data):
    recipe = tiny()
    return Trained(recipe.network(3).eval(), recipe, data.classes, mean_image(data.train.images))


def rows_for(classes: int = 6) -> list[Row]:
    p = torch.rand(30, 30, generator=torch.Generator().manual_seed(0))
    winners = torch.randint(classes, (30, 30), generator=torch.Generator().manual_seed(1))
    tiles = torch.rand(4, 3, 20, 20)
    return [Row(0, k, 7, (1, 2, 3), 0.9, 5 * p, p, winners, tiles, 21) for k in range(2)]


def test_values_stand_at_the_middle_of_their_square():
    names = [f"class {k}" for k in range(6)]
    figure = figures.fig7(
        rows_for(), names, image_size=96, images=torch.zeros(2, 3, 96, 96, dtype=torch.uint8)
    )
    panels = [ax for ax in figure.axes if ax.get_label() != "<colorbar>"][:6]
    square = panels[0].patches[0]
    assert (square.get_width(), square.get_x(), square.get_y()) == (21, 4.5, 35.5)  # 12, 84 of 224
    left, right, bottom, top = panels[3].images[-1].get_extent()
    step = (96 - 21) / 29  # the first square covers pixels 0 to 20, the last 75 to 95
    assert left + step / 2 == pytest.approx(10) and right - step / 2 == pytest.approx(85)
    assert (left, right) == (top, bottom) and "r with (b) = +1.00" in panels[3].get_xlabel()
    legend = [text.get_text() for text in panels[5].get_legend().get_texts()]
    assert legend[0].startswith("class 0") and legend[-1].startswith("2 more")
    assert sum(int(text.split()[-2]) for text in legend) == pytest.approx(100, abs=3)


def test_the_rows_are_those_whose_probability_varies_most(trained, data):
    probabilities = torch.nn.functional.one_hot(data.val.labels, 3).float()  # all are right
    chosen = study.most_varied(trained, data.val, probabilities)
    assert data.val.labels[chosen].tolist() == list(dict.fromkeys(data.val.labels[chosen].tolist()))
    x = trained.preprocess(data.val.images)
    found = occlude(
        trained.network, x, patch=14, stride=12.5, fill=study.grey(trained), progress=False
    )
    spread = found.of(data.val.labels).flatten(1).std(1)
    assert chosen[0] == spread.argmax() and spread[chosen].diff().le(0).all()


def test_the_study_on_a_made_up_data_set(trained, data):
    mask = torch.zeros(12, 73, 73, dtype=torch.bool)
    mask[:, 20:40, 25:50] = True
    split = Split(data.val.images, data.val.labels, {"mask": mask})
    probabilities, top = study.search(trained, split)
    assert probabilities.shape == (12, 3) and top.layer == "conv5"
    (row,) = study.rows(trained, split, top, [4])
    by_hand = trained.network(trained.preprocess(split.images[[4]])).softmax(1)[0, row.label]
    assert row.clean == pytest.approx(by_hand.item(), abs=1e-5)
    assert row.probability.shape == (30, 30)
    x, seen = trained.preprocess(split.images), trained.center_crop(mask[:, None])[:, 0]
    found = occlude(
        trained.network,
        x,
        patch=20,
        stride=11,
        fill=study.grey(trained),
        layer="convs.conv5",
        progress=False,
    )
    assert study.of_squares(found, split.labels)["worst_drop"]["n"] == 12
    assert 0 <= study.of_objects(found, split.labels, seen)["pointing"]["mean"] <= 1
    energy = study.energy(trained, x[:2], found.strongest[:2])
    units = study._strongest_units(trained, x[:1], found.strongest[:1])
    whole = deconvnet.project(trained.network, x[:1], "conv5", units)
    torch.testing.assert_close(energy[0], whole[0].square().sum(0), atol=1e-6, rtol=1e-3)


def test_objects_by_hand():
    """Nine squares without overlap; the object is the middle one, or all but nothing is free."""
    p = torch.full((2, 3, 3), 0.8)
    p[:, 1, 1], p[:, 0, 0] = 0.2, 0.4
    at = torch.tensor([0, 10, 20])
    scores, clean = torch.stack([p, 1 - p], -1), torch.tensor([[0.9, 0.1]] * 2)
    found = Occlusion(scores, clean, rows=at, columns=at, window=(10, 10))
    mask = torch.zeros(2, 30, 30, dtype=torch.bool)
    mask[0, 10:20, 10:20] = True
    mask[1, 1:29, 1:29] = True
    told = study.of_objects(found, torch.zeros(2, dtype=torch.long), mask)
    means = {key: told[key]["mean"] for key in told}
    assert told["extra"]["n"] == told["lower"]["n"] == 1  # the second has no square beside it
    assert means["drop"] == pytest.approx(0.7) and means["lower"] == 1
    assert means["drop_beside"] == pytest.approx(0.9 - (7 * 0.8 + 0.4) / 8)
    assert means["extra"] == pytest.approx(means["drop"] - means["drop_beside"])
    assert told["pointing"]["n"] == 2 and means["pointing"] == means["pointing_centre"] == 1
    assert means["pointing_random"] == pytest.approx((1 / 9 + 1) / 2, abs=1e-4)


def test_boxes_are_shares_of_what_the_network_sees(tmp_path, monkeypatch):
    picture = np.zeros((224, 300, 3), np.uint8)
    picture[112:168, 150:206] = 255
    for part in ("train", "val"):
        (tmp_path / "imagenet20" / part / "n1").mkdir(parents=True)
    Image.fromarray(picture).save(tmp_path / "imagenet20/val/n1/bright.png")
    stored, size = 146, 128
    first, last = (((112 + k) * stored / 224 - 9) / size for k in (0, 56))
    box = [(112 * stored / 224 - 9) / size, first, (168 * stored / 224 - 9) / size, last]
    one = {"file": "val/n1/bright.png", "class": "bright", "boxes": [box]}
    records.write_json(tmp_path / "results/occlusion/boxes.json", {"photographs": [one]})
    monkeypatch.setenv("ZFREPRO_RESULTS", str(tmp_path / "results"))
    named = Dataset("imagenet20", ("dark", "bright"), None, None, size, "0")
    split = study.photographs_with_boxes(named, tmp_path)
    seen, mask = center_crop(split.images, size)[:, 0], split.truth["mask"]
    assert split.labels.tolist() == [1] and split.images.shape == (1, 3, stored, stored)
    assert (seen.gt(127) ^ mask).float().mean() < 0.01 < mask.float().mean()


def test_the_boxes_are_three_a_class_and_lie_within_the_picture():
    drawn = records.read(study.BOXES)["photographs"]
    assert len({one["file"] for one in drawn}) == 60
    assert set(Counter(one["class"] for one in drawn).values()) == {3}
    for one in drawn:
        for x0, y0, x1, y1 in one["boxes"]:
            assert 0 <= x0 < x1 <= 1 and 0 <= y0 < y1 <= 1


def test_what_is_masked_is_grey_to_the_pixel(trained, data):
    masks = torch.zeros(2, 64, 64, dtype=torch.bool)
    masks[0, 5:30, 7:9] = masks[1, 50:, :20] = True
    indices = torch.tensor([3, 7])
    measured = SimpleNamespace(trained=trained, split=data.val)
    x = trained.preprocess(data.val.images[indices])
    grey = torch.where(masks[:, None], study.grey(trained), x)
    by_hand = trained.network(grey).softmax(1)[[0, 1], data.val.labels[indices]]
    torch.testing.assert_close(study._covered(measured, indices, masks), by_hand, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("roomy", "counted"), [(9, 9), (7, 0)])
def test_a_control_counts_where_its_shape_has_room_and_with_enough_images(
    monkeypatch, roomy, counted
):
    monkeypatch.setattr(study, "_covered", lambda _, indices, masks: masks.float().mean((1, 2)))
    mask = torch.zeros(12, 20, 20, dtype=torch.bool)
    mask[:, :5, :5] = True
    mask[roomy:, :, :18] = True  # nine tenths of the picture: no room beside
    found = study._moved(None, torch.arange(12), mask, mask)
    assert found.isnan().logical_not().sum() == counted
    assert (found[:counted] == 25 / 400).all()


def test_the_explorer_shows_what_the_network_answers(trained, data):
    explorer = OcclusionExplorer(trained, data.val, start=2)
    explorer.row.value, explorer.column.value, explorer.patch.value = 5, 9, 20
    x, square = explorer.covered()
    assert torch.equal(square[..., 5:25, 9:29], study.grey(trained)[..., 5:25, 9:29])
    assert square.ne(x).any(1).sum() <= 400
    p = trained.network(square).softmax(1)[0, data.val.labels[2]]
    assert f"{p:.3f} with it" in explorer.note.value
    explorer.patch.value = 64  # the whole image: the square can no longer move
    assert explorer.row.value == explorer.column.value == 0


# --- claims ---


def told(mean: float, half: float = 0.05) -> dict:
    return {"mean": mean, "low": mean - half, "high": mean + half, "n": 50}


def record(**changes) -> dict:
    """Return a record in which every claim holds, and what is changed in it."""
    good = {
        "extra": 0.3, "lower": 0.9, "pointing": 0.9, "pointing_random": 0.4,
        "pointing_gain": 0.2, "own": -0.5, "other": -0.1,
        "negative": 0.3, "kept": 0.8, "changes": 0.9, "same": 0.5, "different": 0.1,
    } | changes  # fmt: skip
    squares = ("extra", "lower", "pointing", "pointing_random", "pointing_gain")
    return {
        "main": {
            "label_kept": told(good["kept"]),
            "label_changes": told(good["changes"]),
        },
        "objects": {k: told(good[k]) for k in squares},
        "projections": {k: told(good[k]) for k in ("own", "other")},
        "maps": {"negative": told(good["negative"])},
        "agreement": {"same": told(good["same"]), "other": told(good["different"])},
    }


@pytest.mark.parametrize(
    ("name", "open_", "failing"),
    [
        ("object", {"extra": 0.01}, {"extra": 0.01, "lower": 0.4}),
        ("pointing", {"pointing_gain": 0.01}, {"pointing_gain": -0.1}),
        ("projection", {"other": -0.48}, {"other": -0.7}),
        ("strongest-map", {"negative": 0.12}, {"negative": 0.05}),
        ("label", {"kept": 0.52}, {"kept": 0.4}),
        ("networks", {"different": 0.45}, {"different": 0.7}),
    ],
)
def test_claims_can_agree_stay_open_and_be_contradicted(name, open_, failing):
    claim = next(c for c in claims.of_chapter("occlusion") if c.name == f"occlusion-{name}")
    outcomes = [claim.judge(record(**changes)).outcome for changes in ({}, open_, failing)]
    assert outcomes == ["agrees", "not resolved", "contradicts"]
    assert claim.printed_outcome() in (None, "agrees")


def test_claims_on_objects_are_not_tested_where_nobody_drew_them():
    bare = record()
    del bare["objects"]
    outcomes = {c.name: c.judge(bare).outcome for c in claims.of_chapter("occlusion")}
    untested = [name for name, outcome in outcomes.items() if outcome == "not tested"]
    assert untested == ["occlusion-object", "occlusion-pointing"]


def test_records_hold_what_the_claims_and_figures_read():
    for dataset in claims.DATASETS:
        rows, described = (
            figures.recorded(dataset),
            records.read(f"occlusion/{dataset}")["figure"]["rows"],
        )
        assert len(rows) == study.ROWS
        for row, kept in zip(rows, described, strict=True):
            assert row.probability.min().item() == pytest.approx(kept["min"], abs=1e-3)
            assert row.predicted.eq(row.label).float().mean().item() == pytest.approx(
                kept["kept"], abs=1e-3
            )
    found = [
        c.finding(dataset) for c in claims.of_chapter("occlusion") for dataset in claims.DATASETS
    ]
    assert all(f.evidence or f.reason for f in found)


# --- measures on maps, by hand ---


def of_shape(rows, columns, patch):
    rows, columns = torch.tensor(rows), torch.tensor(columns)
    return Occlusion(None, None, None, None, rows, columns, (patch, patch))


def test_share_under_the_square_by_hand():
    mask = torch.zeros(1, 4, 4, dtype=torch.bool)
    mask[0, :2, 1] = True  # two pixels
    result = measures.share_covered(mask, of_shape([0, 1, 2], [0, 2], 2))
    assert result.tolist() == [[[0.5, 0.0], [0.25, 0.0], [0.0, 0.0]]]


def test_lowest_and_middles_by_hand():
    square = of_shape([0, 3], [0, 2, 4], 2)
    values = torch.tensor([[[3.0, 2.0, 5.0], [9.0, 9.0, 1.0]]])
    assert measures.lowest(values, square).tolist() == [[4, 5]]
    mask = torch.zeros(1, 6, 6, dtype=torch.bool)
    mask[0, 4, 5] = True
    assert measures.middles_on(mask, square).tolist() == [[[False] * 3, [False, False, True]]]


def test_correlation_agrees_with_numpy_and_is_nan_for_constants():
    a, b = torch.rand(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    b[2] = 1
    result = measures.correlation(a, b)
    for i in range(2):
        expected = np.corrcoef(a[i].flatten(), b[i].flatten())[0, 1]
        assert result[i].item() == pytest.approx(expected, abs=1e-5)
    assert result[2].isnan()


def test_translate_off_moves_off_the_object_without_change_of_area():
    mask = torch.zeros(2, 12, 12, dtype=torch.bool)
    mask[0, 2:6, 3:7] = True
    mask[1] = True  # nowhere to go
    moved, left = measures.translate_off(mask, mask)
    assert torch.equal(moved.sum((1, 2)), mask.sum((1, 2))) and left.tolist() == [0, 1]
    part = torch.zeros_like(mask)
    part[:, 2, 3] = True
    moved, left = measures.translate_off(part, mask)
    assert left[0] == 0 and not (moved[0] & mask[0]).any()
