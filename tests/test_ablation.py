"""The ablation: intervals by scipy and by hand, the rows of Table 2, verdicts from made-up sweeps, figures, study."""

import math

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from scipy import stats

from book.ablation import claims, figures
from book.ablation import measure as study
from tests.worlds import stripes, tiny
from zfrepro import contrasts as ablation
from zfrepro import records
from zfrepro.evolution import cka, layer_features
from zfrepro.networks import ARCHITECTURES, architecture, build
from zfrepro.paper import TABLE2
from zfrepro.verdicts import Finding
from zfrepro.weights import Trained, save_weights

# --- numbers over seeds ----------------------------------------------------------------------------------------------


def seeded(*rows):
    return {name: dict(enumerate(row)) for name, row in zip("abcdefghijkl", rows, strict=False)}


def test_two_networks_give_the_paired_t_interval_of_scipy():
    values = seeded((40.1, 42.0, 41.2, 39.0), (43.0, 44.1, 44.9, 41.0))
    found = ablation.effect(values, {"b": 1, "a": -1})
    a, b = (list(values[name].values()) for name in "ab")
    paired = stats.ttest_rel(b, a).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((paired.low, paired.high))
    assert found.mean == pytest.approx(np.mean(b) - np.mean(a)) and found.seeds == 4


def test_the_pooled_spread_of_a_table_worked_by_hand():
    # the network's and the seed's means taken off, what is left is +-1 in each of the four cells, with one freedom
    assert ablation.spread(seeded((10, 12), (20, 26))) == ablation.Spread(pytest.approx(2.0), 1)
    # a seed that shifts all networks alike is no spread
    assert ablation.spread(seeded((1, 2, 5), (11, 12, 15), (0, 1, 4))) == ablation.Spread(pytest.approx(0, abs=1e-9), 4)


def test_a_full_table_has_the_freedom_of_two_ways():
    rng = np.random.default_rng(0)
    assert ablation.spread(seeded(*rng.normal(size=(12, 3)))).freedom == 11 * 2


def test_intervals_cover_the_truth_as_often_as_they_say():
    rng = np.random.default_rng(1)
    hits = []
    for _ in range(300):
        rows = rng.normal(size=(6, 3)) + 4 * np.arange(6)[:, None] + 5 * rng.normal(size=(1, 3))
        found = ablation.effect(seeded(*rows), {"b": 1, "a": -1})
        hits.append(found.low <= 4 <= found.high)
    assert 0.92 < np.mean(hits) < 0.98


def test_a_contrast_uses_the_seeds_that_all_its_networks_have():
    values = seeded((1.0, 2.0, 3.0), (5.0, 6.0))
    found = ablation.effect(values, {"b": 1, "a": -1})
    assert (found.mean, found.seeds) == (4.0, 2)
    del values["b"][0], values["b"][1]
    with pytest.raises(LookupError, match="no run of b"):
        ablation.effect(values, {"b": 1, "a": -1})
    values["b"][7] = 1.0
    with pytest.raises(LookupError, match="no seed in common of b, a"):
        ablation.effect(values, {"b": 1, "a": -1})


def test_one_seed_has_no_interval():
    found = ablation.effect(seeded((1.0,), (3.0,)), {"b": 1, "a": -1})
    assert found == ablation.Effect(2.0, -math.inf, math.inf, 1)
    assert ablation.spread({}).freedom == 0


def test_ranks_agree_with_the_formula_and_leave_out_what_is_missing():
    ours, theirs = {"a": 1, "b": 2, "c": 3, "d": 4, "x": 0}, {"a": 10, "b": 30, "c": 20, "d": 40, "y": 0}
    found = ablation.rank_correlation(ours, theirs)
    assert (found.rho, found.networks) == (pytest.approx(1 - 6 * 2 / (4 * 15)), 4)
    assert ablation.rank_correlation(theirs, {k: -v for k, v in theirs.items()}).rho == pytest.approx(-1)
    assert math.isnan(ablation.rank_correlation({"a": 1, "b": 1, "c": 1}, theirs).rho)
    with pytest.raises(ValueError, match="three networks or more"):
        ablation.rank_correlation(ours, theirs, names=("a", "x"))


