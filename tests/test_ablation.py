"""The ablation: what its claims read."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from book.ablation import claims, figures
from zfrepro.paper import TABLE2
from zfrepro.sweeps import as_record


def test_what_has_not_run_is_not_tested_and_named():
    def judge(claim, networks=TABLE2, seeds=2):
        record = as_record({name: TABLE2[name] for name in networks})
        runs = [run for run in record["runs"] if run["seed"] < seeds]
        return claim.judge(record | {"runs": runs})

    by_name = {claim.name: claim for claim in claims.CLAIMS}
    full, overfit = by_name["ablation-full"], by_name["ablation-overfit"]
    part = [name for name in TABLE2 if name not in (claims.WIDEST, "zfnet-fc8192")]
    finding = judge(overfit, part)
    assert (finding.outcome, finding.reason) == ("not tested", "no run yet of zfnet-wide-fc8192")
    assert judge(full, part).outcome == "agrees"
    assert {judge(claim, seeds=1).outcome for claim in claims.CLAIMS} == {"not tested"}
    assert "one seed only" in judge(full, seeds=1).reason


def test_rank_correlation_is_spearmans_with_fishers_interval():
    ours = TABLE2 | {"zfnet": replace(TABLE2["zfnet"], val1=58.4)}
    correlation = claims.rank_correlation(as_record(ours))
    errors = [[row.val1 for row in table.values()] for table in (ours, TABLE2)]
    assert correlation.estimate == pytest.approx(stats.spearmanr(*errors).statistic)
    half = 1.96 / np.sqrt(12 - 3)
    ends = np.tanh(np.arctanh(correlation.estimate) + np.array([-half, half]))
    assert (correlation.low, correlation.high) == pytest.approx(tuple(ends), abs=1e-3)


def test_a_loss_is_a_share_of_the_accuracy_above_chance():
    loss = claims.loss(as_record(TABLE2, "imagenet20"), claims.FULL)
    assert loss.estimate == pytest.approx(100 * (44.8 - 40.5) / (95 - 40.5))


def test_differences_at_the_end_are_clear_only_beyond_their_interval():
    def record(*errors):
        runs = [("krizhevsky", (50.0,) * len(errors)), (claims.ALL, errors)]
        return {
            "runs": [
                {"arch": arch, "seed": seed, "errors": dict.fromkeys(parts, {"top1_error": error})}
                for arch, row in runs
                for seed, error in enumerate(row)
            ]
        }

    parts = ("one_crop", "ten_crops")
    text = figures.at_the_end(record(49.8), [claims.ALL])
    assert text == "removed layers 3,4,6,7 -0.2 and -0.2 points (one seed; no clear difference)"
    assert figures.at_the_end(record(52.0, 52.1), [claims.ALL]).endswith("points (2 seeds)")
    assert "no clear" in figures.at_the_end(record(51.0, 49.2), [claims.ALL])
