"""Live explorers answer to their controls and to pictures that the reader brings."""

import copy
import io
import itertools
from dataclasses import replace
from datetime import UTC, datetime

import ipywidgets as widgets
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
from zfrepro.explorers import UNLABELLED, UploadButton, load_user_images
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


def coded(picture: Image.Image, kind: str = "PNG", **options) -> io.BytesIO:
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    return stream


def halves(width: int, height: int) -> Image.Image:
    """Red on the left, blue on the right."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[:, : width // 2, 0] = pixels[:, width // 2 :, 2] = 255
    return Image.fromarray(pixels)


def test_pictures_are_cut_square_and_named_by_the_network(trained, tmp_path):
    file = tmp_path / "wide.png"
    halves(4 * SIZE, 2 * SIZE).save(file)
    found = load_user_images(trained, [file])
    assert found.images.shape == (1, 3, SIZE, SIZE) and found.images.dtype == torch.uint8
    assert (found.images[0, :, 5, 5] == torch.tensor([255, 0, 0])).all()
    assert (found.images[0, :, -5, -5] == torch.tensor([0, 0, 255])).all()
    assert found.labels.tolist() == trained.predict_proba(found.images).argmax(1).tolist()


@pytest.mark.parametrize("content", [b"", b"no picture", coded(halves(60, 60)).getvalue()[:90]])
def test_what_is_no_picture_is_named_with_the_remedy(trained, content):
    wanted = r"^mine\.png: cannot be read \([^<>]+\); save it as JPEG or PNG$"
    with pytest.raises(DataError, match=wanted):
        load_user_images(trained, [("mine.png", io.BytesIO(content))])
    with pytest.raises(DataError, match="name at least one file"):
        load_user_images(trained, [])


def upload(button: UploadButton, *files: tuple[str, bytes]) -> None:
    """Do what the browser does when files are chosen."""
    button.button.value = [
        {"name": name, "type": "", "size": len(c), "content": memoryview(c), "last_modified": WHEN}
        for name, c in files
    ]


def png(width: int, height: int) -> bytes:
    return coded(halves(width, height)).getvalue()


def test_uploads_of_one_name_are_both_kept_and_a_bad_file_is_left_out_by_name(trained):
    taken = []
    button = UploadButton(trained, taken.append)
    upload(button, ("a.heic", b"<b>"))
    assert not taken and "a.heic: cannot be read" in button.note.value
    upload(button, ("a.png", png(90, 90)), ("b.heic", b"<b>"), ("a.png", png(40, 90)))
    assert len(taken[0]) == 2
    assert UNLABELLED in button.note.value and "b.heic: cannot be read" in button.note.value
    assert "<" not in button.note.value


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


@pytest.mark.parametrize("count", [1, 3])
@each_explorer
def test_an_explorer_takes_pictures_and_goes_back_to_the_book_s(name, count, trained, split):
    explorer = EXPLORERS[name](trained, split)
    before = explorer.note.value
    assert explorer.back.disabled
    upload(explorer.upload, *((f"{i}.png", png(100 + i, 80)) for i in range(count)))
    assert explorer.upload.note.value == UNLABELLED
    assert len(explorer.split) == count and explorer.note.value != before
    assert "true" not in explorer.note.value  # nobody has said what they show
    # see `plots.png`
    assert not any(isinstance(part, widgets.Output) for part in explorer.children)
    if name in ("transformations", "occluder"):
        assert explorer.image.max == count - 1
    assert not explorer.back.disabled
    explorer.back.click()
    assert explorer.split is split and explorer.back.disabled


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


def test_the_feature_browser_tells_a_dead_map_from_one_that_an_image_leaves_cold(trained, split):
    found = tops(trained, split)
    found["conv2"].values[3] = 0
    browser = FeatureBrowser(trained, split, found)
    assert "strongest activation" in browser.note.value and browser.view.value.startswith("<img")
    browser.layer.value, browser.map.value = "conv2", 3
    assert "dead" in browser.note.value and not browser.view.value
    upload(browser.upload, ("a.png", png(90, 90)))
    browser.tops["conv2"].values[3] = 0
    browser.show()
    assert browser.note.value == "None of your images excites map 3."


@pytest.mark.parametrize("number", [-1, 5000])
def test_the_feature_browser_refuses_a_map_that_does_not_exist(number, trained, split):
    browser = FeatureBrowser(trained, split, tops(trained, split))
    last = len(browser.tops["conv3"].values) - 1
    browser.map.value = number
    assert browser.note.value == f"conv3 has maps 0 to {last}, and no map {number}."
    assert not browser.view.value


def test_the_occluder_says_when_layer_5_is_silent(trained, split):
    explorer = OcclusionExplorer(trained, split)
    with torch.no_grad():
        silent = copy.deepcopy(trained.network)
        silent.convs.conv5.bias.fill_(-1e6)
    explorer.trained = replace(trained, network=silent)
    explorer.show()
    assert "layer 5 is silent" in explorer.note.value and "nan" not in explorer.note.value


def test_the_occluder_opens_where_the_square_lowers_the_class_most(trained, split):
    explorer = OcclusionExplorer(trained, split, start=7)
    label, size = int(split.labels[7]), trained.recipe.image_size
    patch = explorer.patch.value

    @torch.no_grad()
    def probability(row: int, column: int) -> float:
        explorer.row.value, explorer.column.value = row, column
        return float(trained.network(explorer.covered()[1]).softmax(1)[0, label])

    opened = probability(explorer.row.value, explorer.column.value)
    corners = itertools.product((0, size - patch), repeat=2)
    assert opened <= min(probability(*corner) for corner in corners) + 1e-6