# --- the networks ----------------------------------------------------------------------------------------------------


def test_every_row_has_its_base_and_a_short_name():
    assert {name: ablation.base_of(name) for name in TABLE2}["zfnet-wide-fc8192"] == "zfnet"
    assert [ablation.short(name) for name in TABLE2] == [
        "Krizhevsky", "without 3, 4", "without 7", "without 6, 7", "without 3, 4, 6, 7", "FC 2048", "FC 8192",
        "ZFNet", "FC 2048", "FC 8192", "wide", "wide, FC 8192",
    ]  # fmt: skip
    with pytest.raises(ValueError, match="no row of Table 2 called 'vgg'"):
        ablation.base_of("vgg")


def test_depth_and_parameters_of_the_papers_networks():
    assert {name: ablation.depth(value) for name, value in ARCHITECTURES.items() if "without" in name} == {
        "krizhevsky-without-3-4": 6, "krizhevsky-without-7": 7, "krizhevsky-without-6-7": 6,
        "krizhevsky-without-3-4-6-7": 4,
    }  # fmt: skip
    found = ablation.parameters(ARCHITECTURES["zfnet"])
    assert sum(found.values()) == 62_357_608 and found["fc6"] == 37_752_832
    assert ablation.held(("fc6", "fc7"), ARCHITECTURES["krizhevsky"]) == pytest.approx(87.42, abs=0.01)
    small = architecture("zfnet", width=0.25, units=256)
    assert ablation.held(ablation.parameters(small, 96, 16), small, 96, 16) == 100
    assert sum(ablation.parameters(small, 96, 16).values()) == sum(p.numel() for p in build(small, 96, 16).parameters())


# --- verdicts --------------------------------------------------------------------------------------------------------


def sweep(changes=(), seeds=3, noise=0.1, networks=TABLE2) -> dict:
    """A record as the paper's numbers would give it, with a little noise and some errors changed by so much."""
    rng, moved, runs = np.random.default_rng(0), dict(changes), []
    for name in networks:
        for seed in range(seeds):
            val, train, five = (
                value + moved.get((name, key), 0) + noise * rng.normal()
                for key, value in (
                    ("val", TABLE2[name].val1), ("train", TABLE2[name].train1), ("five", TABLE2[name].val5)
                )
            )  # fmt: skip
            errors = {"train": {"top1_error": train, "top5_error": train / 2}}
            errors |= {part: {"top1_error": val, "top5_error": five} for part in ("one_crop", "ten_crops")}
            small = architecture(name, width=0.25, units=256)
            runs.append({
                "arch": name, "seed": seed, "errors": errors, "seconds": 60.0, "multiply_adds": 10**7, "command": "c",
                "parameters": sum(ablation.parameters(small, 96, 16).values()), "commit": "c", "device": "d",
                "history": {"loss": [2.0, 1.0], "val_top1_error": [val + 9, val]},
            })  # fmt: skip
    return {"kind": "sweep", "scale": "micro", "dataset": {"train": 8000}, "recipe": {"epochs": 2}, "runs": runs}


CLAIMS = {claim.name.removeprefix("ablation-"): claim for claim in claims.CLAIMS}
LESS = {(claims.ALL, "val"): -30, (claims.ALL, "five"): -31}


def verdicts(**record) -> dict[str, str]:
    return {name: claim.judge(sweep(**record)).verdict for name, claim in CLAIMS.items()}


def test_the_papers_own_numbers_reproduce_every_claim():
    assert set(verdicts().values()) == {"reproduced"}


