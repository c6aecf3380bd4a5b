"""Live explorers answer to their controls and to pictures that the reader brings."""

import io
import itertools
from datetime import UTC, datetime

import numpy as np
import pytest
import torch
from PIL import Image

from book.gallery.explorer import FeatureBrowser
from book.invariance.explorer import TransformExplorer
from book.occlusion.explorer import OcclusionExplorer
from tests.networks import small
from zfrepro import gallery
from zfrepro.data import DataError, Split
from zfrepro.data.transforms import stored_size
from zfrepro.explorers import UNLABELLED, LiveExplorer, load_user_images
from zfrepro.networks import zfnet
from zfrepro.training import Recipe
from zfrepro.weights import Trained

SIZE = stored_size(96)
WHEN = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def trained() -> Trained:
    recipe = Recipe(image_size=96, width=0.125, units=32, input_scale=64.0)
    mean = torch.full((3, SIZE, SIZE), 128.0)
    return Trained(small(zfnet(), 96), recipe, tuple("abcdefghij"), mean)


@pytest.fixture
def split() -> Split:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 255, (10, 3, SIZE, SIZE), dtype=torch.uint8, generator=generator)
    return Split(images, torch.arange(10) % 2)


def halves(width: int, height: int) -> Image.Image:
    """Red on the left, blue on the right."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[:, : width // 2, 0] = pixels[:, width // 2 :, 2] = 255
    return Image.fromarray(pixels)


def test_pictures_are_cut_square_and_named_by_the_network(trained, tmp_path):
    file = tmp_path / "wide.png"
    halves(4 * SIZE, 2 * SIZE).save(file)
    split = load_user_images(trained, [file])
    assert split.images.shape == (1, 3, SIZE, SIZE) and split.images.dtype == torch.uint8
    assert (split.images[0, :, 5, 5] == torch.tensor([255, 0, 0])).all()
    assert (split.images[0, :, -5, -5] == torch.tensor([0, 0, 255])).all()
    assert split.labels.tolist() == trained.predict_proba(split.images).argmax(1).tolist()


def upload(explorer: LiveExplorer, *files: tuple[str, bytes]) -> None:
    """Do what the browser does when files are chosen."""
    explorer.upload.value = [
        {"name": name, "type": "", "size": len(c), "content": memoryview(c), "last_modified": WHEN}
        for name, c in files
    ]


def png(width: int, height: int) -> bytes:
    halves(width, height).save(stream := io.BytesIO(), "PNG")
    return stream.getvalue()


@pytest.mark.parametrize("content", [b"no picture", png(60, 60)[:90]])
def test_what_is_no_picture_is_named_with_the_remedy(trained, content):
    wanted = r"^mine\.png: cannot be read \([^<>]+\); save it as JPEG or PNG$"
    with pytest.raises(DataError, match=wanted):
        load_user_images(trained, [("mine.png", io.BytesIO(content))])


def test_uploads_of_one_name_are_both_taken_and_a_bad_file_is_left_out_by_name(trained, split):
    explorer = EXPLORERS["occluder"](trained, split)
    upload(explorer, ("a.png", png(90, 90)), ("b.heic", b"<b>"), ("a.png", png(40, 90)))
    assert len(explorer.split) == 2
    assert UNLABELLED in explorer.told.value and "b.heic: cannot be read" in explorer.told.value
    assert "<" not in explorer.told.value


def tops(trained: Trained, split: Split) -> dict[str, gallery.Top]:
    x = trained.preprocess(split.images)
    return gallery.top_units(trained.network, x, ["conv2", "conv3"], progress=False)


BETWEEN = {"conv1": 1.0, "fc7": 1.0}
EXPLORERS = {
    "features": lambda trained, split: FeatureBrowser(trained, split, tops(trained, split)),
    "transformations": lambda trained, split: TransformExplorer(trained, split, BETWEEN),
    "occluder": lambda trained, split: OcclusionExplorer(trained, split, start=7),
}
each_explorer = pytest.mark.parametrize("name", EXPLORERS)


@each_explorer
def test_controls_are_disabled_while_an_answer_is_computed(name, trained, split, monkeypatch):
    explorer = EXPLORERS[name](trained, split)
    draw, seen = explorer.draw, []

    def watched():
        seen.append((explorer.note.value, [control.disabled for control in explorer.controls]))
        return draw()

    monkeypatch.setattr(explorer, "draw", watched)
    explorer.show()
    ((note, disabled),) = seen
    assert "computing" in note and all(disabled)
    assert not any(control.disabled for control in explorer.controls)
    assert "computing" not in explorer.note.value


def test_the_feature_browser_tells_dead_maps_from_cold_ones_and_from_none(trained, split):
    top = tops(trained, split)
    top["conv2"].values[3] = 0
    browser = FeatureBrowser(trained, split, top)
    assert "strongest activation" in browser.note.value and browser.view.value.startswith("<img")
    browser.map.value = 5000
    assert "and no map 5000." in browser.note.value and not browser.view.value
    browser.layer.value, browser.map.value = "conv2", 3
    assert "dead" in browser.note.value and not browser.view.value
    upload(browser, ("a.png", png(90, 90)))
    browser.tops["conv2"].values[3] = 0
    browser.show()
    assert browser.note.value == "None of your images excites map 3."


def test_the_transformer_shows_the_change_that_is_chosen(trained, split):
    explorer = EXPLORERS["transformations"](trained, split)
    assert "rotation 90 degrees" in explorer.note.value  # not a picture that nothing has changed
    before = explorer.view.value
    explorer.amount.value = 175.0
    assert "rotation 175 degrees" in explorer.note.value and explorer.view.value != before
    explorer.family.value = "translation"
    explorer.amount.value = -60.0
    assert "translation -60 px" in explorer.note.value


def test_the_occluder_opens_where_the_square_lowers_the_class_most(trained, split):
    explorer = OcclusionExplorer(trained, split, start=7)
    label, size = int(split.labels[7]), trained.recipe.image_size
    patch = explorer.patch.value

    @torch.no_grad()
    def probability(row: int, column: int) -> float:
        explorer.row.value, explorer.column.value = row, column
        p = float(trained.network(explorer.covered()[1]).softmax(1)[0, label])
        assert f"{p:.3f} with it" in explorer.note.value
        return p

    opened = probability(explorer.row.value, explorer.column.value)
    corners = itertools.product((0, size - patch), repeat=2)
    assert opened <= min(probability(*corner) for corner in corners) + 1e-6
    explorer.patch.value = size  # the square can no longer move
    assert explorer.row.value == explorer.column.value == 0
