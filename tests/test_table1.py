"""Table 1: what its sweep trains, ensembles, what `eval` says of several networks, its claims."""

import json
from pathlib import Path

import pytest
import torch

from book.training import claims as chapter
from tests.command_line import train_words
from tests.photographs import photographs
from tests.test_sweeps import record_of
from zfrepro import ensembles, records, sweeps
from zfrepro.cli import main
from zfrepro.tensors import save_tensors

LABELS = torch.tensor([0, 1, 2, 2])


def probabilities(*right: float) -> torch.Tensor:
    """Return probabilities of three classes: `right` of the true class, the rest of the next."""
    shares = torch.zeros(4, 3)
    shares[range(4), LABELS] = torch.tensor(right)
    shares[range(4), (LABELS + 1) % 3] = 1 - torch.tensor(right)
    return shares


def run(folder: Path, one: torch.Tensor, ten=None, labels=LABELS) -> Path:
    folder.mkdir(parents=True)
    views = {"one_crop": one, "ten_crops": one.clone() if ten is None else ten}
    save_tensors(folder / ensembles.FILE, views | {"labels": labels})
    return folder


# --- the sweep -----------------------------------------------------------------------------


def test_table_1_has_the_three_networks_five_times_and_then_the_variants():
    chosen = sweeps.recipes("training", "imagenet20")
    runs = [(sweeps.name_of(recipe, "training"), recipe.seed) for recipe in chosen]
    core, variants = list(sweeps.SWEEPS["training"][:3]), set(sweeps.SWEEPS["training"][3:])
    assert runs[:15] == [(name, seed) for seed in range(5) for name in core]
    assert len(set(runs)) == 40 and {name for name, _ in runs[15:]} == variants
    by_name = {name: sweeps.shared(recipe) for (name, _), recipe in zip(runs, chosen, strict=True)}
    changed = {"ten-crops": ("crops", "ten"), "random-crops": ("crops", "random")}
    for name, change in (changed | {"unclipped": ("clip", 0.0)}).items():
        assert by_name[f"zfnet-{name}"].items() - by_name["zfnet"].items() == {change}


def test_a_finished_sweep_files_variants_by_name_and_ensembles(tmp_path, monkeypatch):
    class Finished:
        returncode = 0

        def poll(self):
            return 0

    def start(recipe, folder, threads, options):
        run(folder, probabilities(0.9, 0.8, 0.7, 0.2 + 0.2 * recipe.seed))
        (folder / "record.json").write_text(json.dumps(record_of(recipe)))
        return Finished()

    def sweep(seeds):
        chosen = sweeps.recipes("training", "diorama", seeds)
        sweeps.run("training", chosen, tmp_path / "runs", target, say=lambda _: None)
        return records.read_json(target)

    monkeypatch.setattr(sweeps, "_start", start)
    target = tmp_path / "training-diorama.json"
    record = sweep(range(2))
    keys = [(run["arch"], run["seed"]) for run in record["runs"]]
    assert keys == [(name, seed) for name in sweeps.SWEEPS["training"] for seed in (0, 1)]
    assert [e["name"] for e in record["ensembles"]] == ["krizhevsky", "zfnet", "both", "both"]
    members = [["zfnet", 0], ["zfnet", 1], ["zfnet-wide", 1]]
    assert record["ensembles"][3]["members"] == members
    (tmp_path / "runs" / "diorama-zfnet-unclipped-seed1").rename(tmp_path / "elsewhere")
    assert sweep(range(2)) == record  # nothing is trained twice
    (tmp_path / "runs").rename(tmp_path / "another machine")
    more = sweep([2])
    assert len(more["runs"]) == 3 * len(sweeps.SWEEPS["training"])
    assert more["ensembles"] == record["ensembles"]  # what cannot be averaged here stays


# --- ensembles -----------------------------------------------------------------------------


def test_probabilities_are_averaged_and_not_votes(tmp_path):
    # The last image: two wrong votes at 0.45 lose to a third network that is sure.
    bad = probabilities(0.1, 0.1, 0.1, 0.1)
    runs = [
        run(tmp_path / str(last), probabilities(0.9, 0.9, 0.4, last), bad)
        for last in (0.45, 0.46, 0.9)
    ]
    averaged = ensembles.average(runs)
    assert averaged["one_crop"] == {"top1_error": 25.0, "top5_error": 0.0}
    assert averaged["ten_crops"]["top1_error"] == 100.0
    assert ensembles.average(runs[:2])["one_crop"]["top1_error"] == 50.0


def test_other_images_and_damaged_files_are_refused(tmp_path):
    first = run(tmp_path / "a", probabilities(0.9, 0.9, 0.9, 0.9))
    labels = torch.tensor([0, 1, 2, 1])
    other = run(tmp_path / "b", probabilities(0.9, 0.9, 0.9, 0.9), labels=labels)
    with pytest.raises(ValueError, match="b: evaluated on other images than .*a; average runs of"):
        ensembles.average([first, other])
    file = other / ensembles.FILE
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(ValueError, match="safetensors: no whole probabilities .*`train` command"):
        ensembles.average([first, other])


# --- train and eval ------------------------------------------------------------------------


def test_eval_of_several_weights_is_the_ensemble_of_their_runs(tmp_path, monkeypatch, capsys):
    photographs(tmp_path / "photos", train=8, val=6)
    monkeypatch.setenv("ZFREPRO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("ZFREPRO_DATA", str(tmp_path / "photos"))
    for seed in ("0", "1"):
        assert main(train_words(tmp_path / "photos", tmp_path / seed, seed=seed)) == 0
    expected = ensembles.average([tmp_path / "0", tmp_path / "1"])
    capsys.readouterr()
    weights = [str(tmp_path / seed / "weights.safetensors") for seed in "01"]
    assert main(["eval", *weights, "--device", "cpu"]) == 0
    said = capsys.readouterr().out
    for name, errors in expected.items():
        top1, top5 = errors.values()
        name = name.replace("_", " ")
        assert f"{name:9}  top-1 error {top1:5.2f} %   top-5 error {top5:5.2f} %" in said


# --- the claims ----------------------------------------------------------------------------


def test_without_runs_or_with_one_seed_nothing_is_claimed():
    sweep = records.read("sweeps/training-diorama")
    runs = [run for run in sweep["runs"] if run["seed"] == 0]
    alone = [row | {"members": row["members"][:1]} for row in sweep["ensembles"]]
    better, wide, ensemble, _, clipping = chapter.CLAIMS
    for short, expected in (
        ({"runs": []}, "not tested"),
        ({"runs": runs, "ensembles": alone}, "not resolved"),
    ):
        assert {c.judge(short).outcome for c in (better, wide, clipping)} == {"not tested"}
        assert ensemble.judge(short).outcome == expected
