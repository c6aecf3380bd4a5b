"""What users hand in by mistake: one line that names what, where and what to do, exit code 1,
nothing written over.

Here through the command line and across modules; what belongs to one module is also tested beside
it."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from tests.command_line import refused, train_words
from tests.datasets import tiny
from tests.networks import small
from tests.photographs import listing, photographs, picture
from zfrepro import data, deconvnet, device, gallery, networks, occlusion, records, rules
from zfrepro.cli import main
from zfrepro.data import DataError, photos
from zfrepro.data.transforms import mean_image
from zfrepro.deconvnet import Units
from zfrepro.weights import Trained

pytestmark = pytest.mark.usefixtures("own_places")


# --- one damaged photograph among many -----------------------------------------------------------


@pytest.fixture
def one_bad(tmp_path):
    """Photographs of which one is a JPEG cut short, and its file."""
    folder = photographs(tmp_path / "photos", train=8)
    bad = folder / "train" / "class1" / "cut.jpeg"
    picture(1, 99, 64, 64).save(bad)
    bad.write_bytes(bad.read_bytes()[:700])
    return bad


def sound(tmp_path, **more) -> data.Dataset:
    more = {"skip_damaged": True} | more
    return data.load("imagenet", 28, root=tmp_path / "photos", progress=False, **more)


CUT = ("train/class1/cut.jpeg",)


def test_a_damaged_photograph_is_skipped_counted_and_named(one_bad, tmp_path, capsys, monkeypatch):
    line = ["data", "imagenet", "--data", str(tmp_path / "photos"), "--image-size", "28"]
    refused(line, capsys, f"{one_bad}: cannot be decoded", "--skip-damaged")
    assert main([*line, "--skip-damaged"]) == 0
    said = capsys.readouterr()
    assert "imagenet train: 24 images" in said.out and "imagenet val: 6 images" in said.out
    (told,) = [text for text in said.err.splitlines() if "skipped" in text]
    assert told.startswith(f"imagenet train: skipped 1 damaged of 25 images: {one_bad} (image file")

    decode, again = photos.decode, []
    monkeypatch.setattr(photos, "decode", lambda *of: again.append(of) or decode(*of))
    monkeypatch.setenv("ZFREPRO_SKIP_DAMAGED", "1")  # for pages and for commands without the option
    skipping = sound(tmp_path, skip_damaged=False)
    assert not again and skipping.skipped == CUT
    assert "skipped 1 damaged" in capsys.readouterr().err  # said each time
    one_bad.rename(tmp_path / "cut.jpeg")
    without = sound(tmp_path, skip_damaged=False).train
    assert torch.equal(without.images, skipping.train.images)
    assert torch.equal(without.labels, skipping.train.labels)

    picture(1, 99, 64, 64).save(one_bad)  # mended: looked at again
    mended = sound(tmp_path)
    assert len(mended.train) == 25 and mended.skipped == ()
    assert "skipped" not in capsys.readouterr().err

    for i in range(5):
        one_bad.with_name(f"{i}.png").write_bytes(b"")
    sound(tmp_path)
    error = capsys.readouterr().err
    assert "skipped 5 damaged of 25 images" in error and error.endswith("; and 2 more\n")
    assert error.count("\n") == 1


def test_training_says_what_it_left_out(one_bad, tmp_path, capsys):
    line = train_words(tmp_path / "photos")
    assert main([*line, "--skip-damaged"]) == 0
    assert "skipped 1 damaged of 25 images" in capsys.readouterr().err
    record = records.read_json(tmp_path / "run" / "record.json")
    assert record["dataset"]["train"] == 24 and record["dataset"]["skipped"] == list(CUT)
    assert record["command"].endswith(" --skip-damaged")
    line = ["eval", str(tmp_path / "run" / "weights.safetensors"), "--data", f"{tmp_path}/photos"]
    refused(line, capsys, str(one_bad))
    assert main([*line, "--skip-damaged"]) == 0


def test_a_class_or_a_set_without_one_sound_photograph_is_refused(one_bad, tmp_path):
    for folder, told in (
        (one_bad.parent, "class1: none of its images can be decoded; each class needs one"),
        (one_bad.parents[1], "train: none of its 25 images can be decoded"),
    ):
        for file in folder.rglob("*.*"):
            file.write_bytes(b"")
        with pytest.raises(DataError, match=told):
            sound(tmp_path)


@pytest.mark.parametrize("failure", [PermissionError(13, "Permission denied"), MemoryError()])
def test_what_a_failing_machine_cannot_read_is_not_listed_as_damaged(
    one_bad, tmp_path, monkeypatch, failure
):
    open_image = Image.open

    def failing(file, *rest):
        if Path(file).name == "3.png":
            raise failure
        return open_image(file, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(Image, "open", failing)
        with pytest.raises(DataError, match="3.png: cannot be decoded"):
            sound(tmp_path)
    assert listing(tmp_path / "cache") == {}
    assert sound(tmp_path).skipped == CUT


# --- layers, maps, places, sizes, NaN ------------------------------------------------------------

NETWORK = small(networks.zfnet(), 96)
IMAGE = torch.randn(2, 3, 96, 96, generator=torch.Generator().manual_seed(0))


def unit(number: int = 0, row: int = 1, column: int = 1, count: int = 2) -> Units:
    return Units(*(torch.full((count,), i) for i in (number, row, column)))


def in_general(network, images, layer: str, units: Units):
    return rules.project(lambda x: network.features(x, [layer])[layer], images, units)


PROJECTS = [deconvnet.project, deconvnet.project_crops, in_general]


def spoilt(value: float) -> torch.Tensor:
    images = IMAGE.clone()
    images[1, :, 30:60, 30:60] = value
    return images


@pytest.mark.parametrize("project", PROJECTS, ids=["whole", "crops", "general"])
@pytest.mark.parametrize(
    ("images", "units", "says"),
    [
        (IMAGE, unit(999), "map 999: there are 48, counted from 0"),
        (IMAGE, unit(0, 5), "row 5: there are 5"),
        (IMAGE, unit(0, 1, -2), "column -2: there are 5"),
        (IMAGE, unit(count=1), "2 images"),
        (IMAGE, Units(torch.zeros(2, dtype=torch.int64)), "a row and a column|row and column"),
        (spoilt(float("nan")), unit(0, 2, 2), "(conv3|output): the unit of image 1 is not finite"),
    ],
)
def test_units_that_do_not_exist_and_pixels_that_are_no_numbers(project, images, units, says):
    with pytest.raises(ValueError, match=says):
        project(NETWORK, images, "conv3", units)


@pytest.mark.parametrize(
    ("images", "says"),
    [
        (torch.zeros(1, 3, 5, 5), "zfnet: an image of 5 px is too small, conv1 sees 5 px"),
        (torch.zeros(1, 3, 20, 96), "zfnet: an image of 20 px is too small, conv2 sees 4 px"),
        (IMAGE[0], r"images are torch.float32 \(3, 96, 96\): wanted float \(B, 3, H, W\)"),
        (IMAGE[:, :1], r"\(2, 1, 96, 96\): wanted"),
        (IMAGE.byte(), "torch.uint8.*as `Trained.preprocess` makes them"),
    ],
    ids=["tiny", "thin", "no batch", "grey", "uint8"],
)
def test_images_that_do_not_fit_the_network(images, says):
    units = unit(count=len(images))
    for call in (
        lambda: NETWORK(images),
        lambda: NETWORK.features(images, ["conv3"]),
        lambda: deconvnet.project(NETWORK, images, "conv3", units),
        lambda: deconvnet.project_crops(NETWORK, images, "conv3", units),
    ):
        with pytest.raises(ValueError, match=says):
            call()


def test_unknown_layers_maps_and_options_of_the_gallery_and_of_occlusion():
    top = gallery.top_units(NETWORK, [IMAGE], ["conv1"], progress=False)["conv1"]
    square = {"patch": 30, "stride": 60, "progress": False}
    answer = occlusion.occlude(NETWORK, IMAGE, layer="convs.conv5", **square)
    for call, says in (
        (lambda: gallery.top_units(NETWORK, [IMAGE], ["conv9"]), "conv9.*choose among conv1"),
        (lambda: gallery.top_units(NETWORK, [IMAGE], k=0), "k 0: must be at least 1"),
        (lambda: gallery.top_units(NETWORK, [spoilt(torch.nan)]), "conv1: activations are not"),
        (lambda: gallery.projections(NETWORK, IMAGE, top, [16]), "conv1: map 16: there are 16"),
        (lambda: gallery.patches(NETWORK, IMAGE, top, [-1]), "conv1: map -1: there are 16"),
        (lambda: occlusion.occlude(NETWORK, spoilt(torch.nan), **square), "image 1: holds NaN"),
        (lambda: answer.of(torch.tensor([0, 10])), "class 10: there are 10"),
        (lambda: answer.activity_of(torch.tensor([0, 99])), "map 99: there are 32"),
    ):
        with pytest.raises(ValueError, match=says):
            call()


# --- disks and permissions -----------------------------------------------------------------------


@contextlib.contextmanager
def as_nobody():
    """Without the right of the superuser to write everywhere."""
    if os.geteuid():
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def readable():
    """A folder that everyone may read; pytest's own are the user's alone."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    folder.chmod(0o755)
    shutil.rmtree(folder)


