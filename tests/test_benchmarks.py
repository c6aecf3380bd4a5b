"""The benchmarks run, and their checks notice a wrong result. Speeds are not tested."""

import copy
import dataclasses
import json

import pytest
import torch

from benchmarks import __main__ as bench
from benchmarks import absolute, contrast, projections, training_step, where
from benchmarks.result import Check, Result, faster, table
from benchmarks.timing import medians
from zfrepro import deconvnet, status


@pytest.fixture(scope="module")
def quick(tmp_path_factory) -> dict:
    file = tmp_path_factory.mktemp("bench") / "bench.json"
    assert bench.main(["--quick", "--json", str(file)]) == 0
    return json.loads(file.read_text())


def test_every_comparison_runs_and_is_checked(quick):
    names = [row["name"] for row in quick["results"]]
    for expected in (
        "contrast norm of conv1", "contrast norm of conv2", "training step", "top-9 search", "diorama",
        "search, images", "projections, maps", "occlusion, positions", "training, zfnet", "training, krizhevsky",
    ):  # fmt: skip
        assert any(name.startswith(expected) for name in names), expected
    for layer in range(1, 6):
        for kind in ("on crops", "whole image"):
            assert f"projection of conv{layer}, {kind}" in names
    assert all(row["checks"] and row["correct"] for row in quick["results"])
    assert all(row["seconds"] > 0 and row["ratio"] > 0 for row in quick["results"])


def test_profiles_say_where_the_time_goes(quick):
    profiled = {row["name"]: row["shares"] for row in quick["results"] if row["shares"]}
    assert any(name.startswith("training step") for name in profiled) and "projection of conv5, on crops" in profiled
    for name, shares in profiled.items():
        assert sum(shares.values()) == pytest.approx(1)
        assert min(shares.values()) >= 0
        without = "conv1" in name or "diorama" in name  # a unit of conv1 is one sum of products
        assert without or shares["convolutions"] > 0.2


def test_the_status_page_knows_the_kinds():
    assert set(status.ARITHMETIC) <= set(where.KINDS)


def test_a_network_that_is_trained_wrongly_is_noticed(monkeypatch):
    monkeypatch.setattr(absolute, "plain_copy", lambda network: training_step.plain_copy(zeroed(network)))

    def zeroed(network):
        other = copy.deepcopy(network)
        torch.nn.init.constant_(other.fulls["fc8"].bias, 0)
        other.fulls["fc8"].bias.data[0] = 3.0
        return other

    assert not next(absolute.run(quick=True)).correct


def test_time_is_told_by_the_outermost_operation_that_has_a_kind():
    assert where.kind_of(["cell", "_ContrastNorm", "aten::mm"]) == "contrast norm"
    assert where.kind_of(["autograd::engine::evaluate_function: ReluBackward0", "aten::threshold_backward"]) == "ReLU"
    assert where.kind_of(["aten::add"]) == "other"
    maps, filters = torch.randn(2, 8, 64, 64), torch.randn(16, 8, 5, 5)
    found = where.shares(lambda: torch.relu(torch.conv2d(maps, filters)))
    assert set(found) <= {"convolutions", "ReLU", "other"} and found["convolutions"] > found["ReLU"] > 0


def test_the_record_says_where_it_was_measured(quick):
    assert quick["kind"] == "benchmark" and "--quick" in quick["command"]
    assert {"torch", "captum", "python"} <= set(quick["versions"])
    assert "threads" in quick["device"] and quick["commit"]


def test_a_wrong_contrast_norm_is_noticed(monkeypatch, capsys):
    monkeypatch.setattr(contrast, "contrast_norm", lambda x: contrast.torch_norm(x) * 1.001)
    assert bench.main(["--quick", "--only", "norm"]) == 1
    assert "WRONG" in capsys.readouterr().err


def test_a_wrong_projection_is_noticed(monkeypatch):
    original = deconvnet.project_crops

    def off(*args):
        found = original(*args)
        return dataclasses.replace(found, pixels=found.pixels * 1.001)

    monkeypatch.setattr(projections.deconvnet, "project_crops", off)
    first = next(projections.run(quick=True))
    assert not first.correct and first.checks[0].error == pytest.approx(1e-3, rel=0.1)


def test_units_are_among_those_that_respond():
    activations = torch.zeros(2, 3, 4, 5)
    activations[0, 2, 3, 4], activations[1, 1, 0, 2] = 1.0, 7.0
    units = projections.responding(activations, torch.Generator().manual_seed(0))
    assert (units.maps.tolist(), units.rows.tolist(), units.columns.tolist()) == ([2, 1], [3, 0], [4, 2])


def test_nan_passes_no_check():
    assert not Check("values", float("nan"), 1.0).passed
    assert Check("values", 0.0, 0.0).passed


def test_table_says_what_was_reached():
    good = (Check("values", 1e-7, 1e-5),)
    rows = [
        faster("quick thing", 0.5, "slow thing", 2.0, good, goal=3),
        faster("other thing", 1.0, "slow thing", 2.0, (Check("values", 1.0, 1e-5),), goal=3),
        Result("search", 1.1, 1.1, good, "alone", 1.0, 1.15, at_most=True, unit="x its time"),
    ]
    text = table(rows).splitlines()
    assert "4.00 x faster" in text[1] and "reached" in text[1] and "WRONG" not in text[1]
    assert "missed" in text[2] and "WRONG" in text[2]
    assert "at most 1.15" in text[3] and "reached" in text[3]


def test_medians_calls_each_function_in_turn():
    calls = []
    found = medians([lambda: calls.append("a"), lambda: calls.append("b")], repeats=3, at_least=0)
    assert len(found) == 2 and all(t >= 0 for t in found)
    assert calls[-6:] == ["a", "b"] * 3


def test_unknown_name_is_refused(capsys):
    with pytest.raises(SystemExit):
        bench.main(["--only", "speed"])
    assert "choose from" in capsys.readouterr().err
