"""What users hand in by mistake: one line that names what, where and what to do, exit code 1,
nothing written over.

Here through the command line and across modules; what belongs to one module is also tested beside
it."""

import contextlib
import json
import os
import shutil
import struct
import tempfile
import zlib
from pathlib import Path

import pytest
import torch
from PIL import Image

from tests.datasets import TINY, tiny
from tests.networks import small
from tests.photographs import listing, photographs, picture
from zfrepro import data, deconvnet, device, gallery, networks, occlusion, records, rules
from zfrepro.cli import main
from zfrepro.data import DataError, photos
from zfrepro.data.transforms import mean_image, stored_size
from zfrepro.deconvnet import Units
from zfrepro.weights import Trained, save_weights

pytestmark = pytest.mark.usefixtures("own_places")


def training(root, out="run", **changes) -> list[str]:
    options = TINY | {"dataset": "imagenet", "epochs": 1, "batch": 4} | changes
    words = [part for k, v in options.items() for part in (f"--{k.replace('_', '-')}", str(v))]
    return ["train", "--data", str(root), "--out", str(out), "--device", "cpu", "--quiet", *words]


def refused(line: list[str], capsys, *parts: str) -> None:
    """One line on standard error with all of `parts`, and exit code 1."""
    capsys.readouterr()
    assert main(line) == 1
    *bars, error, end = capsys.readouterr().err.split("\n")
    assert (
        error.startswith(f"zfrepro {line[0]}: ") and not end and all("%|" in bar for bar in bars)
    ), error
    for part in parts:
        assert part in error, error


# --- folders of photographs ----------------------------------------------------------------------


def broken(kind: str, root: Path) -> tuple[str, ...]:
    """Makes a folder that cannot be used; what the message must name."""
    if kind == "missing":
        return str(root), "no imagenet/train/CLASS/ and imagenet/val/CLASS/", "--download"
    if kind == "empty":
        (root / "imagenet" / "train").mkdir(parents=True)
        (root / "imagenet" / "val").mkdir()
        return str(root / "imagenet" / "train"), "must lie in train/CLASS/"
    if kind == "nested too deep":
        folder = photographs(root / "imagenet")
        return str(root), "no imagenet/train/CLASS/", str(folder.name)
    folder = photographs(root)
    file = folder / "train" / "class1" / "0.png"
    if kind == "not nested":
        for name in ("class0", "class2"):
            shutil.rmtree(folder / "train" / name)
        file.rename(folder / "train" / "0.png")
        shutil.rmtree(folder / "train" / "class1")
        return str(folder / "train"), "must lie in train/CLASS/"
    if kind == "an empty class":
        shutil.rmtree(folder / "val" / "class2")
        (folder / "val" / "class2").mkdir()
        return str(folder / "val" / "class2"), "no images", "each class needs at least one"
    if kind == "truncated":
        file.write_bytes(file.read_bytes()[:300])
    if kind == "no image":
        file.write_text("<html>404</html>")
    return (
        str(file),
        "cannot be decoded",
        "replace or remove it, or skip such files with --skip-damaged",
    )


KINDS = "missing, empty, nested too deep, not nested, an empty class, truncated, no image"


@pytest.mark.parametrize("kind", KINDS.split(", "))
def test_a_folder_that_cannot_be_used_stops_every_command_and_nothing_changes(
    kind, tmp_path, capsys
):
    parts = broken(kind, tmp_path / "photos")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "weights.safetensors").write_text("somebody's")
    recipe, world = tiny(), torch.zeros(3, stored_size(64), stored_size(64))
    save_weights(
        tmp_path / "a.safetensors",
        recipe.network(3),
        tiny(dataset="imagenet"),
        ("a", "b", "c"),
        world,
    )
    before = listing(tmp_path)
    root = str(tmp_path / "photos")
    refused(["data", "imagenet", "--data", root, "--image-size", "28"], capsys, *parts)
    refused(training(root), capsys, *parts)
    refused(["eval", "a.safetensors", "--data", root], capsys, *parts)
    after = listing(tmp_path)
    assert after.pop(os.path.join("run", ".lock")) and after == before


