"""Sweeps: equal budgets, one process a run, every run filed when it is done, nothing repeated,
nothing left behind."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.command_line import refused
from tests.datasets import tiny
from tests.photographs import photographs
from zfrepro import data, device, records, sweeps
from zfrepro.cli import file_lock, main, parse
from zfrepro.networks import ARCHITECTURES
from zfrepro.sweeps import SweepError

ARCHS = ("krizhevsky", "zfnet", "zfnet-wide")
STUB = "import os, signal, sys, time; from pathlib import Path; folder = Path(sys.argv[1]); "


@pytest.fixture
def sweep(tmp_path, monkeypatch):
    """A sweep of three tiny networks whose trainings are stubs that only write their record."""
    monkeypatch.setattr(sweeps, "SWEEPS", {"ablation": ARCHS})
    # as in the records that the stubs write
    monkeypatch.setattr(device, "fast_bf16", lambda where: False)
    return Stubs(tmp_path, monkeypatch)


class Stubs:
    """Runs sweeps with `script` as the training of each network, and remembers which were started.
    """

    def __init__(self, root: Path, monkeypatch):
        self.folder, self.target = root / "runs", root / "results" / "ablation-diorama.json"
        self.scripts: dict[str, str] = {}  # arch -> what its training does instead
        self.started: list[str] = []
        self.said: list[str] = []
        self.fingerprint = "0"
        monkeypatch.setattr(sweeps, "_start", self.start)

    def start(self, recipe, folder, threads, options):
        self.started.append(f"{recipe.arch} {recipe.seed}")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "to-be.json").write_text(json.dumps(record_of(recipe, self.fingerprint)))
        finished = "(folder / 'to-be.json').rename(folder / 'record.json')"
        script = STUB + self.scripts.get(recipe.arch, finished)
        with open(folder / "log.txt", "w") as log:
            words = [sys.executable, "-S", "-c", script, str(folder)]
            return subprocess.Popen(words, stdout=log, stderr=log)

    def run(self, seeds=(0,), say=None, epochs=3, **options):
        chosen = [tiny(arch=arch, seed=seed, epochs=epochs) for seed in seeds for arch in ARCHS]
        say = say or self.said.append
        sweeps.run("ablation", chosen, self.folder, self.target, say=say, **options)

    def filed(self) -> list[str]:
        return [f"{run['arch']} {run['seed']}" for run in records.read_json(self.target)["runs"]]

    def pids(self) -> list[int]:
        return [int(file.read_text()) for file in self.folder.glob("*/pid")]


def record_of(recipe, fingerprint="0") -> dict:
    """The record that `train` would write."""
    both = {"top1_error": 40.0, "top5_error": 10.0}
    return {
        "kind": "training", "scale": "own", "command": "train", "commit": "c", "versions": {},
        "date": "d",
        "device": "cpu", "precision": "fp32", "recipe": asdict(recipe),
        "dataset": {"name": "diorama", "fingerprint": fingerprint},
        "parameters": 10, "multiply_adds": 20, "weights_sha256": "w", "seconds": 6.0,
        "errors": {"train": both, "one_crop": both, "ten_crops": both},
        "history": [
            {"loss": 1.23456, "train_error": 50.0, "val_top1_error": 40.0, "seconds": 6.0}
        ],
    }  # fmt: skip


# --- what is trained -----------------------------------------------------------------------------


def test_the_ablation_is_the_whole_table_with_one_budget():
    chosen = sweeps.recipes("ablation", "diorama", epochs=2)
    keys = [(recipe.seed, recipe.arch) for recipe in chosen]  # a part of it is a comparison too
    assert keys == [(seed, arch) for seed in range(3) for arch in ARCHITECTURES]
    assert all(sweeps.shared(recipe) == sweeps.shared(chosen[0]) for recipe in chosen)
    assert chosen[0].epochs == 2
    some = sweeps.recipes("ablation", "diorama", [0], epochs=2, networks=["zfnet"])
    assert some == [chosen[list(ARCHITECTURES).index("zfnet")]]


@pytest.mark.parametrize("dataset", ["imagenet20", "/some photos"])
def test_a_run_is_the_command_train_with_the_recipe_and_its_own_folder(
    dataset, tmp_path, monkeypatch
):
    started = {}
    monkeypatch.setattr(
        subprocess, "Popen", lambda words, **options: started.update(options, words=words)
    )
    recipe = sweeps.recipes("ablation", dataset)[5]
    sweeps._start(recipe, tmp_path / "own", 2, ["--data", "a folder"])
    assert started["words"][1:4] == ["-m", "zfrepro", "train"]
    options = parse(started["words"][3:])
    assert options.made() == recipe
    assert options.out == str(tmp_path / "own") and options.data == "a folder"
    assert started["env"]["OMP_NUM_THREADS"] == "2"


# --- filing --------------------------------------------------------------------------------------


def test_every_run_is_filed_and_the_time_left_is_told(sweep):
    sweep.run(seeds=(0, 1), jobs=2)
    assert sweep.filed() == [f"{arch} {seed}" for arch in ARCHS for seed in (0, 1)]
    record = records.read_json(sweep.target)
    assert (record["kind"], record["chapter"], record["scale"]) == ("sweep", "ablation", "own")
    assert "arch" not in record["recipe"] and record["recipe"]["epochs"] == 3
    history = {"loss": [1.235], "train_error": [50.0], "val_top1_error": [40.0]}
    assert record["runs"][0]["history"] == history
    assert sweep.said[0] == "ablation on diorama: 6 runs, 0 of them done before"
    assert [line.split()[0] for line in sweep.said[1:]] == [f"{n}/6" for n in range(1, 7)]
    assert sweep.said[-1].endswith("top-1 error 40.0 % in 0.1 min; about 0 min left")


def test_what_is_filed_is_not_trained_again_and_nothing_is_lost(sweep):
    sweep.run()
    sweep.run()
    assert sweep.started == [f"{arch} 0" for arch in ARCHS]
    sweep.run(seeds=(0, 1))
    assert sweep.started[3:] == [f"{arch} 1" for arch in ARCHS] and len(sweep.filed()) == 6
    assert "6 runs, 3 of them done before" in sweep.said[-4]


def test_another_budget_or_other_data_are_refused_and_fresh_begins_anew(sweep):
    sweep.run()
    before = sweep.target.read_bytes()
    with pytest.raises(SweepError, match="runs have another epochs; --fresh starts a new record"):
        sweep.run(epochs=4)
    assert len(sweep.started) == 3
    sweep.fingerprint = "1"
    with pytest.raises(SweepError, match="other data"):
        sweep.run(seeds=(0, 1))
    assert sweep.target.read_bytes() == before
    sweep.run(epochs=4, fresh=True)
    assert records.read_json(sweep.target)["recipe"]["epochs"] == 4


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("print('epoch 1'); print('the loss is nan'); sys.exit(1)", "the loss is nan"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "it said nothing"),
    ],
)
def test_a_failed_run_is_named_with_its_reason_and_the_others_are_filed(sweep, script, reason):
    sweep.scripts["zfnet"] = script
    with pytest.raises(SweepError, match="1 of 3 runs failed, see .*runs: zfnet seed 0"):
        sweep.run()
    assert f"zfnet seed 0 failed: {reason}" in sweep.said
    assert sweep.filed() == ["krizhevsky 0", "zfnet-wide 0"]
    sweep.scripts.clear()
    sweep.run()
    assert sweep.started[3:] == ["zfnet 0"] and len(sweep.filed()) == 3


# --- interruptions -------------------------------------------------------------------------------

ENDLESS = (
    "(folder / 'part').write_text(str(os.getpid())); "
    "(folder / 'part').rename(folder / 'pid'); time.sleep(60)"
)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def wait_for(condition, seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("sign", "ending"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)]
)
def test_a_sweep_that_is_stopped_ends_its_runs_and_goes_on_where_it_was(sweep, sign, ending):
    sweep.scripts["zfnet"] = ENDLESS
    handler = signal.getsignal(signal.SIGTERM)
    # ignored where the tests run in the background
    interrupt = signal.signal(signal.SIGINT, signal.default_int_handler)

    def stopped(text: str) -> None:
        if text.startswith("1/3"):
            wait_for(sweep.pids)
            signal.raise_signal(sign)

    with pytest.raises(ending):
        sweep.run(jobs=2, say=stopped)
    signal.signal(signal.SIGINT, interrupt)
    assert sweep.filed() == ["krizhevsky 0"] and not any(map(alive, sweep.pids()))
    assert signal.getsignal(signal.SIGTERM) is handler
    sweep.scripts.clear()
    sweep.run(jobs=2)
    assert sorted(sweep.started) == ["krizhevsky 0", "zfnet 0", "zfnet 0", "zfnet-wide 0"]
    assert len(sweep.filed()) == 3


# --- the command ---------------------------------------------------------------------------------


def test_a_sweep_trains_files_and_repeats_nothing(own_places, tmp_path, capsys, monkeypatch):
    photographs(tmp_path / "data", "imagenet")
    monkeypatch.setenv("ZFREPRO_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(sweeps, "SWEEPS", {"ablation": ("krizhevsky-without-3-4-6-7",)})
    command = "sweep ablation --dataset imagenet --seeds 1 --epochs 1".split()
    assert main(command) == 0
    target = records.results_root() / "sweeps" / "ablation-imagenet.json"
    run = records.read_json(target)["runs"][0]
    assert run["arch"] == "krizhevsky-without-3-4-6-7" and run["seconds"] > 0
    assert capsys.readouterr().out.endswith(f"wrote {target}\n")
    monkeypatch.setattr(sweeps, "_start", None)  # calling it would fail
    assert main(command) == 0
    with file_lock(target):
        refused([*command, "--scratch", "elsewhere"], capsys, f"{target}: another run is writing")


def test_variants_alone_join_the_record_of_the_images_it_is_of(own_places, capsys, monkeypatch):
    monkeypatch.setattr(sweeps, "_start", None)  # what is filed is not trained again
    target = records.results_root() / "sweeps" / "training-diorama.json"
    record = records.read_json(records.ROOT / "results" / "sweeps" / target.name)
    records.write_json(target, record)
    seen = SimpleNamespace(fingerprint=record["dataset"]["fingerprint"])
    monkeypatch.setattr(data, "load", lambda *_, **__: seen)
    command = "sweep training --networks zfnet-raw --seeds 1".split()
    assert main(command) == 0 and "1 of them done before" in capsys.readouterr().out
    seen.fingerprint = "0"
    refused(command, capsys, f"{target}: its runs saw other images")
    record["runs"][0]["arch"] = "vgg"
    records.write_json(target, record)
    refused(command, capsys, f"{target}: not a whole record of training")


def test_a_folder_of_images_is_recorded_by_its_name():
    recipe = sweeps.recipes("ablation", "/some/place/mini-imagenet", networks=["zfnet"])[0]
    assert sweeps.record_name("ablation", recipe.dataset) == "sweeps/ablation-mini-imagenet"
    assert sweeps.shared(recipe)["dataset"] == "mini-imagenet"
    record = record_of(recipe) | {"command": f"train --dataset {recipe.dataset} --epochs 20"}
    assert sweeps.row(record)["command"] == "train --dataset DIR/mini-imagenet --epochs 20"
