"""Table 1: what its sweep trains, ensembles, and what eval says of several networks."""

import json
import math
from pathlib import Path

import pytest
import torch
from scipy import stats

from book.training import claims as chapter
from book.training import figures
from tests.photographs import photographs
from tests.test_sweeps import record_of
from zfrepro import ensembles, paper, records, sweeps
from zfrepro.cli import command_of, main, parser, recipe_of
from zfrepro.stats import paired
from zfrepro.training import Recipe

LABELS = torch.tensor([0, 1, 2, 2])


def probabilities(*right: float) -> torch.Tensor:
    """Three classes; each number is the probability of that image's class, the class after it has the rest."""
    found = torch.zeros(4, 3)
    found[range(4), LABELS] = torch.tensor(right)
    found[range(4), (LABELS + 1) % 3] = 1 - torch.tensor(right)
    return found


def run(folder: Path, one: torch.Tensor, ten: torch.Tensor | None = None, labels: torch.Tensor = LABELS) -> Path:
    folder.mkdir(parents=True)
    ensembles.keep(folder, {"one_crop": one, "ten_crops": one.clone() if ten is None else ten}, labels)
    return folder


# --- the sweep -------------------------------------------------------------------------------------------------------


def test_table_1_has_the_three_networks_five_times_and_then_the_variants():
    chosen = sweeps.recipes("training", "imagenet20")
    names = [sweeps.name_of(recipe, "training") for recipe in chosen]
    assert names[:6] == ["krizhevsky", "zfnet", "zfnet-wide"] * 2 and len(chosen) == 30
    assert set(names[15:]) == {"zfnet-ten-crops", "zfnet-random-crops", "zfnet-unclipped"}
    assert len({(name, recipe.seed) for name, recipe in zip(names, chosen, strict=True)}) == 30
    assert {recipe.arch for recipe in chosen[15:]} == {"zfnet"}


def test_a_variant_differs_from_its_network_in_one_thing():
    by_name = {sweeps.name_of(recipe, "training"): recipe for recipe in sweeps.recipes("training", "imagenet20", [0])}
    base = sweeps.shared(by_name["zfnet"])
    for name, what in {
        "ten-crops": ("crops", "ten"),
        "random-crops": ("crops", "random"),
        "unclipped": ("clip", 0.0),
    }.items():
        own = sweeps.shared(by_name[f"zfnet-{name}"])
        assert {(key, own[key]) for key in own if own[key] != base[key]} == {what}


def test_the_command_of_a_variant_makes_it_again():
    for recipe in sweeps.recipes("training", "diorama", [3]):
        assert recipe_of(parser().parse_args(command_of(recipe).split()[3:])) == recipe


def test_a_finished_sweep_files_variants_by_name_and_ensembles(tmp_path, monkeypatch):
    def start(recipe, own, threads, options):
        run(own, probabilities(0.9, 0.8, 0.7, 0.2 + 0.2 * recipe.seed))
        (own / "record.json").write_text(json.dumps(record_of(recipe)))
        return Finished()

    class Finished:
        returncode = 0

        def poll(self):
            return 0

    monkeypatch.setattr(sweeps, "_start", start)
    target = tmp_path / "training-diorama.json"
    chosen = sweeps.recipes("training", "diorama", range(2))
    sweeps.run("training", chosen, tmp_path / "runs", target, say=lambda _: None)
    found = records.read_json(target)
    assert [(r["arch"], r["seed"]) for r in found["runs"]] == [
        (n, s) for n in sweeps.SWEEPS["training"] for s in (0, 1)
    ]
    assert found["recipe"]["crops"] == "resized" and found["recipe"]["clip"] == 0.1
    assert [e["name"] for e in found["ensembles"]] == ["krizhevsky", "zfnet", "both", "both"]
    assert found["ensembles"][3]["members"] == [["zfnet", 0], ["zfnet", 1], ["zfnet-wide", 1]]
    (tmp_path / "runs" / "diorama-zfnet-unclipped-seed1").rename(tmp_path / "elsewhere")
    sweeps.run("training", chosen, tmp_path / "runs", target, say=lambda _: None)  # nothing is trained twice
    assert records.read_json(target) == found
    (tmp_path / "runs").rename(tmp_path / "another machine")
    sweeps.run("training", sweeps.recipes("training", "diorama", [2]), tmp_path / "runs", target, say=lambda _: None)
    more = records.read_json(target)
    assert len(more["runs"]) == 18 and more["ensembles"] == found["ensembles"]  # what cannot be averaged here stays