@pytest.mark.parametrize(
    "changes, claim, verdict",
    [
        ({(claims.FULL, "val"): 10}, "full", "not reproduced"),
        ({(claims.MIDDLE, "val"): 10}, "middle", "not reproduced"),
        ({(claims.MIDDLE, "val"): -20}, "middle", "partly"),  # a gain is no slight loss
        (LESS, "ruin", "not reproduced"),
        (LESS, "depth", "not reproduced"),
        ({(claims.ALL, "val"): -22.0}, "depth", "partly"),  # worst, but not beyond the sum
        ({("zfnet-fc2048", "val"): 5}, "sizes", "not reproduced"),
        ({(claims.WIDE, "val"): 2}, "wide", "not reproduced"),
        ({(claims.WIDEST, "val"): -2}, "overfit", "partly"),  # the gap grows all the same
        ({(claims.WIDEST, "val"): -2, (claims.WIDEST, "train"): 9}, "overfit", "not reproduced"),
        ({("krizhevsky", "val"): 30, ("zfnet", "val"): 40, (claims.WIDE, "val"): 40}, "order", "not reproduced"),
    ],
)
def test_a_claim_can_fail(changes, claim, verdict):
    assert CLAIMS[claim].judge(sweep(changes)).verdict == verdict


def test_noise_turns_verdicts_into_partly():
    found = verdicts(noise=6.0)
    assert found["wide"] != "reproduced" and found["sizes"] != "reproduced" and found["depth"] == "reproduced"


def test_numbers_carry_intervals_seeds_and_limits():
    said = CLAIMS["full"].judge(sweep(noise=1e-6)).numbers
    assert said.startswith("top-1 +4.3 (+4.3 to +4.3) points, top-5 +4.3 (+4.3 to +4.3); 3 seeds")
    assert "the limit is +8.1, the base 40.5 %" in said
    assert CLAIMS["full"].paper == "top-1 +4.3, top-5 +4.3 points" and "+21.6" in CLAIMS["depth"].paper


def test_what_has_not_run_is_not_tested_and_named():
    part = [name for name in TABLE2 if name not in (claims.WIDEST, "zfnet-fc8192")]
    assert CLAIMS["overfit"].judge(sweep(networks=part)) == Finding("not tested", "no run yet of zfnet-wide-fc8192")
    assert CLAIMS["full"].judge(sweep(networks=part)).verdict == "reproduced"
    assert CLAIMS["order"].judge(sweep(networks=part)).verdict == "not tested"
    assert set(verdicts(seeds=1).values()) == {"not tested"}
    assert "one seed only" in CLAIMS["wide"].judge(sweep(seeds=1)).numbers
    assert {claim.judge({"runs": []}).verdict for claim in CLAIMS.values()} == {"not tested"}


# --- figures and tables ----------------------------------------------------------------------------------------------

SWEEPS = {
    "nothing": {},
    "whole": {"diorama": sweep(), "imagenet20": sweep(noise=2.0)},
    "one seed": {"imagenet20": sweep(seeds=1)},
    "some networks": {"diorama": sweep(networks=("krizhevsky", claims.FULL), seeds=2)},
    "one run": {"diorama": sweep(networks=(claims.WIDE,), seeds=1)},
}


@pytest.mark.parametrize("found", SWEEPS.values(), ids=SWEEPS)
def test_figures_and_tables_of_any_part_of_a_sweep(found):
    for draw in (figures.changes, figures.against_size, figures.train_and_validation, figures.curves):
        figure = draw(found)
        figure.canvas.draw()
        plt.close(figure)
    assert len(figures.differences(found)) == len(found) * len(figures.CONTRASTS)
    for world in ("diorama", "imagenet20"):
        shown = figures.table(world, found.get(world)).data
        assert shown.count("<tr>") == 13 and ("not run yet" in shown) == (world not in found)
        assert figures.said(found, world, claims.change(claims.FULL))
        assert figures.chance(found, world)["sd"] and figures.verdict(found, world, claims.INTERACTION)
    assert figures.ranks(found)[0]["with the paper's"] is None  # of the paper with itself


def test_rows_put_the_paper_beside_ours():
    row = figures.rows(sweep(noise=0))[3]
    assert row["network"] == "Krizhevsky without 6, 7" and row["paper: top-1"] == "44.8"
    assert (row["top-1"], row["train"], row["seeds"], row["minutes"]) == ("44.8±0.0", "27.4±0.0", 3, 1.0)
    assert figures.rows(sweep(seeds=1, noise=0))[3]["top-1"] == "44.8"