def test_an_image_too_large_for_memory_is_refused_by_its_header(tmp_path, capsys):
    bad = photographs(tmp_path / "photos") / "train" / "class0" / "0.png"
    head = b"IHDR" + struct.pack(">2I5B", 20_000, 20_000, 8, 2, 0, 0, 0)  # a GB of pixels
    whole = bad.read_bytes()
    bad.write_bytes(whole[:12] + head + struct.pack(">I", zlib.crc32(head)) + whole[33:])
    line = ["data", "imagenet", "--data", str(tmp_path / "photos"), "--image-size", "28"]
    refused(line, capsys, str(bad), "exceeds limit", "--skip-damaged")


# --- one damaged photograph among many -----------------------------------------------------------


@pytest.fixture
def one_bad(tmp_path):
    """Photographs of which one is a JPEG cut short, and its file."""
    folder = photographs(tmp_path / "photos", train=8)
    bad = folder / "train" / "class1" / "cut.jpeg"
    picture(1, 99, 64, 64).save(bad)
    bad.write_bytes(bad.read_bytes()[:700])
    return bad


def test_a_damaged_photograph_is_skipped_counted_and_named(one_bad, tmp_path, capsys, monkeypatch):
    root = str(tmp_path / "photos")
    line = ["data", "imagenet", "--data", root, "--image-size", "28"]
    refused(line, capsys, f"{one_bad}: cannot be decoded", "--skip-damaged")
    assert main([*line, "--skip-damaged"]) == 0
    said = capsys.readouterr()
    assert "imagenet train: 24 images" in said.out and "imagenet val: 6 images" in said.out
    told = [text for text in said.err.splitlines() if "skipped" in text]
    assert len(told) == 1 and told[0].startswith(
        f"imagenet train: skipped 1 damaged of 25 images: {one_bad} (image file"
    )

    decode, again = photos.decode, []
    monkeypatch.setattr(
        photos, "decode", lambda file, size: again.append(file) or decode(file, size)
    )
    monkeypatch.setenv("ZFREPRO_SKIP_DAMAGED", "1")  # for pages and for commands without the option
    found = data.load("imagenet", 28, root=root, progress=False)
    assert not again and found.skipped == ("train/class1/cut.jpeg",)
    assert "skipped 1 damaged" in capsys.readouterr().err  # said each time
    assert found.train.labels.bincount().tolist() == [8, 8, 8]
    one_bad.rename(tmp_path / "cut.jpeg")
    plain = data.load("imagenet", 28, root=root, progress=False, skip_damaged=False)
    assert torch.equal(plain.train.images, found.train.images) and torch.equal(
        plain.train.labels, found.train.labels
    )

    picture(1, 99, 64, 64).save(one_bad)  # mended: looked at again
    found = data.load("imagenet", 28, root=root, progress=False)
    assert (
        len(found.train) == 25 and found.skipped == () and "skipped" not in capsys.readouterr().err
    )


def test_training_says_what_it_left_out(one_bad, tmp_path, capsys):
    line = training(tmp_path / "photos")
    refused(line, capsys, f"{one_bad}: cannot be decoded")
    assert main([*line, "--skip-damaged"]) == 0
    assert "skipped 1 damaged of 25 images" in capsys.readouterr().err
    record = records.read_json(tmp_path / "run" / "record.json")
    assert record["dataset"]["train"] == 24 and record["dataset"]["skipped"] == [
        "train/class1/cut.jpeg"
    ]
    assert record["command"].endswith(" --skip-damaged")
    weights = str(tmp_path / "run" / "weights.safetensors")
    refused(["eval", weights, "--data", str(tmp_path / "photos")], capsys, str(one_bad))
    assert main(["eval", weights, "--data", str(tmp_path / "photos"), "--skip-damaged"]) == 0


def test_many_damaged_photographs_make_one_line(one_bad, tmp_path, capsys):
    for i in range(4):
        one_bad.with_name(f"{i}.png").write_bytes(b"")
    data.load("imagenet", 28, root=tmp_path / "photos", progress=False, skip_damaged=True)
    error = capsys.readouterr().err
    assert (
        "skipped 5 damaged of 25 images" in error
        and error.endswith("; and 2 more\n")
        and error.count("\n") == 1
    )


