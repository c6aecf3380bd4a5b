"""The command line: a line for each foreseen failure; a network from photographs to results/."""

import dataclasses
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open

from tests.command_line import refused, train_words
from tests.photographs import listing, photographs
from zfrepro import records, weights
from zfrepro.cli import COMMANDS, file_lock, main, parse
from zfrepro.data import DATASETS
from zfrepro.data.transforms import CROPS
from zfrepro.networks import ARCHITECTURES
from zfrepro.training import MODERN, WEIGHTS, Recipe, command_of

pytestmark = pytest.mark.usefixtures("own_places")


# --- failures ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line, parts",
    [
        ("table --arch alexnet", ["unknown architecture 'alexnet'; there are: krizhevsky, "]),
        ("table --image-size 12", ["zfnet: an image of 12 px is too small"]),
        ("data cifar", ["unknown data set 'cifar'; there are: diorama, imagenette"]),
        ("data imagenette", ["set ZFREPRO_DATA (or --data)"]),
        ("data imagenette --download", ["--download needs --data (or ZFREPRO_DATA)"]),
        ("data imagewoof --download --data nowhere", ["be downloaded", "imagewoof2-320.tgz"]),
        ("data diorama --download --data nowhere", ["diorama cannot be downloaded", "drawn"]),
        ("data cifar --download --data nowhere", ["unknown data set 'cifar'", "caltech101"]),
        ("train --device tpu", ["device 'tpu': choose cpu, cuda or cuda:NUMBER"]),
        ("eval none.safetensors", ["none.safetensors: no such file", "zfrepro train --help"]),
        ("eval .", [".: no such file; name the weights.safetensors in the folder of a run"]),
        ("ship", ["name at least one folder"]),
        ("eval", ["name at least one .safetensors file"]),
        ("ship nowhere", ["nowhere: no record.json there"]),
        ("sweep ablation --networks vgg", ["ablation has no vgg; it has: krizhevsky, "]),
        ("measure colours", ["no measurement called 'colours'; there are: architecture, "]),
        ("train --keep 99 --epochs 3", ["--keep 99: this run has epochs 1 to 3"]),
        ("sweep training --jobs -1", ["--jobs -1: must be at least 1"]),
        ("measure gallery --images -3", ["--images -3: must be at least 1"]),
        ("measure invariance --network resnet999", ["unknown network 'resnet999'"]),
        ("measure invariance --network alexnet --weights a.pth", ["a.pth: no such file"]),
        ("measure evolution --network alexnet", ["measures this package's own networks"]),
        ("measure invariance --weights a.pth", ["--weights: only with --network"]),
    ],
)
def test_a_foreseen_failure_is_one_line_and_exit_code_1(line, parts, capsys, tmp_path):
    refused(line.split(), capsys, *parts)
    assert not (tmp_path / "nowhere").exists()


