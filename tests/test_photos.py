"""Photograph folders in every state a user may have them in."""

import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from PIL.TiffImagePlugin import IFDRational

from tests.photographs import COLOURS, listing, photographs, picture
from zfrepro import data
from zfrepro.data import DataError, photos


@pytest.fixture(autouse=True)
def cache(own_places, tmp_path):
    return tmp_path / "cache"


def load(root, name: str = "imagenet", **more):
    return data.load(name, 28, root=root, progress=False, **more)


# --- layouts -------------------------------------------------------------------------------------


def test_a_folder_becomes_images_labels_and_names(tmp_path):
    photographs(tmp_path)
    dataset = load(tmp_path)
    images, labels = dataset.train.images, dataset.train.labels
    assert dataset.classes == ("class0", "class1", "class2") and dataset.photographs
    assert images.shape == (12, 3, 32, 32) and images.dtype == torch.uint8
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert dataset.val.labels.tolist() == [0, 0, 1, 1, 2, 2]
    for image, label in zip(images, labels, strict=True):
        assert image.float().mean((1, 2)).argmax() == np.argmax(COLOURS[label])
    assert load(tmp_path, parts=("val",)).train is None


def test_nested_folders_count_and_previews_and_notes_do_not(tmp_path):
    folder = photographs(tmp_path)
    (folder / "train" / "class0" / "images").mkdir()
    picture(0, 9).save(folder / "train" / "class0" / "images" / "9.png")
    (folder / "train" / "class0" / "._9.png").write_bytes(b"a file manager's")
    (folder / "train" / "class0" / ".thumbnails" / "large").mkdir(parents=True)
    picture(0, 8).save(folder / "train" / "class0" / ".thumbnails" / "large" / "8.png")
    (folder / "train" / "class0" / "boxes.txt").write_text("notes")
    (folder / "train" / "class0" / "odd.png").mkdir()
    (folder / "train" / ".ipynb_checkpoints").mkdir()
    assert load(tmp_path).train.labels.bincount().tolist() == [5, 4, 4]


@pytest.mark.parametrize("name", ["imagenette", "caltech101", "mine"])
def test_a_path_is_that_folder_and_its_name_a_label_only(tmp_path, name):
    folder = photographs(tmp_path, name, classes=2)
    inner = photographs(folder, name)
    for path, count in ((folder, 2), (inner, 3)):
        dataset = load(None, str(path))
        assert dataset.name == name and dataset.classes == ("class0", "class1", "class2")[:count]
    with pytest.raises(DataError, match="diorama: has the name of the drawn data set; rename"):
        load(None, str(folder.rename(tmp_path / "diorama")))


# --- formats -------------------------------------------------------------------------------------


def square(colour=(200, 100, 50), side: int = 24) -> Image.Image:
    return Image.new("RGB", (side, side), colour)


@pytest.mark.parametrize(
    "mode, suffix, expected",
    [
        ("L", "jpg", (124, 124, 124)), ("LA", "png", (124, 124, 124)),
        ("P", "png", (200, 100, 50)), ("RGBA", "webp", (200, 100, 50)),
        ("CMYK", "jpg", (200, 100, 50)), ("YCbCr", "jpg", (200, 100, 50)),
    ],
)  # fmt: skip
def test_modes(tmp_path, mode, suffix, expected):
    square().convert(mode, palette=Image.Palette.ADAPTIVE).save(tmp_path / f"a.{suffix}")
    pixels = photos.decode(tmp_path / f"a.{suffix}", 16).astype(int)
    assert pixels.shape == (16, 16, 3) and np.abs(pixels - expected).max() <= 5