def test_without_permission_to_write(readable, capsys, monkeypatch):
    photographs(readable / "photos")
    monkeypatch.chdir(readable)
    # imports what it needs, as the user may
    assert main(train_words(readable / "photos", readable / "first")) == 0
    cache, run = readable / "cache", readable / "run"
    for folder in (cache, run):
        folder.mkdir(mode=0o555)
    monkeypatch.setenv("ZFREPRO_CACHE", str(cache))
    before = listing(readable)
    line = ["data", "imagenet", "--data", str(readable / "photos"), "--image-size", "28"]
    with as_nobody():
        refused(line, capsys, "Permission denied", str(cache))
        refused(train_words(readable / "photos", run), capsys, "Permission denied", str(run))
        with pytest.raises(PermissionError, match=str(run / "a.json")):
            records.write_json(run / "a.json", {})
    assert listing(readable) == before

    locked = readable / "photos" / "imagenet" / "train" / "class1" / "more"
    locked.mkdir(0o000)  # images in it would be missing unseen
    with as_nobody():
        refused(line, capsys, "Permission denied", str(locked), "change its permissions")
    locked.chmod(0o755)


# --- a GPU without memory ------------------------------------------------------------------------


def crowded(run: Callable, most: int, sizes: list | None = None) -> Callable:
    """Return `run`, with memory for a few images only, as a GPU would have it."""

    def smaller(x, *rest):
        if sizes is not None:
            sizes.append(len(x))
        if len(x) > most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nGPU 0")
        return run(x, *rest)

    return smaller


