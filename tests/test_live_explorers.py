"""Pictures that the reader brings go through every live explorer."""

import io
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
from zfrepro import gallery, own_images
from zfrepro.data import DataError, Split
from zfrepro.data.transforms import stored_size
from zfrepro.networks import zfnet
from zfrepro.training import Recipe
from zfrepro.weights import Trained

SIZE = stored_size(96)
WHEN = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def trained() -> Trained:
    recipe = Recipe(image_size=96, width=0.125, units=32, input_scale=64.0)
    return Trained(small(zfnet(), 96), recipe, tuple("abcdefghij"), torch.full((3, SIZE, SIZE), 128.0))


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
    found = own_images.brought(trained, [file])
    assert found.images.shape == (1, 3, SIZE, SIZE) and found.images.dtype == torch.uint8
    assert (found.images[0, :, 5, 5] == torch.tensor([255, 0, 0])).all()
    assert (found.images[0, :, -5, -5] == torch.tensor([0, 0, 255])).all()
    assert found.labels.tolist() == trained.predict_proba(found.images).argmax(1).tolist()


def test_a_picture_of_a_camera_held_upright_stands_upright(trained):
    exif = Image.Exif()
    exif[0x0112] = 6  # its top is at the right: turn it clockwise
    found = own_images.brought(trained, {"a.jpg": coded(halves(200, 200), "JPEG", quality=95, exif=exif)})
    red, blue = found.images[0, 0].float(), found.images[0, 2].float()
    assert red[:20].mean() > 200 > 50 > red[-20:].mean() and blue[-20:].mean() > 200


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK", "I;16"])
def test_any_kind_of_picture_will_do(trained, mode):
    picture = Image.new("I;16", (50, 70), 40_000) if mode == "I;16" else halves(50, 70).convert(mode)
    found = own_images.brought(trained, {"x": coded(picture, "TIFF")})
    assert found.images.shape == (1, 3, SIZE, SIZE) and found.images.float().mean() > 0


@pytest.mark.parametrize("content", [b"", b"no picture", coded(halves(60, 60)).getvalue()[:90]])
def test_what_is_no_picture_is_named(trained, content):
    with pytest.raises(DataError, match=r"mine\.png: not a picture that can be read \(.+\); bring another"):
        own_images.brought(trained, {"mine.png": io.BytesIO(content)})


def test_no_pictures_are_refused(trained):
    with pytest.raises(DataError, match="name at least one file"):
        own_images.brought(trained, [])


def upload(bring: own_images.Bring, *contents: bytes) -> None:
    """What the browser sends when files are chosen."""
    bring.upload.value = [
        {"name": f"{i}.png", "type": "image/png", "size": len(c), "content": memoryview(c), "last_modified": WHEN}
        for i, c in enumerate(contents)
    ]


def test_the_button_hands_pictures_on_or_says_what_is_wrong(trained):
    taken = []
    bring = own_images.Bring(trained, taken.append)
    upload(bring, b"<b>")
    assert not taken and "0.png: not a picture" in bring.note.value
    upload(bring, coded(halves(90, 90)).getvalue(), coded(halves(40, 90)).getvalue())
    assert len(taken[0]) == 2 and bring.note.value == own_images.UNLABELLED


def tops(trained: Trained, split: Split) -> dict[str, gallery.Top]:
    x = trained.preprocess(split.images)
    return gallery.top_activations(trained.network, [x], ["conv2", "conv3"], progress=False)


EXPLORERS = {
    "features": lambda trained, split: FeatureBrowser(trained, split, tops(trained, split)),
    "transformations": lambda trained, split: TransformExplorer(trained, split, {"conv1": 1.0, "fc7": 1.0}),
    "occluder": lambda trained, split: OcclusionExplorer(trained, split, start=7),
}


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("name", EXPLORERS)
def test_an_explorer_takes_pictures_that_the_reader_brings(name, count, trained, split):
    explorer = EXPLORERS[name](trained, split)
    (bring,) = [child for child in explorer.children if isinstance(child, own_images.Bring)]
    before = explorer.note.value
    upload(bring, *(coded(halves(100 + i, 80)).getvalue() for i in range(count)))
    assert bring.note.value == own_images.UNLABELLED
    assert len(explorer.split) == count and explorer.note.value != before
    assert not any(isinstance(part, widgets.Output) for part in explorer.children)  # see `plots.png`
    if name in ("transformations", "occluder"):
        assert explorer.image.max == count - 1
