"""Several processes train as one would; a miniature of ILSVRC-2012 goes through the paper's recipe
from end to end."""

import os
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from tests.command_line import train_words
from tests.datasets import stripes, tiny
from tests.photographs import photographs
from zfrepro import cli as commands
from zfrepro import device, distributed, records, training, weights
from zfrepro.cli import main
from zfrepro.data.transforms import CROPS, augment

CPU = torch.device("cpu")
# as the folders of ILSVRC-2012 are named; labels follow their order
WNIDS = ("n02110341", "n01440764", "n03888257")

# --- two processes and one -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def miniature(tmp_path_factory):
    """`imagenet/{train,val}/WNID/*`, seven and three images a class: odd numbers, so that shares
    differ in size.
    """
    folder = photographs(tmp_path_factory.mktemp("photos"), train=7, val=3)
    for part in ("train", "val"):
        for number, wnid in enumerate(WNIDS):
            (folder / part / f"class{number}").rename(folder / part / wnid)
    return folder.parent


@pytest.fixture(scope="module")
def runs(miniature, tmp_path_factory):
    """The same command by two processes and by one: what the two said, and both folders."""
    root = tmp_path_factory.mktemp("runs")

    def words(out: str) -> list[str]:
        changes = {"epochs": 2, "batch": 5, "lr": 0.05, "dropout": 0.0, "crops": "ten"}
        return train_words(miniature, root / out, **changes)

    cache = {"ZFREPRO_CACHE": str(root / "cache"), "OMP_NUM_THREADS": "1"}
    torchrun = "-m torch.distributed.run --standalone --nproc-per-node 2 -m zfrepro".split()
    two = subprocess.run(
        [sys.executable, *torchrun, *words("two")],
        cwd=records.ROOT, env=os.environ | cache, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert two.returncode == 0, two.stderr
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZFREPRO_CACHE", cache["ZFREPRO_CACHE"])
        assert main(words("one")) == 0
    return two.stdout, root / "two", root / "one"


def test_two_processes_end_where_one_does(runs):
    _, two, one = runs
    ours, theirs = (load_file(run / "checkpoint.safetensors") for run in (two, one))
    assert torch.equal(ours["mean"], theirs["mean"])
    assert ours.keys() == theirs.keys() and any(name.startswith("momentum.") for name in ours)
    for name, values in theirs.items():
        assert (ours[name] - values).abs().max() <= 1e-4 * values.abs().max() + 1e-9, name
    recipe = weights.load_weights(one / "weights.safetensors", device=CPU).recipe
    moved = theirs["network.convs.conv3.weight"] - recipe.network(3).convs["conv3"].weight
    assert moved.abs().max() > 1e-3  # so that the agreement says something


def test_losses_and_errors_agree_and_are_of_all_images(runs):
    said, two, one = runs
    ours, theirs = (records.read_json(run / "record.json") for run in (two, one))
    assert (ours["processes"], theirs["processes"]) == (2, 1)
    for a, b in zip(ours["history"], theirs["history"], strict=True):
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-5)
        assert (a["train_error"], a["val_top1_error"]) == (b["train_error"], b["val_top1_error"])
    assert (ours["errors"], ours["command"]) == (theirs["errors"], theirs["command"])
    # the first process speaks and writes for all
    assert said.count("epoch 1/2: ") == said.count("epoch 2/2: ") == said.count("holds ") == 1
    assert {file.name for file in two.iterdir()} == {file.name for file in one.iterdir()}
    classes = weights.load_weights(two / "weights.safetensors", device=CPU).classes
    assert classes == tuple(sorted(WNIDS))


def test_a_miniature_of_imagenet_trains_by_the_papers_recipe(miniature, tmp_path, monkeypatch):
    monkeypatch.setenv("ZFREPRO_CACHE", str(tmp_path / "cache"))
    words = "--image-size 64 --width 0.125 --units 16 --epochs 1 --batch 7 --device cpu --quiet"
    places = ["--data", str(miniature), "--out", str(tmp_path / "run")]
    assert main(["train", "--dataset", "imagenet", *places, *words.split()]) == 0
    recipe = records.read_json(tmp_path / "run" / "record.json")["recipe"]
    paper = vars(training.Recipe())
    assert {key for key in paper if recipe[key] != paper[key]} == {
        "dataset", "image_size", "width", "units", "epochs", "batch",
    }  # fmt: skip


# --- the parts -----------------------------------------------------------------------------------


@pytest.mark.parametrize("crops", CROPS)
def test_views_do_not_depend_on_who_makes_them(crops):
    images = torch.randn(7, 3, 20, 20)
    whole = augment(images, 16, crops, torch.Generator().manual_seed(5))
    for share in (slice(0, 3), slice(3, 7)):
        generator = torch.Generator().manual_seed(5)
        views = augment(images[share], 16, crops, generator, of=7, share=share)
        assert torch.equal(views, whole[share])


def test_more_processes_than_images_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(distributed, "rank", lambda: 0)
    monkeypatch.setattr(distributed, "count", lambda: 9)
    with pytest.raises(ValueError, match="9 processes for 8 images at a time: start fewer, or"):
        training.train(tiny(batch=8), stripes(), tmp_path, device=CPU, progress=False)


def test_the_first_process_holds_the_folder_for_all(tmp_path, monkeypatch):
    with commands.file_lock(tmp_path):
        monkeypatch.setenv("RANK", "1")
        with commands.file_lock(tmp_path):
            pass


def test_each_process_takes_a_gpu_of_its_own(monkeypatch):
    chosen = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    monkeypatch.setenv("LOCAL_RANK", "2")
    assert device.pick() == torch.device("cuda:2")
    assert device.pick("cuda:1") == torch.device("cuda:1")
    assert chosen == [2, 1]
    monkeypatch.setenv("LOCAL_RANK", "4")
    with pytest.raises(RuntimeError, match="there are 4 GPUs"):
        device.pick()