# --- ensembles -------------------------------------------------------------------------------------------------------


def test_probabilities_are_averaged_and_not_votes(tmp_path):
    # The last image: right with 0.45 and 0.45 and sure in the third, so two wrong votes lose to the mean of 0.6.
    runs = [run(tmp_path / str(i), probabilities(0.9, 0.9, 0.4, last)) for i, last in enumerate((0.45, 0.45, 0.9))]
    assert ensembles.average(runs)["one_crop"] == {"top1_error": 25.0, "top5_error": 0.0}
    assert ensembles.average(runs[:2])["one_crop"]["top1_error"] == 50.0


def test_both_ways_to_crop_are_averaged_by_themselves(tmp_path):
    good, bad = probabilities(0.9, 0.9, 0.9, 0.9), probabilities(0.1, 0.1, 0.1, 0.1)
    runs = [run(tmp_path / "a", good, bad), run(tmp_path / "b", good, bad)]
    found = ensembles.average(runs)
    assert (found["one_crop"]["top1_error"], found["ten_crops"]["top1_error"]) == (0.0, 100.0)


def test_an_ensemble_of_none_is_refused():
    with pytest.raises(ValueError, match="at least one run"):
        ensembles.average([])


def test_other_images_and_damaged_files_are_refused(tmp_path):
    first = run(tmp_path / "a", probabilities(0.9, 0.9, 0.9, 0.9))
    other = run(tmp_path / "b", probabilities(0.9, 0.9, 0.9, 0.9), labels=torch.tensor([0, 1, 2, 1]))
    with pytest.raises(ValueError, match="b: evaluated on other images than .*a; average runs of one data set"):
        ensembles.average([first, other])
    file = other / ensembles.FILE
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(ValueError, match="probabilities.safetensors: no whole probabilities .*`train` command again"):
        ensembles.average([first, other])


def test_what_is_not_there_yet_is_left_out(tmp_path):
    one = probabilities(0.9, 0.9, 0.9, 0.9)
    folders = {("zfnet", 0): run(tmp_path / "z0", one), ("zfnet", 1): tmp_path / "missing"}
    assert ensembles.of_runs("training", folders) == []
    folders["zfnet-wide", 0] = run(tmp_path / "w0", one)
    folders["zfnet-unclipped", 0] = run(tmp_path / "u0", one)
    (found,) = ensembles.of_runs("training", folders)
    assert found["name"] == "both" and found["members"] == [["zfnet", 0], ["zfnet-wide", 0]]
    assert ensembles.of_runs("ablation", folders) == []


# --- train and eval --------------------------------------------------------------------------------------------------