def test_words_follow_the_interval():
    found = {"diorama": sweep()}
    assert figures.verdict(found, "diorama", claims.change(claims.ALL)) == "clearly higher"
    assert figures.verdict(found, "diorama", claims.change(claims.WIDE)) == "clearly lower"
    assert figures.verdict({"diorama": sweep(noise=9.0)}, "diorama", claims.change(claims.WIDE)) == (
        "not clearly different"
    )
    assert figures.verdict({"diorama": sweep(seeds=1)}, "diorama", claims.change(claims.ALL)) == "not known yet"
    assert figures.verdict({}, "diorama", claims.change(claims.ALL)) == "not known yet"
    assert figures.printed(claims.INTERACTION) == "+21.6"
    assert figures.gap_range({}, None) == "0.2 to 28.3" and figures.gap_range({}, "diorama") == "not known yet"
    assert figures.gap_range({"diorama": sweep(noise=0)}, "diorama") == "0.2 to 28.3"


def test_what_the_worlds_differ_in_is_read_from_their_recipes():
    assert "epochs (16 and 8), dropout (0 and 0.25)" in figures.differing() and "dataset" not in figures.differing()


def test_sizes_are_those_of_the_paper_and_of_the_small_networks():
    row = {row["network"]: row for row in figures.sizes()}["ZFNet wide"]
    assert row["paper: million parameters"] == 107.63 and row["weight layers"] == 8
    assert row["here: million parameters"] < 1


def test_labels_of_points_do_not_cover_each_other():
    figure = figures.against_size({})
    labels = [text.get_window_extent() for text in figure.axes[0].texts]
    assert len(labels) == 12
    assert sum(a.overlaps(b) for i, a in enumerate(labels) for b in labels[:i]) <= 1


# --- the study -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def networks():
    """Untrained tiny networks of two rows and their base, three seeds each."""
    rows = ("krizhevsky", claims.FULL, claims.ALL)
    found = {}
    for name in rows:
        found[name] = {}
        for seed in range(3):
            recipe = tiny(arch=name, seed=seed)
            found[name][seed] = Trained(recipe.network(3).eval(), recipe, ("a", "b", "c"), torch.zeros(3, 73, 73))
    return found


def test_features_are_compared_with_the_base_of_another_seed(networks):
    paired = [(own.recipe.seed, base.recipe.seed) for own, base in study.pairs(networks, claims.FULL)]
    assert paired == [(0, 1), (1, 2), (2, 0)]
    part = {claims.FULL: {0: networks[claims.FULL][0]}, "krizhevsky": networks["krizhevsky"]}
    assert [(own.recipe.seed, base.recipe.seed) for own, base in study.pairs(part, claims.FULL)] == [(0, 1)]
    found = study.features(networks, stripes(), images=8)["cka"]
    assert list(found[claims.ALL]) == ["conv1", "conv2", "conv5", "fc8"]
    assert list(found[claims.FULL]) == ["conv1", "conv2", "conv3", "conv4", "conv5", "fc8"]
    assert found["krizhevsky"]["conv1"] == pytest.approx(found[claims.FULL]["conv1"])  # same first layers untrained
    own, base = networks[claims.FULL][0], networks["krizhevsky"][1]
    seen = stripes().val.shuffled(8).images
    by_hand = cka(layer_features(own, seen)["conv2"], layer_features(base, seen)["conv2"])
    assert found[claims.FULL]["conv2"][0] == pytest.approx(by_hand, abs=1e-3)


