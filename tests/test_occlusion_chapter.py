"""The chapter on occlusion: its figure, and its study on made-up data."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from book.occlusion import figures
from book.occlusion import measure as study
from book.occlusion.measure import Row
from tests.datasets import stripes, tiny
from zfrepro import claims, deconvnet, records
from zfrepro.data import Dataset
from zfrepro.data.transforms import center_crop, mean_image
from zfrepro.occlusion import Occlusion
from zfrepro.weights import Trained


@pytest.fixture(scope="module")
def data():
    return stripes(train=12, val=12, image_size=64)


@pytest.fixture(scope="module")
def trained(data):
    recipe = tiny()
    return Trained(recipe.network(3).eval(), recipe, data.classes, mean_image(data.train.images))


def test_values_stand_at_the_middle_of_their_square():
    p = torch.rand(30, 30, generator=torch.Generator().manual_seed(0))
    winners = torch.randint(6, (30, 30), generator=torch.Generator().manual_seed(1))
    row = Row(0, 0, 7, (1, 2, 3), 0.9, 5 * p, p, winners, torch.rand(4, 3, 20, 20), 21)
    names, images = [f"class {k}" for k in range(6)], torch.zeros(1, 3, 96, 96, dtype=torch.uint8)
    figure = figures.fig7([row], names, image_size=96, images=images)
    panels = [ax for ax in figure.axes if ax.get_label() != "<colorbar>"]
    square = panels[0].patches[0]
    assert (square.get_width(), square.get_x(), square.get_y()) == (21, 4.5, 35.5)  # 12, 84 of 224
    left, right, bottom, top = panels[3].images[-1].get_extent()
    step = (96 - 21) / 29  # the first square covers pixels 0 to 20, the last 75 to 95
    assert left + step / 2 == pytest.approx(10) and right - step / 2 == pytest.approx(85)
    assert (left, right) == (top, bottom) and "r with (b) = +1.00" in panels[3].get_xlabel()
    legend = [text.get_text() for text in panels[4].get_legend().get_texts()]
    assert sum(int(text.split()[-2]) for text in legend) == pytest.approx(100, abs=3)


def test_a_row_and_the_energy_under_the_square_are_the_networks(trained, data):
    probabilities, top = study.search(trained, data.val)
    x = trained.preprocess(data.val.images)
    torch.testing.assert_close(probabilities, trained.network(x).softmax(1))
    (row,) = study.rows(trained, data.val, top, [4])
    assert row.clean == pytest.approx(probabilities[4, row.label].item(), abs=1e-5)
    maps = torch.tensor([row.map])
    units = study._strongest_units(trained, x[4:5], maps)
    whole = deconvnet.project(trained.network, x[4:5], "conv5", units)
    energy = study.energy(trained, x[4:5], maps)
    torch.testing.assert_close(energy, whole.square().sum(1), atol=1e-6, rtol=1e-3)


def test_objects_by_hand():
    """Nine squares without overlap; the object is the middle one, or all but nothing is free."""
    p = torch.full((2, 3, 3), 0.8)
    p[:, 1, 1], p[:, 0, 0] = 0.2, 0.4
    at = torch.tensor([0, 10, 20])
    scores, clean = torch.stack([p, 1 - p], -1), torch.tensor([[0.9, 0.1]] * 2)
    slid = Occlusion(scores, clean, rows=at, columns=at, window=(10, 10))
    mask = torch.zeros(2, 30, 30, dtype=torch.bool)
    mask[0, 10:20, 10:20] = True
    mask[1, 1:29, 1:29] = True
    told = study.of_objects(slid, torch.zeros(2, dtype=torch.long), mask)
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
    one = {"file": "val/n1/bright.png", "class": "bright", "boxes": [[first, first, last, last]]}
    records.write_json(tmp_path / "results/occlusion/boxes.json", {"photographs": [one]})
    monkeypatch.setenv("ZFREPRO_RESULTS", str(tmp_path / "results"))
    named = Dataset("imagenet20", ("dark", "bright"), None, None, size, "0")
    split = study.photographs_with_boxes(named, tmp_path)
    seen, mask = center_crop(split.images, size)[:, 0], split.truth["mask"]
    assert split.labels.tolist() == [1] and split.images.shape == (1, 3, stored, stored)
    assert (seen.gt(127) ^ mask).float().mean() < 0.01 < mask.float().mean()


def test_what_is_masked_is_grey_to_the_pixel(trained, data):
    masks = torch.zeros(2, 64, 64, dtype=torch.bool)
    masks[0, 5:30, 7:9] = masks[1, 50:, :20] = True
    indices = torch.tensor([3, 7])
    measured = SimpleNamespace(trained=trained, split=data.val)
    x = trained.preprocess(data.val.images[indices])
    grey = torch.where(masks[:, None], study.grey(trained), x)
    by_hand = trained.network(grey).softmax(1)[[0, 1], data.val.labels[indices]]
    torch.testing.assert_close(study._covered(measured, indices, masks), by_hand, atol=1e-5, rtol=0)


@pytest.mark.parametrize("dataset", claims.DATASETS)
def test_the_recorded_maps_are_those_that_the_record_describes(dataset):
    described = records.read(f"occlusion/{dataset}")["figure"]["rows"]
    assert len(described) == study.ROWS
    for row, told in zip(figures.recorded(dataset), described, strict=True):
        assert row.probability.min().item() == pytest.approx(told["min"], abs=1e-3)
        unchanged = row.predicted.eq(row.label).float().mean().item()
        assert unchanged == pytest.approx(told["kept"], abs=1e-3)


# --- measures on maps, by hand ---


def test_share_under_the_square_by_hand():
    mask = torch.zeros(1, 4, 4, dtype=torch.bool)
    mask[0, :2, 1] = True  # two pixels
    rows, columns = torch.tensor([0, 1, 2]), torch.tensor([0, 2])
    square = Occlusion(None, None, rows=rows, columns=columns, window=(2, 2))
    result = study.share_covered(mask, square)
    assert result.tolist() == [[[0.5, 0.0], [0.25, 0.0], [0.0, 0.0]]]


def test_translate_off_moves_off_the_object_without_change_of_area():
    mask = torch.zeros(2, 12, 12, dtype=torch.bool)
    mask[0, 2:6, 3:7] = True
    mask[1] = True  # nowhere to go
    moved, left = study.translate_off(mask, mask)
    assert torch.equal(moved.sum((1, 2)), mask.sum((1, 2))) and left.tolist() == [0, 1]
    assert not (moved[0] & mask[0]).any()