def test_cuda_where_there_is_none(capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    told = "torch finds no CUDA here; use cpu"
    refused(["train", "--device", "cuda:0"], capsys, "device 'cuda:0'", told)
    monkeypatch.setenv("ZFREPRO_DEVICE", "cuda")
    refused(["eval", "x"], capsys, "device 'cuda'", told)


@pytest.mark.parametrize("line", ["", "fly", "train --learning-rate 1", "train --scale huge"])
def test_wrong_usage_is_exit_code_2(line, capsys):
    with pytest.raises(SystemExit) as stop:
        main(line.split())
    assert stop.value.code == 2 and "python -m zfrepro" in capsys.readouterr().err


def test_an_interrupt_says_how_to_go_on(monkeypatch, capsys):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("zfrepro.data.load", interrupt)
    assert main(["train", "--device", "cpu", "--out", "run"]) == 130
    assert capsys.readouterr().err == "stopped\n"  # nothing is kept before the first epoch


def test_errors_of_several_lines_become_one(monkeypatch, capsys):
    def fail(*_, **__):
        raise RuntimeError("no kernel image\n  for this device\n")

    monkeypatch.setattr("zfrepro.data.load", fail)
    assert main(["data", "diorama"]) == 1
    assert capsys.readouterr().err == "zfrepro data: no kernel image for this device\n"


# --- help and table ------------------------------------------------------------------------------


def test_help_of_train_tells_every_default_of_the_chosen_recipe(capsys):
    for words, recipe in (([], Recipe()), (["--recipe", "modern"], Recipe(**MODERN))):
        with pytest.raises(SystemExit):
            main(["train", *words, "--help"])
        text = " ".join(re.sub("[│╭╰─╮╯]", " ", capsys.readouterr().out).split())
        for field in dataclasses.fields(Recipe):
            assert f"--{field.name.replace('_', '-')} " in text
            assert f"(default: {getattr(recipe, field.name)})" in text


def test_a_pipe_that_closes_early_is_no_error():
    words = f"{sys.executable} -m zfrepro table | head -1"
    done = subprocess.run(words, shell=True, capture_output=True, text=True, cwd=records.ROOT)
    assert done.stdout.split()[0] == "layer" and done.stderr == ""


def test_work_that_a_closed_pipe_stops_has_failed(monkeypatch, capfd):
    def closed(_):
        raise BrokenPipeError

    monkeypatch.setattr(COMMANDS["sweep"], "run", closed)
    monkeypatch.setattr(os, "dup2", lambda *_: None)  # pytest still needs its output
    assert main(["sweep", "ablation"]) == 1
    assert "closed; give the same command again" in capfd.readouterr().err


def test_table(capsys):
    assert main(["table"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[3].split() == "conv2 5 2 256 26 614,656 415,334,400 27 8 0".split()
    assert lines[-1].split()[:2] == ["total", "62,357,608"]


# --- recipes -------------------------------------------------------------------------------------

recipes = st.builds(
    Recipe,
    arch=st.sampled_from(list(ARCHITECTURES)), dataset=st.sampled_from([*DATASETS, "/some photos"]),
    image_size=st.sampled_from([96, 128, 224]), width=st.sampled_from([0.25, 0.5, 1.0]),
    units=st.sampled_from([256, 512, 4096]), epochs=st.sampled_from([1, 30, 70]),
    lr=st.floats(1e-6, 10) | st.sampled_from([0.01, 0.04]), ema=st.sampled_from([0.0, 0.998]),
    crops=st.sampled_from(CROPS), dropout=st.floats(0, 0.999), seed=st.integers(0, 2**31),
)  # fmt: skip


@given(recipes)
@settings(max_examples=20, deadline=None)
def test_the_recorded_command_makes_the_recipe_again(recipe):
    words = shlex.split(command_of(recipe))
    assert words[:4] == ["python", "-m", "zfrepro", "train"]
    assert parse(words[3:]).made() == recipe


def test_single_options_win_over_scale_and_scale_over_recipe():
    recipe = parse("train --recipe modern --scale mini --lr 0.5 --image-size 128".split()).made()
    chosen = (recipe.lr, recipe.image_size, recipe.width, recipe.epochs)
    assert chosen == (0.5, 128, 0.5, MODERN["epochs"])
    assert parse(["train", "--out=~/x"]).folder(recipe) == Path.home() / "x"


# --- from photographs to results/ ----------------------------------------------------------------


@pytest.fixture
def trained(tmp_path, capsys):
    """The folder of a finished run on miniature photographs, and what it was started with."""
    photographs(tmp_path / "photos")
    line = train_words(tmp_path / "photos", tmp_path / "run", epochs=2, ema=0.9)
    assert main(line) == 0
    return tmp_path / "run", line, capsys.readouterr().out


def test_train_eval_and_ship(trained, tmp_path, capsys):
    run, line, said = trained
    assert re.search(r"epoch 1/2: loss \d.*epoch 2/2: ", said, re.DOTALL)
    assert {f.name for f in run.iterdir()} - {".lock"} == {
        "checkpoint.safetensors", "weights.safetensors", "probabilities.safetensors", "record.json",
    }  # fmt: skip
    record, sha = records.read_json(run / "record.json"), records.sha256(run / WEIGHTS)
    assert (record["scale"], record["dataset"]["train"], len(record["history"])) == ("own", 12, 2)
    assert record["weights_sha256"] == sha and record["seconds"] > 0 and "CPU" in record["device"]
    again = parse(record["command"].split()[3:]).made()
    assert dataclasses.asdict(again) == record["recipe"]
    assert record["parameters"] == sum(p.numel() for p in again.network(3).parameters())
    with safe_open(run / WEIGHTS, "pt") as opened:
        told = json.loads(opened.metadata()["zfrepro"])
    assert told["data"] == record["dataset"]["fingerprint"]

    assert main(["eval", str(run / WEIGHTS), "--data", str(tmp_path / "photos")]) == 0
    said = capsys.readouterr().out
    for name, error in (("one crop", "one_crop"), ("ten crops", "ten_crops")):
        assert f"{name:9}  top-1 error {record['errors'][error]['top1_error']:5.2f} %" in said

    assert main([*line, "--ship"]) == 0
    shipped = tmp_path / "results" / "networks" / "imagenet-zfnet.json"
    assert capsys.readouterr().out.endswith(f"wrote {shipped}\n")
    assert records.read_json(shipped) == record
    loaded = weights.pretrained("zfnet", "imagenet", device=torch.device("cpu"))
    assert loaded.classes == ("class0", "class1", "class2") and loaded.recipe == again

    assert main(["ship", str(run), "--numbers-only"]) == 0
    assert records.read("runs/imagenet-zfnet-own-seed0") == record
    assert len(list((tmp_path / "results").rglob("*.safetensors"))) == 1


def test_what_is_weaker_or_does_not_belong_together_is_not_shipped(trained, tmp_path, capsys):
    run, *_ = trained
    record = records.read_json(run / "record.json")
    shipped = tmp_path / "results" / "networks" / "imagenet-zfnet.json"

    def not_shipped(told: str, *options: str) -> None:
        before = listing(shipped.parent)
        refused(["ship", str(run), *options], capsys, told)
        assert listing(shipped.parent) == before

    records.write_json(shipped, record | {"recipe": record["recipe"] | {"image_size": 224}})
    not_shipped("at 64 px; --replace ships it anyway, --by-size beside")
    assert main(["ship", str(run), "--by-size"]) == 0
    assert weights.pretrained("zfnet", "imagenet", image_size=64).image_size == 64

    better = json.loads(json.dumps(record))
    better["errors"]["one_crop"]["top1_error"] -= 1
    records.write_json(shipped, better)
    not_shipped("--replace ships it anyway")
    assert main(["ship", str(run), "--replace"]) == 0
    assert records.read_json(shipped) == record
    not_shipped("would both become", f"{run}/")
    (run / WEIGHTS).write_bytes(b"something else")
    not_shipped("SHA-256 is")
    for content in ("{}", '{"kind": "study"}'):
        (run / "record.json").write_text(content)
        not_shipped("not the record of a training")


def test_a_finished_run_is_not_trained_again_and_never_written_over(trained, capsys):
    run, line, said = trained
    before = listing(run)
    assert main(line) == 0
    assert capsys.readouterr().out in said  # its errors, and how to ship it
    refused([*line, "--seed", "5"], capsys, "record.json: made with another seed;")
    assert {name for name, state in listing(run).items() if state != before[name]} <= {".lock"}
    with file_lock(run):
        refused(line, capsys, f"{run}: another run is writing here")


def test_eval_on_other_classes_is_refused(trained, tmp_path, capsys):
    run, *_ = trained
    photographs(tmp_path / "two", classes=2)
    line = ["eval", str(run / WEIGHTS), "--data", str(tmp_path / "two")]
    refused(line, capsys, "weights.safetensors knows other classes than imagenet")


def test_the_lock_goes_with_its_process(tmp_path):
    program = "import sys, pathlib, os; from zfrepro.cli import file_lock; print('asks')\n"
    program += "with file_lock(pathlib.Path(sys.argv[1]), wait=True): print('mine'); os._exit(0)"
    words = [sys.executable, "-uc", program, str(tmp_path / "run")]
    with file_lock(tmp_path / "run"):
        with pytest.raises(RuntimeError, match="another run"), file_lock(tmp_path / "run"):
            pass
        other = subprocess.Popen(words, cwd=records.ROOT, stdout=subprocess.PIPE, text=True)
        assert other.stdout.readline() == "asks\n"
        with pytest.raises(subprocess.TimeoutExpired):
            other.wait(0.3)  # it waits, for as long as this process holds the folder
    assert other.communicate(timeout=60)[0] == "mine\n"
    with file_lock(tmp_path / "run"):
        pass