@pytest.mark.parametrize("content", ["", "[]", '{"a": 1', '["class1/cut.jpeg"]'])
def test_a_damaged_list_of_damaged_files_is_made_again(one_bad, tmp_path, content):
    data.load("imagenet", 28, root=tmp_path / "photos", progress=False, skip_damaged=True)
    (kept,) = (tmp_path / "cache").rglob("*.damaged.json")
    assert list(json.loads(kept.read_text())) == ["class1/cut.jpeg"]
    kept.write_text(content)
    found = data.load("imagenet", 28, root=tmp_path / "photos", progress=False, skip_damaged=True)
    assert found.skipped == ("train/class1/cut.jpeg",) and list(json.loads(kept.read_text())) == [
        "class1/cut.jpeg"
    ]


def test_a_class_or_a_set_without_one_sound_photograph_is_refused(one_bad, tmp_path):
    files = sorted(one_bad.parent.iterdir())
    for file in files:
        file.write_bytes(b"")
    with pytest.raises(
        DataError, match="class1: none of its images can be decoded; each class needs one"
    ):
        data.load("imagenet", 28, root=tmp_path / "photos", progress=False, skip_damaged=True)
    for file in one_bad.parents[1].rglob("*.png"):
        file.write_bytes(b"")
    with pytest.raises(DataError, match="train: none of its 25 images can be decoded"):
        data.load("imagenet", 28, root=tmp_path / "photos", progress=False, skip_damaged=True)


@pytest.mark.parametrize("failure", [PermissionError(13, "Permission denied"), MemoryError()])
def test_what_a_failing_machine_cannot_read_is_not_listed_as_damaged(
    one_bad, tmp_path, monkeypatch, failure
):
    open_image = Image.open

    def failing(file, *rest):
        if Path(file).name == "3.png":
            raise failure
        return open_image(file, *rest)

    monkeypatch.setattr(Image, "open", failing)
    with pytest.raises(DataError, match="3.png: cannot be decoded"):
        data.load("imagenet", 28, root=tmp_path / "photos", progress=False, skip_damaged=True)
    assert listing(tmp_path / "cache") == {}
    monkeypatch.undo()
    monkeypatch.setenv("ZFREPRO_CACHE", str(tmp_path / "cache"))
    found = data.load("imagenet", 28, root=tmp_path / "photos", progress=False, skip_damaged=True)
    assert found.skipped == ("train/class1/cut.jpeg",)


# --- weights -------------------------------------------------------------------------------------


def test_a_measurement_on_other_classes_than_the_networks_is_refused(tmp_path, capsys):
    for part in ("train", "val"):
        for wnid in photos.WNIDS["imagenet20"]:
            (tmp_path / "photos" / "imagenet20" / part / wnid).mkdir(parents=True)
            picture(0, 1).save(tmp_path / "photos" / "imagenet20" / part / wnid / "a.png")
    mean, names = torch.zeros(3, stored_size(64), stored_size(64)), tuple("abcdefghij")
    for arch in ("zfnet", "krizhevsky"):
        recipe = tiny(arch=arch, dataset="imagenet20")
        file = tmp_path / "results" / "networks" / f"imagenet20-{arch}.safetensors"
        sha = save_weights(file, recipe.network(10), recipe, names, mean)
        records.write_json(file.with_suffix(".json"), {"weights_sha256": sha})
    line = f"measure gallery --dataset imagenet20 --data {tmp_path}/photos --quiet".split()
    refused(line, capsys, "imagenet20 has 20 classes, its networks know 10", "trained on")
    assert not (tmp_path / "results" / "gallery").exists()


# --- layers, maps, places, sizes, NaN ------------------------------------------------------------

NETWORK = small(networks.zfnet(), 96)
IMAGE = torch.randn(2, 3, 96, 96, generator=torch.Generator().manual_seed(0))


def unit(number: int = 0, row: int = 1, column: int = 1, count: int = 2) -> Units:
    return Units(*(torch.full((count,), i) for i in (number, row, column)))


def in_general(network, images, layer: str, units: Units):
    return rules.project(lambda x: network.features(x, [layer])[layer], images, units)


PROJECTS = [deconvnet.project, deconvnet.project_crops, in_general]