@pytest.mark.parametrize("width, height, suffix", [(96, 32, "png"), (32, 96, "jpg")])
def test_the_central_square_is_taken(tmp_path, width, height, suffix):
    image = square((255, 0, 0)).resize((width, height))
    image.paste(square((0, 0, 255), 32), ((width - 32) // 2, (height - 32) // 2))
    image.save(tmp_path / f"a.{suffix}", quality=95, subsampling=0)
    middle = photos.decode(tmp_path / f"a.{suffix}", 16)[1:-1, 1:-1]
    assert (middle[..., 2] > 230).all() and (middle[..., 0] < 25).all()


# --- names and downloads -------------------------------------------------------------------------


def test_a_name_need_not_be_utf8(tmp_path):
    folder, below = photographs(tmp_path) / "train", b"class1/caf\xe9.png"
    try:
        picture(1, 9).save(folder / os.fsdecode(below))
    except OSError:
        pytest.skip("a file system without such names")
    assert load(tmp_path).train.labels.bincount().tolist() == [4, 5, 4]


def test_a_download_that_broke_off_is_not_taken_for_the_set(tmp_path, monkeypatch):
    failures, folder = [KeyboardInterrupt()], "imagenette2-320"

    def fetch(root, split, size, download):
        """Stand in for torchvision's class, which unpacks without a look at what is there."""
        for part in ("train", "val"):
            for wnid in list(photos.IMAGENETTE)[: 3 if failures else None]:
                (Path(root) / folder / part / wnid).mkdir(parents=True)
                picture(0, 0, 8, 8).save(Path(root) / folder / part / wnid / "0.png")
        if failures:
            raise failures.pop()

    monkeypatch.setattr(torchvision.datasets, "Imagenette", fetch)
    with pytest.raises(KeyboardInterrupt):
        photos.download("imagenette", tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert photos.download("imagenette", tmp_path) == tmp_path / folder
    assert len(load(tmp_path, "imagenette").val.labels.unique()) == 10
    monkeypatch.delattr(torchvision.datasets, "Imagenette")  # there already: nothing is fetched
    assert photos.download("imagenette", tmp_path) == tmp_path / folder


# --- the cache -----------------------------------------------------------------------------------


@pytest.fixture
def decoded(monkeypatch):
    """Names of the files decoded so far."""
    names, decode = [], photos.decode
    monkeypatch.setattr(
        photos, "decode", lambda file, size: names.append(file.name) or decode(file, size)
    )
    return names


def test_nothing_is_written_outside_the_cache(tmp_path, cache, monkeypatch):
    folder = photographs(tmp_path / "data")
    before = listing(folder)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    load(tmp_path / "data").train.images.fill_(0)  # nor does a change of the tensor reach the cache
    assert listing(folder) == before and listing(tmp_path / "here") == {}
    assert sorted(f.suffix for f in cache.rglob("*") if f.is_file()) == [".npy", ".npy"]
    assert load(tmp_path / "data").train.images.any()


@pytest.mark.parametrize("change", ["content", "time", "name", "more", "fewer"])
def test_a_changed_file_is_decoded_again(tmp_path, decoded, change):
    file = photographs(tmp_path) / "train" / "class0" / "1.png"
    first = load(tmp_path)
    decoded.clear()
    if change == "content":
        picture(2, 50).save(file)
    elif change == "time":
        os.utime(file, ns=(1, 1))
    elif change == "name":
        file.rename(file.with_name("9.png"))
    elif change == "more":
        picture(0, 50).save(file.with_name("9.png"))
    else:
        file.unlink()
    second = load(tmp_path)
    assert len(decoded) == {"more": 13, "fewer": 11}.get(change, 12)  # the training part, all of it
    assert (first.fingerprint == second.fingerprint) == (change == "time")
    if change == "content":
        assert second.train.images[1].float().mean((1, 2)).argmax() == 2


@pytest.mark.parametrize("damage", ["truncated", "shape", "pickle", "archive"])
def test_a_damaged_cache_is_made_again(tmp_path, cache, decoded, damage):
    photographs(tmp_path)
    expected = load(tmp_path).train.images.clone()
    (file,) = cache.rglob("train-*.npy")
    decoded.clear()
    if damage == "truncated":
        file.write_bytes(file.read_bytes()[:-100])
    elif damage == "shape":
        np.save(file, np.zeros((11, 32, 32, 3), np.uint8))
    elif damage == "archive":
        with open(file, "wb") as stream:
            np.savez(stream, np.zeros((12, 32, 32, 3), np.uint8))
    else:
        np.save(file, np.array([object()] * 3), allow_pickle=True)
    assert torch.equal(load(tmp_path).train.images, expected)
    assert len(decoded) == 12


def test_a_full_disk_is_told_with_the_name_of_the_file(tmp_path, cache):
    resource = pytest.importorskip("resource")
    photographs(tmp_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    # a write beyond it fails as on a full disk
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, hard))
    try:
        with pytest.raises(OSError) as error:
            load(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert re.search(r"File too large: '.*train-32-.*\.npy'", str(error.value))
    assert listing(cache) == {}
    assert len(load(tmp_path).train) == 12


def test_only_a_few_images_are_decoded_ahead():
    begun, count = [], 2 * photos.AHEAD + 1
    stream = photos._each(list(range(count)), lambda i: begun.append(i) or i, "", False)
    for i, decoded in enumerate(stream):
        assert decoded == i and len(begun) <= i + photos.AHEAD
    assert len(begun) == count


def test_caltech101_is_split_class_by_class(tmp_path):
    folder = tmp_path / "caltech101"
    for name, count in (("accordion", 33), ("BACKGROUND_Google", 90)):
        (folder / name).mkdir(parents=True)
        for i in range(count):
            Image.new("RGB", (20, 16), (i, 10, 10)).save(folder / name / f"image_{i:04d}.png")
    dataset = load(tmp_path, "caltech101")
    assert load(None, str(folder)).fingerprint == dataset.fingerprint
    assert dataset.classes == ("BACKGROUND_Google", "accordion")
    assert dataset.train.labels.bincount().tolist() == [30, 30]
    assert dataset.val.labels.bincount().tolist() == [50, 3]
    train, val = (
        set(part.images[part.labels == 1, 0, 4, 4].tolist())
        for part in (dataset.train, dataset.val)
    )
    assert not train & val and train | val == set(range(33))  # each image in one part only
    for file in sorted((folder / "accordion").iterdir())[:5]:
        file.unlink()
    with pytest.raises(DataError, match="accordion: 28 images; needs more than 30"):
        load(tmp_path, "caltech101")


# --- what cameras, scanners and archives hand in -------------------------------------------------


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
@pytest.mark.parametrize("resolution", [IFDRational(72), IFDRational(1, 0)])
def test_a_turned_photograph_stands_upright_everywhere(tmp_path, resolution, suffix):
    exif, file = Image.Exif(), tmp_path / f"turned.{suffix}"
    exif[photos.ORIENTATION] = 6  # its top is at the right
    exif[0x011A] = resolution  # Pillow's own turning gives up at 1/0
    halves = np.repeat([255, 0], 32)[:, None].repeat(64, 1).astype(np.uint8)  # white above black
    Image.fromarray(halves).rotate(90).save(file, exif=exif, quality=95)
    with Image.open(file) as image:
        for pixels in (photos.decode(file, 32), photos.square(image, 32)):
            assert pixels[:12].min() > 200 and pixels[-12:].max() < 50


def test_what_is_transparent_shows_white(tmp_path):
    picture = Image.new("RGBA", (40, 40), (255, 0, 255, 0))
    picture.paste((0, 0, 200, 255), (0, 0, 40, 20))
    picture.save(tmp_path / "a.png")
    pixels = photos.decode(tmp_path / "a.png", 40)
    assert (pixels[:18] == (0, 0, 200)).all() and (pixels[22:] == 255).all()


def test_sixteen_bits_of_a_pgm_and_no_range_of_a_float(tmp_path):
    (tmp_path / "a.pgm").write_bytes(b"P5 4 4 65535\n" + np.full(16, 40_000, ">u2").tobytes())
    assert (photos.decode(tmp_path / "a.pgm", 4) == round(40_000 / 257)).all()
    Image.fromarray(np.full((4, 4), 0.5, np.float32)).save(tmp_path / "a.tiff")
    with pytest.raises(DataError, match=r"a.tiff: .* \(its pixels have no fixed range; save it"):
        photos.decode(tmp_path / "a.tiff", 4)


def test_every_suffix_and_link_counts_and_the_rest_is_told(tmp_path, capsys):
    folder = tmp_path / "set" / "class0"
    folder.mkdir(parents=True)
    for suffix in photos.SUFFIXES:
        picture(0, 0).save(folder / f"a{suffix}")
    (folder / "b.heic").write_bytes(b"")
    (folder / "gone.png").symlink_to(tmp_path / "nowhere.png")
    (tmp_path / "elsewhere").mkdir()
    picture(0, 1).save(tmp_path / "elsewhere" / "c.png")
    (folder / "more").symlink_to(tmp_path / "elsewhere")
    (folder / "loop").symlink_to(folder)
    files, labels = photos.list_images(tmp_path / "set", ["class0"])
    assert len(files) == len(photos.SUFFIXES) + 1 == len(labels)
    told = "left out what is no image by its name: 1 .heic, 1 dangling links"
    assert told in capsys.readouterr().err


def test_flat_validation_images_and_kaggles_archive(tmp_path):
    root = photographs(tmp_path, "ILSVRC/Data/CLS-LOC")
    for given in (tmp_path, *root.parents[:2], root):
        assert photos.find_folder("imagenet", given) == root
    for file in list((root / "val").rglob("*.png")):
        file.rename(root / "val" / f"{file.parent.name}-{file.name}")
    for folder in (root / "val").glob("class*"):
        if folder.is_dir():
            folder.rmdir()
    with pytest.raises(DataError, match="val: the images lie flat; move each into the folder of"):
        photos.class_folders("imagenet", root)
