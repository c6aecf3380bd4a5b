"""Inputs that somebody spoilt: files edited by hand, odd options, folders, uploads, recipes.

Each is refused in one line that names what is wrong and what to do; nothing finished is lost."""

import io
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import diorama
from tests.command_line import refused, train_words
from tests.photographs import listing, photographs
from zfrepro import weights
from zfrepro.cli import main
from zfrepro.data import DataError
from zfrepro.explorers import load_user_images
from zfrepro.training import Recipe

CHECKPOINT, WEIGHTS = "checkpoint.safetensors", "weights.safetensors"


def train(out: str = "run", **changes) -> list[str]:
    return train_words(out=out, ema=0.9, **changes)


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A folder with photographs and a finished run on them."""
    folder = tmp_path_factory.mktemp("finished")
    photographs(folder / "photos")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("ZFREPRO_CACHE", str(folder / "cache"))
        assert main(train()) == 0
    return folder


@pytest.fixture
def place(finished, own_places, tmp_path) -> Path:
    """A copy of it to spoil, in which commands run."""
    return Path(shutil.copytree(finished, tmp_path, dirs_exist_ok=True))


def record(*path: str, to: Any) -> None:
    """Set one value of the run's record."""
    file = Path("run/record.json")
    content = part = json.loads(file.read_text())
    for key in path[:-1]:
        part = part[key]
    part[path[-1]] = to
    file.write_text(json.dumps(content))


def header(name: str, tensor: str = "", change: Callable = None, **values: Any) -> None:
    """Set values in the header of a file of the run, or change a tensor."""
    file = Path("run", name)
    with safe_open(file, "pt") as opened:
        told = json.loads(opened.metadata()["zfrepro"]) | values
    tensors = load_file(file)
    if tensor:
        tensors[tensor] = change(tensors[tensor]).contiguous()
    save_file(tensors, file, {"zfrepro": json.dumps(told)})


def write(name: str, content: bytes | str) -> None:
    file = Path(name)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content if isinstance(content, bytes) else content.encode())


def upload(name: str, content: bytes) -> Callable:
    found = weights.load_weights("run/weights.safetensors", device=torch.device("cpu"))
    return lambda: load_user_images(found, [(name, io.BytesIO(content))])


def coded(picture: Image.Image, kind: str) -> bytes:
    picture.save(stream := io.BytesIO(), kind)
    return stream.getvalue()