@pytest.mark.parametrize("project", PROJECTS, ids=["whole", "crops", "general"])
@pytest.mark.parametrize(
    ("units", "says"),
    [
        (unit(999), "map 999: there are 48, counted from 0"),
        (unit(-1), "map -1: there are 48"),
        (unit(0, 5), "row 5: there are 5"),
        (unit(0, 1, -2), "column -2: there are 5"),
        (unit(count=1), "2 images"),
        (Units(torch.zeros(2, dtype=torch.int64)), "a row and a column|row and column"),
    ],
)
def test_units_that_do_not_exist(project, units, says):
    with pytest.raises(ValueError, match=says):
        project(NETWORK, IMAGE, "conv3", units)


@pytest.mark.parametrize("project", PROJECTS, ids=["whole", "crops", "general"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_pixels_that_are_not_numbers_are_not_projected(project, value):
    spoilt = IMAGE.clone()
    spoilt[1, :, 30:60, 30:60] = value
    with pytest.raises(ValueError, match="(conv3|output): the unit of image 1 is not finite"):
        project(NETWORK, spoilt, "conv3", unit(0, 2, 2))


def test_pixels_that_are_not_numbers_are_not_searched_nor_covered():
    spoilt = IMAGE.clone()
    spoilt[1, 0, 40, 40] = torch.nan
    with pytest.raises(
        ValueError, match="conv1: activations are not finite; the images or the weights hold NaN"
    ):
        gallery.top_units(NETWORK, [spoilt], progress=False)
    with pytest.raises(ValueError, match="image 1: holds NaN or infinite pixels"):
        occlusion.occlude(NETWORK, spoilt, patch=20, stride=40, progress=False)


@pytest.mark.parametrize(
    ("images", "says"),
    [
        (torch.zeros(1, 3, 5, 5), "zfnet: an image of 5 px is too small, conv1 sees 5 px"),
        (torch.zeros(1, 3, 20, 96), "zfnet: an image of 20 px is too small, conv2 sees 4 px"),
        (
            torch.zeros(3, 96, 96),
            r"images are torch.float32 \(3, 96, 96\): wanted float \(B, 3, H, W\)",
        ),
        (torch.zeros(1, 1, 96, 96), r"\(1, 1, 96, 96\): wanted"),
        (
            torch.zeros(1, 3, 96, 96, dtype=torch.uint8),
            "torch.uint8.*as `Trained.preprocess` makes them",
        ),
    ],
    ids=["tiny", "thin", "no batch", "grey", "uint8"],
)
def test_images_that_do_not_fit_the_network(images, says):
    calls = (
        lambda: NETWORK(images),
        lambda: NETWORK.features(images, ["conv3"]),
        lambda: deconvnet.project(NETWORK, images, "conv3", unit(count=len(images))),
        lambda: deconvnet.project_crops(NETWORK, images, "conv3", unit(count=len(images))),
    )
    for call in calls:
        with pytest.raises(ValueError, match=says):
            call()


def test_unknown_layers_maps_and_options_of_the_gallery_and_of_occlusion():
    top = gallery.top_units(NETWORK, [IMAGE], ["conv1"], progress=False)["conv1"]
    answer = occlusion.occlude(
        NETWORK, IMAGE, patch=30, stride=60, layer="convs.conv5", progress=False
    )
    for call, says in (
        (lambda: gallery.top_units(NETWORK, [IMAGE], ["conv9"]), "conv9.*choose among conv1"),
        (lambda: gallery.top_units(NETWORK, [IMAGE], k=0), "k 0: must be at least 1"),
        (
            lambda: gallery.projections(NETWORK, lambda i: IMAGE[i], top, [16]),
            "conv1: map 16: there are 16",
        ),
        (lambda: gallery.patches(NETWORK, IMAGE, top, [-1]), "conv1: map -1: there are 16"),
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
    assert (
        main(training(readable / "photos", readable / "first")) == 0
    )  # imports what it needs, as the user may
    (readable / "cache").mkdir()
    (readable / "run").mkdir()
    monkeypatch.setenv("ZFREPRO_CACHE", str(readable / "cache"))
    (readable / "cache").chmod(0o555)
    (readable / "run").chmod(0o555)
    before = listing(readable)
    line = ["data", "imagenet", "--data", str(readable / "photos"), "--image-size", "28"]
    with as_nobody():
        refused(line, capsys, "Permission denied", str(readable / "cache"))
        refused(
            training(readable / "photos", readable / "run"),
            capsys,
            "Permission denied",
            str(readable / "run"),
        )
        with pytest.raises(PermissionError, match=str(readable / "run" / "a.json")):
            records.write_json(readable / "run" / "a.json", {})
    assert listing(readable) == before


# --- a GPU without memory ------------------------------------------------------------------------


class Crowded(torch.nn.Module):
    """A classifier that has memory for a few images only, as a GPU would."""

    def __init__(self, network, most: int):
        super().__init__()
        self.network, self.most, self.seen = network, most, []

    def forward(self, x):
        self.seen.append(len(x))
        if len(x) > self.most:
            raise torch.OutOfMemoryError(
                "CUDA out of memory. Tried to allocate 2.00 GiB.\nGPU 0 has a total of ..."
            )
        return self.network(x)


def test_batches_are_halved_where_memory_is_short_and_say_so(capsys):
    seen = []

    def run(part):
        seen.append(len(part))
        if len(part) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return part * 2

    batches = [torch.arange(i, i + 8) for i in (0, 8, 16)] + [torch.arange(24, 26)]
    assert torch.equal(torch.cat(list(device.with_oom_backoff(run, batches))), 2 * torch.arange(26))
    assert seen == [8, 4, 2, 2, 2, 2] + [2] * 9  # once small, small from then on
    assert capsys.readouterr().err.splitlines() == [
        "out of GPU memory with 8 images at once: going on with 4",
        "out of GPU memory with 4 images at once: going on with 2",
    ]
    with pytest.raises(
        RuntimeError,
        match="out of GPU memory with one image at a time; free some, or use --device cpu",
    ):
        list(device.with_oom_backoff(lambda part: Crowded(None, 0)(part), [torch.zeros(2)]))


@pytest.mark.parametrize("most", [1, 2])
def test_occlusion_goes_on_with_smaller_batches(most, capsys):
    network = small(networks.zfnet(), 64)
    images = torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    settings = {"patch": 20, "stride": 22, "batch": 8, "progress": False}
    whole = occlusion.occlude(network, images, layer="convs.conv5", **settings)
    found = occlusion.occlude(
        Crowded(network, most), images, layer="network.convs.conv5", **settings
    )
    for name in ("probabilities", "clean", "activity", "clean_activity"):
        torch.testing.assert_close(getattr(found, name), getattr(whole, name))
    assert "images at once: going on with 1" in capsys.readouterr().err


def test_the_gallery_and_the_evaluation_go_on_with_smaller_batches(capsys, monkeypatch):
    network = small(networks.zfnet(), 96)
    stored = torch.randint(
        0, 256, (10, 3, 110, 110), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    trained = Trained(network, tiny(image_size=96), tuple("abcdefghij"), mean_image(stored))
    images = trained.preprocess(stored)

    def everything():
        top = gallery.top_units(network, images.split(8), ["conv2", "conv5"], progress=False)
        pixels = gallery.projections(network, lambda i: images[i], top["conv2"], [3, 1])
        return (
            top["conv5"].values,
            top["conv5"].images,
            pixels,
            trained.predict_proba(stored),
            trained.predict_proba(stored, ten=True),
        )

    whole = everything()
    features, forward = network.features, network.forward

    def crowded(run):
        def smaller(x, *rest):
            if len(x) > 3:
                raise torch.OutOfMemoryError("CUDA out of memory.")
            return run(x, *rest)

        return smaller

    monkeypatch.setattr(network, "features", crowded(features))
    monkeypatch.setattr(network, "forward", crowded(forward))
    original = deconvnet.project_crops
    monkeypatch.setattr(
        deconvnet, "project_crops", lambda n, x, *rest: crowded(lambda x: original(n, x, *rest))(x)
    )
    for a, b in zip(everything(), whole, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
    assert "out of GPU memory with 8 images at once: going on with 4" in capsys.readouterr().err
