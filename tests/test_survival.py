"""What work survives: SIGKILL at any moment, a full disk, a second run in its folder."""

import json
import os
import signal
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from tests.photographs import photographs
from zfrepro import data, records, training
from zfrepro.cli import main
from zfrepro.tensors import load_tensors

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no signals and no /dev/full")

OPTIONS = "--dataset imagenet --image-size 64 --width 0.125 --units 16 --epochs 3 --batch 8"
OPTIONS += " --ema 0.9 --init modern --input-scale 64 --precision fp32 --device cpu --quiet"
OPTIONS += " --patience 0 --weight-decay 5e-4"

KILLED = ("in the second epoch", "a checkpoint half written", "weights half written",
          "before the record")  # fmt: skip


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Miniature photographs and their cache, in the environment. One thread: more of them sum in
    another order.
    """
    root = tmp_path_factory.mktemp("world")
    photographs(root / "photos", train=11)
    with pytest.MonkeyPatch.context() as patch:
        for name, folder in (("DATA", "photos"), ("CACHE", "cache")):
            patch.setenv(f"ZFREPRO_{name}", str(root / folder))
        patch.setenv("OMP_NUM_THREADS", "1")
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        yield root
        torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def runs(world):
    """The folder of all runs of `tests.killed_runs`, and the exit codes of their starts."""
    words = [sys.executable, "-m", "tests.killed_runs", str(world / "runs"), "train"]
    words += OPTIONS.split()
    done = subprocess.run(words, cwd=records.ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return world / "runs", json.loads(done.stdout.splitlines()[-1])


def differing(ours, theirs) -> list[str]:
    """What is not equal to the last bit in two finished runs; the clock may differ."""
    unequal = []
    for name in ("checkpoint.safetensors", "weights.safetensors", "probabilities.safetensors"):
        a, b = load_file(ours / name), load_file(theirs / name)
        assert a.keys() == b.keys()
        unequal += [f"{name}: {key}" for key in a if not torch.equal(a[key], b[key])]
    our_record, their_record = (records.read_json(run / "record.json") for run in (ours, theirs))
    unequal += ["errors"] if our_record["errors"] != their_record["errors"] else []
    epochs = zip(our_record["history"], their_record["history"], strict=True)
    return unequal + [
        f"epoch {number}"
        for number, (one, other) in enumerate(epochs, 1)
        if one | {"seconds": 0} != other | {"seconds": 0}
    ]


# --- killed --------------------------------------------------------------------------------------


@pytest.mark.parametrize("moment", KILLED)
def test_a_run_that_is_killed_ends_as_if_it_had_not_been(runs, moment):
    root, codes = runs
    assert codes["whole"] == [0] and codes[moment] == [-signal.SIGKILL, 0]
    # the plateau rule acted, so its state was carried over
    assert load_tensors(root / moment / "checkpoint.safetensors")[1]["rate"] < training.Recipe().lr
    assert differing(root / moment, root / "whole") == []
    # no halves of files
    assert sorted(os.listdir(root / moment)) == sorted(os.listdir(root / "whole"))


def test_work_that_is_killed_again_and_again_does_too(runs, monkeypatch):
    root, codes = runs
    for name in ("again and again", "decode", "sweep"):
        *before, last = codes[name]
        assert last == 0 and len(before) >= 2 and set(before) == {-signal.SIGKILL}
    assert differing(root / "again and again", root / "whole") == []
    splits = []
    for cache in ("decode", "another cache"):
        monkeypatch.setenv("ZFREPRO_CACHE", str(root / cache))
        splits.append(data.load("imagenet", 28, progress=False).train)
    assert torch.equal(splits[0].images, splits[1].images)
    filed = records.read_json(root / "sweep" / "results.json")["runs"]
    assert len({(run["arch"], run["seed"]) for run in filed}) == len(filed) == 6
    begun = (root / "sweep" / "begun").read_text().count("one")
    assert begun <= 6 + len(before)  # a kill costs the run that it falls on, no other


def test_two_runs_never_write_into_one_folder(runs):
    root, codes = runs
    assert codes["two at once"] == [1, -signal.SIGKILL, 0]
    assert differing(root / "two at once", root / "whole") == []


def test_the_comparison_can_fail(runs, tmp_path):
    root, _ = runs
    other = tmp_path / "other"
    assert main(["train", *OPTIONS.split(), "--seed", "1", "--out", str(other)]) == 0
    assert differing(other, root / "whole")


# --- no room -------------------------------------------------------------------------------------


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs the disk without room")
@pytest.mark.parametrize("file", ["checkpoint", "weights", "probabilities", "record"])
def test_a_full_disk_stops_with_its_name_and_loses_nothing(
    runs, tmp_path, monkeypatch, capsys, file
):
    root, _ = runs
    name = f"{file}.json" if file == "record" else f"{file}.safetensors"
    monkeypatch.setattr(records, "token_hex", lambda count: "0")
    partial, once = tmp_path / "run" / f".{name}.{os.getpid()}-0.part", training.train_epoch

    def filling(*arguments):
        if arguments[4] == 1:  # the second epoch; until then there was room
            partial.symlink_to("/dev/full")
        return once(*arguments)

    monkeypatch.setattr(training, "train_epoch", filling)
    words = ["train", *OPTIONS.split(), "--out", str(tmp_path / "run")]
    assert main(words) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "No space left on device" in error and name in error
    monkeypatch.undo()
    recipe = training.Recipe(**records.read_json(root / "whole" / "record.json")["recipe"])
    checkpoint = tmp_path / "run" / training.CHECKPOINT_FILE
    state, _ = training.load_checkpoint(checkpoint, recipe, torch.device("cpu"))
    assert len(state.history) == (1 if file == "checkpoint" else 3)
    assert main(words) == 0  # there is room again
    assert differing(tmp_path / "run", root / "whole") == []
