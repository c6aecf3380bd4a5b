"""Inputs that somebody spoilt: files edited by hand, odd options and folders.

Each is refused in one line that names what is wrong and what to do; nothing finished is lost."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import diorama
from tests.command_line import refused, train_words
from tests.photographs import listing, photographs
from zfrepro.cli import main
from zfrepro.tensors import load_tensors, save_tensors

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
    if name == CHECKPOINT:
        os.remove("run/record.json")  # or the run is finished, and it is not read
    tensors, told = load_tensors(file)
    if tensor:
        tensors[tensor] = change(tensors[tensor])
    save_tensors(file, tensors, **told | values)


def write(name: str, content: bytes | str) -> None:
    file = Path(name)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content if isinstance(content, bytes) else content.encode())


SHIP, BY_SEED, EVAL = ["ship", "run"], ["ship", "run", "--numbers-only"], ["eval", f"run/{WEIGHTS}"]
PHOTOS, EVAL_THEM = "photos/imagenet", [*EVAL, "--data", "photos"]
CASES: dict[str, tuple[Callable[[], Any], list[str], list[str]]] = {
    # what spoils it, the command, and what its line tells
    "an error of NaN": (
        lambda: record("errors", "one_crop", "top1_error", to=float("nan")),
        SHIP, ["record.json", "top1_error nan is no per cent", "remove it"],
    ),
    "a seed that climbs": (
        lambda: record("recipe", "seed", to="../../x"),
        BY_SEED, ["record.json", "seed '../../x': must be a whole number"],
    ),
    "a checkpoint with empty epochs": (
        lambda: header(CHECKPOINT, history=[{}]), train(), [CHECKPOINT, "remove it"],
    ),
    "other options, and photographs that are gone": (
        lambda: (shutil.rmtree("photos"), os.remove("run/record.json")),
        train(lr=0.5), [CHECKPOINT, "made with another lr"],
    ),
    "an epoch to keep that is over": (
        lambda: None, train(keep=1), ["--keep 1: run has 1 epochs", "kept no epoch-001"],
    ),
    "a record without the hash of its weights": (
        lambda: record("weights_sha256", to=None), SHIP, ["record.json", "weights_sha256 is no"],
    ),
    "a momentum that would be spread": (
        lambda: header(CHECKPOINT, "momentum.convs.conv1.weight", lambda t: t[:1, :1, :1, :1]),
        train(), [CHECKPOINT, "not a whole", "remove it"],
    ),
    "weights of an unknown network": (
        lambda: header(WEIGHTS, recipe={"arch": "vgg"}), EVAL, [WEIGHTS, "'vgg'", "train them"],
    ),
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
    "an image larger than memory": (
        lambda: None, ["data", "imagenet", "--data", "photos", "--image-size", "1000000"],
        ["image size 1000000: must be 1 to 4,096 px"],
    ),
    "a diorama too large to draw": (
        lambda: None, ["data", "diorama", "--image-size", "600"], ["600", "for 14 to 448 px"],
    ),
    "an --out that is a file": (
        lambda: write("taken", b""), train("taken"), ["'taken'", "choose another"],
    ),
    "a cache below a file": (
        lambda: (write("taken", b""), os.environ.update(ZFREPRO_CACHE="taken/cache")),
        ["data", "imagenet", "--data", "photos", "--image-size", "40"],
        ["taken/cache", "set ZFREPRO_CACHE to another folder"],
    ),
    "a run without its checkpoint and record": (
        lambda: (os.remove(f"run/{CHECKPOINT}"), os.remove("run/record.json")),
        train(), ["run: holds weights", f"another --out, or remove {WEIGHTS}"],
    ),
    "a finished run without its weights": (
        lambda: os.remove(f"run/{WEIGHTS}"), train(), ["run: holds record.json", "remove record"],
    ),
    "a shipped record that cannot be read": (
        lambda: write("results/networks/imagenet-zfnet.json", "[]"),
        SHIP, ["imagenet-zfnet.json: not a whole record", "remove it"],
    ),
    "photographs nested too deep": (
        lambda: shutil.copytree("photos", "deep/imagenet"), ["data", "imagenet", "--data", "deep"],
        ["no imagenet/train/CLASS/"],
    ),
    "photographs in no folder of a class": (
        lambda: (shutil.rmtree(f"{PHOTOS}/train"), write(f"{PHOTOS}/train/0.png", b"")),
        EVAL_THEM, [f"{PHOTOS}/train: no class folders inside; images must lie in train/CLASS/"],
    ),
    "a class without photographs": (
        lambda: [file.unlink() for file in Path(PHOTOS, "val/class2").iterdir()],
        train("new"), [f"{PHOTOS}/val/class2: no images"],
    ),
    "a class in one part only": (
        lambda: os.rename(f"{PHOTOS}/val/class2", f"{PHOTOS}/val/class3"),
        train("new"), [f"{PHOTOS}: class folder 'class2' is in only one of train and val"],
    ),
    "a truncated photograph": (
        lambda: os.truncate(f"{PHOTOS}/train/class1/0.png", 300),
        EVAL_THEM, [f"{PHOTOS}/train/class1/0.png: cannot be decoded", "--skip-damaged"],
    ),
    "a folder named without ./": (
        lambda: None, train("new", dataset="photos"), ["unknown data set 'photos'", "./photos"],
    ),
    "a folder that is half a data set": (
        lambda: None, ["data", "./photos/imagenet/train"],
        ["imagenet/train: no train/CLASS/ and val/CLASS/ inside"],
    ),
    "a data set that is a file": (
        lambda: write("photos.zip", b"PK"), train("new", dataset="./photos.zip"),
        ["photos.zip: no such folder", "train/CLASS/ and val/CLASS/"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_spoilt_input_is_one_line_and_nothing_is_lost(name, place, monkeypatch, capsys):
    spoil, command, words = CASES[name]
    monkeypatch.setenv("ZFREPRO_CACHE", os.environ["ZFREPRO_CACHE"])  # put back, if a case sets it
    spoil()
    before = listing(place)
    drawn: list = []
    monkeypatch.setattr(diorama, "split", lambda *_, **__: drawn.append(1))
    refused(command, capsys, *words)
    assert not drawn  # told before minutes of drawing
    after = listing(place)
    assert [file for file in before if before[file] != after.get(file)] in ([], ["run/.lock"])
