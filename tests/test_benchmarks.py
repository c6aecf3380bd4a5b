"""The benchmarks run, and their checks notice a wrong result. Speeds are not tested."""

import copy
import json

import pytest

from benchmarks import __main__ as bench
from benchmarks import timing, training
from benchmarks.result import Check, Result, faster, table
from benchmarks.timing import medians

FAST = ("norm", "search", "diorama", "units")  # all parts take some minutes: make bench


@pytest.mark.parametrize("name", FAST)
def test_a_part_runs_is_checked_and_says_where_it_was_measured(name, tmp_path):
    file = tmp_path / "bench.json"
    assert bench.main(["--quick", "--only", name, "--json", str(file)]) == 0
    record = json.loads(file.read_text())
    assert record["kind"] == "benchmark" and "--quick" in record["command"]
    assert {"torch", "captum", "python"} <= set(record["versions"])
    assert "thread" in record["device"] and record["commit"]
    for row in record["results"]:
        assert row["checks"] and row["correct"] and row["seconds"] > 0 and row["ratio"] > 0


def test_a_folder_for_the_record_is_refused_before_the_work(tmp_path, capsys):
    with pytest.raises(SystemExit):
        bench.main(["--quick", "--only", "norm", "--json", str(tmp_path)])
    assert f"--json {tmp_path}: is a folder; name a file" in capsys.readouterr().err


def test_a_network_that_is_trained_wrongly_is_noticed(monkeypatch):
    def biased(network):
        other = copy.deepcopy(network)
        other.fulls["fc8"].bias.data[0] += 3.0
        return plain_copy(other)

    plain_copy = training.plain_copy
    monkeypatch.setattr(training, "plain_copy", biased)
    assert not next(training.absolute(quick=True)).correct


def test_a_wrong_contrast_norm_is_noticed(monkeypatch, capsys):
    monkeypatch.setattr(training, "contrast_norm", lambda x: training.torch_norm(x) * 1.001)
    assert bench.main(["--quick", "--only", "norm"]) == 1
    captured = capsys.readouterr()
    assert "WRONG" in captured.err and "WRONG" in captured.out


def test_the_table_says_what_was_reached_and_what_is_wrong():
    good, bad = (Check("values", 1e-7, 1e-5),), (Check("values", float("nan"), 1e-5),)
    rows = [
        faster("quick thing", 0.5, "slow thing", 2.0, good, goal=3),
        faster("other thing", 1.0, "slow thing", 2.0, good, goal=3),
        Result("search", 1.1, 1.1, good, "alone", 1.0, 1.15, at_most=True, unit="x its time"),
        faster("broken thing", 0.1, "slow thing", 2.0, bad, goal=3),
    ]
    text = table(rows).splitlines()
    assert text[1].endswith("4 x faster      >= 3 reached") and "2 s, slow thing" in text[1]
    assert text[2].endswith(">= 3 MISSED") and text[3].endswith("<= 1.15 reached")
    assert text[4].endswith("WRONG RESULT")


def test_times_are_medians_after_a_call_that_warms_up(monkeypatch):
    ours = iter([9, 1, 3, 2])
    monkeypatch.setattr(timing, "_seconds", lambda function, calls: function())
    assert medians([lambda: next(ours), lambda: 4.0], 3, at_least=0) == [2, 4]