GREY = np.full((40, 40), 0.5, np.float32)
SHIP, BY_SEED, EVAL = ["ship", "run"], ["ship", "run", "--numbers-only"], ["eval", f"run/{WEIGHTS}"]
CASES: dict[str, tuple[Callable[[], Any], Any, list[str]]] = {
    # what spoils it, the command or call (or what the first returns), and what the line tells
    "an error of NaN": (
        lambda: record("errors", "one_crop", "top1_error", to=float("nan")),
        SHIP, ["record.json", "top1_error nan is no per cent", "--out folder of a `train`"],
    ),
    "a seed that climbs": (
        lambda: record("recipe", "seed", to="../../x"),
        BY_SEED, ["record.json", "seed '../../x': must be a whole number"],
    ),
    "a scale that is a folder": (
        lambda: record("scale", to="a/b"), BY_SEED, ["scale 'a/b' is none of paper, compact"],
    ),
    "a data set that is the root": (
        lambda: record("recipe", "dataset", to="/"), SHIP, ["'/'", "out of results/", "mend"],
    ),
    "a history of numbers": (
        lambda: record("history", to=[1, 2]), SHIP, ["its history is not of epochs"],
    ),
    "a recipe that is a list": (
        lambda: record("recipe", to=[]), SHIP, ["recipe is missing or of another type"],
    ),
    "a record in UTF-16": (
        lambda: write("run/record.json", "{}".encode("utf-16")), SHIP, ["not a whole record"],
    ),
    "a finished run with half a record": (
        lambda: write("run/record.json", '{"kind": '),
        train(), ["record.json", "once it is removed, this command writes it anew"],
    ),
    "a checkpoint's history of 3": (
        lambda: header(CHECKPOINT, history=3), train(), ["its history is missing", "remove it"],
    ),
    "a checkpoint with empty epochs": (
        lambda: header(CHECKPOINT, history=[{}]), train(), ["its history is not", "remove it"],
    ),
    "a checkpoint without a recipe": (
        lambda: header(CHECKPOINT, recipe=None), train(), [CHECKPOINT, "its recipe", "remove it"],
    ),
    "a checkpoint of -1 classes": (
        lambda: header(CHECKPOINT, classes=-1), train(), [CHECKPOINT, "its classes", "remove it"],
    ),
    "a checkpoint of a slow rate": (
        lambda: header(CHECKPOINT, rate="slow"), train(), [CHECKPOINT, "its rate", "remove it"],
    ),
    "a checkpoint with NaN": (
        lambda: header(CHECKPOINT, "network.convs.conv1.weight", lambda t: t * float("nan")),
        train(), ["conv1.weight is not finite", "remove it"],
    ),
    "a momentum that would be spread": (
        lambda: header(CHECKPOINT, "momentum.convs.conv1.weight", lambda t: t[:1, :1, :1, :1]),
        train(), ["conv1.weight has another shape", "remove it"],
    ),
    "a mean image of another size": (
        lambda: header(CHECKPOINT, "mean", lambda t: t[:, :5, :5]),
        train(), ["mean has another shape", "remove it"],
    ),
    "weights of an unknown network": (
        lambda: header(WEIGHTS, recipe={"arch": "vgg"}), EVAL, [WEIGHTS, "'vgg'", "train them"],
    ),
    "weights of no bytes": (lambda: write(f"run/{WEIGHTS}", b""), EVAL, ["train them again"]),
    "a record given for weights": (
        lambda: None, ["eval", "run/record.json"], ["run/record.json: not whole weights"],
    ),
    "a sweep's record without runs": (
        lambda: write("results/sweeps/ablation-diorama.json", '{"recipe": {}}'),
        ["sweep", "ablation"], ["ablation-diorama.json: not a whole record", "--fresh"],
    ),
    "a part that nothing measured": (
        lambda: None, ["measure", "gallery", "--only", "purity"], ["no record", "leave --only out"],
    ),
    "a part of a control that does not exist": (
        lambda: None, ["measure", "gallery", "--untrained", "--only", "typo"],
        ["diorama-untrained.json has no part typo"],
    ),
    "a record without parts": (
        lambda: write("results/gallery/diorama.json", '{"seconds": 3}'),
        ["measure", "gallery", "--only", "purity"], ["gallery/diorama.json", "without --only"],
    ),
    "runs that are nowhere": (
        lambda: None, ["measure", "evolution", "--runs", "nowhere"],
        ["--runs nowhere: no weights.safetensors there"],
    ),
    "weight decay beyond the weights": (
        lambda: None, train("new", weight_decay=1e30), ["weight_decay 1e+30", "lower it"],
    ),
    "a seed of 25 digits": (
        lambda: None, train("new", seed=10**25), ["seed 1", "below 2**32"],
    ),
    "units without end": (
        lambda: None, train("new", units=10**13), ["units 1", "at most 65,536"],
    ),
    "an image larger than memory": (
        lambda: None, ["data", "imagenet", "--data", "photos", "--image-size", "1000000"],
        ["image size 1000000: must be 1 to 4,096 px"],
    ),
    "a diorama too large to draw": (
        lambda: None, ["data", "diorama", "--image-size", "600"], ["600", "for 14 to 448 px"],
    ),
    "no classes": (lambda: None, ["table", "--classes", "0"], ["--classes 0: must be at least 1"]),
    "an --out that is a file": (
        lambda: write("taken", b""), train("taken"), ["'taken'", "choose another"],
    ),
    "a cache below a file": (
        lambda: (write("taken", b""), os.environ.update(ZFREPRO_CACHE="taken/cache")),
        ["data", "imagenet", "--data", "photos", "--image-size", "40"],
        ["taken/cache", "set ZFREPRO_CACHE to another folder"],
    ),
    "results below a file": (
        lambda: (write("taken", b""), os.environ.update(ZFREPRO_RESULTS="taken/results")),
        SHIP, ["taken/results", "choose another"],
    ),
    "a TIFF of floats": (
        lambda: write("photos/imagenet/val/class1/a.tif", coded(Image.fromarray(GREY), "TIFF")),
        ["data", "imagenet", "--data", "photos", "--image-size", "28"],
        ["class1/a.tif", "no fixed range", "save it with 8 or 16 bits"],
    ),
    "an uploaded web page": (
        lambda: upload("cat.jpg", b"<html>"), None, ["cat.jpg", "save it as JPEG or PNG"],
    ),
    "an uploaded TIFF of floats": (
        lambda: upload("a.tif", coded(Image.fromarray(GREY), "TIFF")), None, ["a.tif: cannot be"],
    ),
    "an uploaded photograph cut short": (
        lambda: upload("a.jpg", coded(Image.new("RGB", (300, 300), "red"), "JPEG")[:700]), None,
        ["a.jpg: cannot be read", "save it as JPEG or PNG"],
    ),
    "a recipe of half epochs": (
        lambda: lambda: Recipe(epochs=2.5), None, ["epochs 2.5: must be a whole number"],
    ),
    "a recipe of a rate in words": (
        lambda: lambda: Recipe(lr="fast"), None, ["lr 'fast': must be a number"],
    ),
    "an image size of True": (
        lambda: lambda: Recipe(image_size=True), None, ["image_size True: must be a whole number"],
    ),
    "a run without its checkpoint and record": (
        lambda: (os.remove(f"run/{CHECKPOINT}"), os.remove("run/record.json")),
        train(), ["run: holds a finished run", f"another --out, or remove {WEIGHTS}"],
    ),
    "a checkpoint of a billion classes": (
        lambda: header(CHECKPOINT, classes=10**9), train(), [CHECKPOINT, "classes", "remove it"],
    ),
    "a record without ten crops": (
        lambda: record("errors", "ten_crops", to={}), SHIP, ["its errors", "'top1_error'"],
    ),
    "a record without a hash": (
        lambda: record("weights_sha256", to=""), SHIP, ["weights_sha256 is empty or cut short"],
    ),
    "a record of no epochs": (lambda: record("history", to=[]), SHIP, ["its history", "empty"]),
    "a record of an unknown data set": (
        lambda: record("dataset", to={}), SHIP, ["of its dataset, its name is missing"],
    ),
    "a shipped record that cannot be read": (
        lambda: write("results/networks/imagenet-zfnet.json", "[]"),
        SHIP, ["imagenet-zfnet.json: its error cannot be read", "--replace"],
    ),
    "a folder in the place of a record": (
        lambda: os.makedirs("results/networks/imagenet-zfnet.json"),
        SHIP, ["imagenet-zfnet.json", "a folder has the name of a file"],
    ),
    "results where nothing can be made": (
        lambda: os.environ.update(ZFREPRO_RESULTS="/proc/results"),
        SHIP, ["/proc/results", "choose another folder"],
    ),
    "weights of other classes than the diorama's": (
        lambda: None, [*EVAL, "--dataset", "diorama"], [WEIGHTS, "knows other classes"],
    ),
    "a measurement on a misspelt data set": (
        lambda: None, ["measure", "gallery", "--dataset", "imagnet"],
        ["unknown data set 'imagnet'; there are: diorama"],
    ),
    "a data set without a name": (
        lambda: None, train("new", dataset=""), ["unknown data set ''; there are: diorama"],
    ),
    "a folder named without ./": (
        lambda: None, train("new", dataset="photos"), ["unknown data set 'photos'", "./photos"],
    ),
    "a folder that is half a data set": (
        lambda: None, ["data", "./photos/imagenet/train"],
        ["imagenet/train: no train/CLASS/ and val/CLASS/ inside"],
    ),
    "a table of infinite width": (
        lambda: None, ["table", "--width", "inf"], ["width inf: must be a number"],
    ),
    "a table of a billion pixels": (
        lambda: None, ["table", "--image-size", "1000000000"], ["at most 4,096"],
    ),
    "a measurement of a negative seed": (
        lambda: None, ["measure", "gallery", "--seed", "-1"], ["--seed -1: must be at least 0"],
    ),
    "seeds for years": (
        lambda: None, ["sweep", "ablation", "--seeds", "1000000000"], ["must be at most 100"],
    ),
    "a data set that is a file": (
        lambda: write("photos.zip", b"PK"), train("new", dataset="./photos.zip"),
        ["photos.zip: no such folder", "train/CLASS/ and val/CLASS/"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_spoilt_input_is_one_line_and_nothing_is_lost(name, place, monkeypatch, capsys):
    spoil, called, words = CASES[name]
    for variable in ("ZFREPRO_CACHE", "ZFREPRO_RESULTS"):
        monkeypatch.setenv(variable, os.environ[variable])  # put back, whatever the case sets
    made = spoil()
    before = listing(place)
    drawn: list = []
    monkeypatch.setattr(diorama, "split", lambda *_, **__: drawn.append(1))
    if called:
        refused(called, capsys, *words)
    else:
        with pytest.raises((DataError, ValueError)) as error:
            made()
        line = str(error.value)
        assert "\n" not in line and all(word in line for word in words), line
    assert not drawn  # told before minutes of drawing
    after = listing(place)
    assert [file for file in before if before[file] != after.get(file)] in ([], ["run/.lock"])