def test_eval_of_several_weights_is_the_ensemble_of_their_runs(tmp_path, monkeypatch, capsys):
    photographs(tmp_path / "photos", train=8, val=6)
    monkeypatch.setenv("ZFREPRO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("ZFREPRO_DATA", str(tmp_path / "photos"))
    small = "--recipe modern --image-size 64 --width 0.125 --units 16 --epochs 1 --batch 8 --ema 0 --precision fp32"
    for seed in ("0", "1"):
        words = [
            "train",
            "--dataset",
            "imagenet",
            *small.split(),
            "--seed",
            seed,
            "--out",
            str(tmp_path / seed),
            "--quiet",
        ]
        assert main([*words, "--device", "cpu"]) == 0
    expected = ensembles.average([tmp_path / "0", tmp_path / "1"])
    alone = records.read_json(tmp_path / "0" / "record.json")["errors"]
    assert ensembles.average([tmp_path / "0"])["ten_crops"] == alone["ten_crops"]
    capsys.readouterr()
    assert main(["eval", *(str(tmp_path / seed / "weights.safetensors") for seed in "01"), "--device", "cpu"]) == 0
    said = capsys.readouterr().out
    for name, errors in expected.items():
        top1, top5 = errors.values()
        assert f"{name.replace('_', ' '):9}  top-1 error {top1:5.2f} %   top-5 error {top5:5.2f} %" in said


# --- the chapter -----------------------------------------------------------------------------------------------------


def record(levels: dict[str, float], seeds: int, ensembles: list | None = None) -> dict:
    """A made-up sweep: each network at its level, seeds half a point apart, ten crops three points better."""
    runs = []
    for name, level in levels.items():
        for seed in range(seeds):
            one = level + 0.5 * seed + 0.1 * (len(name) % 3) * seed
            views = {"train": one - 5, "one_crop": one, "ten_crops": one - 3}
            errors = {view: {"top1_error": value, "top5_error": value / 4} for view, value in views.items()}
            history = {"loss": [2.0, 1.0], "val_top1_error": [80.0, one]}
            runs.append(
                {"arch": name, "seed": seed, "errors": errors, "seconds": 60.0, "device": "cpu", "history": history}
            )
    recipe = sweeps.shared(sweeps.recipes("training", "diorama")[0])
    data = {"name": "diorama", "train": 10, "val": 10}
    return {"scale": "micro", "recipe": recipe, "dataset": data, "runs": runs, "ensembles": ensembles or []}


LEVELS = {"krizhevsky": 45.0, "zfnet": 40.0, "zfnet-wide": 38.0, "zfnet-unclipped": 47.0}


def averaged(name: str, members: list, error: float) -> dict:
    errors = {view: {"top1_error": error, "top5_error": error / 4} for view in ("one_crop", "ten_crops")}
    return {"name": name, "members": members, "errors": errors}


def test_verdicts_follow_the_differences():
    found = record(LEVELS, 3)
    for judge in (chapter.better, chapter.wider, chapter.clipping):
        assert judge(found).verdict == "reproduced"
    turned = record({"krizhevsky": 40.0, "zfnet": 45.0, "zfnet-wide": 47.0, "zfnet-unclipped": 40.0}, 3)
    for judge in (chapter.better, chapter.wider, chapter.clipping):
        assert judge(turned).verdict == "not reproduced"
    assert "-4.9 (" in chapter.better(found).numbers and "3 seeds" in chapter.better(found).numbers


def test_without_runs_or_with_one_seed_nothing_is_claimed():
    for found in (record({}, 0), record({"zfnet": 40.0}, 3), record(LEVELS, 1)):
        for judge in (chapter.better, chapter.wider, chapter.clipping, chapter.ensemble, chapter.both):
            assert judge(found).verdict == "not tested"


@pytest.mark.parametrize("error, verdict", [(30.0, "reproduced"), (37.2, "partly"), (39.0, "not reproduced")])
def test_an_ensemble_must_beat_its_best_network(error, verdict):
    members = [["zfnet", 0], ["zfnet", 1]]  # 37.0 and 37.5 or so at ten crops
    assert chapter.ensemble(record(LEVELS, 2, [averaged("zfnet", members, error)])).verdict == verdict


@pytest.mark.parametrize(
    "joined, verdict", [((34, 34), "reproduced"), ((33, 36), "partly"), ((36, 36), "not reproduced")]
)
def test_wide_networks_must_help_the_average(joined, verdict):
    core = [["zfnet", 0], ["zfnet", 1]]
    rows = [averaged("zfnet", core, 35)]
    rows += [averaged("both", [*core, ["zfnet-wide", seed]], error) for seed, error in enumerate(joined)]
    assert chapter.both(record(LEVELS, 2, rows)).verdict == verdict


def test_table_1_stands_beside_the_papers_with_or_without_runs():
    core = [["zfnet", 0], ["zfnet", 1]]
    rows = {row["network"]: row for row in figures.rows(record(LEVELS, 2, [averaged("zfnet", core, 35)]))}
    own, five = rows[paper.TABLE1_NAMES["zfnet"]], rows[paper.TABLE1_NAMES["zfnet-5"]]
    assert own["paper: top-1"] == "38.4" and own["runs"] == "2" and own["ten crops, top-1"].startswith("37.")
    assert five["ten crops, top-1"] == "35.0" and five["runs"] == "1 of 2 averaged"
    assert rows[paper.TABLE1_NAMES["howard"]]["ten crops, top-1"] is None
    assert [list(row) for row in figures.rows(None)] == [list(row) for row in rows.values()]
    assert "not run yet" in figures.table("diorama", None).data


def test_networks_of_the_papers_size_have_a_table_without_variants():
    large = record(LEVELS, 2) | {"scale": "paper"}
    for record_or_none in (large, None):
        assert len(figures.rows(record_or_none, "paper")) == len(paper.TABLE1)
    assert len(figures.rows(None)) == len(paper.TABLE1) + len(sweeps.VARIANTS)
    told = figures.tests(
        {"imagenet20": large | {"runs": [r for r in large["runs"] if r["arch"] in sweeps.ARCHITECTURES]}}
    )
    assert {row["world"] for row in told} == {"ImageNet-20, the paper's size"} and len(told) == 2
    assert "--scale paper" in figures.table("imagenet20", None, "paper").data


def test_comparisons_are_made_seed_by_seed():
    (row, *_) = figures.tests({"diorama": record(LEVELS, 3)})
    assert row["seeds"] == 3 and row["p by signs"] == "0.250" and row["p by t"] == "<0.001"
    assert figures.said({}, "diorama", "wide (b) for (a)") == figures.gain({}, "diorama", "zfnet") == "not run yet"


def test_figures_are_drawn_with_and_without_runs():
    for found in ({}, {"diorama": record(LEVELS, 2, [averaged("zfnet", [["zfnet", 0], ["zfnet", 1]], 35)])}):
        assert figures.curves(found).axes and figures.drawn(found).axes
    assert figures.histories().axes


def test_every_setting_of_a_recipe_is_told():
    told = {row["setting"].replace(" ", "_") for row in figures.recipes()}
    assert set(vars(Recipe())) - told == {"arch", "dataset", "image_size", "width", "units", "seed"}


@pytest.mark.parametrize(("jobs", "beside"), [({}, False), ({"jobs": 1}, False), ({"jobs": 3}, True)])
def test_a_speed_says_whether_other_trainings_ran_beside(jobs, beside):
    run = {"device": "some GPU", "seconds": 5.0, **jobs}
    how, flops = figures._rate({"arch": "zfnet", "epochs": 2}, {"train": 100}, [run])
    assert how == "some GPU: as measured, at 224 px" + ", beside other trainings" * beside
    assert flops == pytest.approx(figures.step_flops(classes=20) * 2 * 100 / 5)


def test_hours_follow_from_operations():
    # 62 million weights of layers 6 to 8 once, those of the convolutions at every place: 1.1 billion multiply-adds
    assert figures.step_flops() == pytest.approx(6 * 1.17e9, rel=0.1)
    assert figures.hours(figures.step_flops() * figures.IMAGENET) == pytest.approx(70 / 3600)


def test_a_paired_test_is_scipys_and_that_of_signs_is_counted():
    differences = [1.0, 2.0, 3.0, 1.5, 2.2]
    found, reference = paired(differences), stats.ttest_rel(differences, [0.0] * 5)
    assert found.t == pytest.approx(reference.pvalue)
    assert (found.low, found.high) == pytest.approx(tuple(reference.confidence_interval(0.95)))
    assert found.signs == 2 / 32
    assert paired([1.0, -1.0]).signs == 1 and math.isinf(paired([1.0]).high)
    with pytest.raises(ValueError, match="got 0"):
        paired([])


def test_runs_of_another_precision_are_named():
    runs = [{"arch": "zfnet", "seed": 0}, *({"arch": "zfnet", "seed": s, "precision": "fp32"} for s in (1, 2))]
    record = {"recipe": {"precision": "bf16"}, "runs": runs}
    assert figures.precisions(record) == "bf16, zfnet 0; fp32, all others"
    assert figures.precisions(record | {"runs": runs[1:]}) == "fp32, all"


def test_a_contrast_of_two_precisions_says_so():
    found = record(LEVELS, 3)
    assert "against" not in chapter.wider(found).numbers
    for run in found["runs"]:
        run["precision"] = "bf16" if run["arch"] == "zfnet-wide" and run["seed"] < 2 else "fp32"
    assert "3 seeds, 2 of them bf16 against fp32" in chapter.wider(found).numbers
    assert "against" not in chapter.better(found).numbers