def test_one_pair_of_a_base_is_not_counted_twice(networks):
    two = {name: {seed: own[seed] for seed in (0, 1)} for name, own in networks.items()}
    paired = {name: [(own.recipe.seed, base.recipe.seed) for own, base in study.pairs(two, name)] for name in two}
    assert paired == {"krizhevsky": [(0, 1)], claims.FULL: [(0, 1), (1, 0)], claims.ALL: [(0, 1), (1, 0)]}
    assert len(list(study.pairs(networks, "krizhevsky"))) == 3
    cka = {"krizhevsky": {"conv1": [0.84]}, claims.FULL: {"conv1": [0.74, 0.94]}}
    studies = {"diorama": {"runs": dict.fromkeys(cka, [0, 1]), "features": {"cka": cka}}}
    assert figures.pairs_told(studies, "diorama") == "2 seeds, 1 pair for a base, 2 for another row"
    assert figures.cka_told(studies, "diorama", "krizhevsky", "conv1") == "0.84 (one pair)"
    assert figures.cka_told(studies, "diorama", claims.FULL, "conv1") == "0.84 (0.74, 0.94)"
    for world in ("diorama", "imagenet20"):
        recorded = records.read(f"ablation/{world}")
        two = [name for name in ablation.BASES if len(recorded["runs"].get(name, ())) == 2]
        assert {len(values) for name in two for values in recorded["features"]["cka"][name].values()} == {1}
    assert figures.pairs_told({}, "diorama") == "not measured yet"


def test_one_seed_leaves_nothing_to_compare(networks):
    alone = {name: {0: own[0]} for name, own in networks.items()}
    assert study.features(alone, stripes(), 8)["cka"] == {name: {} for name in networks}


def test_the_error_by_images_is_that_of_the_mean_difference(networks, monkeypatch):
    wrong = {("krizhevsky", 0): (0, 100, 0, 0), (claims.FULL, 0): (100, 100, 0, 100)}
    monkeypatch.setattr(study, "_wrong", lambda t, _: torch.tensor(wrong[t.recipe.arch, t.recipe.seed]).float())
    one = {name: {0: own[0]} for name, own in networks.items() if name != claims.ALL}
    found = study.images_error(one, stripes())["standard_error"]
    # differences 100, 0, 0, 100: standard deviation 57.7, over the root of four
    assert found == {claims.FULL: pytest.approx(28.9, abs=0.05)}


def test_the_probe_reads_what_the_first_full_layer_sees(networks):
    trained, images = networks[claims.ALL][0], stripes().val.images
    seen = study.pooled(trained, images, batch=5)
    scores = trained.network(trained.normalised(images))
    assert torch.allclose(trained.network.fulls["fc8"](seen), scores, atol=1e-5)
    assert list(study.probes(networks, stripes(), 12)["accuracy"][claims.ALL]) == ["0", "1", "2"]


def test_runs_are_read_and_strangers_refused(networks, tmp_path):
    def saved(folder, recipe):
        save_weights(tmp_path / folder / "weights.safetensors", recipe.network(3), recipe, ("a", "b", "c"),
                     torch.zeros(3, 73, 73))  # fmt: skip
        return tmp_path / folder

    runs = (saved("b", tiny(arch=claims.FULL, seed=1)), saved("a", tiny(arch="krizhevsky", seed=1)))
    assert {name: list(own) for name, own in study.loaded(runs).items()} == {"krizhevsky": [1], claims.FULL: [1]}
    with pytest.raises(ValueError, match="11s4-5s1 is no row of Table 2"):
        study.loaded((saved("c", tiny(arch="11s4-5s1")),))
    with pytest.raises(ValueError, match="needs --runs"):
        study.loaded(())


def test_the_features_are_drawn_also_where_a_layer_is_missing(networks):
    found = {"features": study.features(networks, stripes(), 8), "probe": study.probes(networks, stripes(), 12)}
    found["images_error"] = {"standard_error": {claims.FULL: 1.26}}
    found["runs"] = {name: [0, 1, 2] for name in networks}
    mean, *each = figures.cka_told({"diorama": found}, "diorama", claims.ALL).replace("(", "").rstrip(")").split()
    assert float(mean) <= 1 and len(each) == 3
    assert figures.pairs_told({"diorama": found}, "diorama").startswith("3 seeds, 3 pairs for a base, 3 for")
    assert figures.cka_told({"diorama": found}, "imagenet20", claims.ALL) == "not measured yet"
    figure = figures.features({"diorama": found})
    figure.canvas.draw()
    plt.close(figure)
    row = {row["network"]: row for row in figures.probed({"diorama": found})}["Krizhevsky without 6, 7"]
    assert row["diorama: chance by images"] == 1.26 and "±" in row["diorama: probe, % right"]
    assert row["ImageNet-20: probe, % right"] is None and len(figures.probed({})) == 12