def test_batches_are_halved_where_memory_is_short_and_say_so(capsys):
    sizes = []
    run = crowded(lambda part: part * 2, 3, sizes)
    batches = [torch.arange(i, i + 8) for i in (0, 8, 16)] + [torch.arange(24, 26)]
    assert torch.equal(torch.cat(list(device.with_oom_backoff(run, batches))), 2 * torch.arange(26))
    assert sizes == [8, 4, 2, 2, 2, 2] + [2] * 9  # once small, small from then on
    assert capsys.readouterr().err.splitlines() == [
        f"out of GPU memory with {n} images at once: going on with {n // 2}" for n in (8, 4)
    ]
    with pytest.raises(RuntimeError, match="one image at a time; free some, or use --device cpu"):
        list(device.with_oom_backoff(crowded(run, 0), [torch.zeros(2)]))


def test_instruments_go_on_with_smaller_batches(capsys, monkeypatch):
    network, generator = small(networks.zfnet(), 96), torch.Generator().manual_seed(0)
    stored = torch.randint(0, 256, (10, 3, 110, 110), dtype=torch.uint8, generator=generator)
    trained = Trained(network, tiny(image_size=96), tuple("abcdefghij"), mean_image(stored))
    images = trained.preprocess(stored)

    def everything():
        top = gallery.top_units(network, images.split(8), ["conv2", "conv5"], progress=False)
        pixels = gallery.projections(network, images, top["conv2"], [3, 1])
        scores = [trained.predict_proba(stored, ten=ten) for ten in (False, True)]
        covered = occlusion.occlude(network, images[:3], patch=30, stride=33, progress=False)
        return top["conv5"].values, top["conv5"].images, pixels, *scores, covered.probabilities

    whole, project = everything(), deconvnet.project_crops

    def crowded_project(network, images, *rest):
        return crowded(lambda part: project(network, part, *rest), 3)(images)

    monkeypatch.setattr(deconvnet, "project_crops", crowded_project)
    for name in ("features", "forward"):
        monkeypatch.setattr(network, name, crowded(getattr(network, name), 3))
    for a, b in zip(everything(), whole, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
    assert "out of GPU memory with 8 images at once: going on with 4" in capsys.readouterr().err
