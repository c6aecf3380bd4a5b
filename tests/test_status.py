"""Records have what their kind asks for; the status page lists them all."""

import json
import re

import pytest

from book import status
from zfrepro import claims, records

NAMES = sorted(
    f.relative_to(records.results_root()).with_suffix("").as_posix()
    for f in records.results_root().rglob("*.json")
)


@pytest.mark.parametrize("name", NAMES)
def test_a_record_has_what_its_kind_asks_for_and_is_finite(name):
    status.check(name, records.read(name))
    text = (records.results_root() / f"{name}.json").read_text()
    json.loads(text, parse_constant=lambda constant: pytest.fail(f"{constant} in {name}"))


def whole(kind: str) -> dict:
    record = dict.fromkeys(status.KEYS[kind], "x") | {"kind": kind}
    return record | ({"runs": [dict.fromkeys(status.RUN, "x")]} if kind == "sweep" else {})


def test_a_record_without_a_key_is_refused():
    for kind, keys in status.KEYS.items():
        for missing in keys:
            record = whole(kind)
            status.check("some/record", record)
            del record[missing]
            says = f"some/record.json: a record of kind {kind} without {missing}; measure it again"
            with pytest.raises(ValueError, match=says):
                status.check("some/record", record)


def test_a_run_of_a_sweep_without_a_key_is_refused():
    for missing in status.RUN:
        record = whole("sweep")
        del record["runs"][0][missing]
        with pytest.raises(ValueError, match=f"sweeps/x.json: run 0 without {missing}"):
            status.check("sweeps/x", record)


@pytest.mark.parametrize("dataset", claims.DATASETS)
def test_no_record_that_a_claim_reads_is_missing(dataset):
    # Sweeps may still be running: their pages say how far they are.
    chapters = {claim.chapter for claim in claims.all_claims() if not claim.sweep}
    missing = {f"{chapter}/{dataset}" for chapter in chapters} - set(NAMES)
    assert not missing, "python -m zfrepro measure CHAPTER --dataset DATASET"


def test_every_record_that_a_page_reads_is_there():
    text = "".join(file.read_text() for file in sorted((records.ROOT / "book").rglob("*.ipynb")))
    read = set(re.findall(r'records\.read\((?:\\"|\')([\w/-]+)(?:\\"|\')\)', text))
    assert read <= set(NAMES)


def test_a_sweep_is_one_row_with_the_command_of_all_its_runs(monkeypatch):
    run = {
        "seconds": 90,
        "device": "CPU",
        "versions": {"torch": "2"},
        "date": "2026-01-02",
        "commit": "a",
    }
    runs = [run | {"seed": 0}, run | {"seed": 1, "commit": "b", "date": "2026-01-03"}]
    record = {
        "kind": "sweep",
        "chapter": "ablation",
        "scale": "micro",
        "dataset": {"name": "diorama"},
        "runs": runs,
    }
    monkeypatch.setattr(
        status, "all_records", lambda: {"sweeps/x": record | {"recipe": {"epochs": 16}}}
    )
    (row,) = status.recorded()
    assert (
        row["command"]
        == "python -m zfrepro sweep ablation --dataset diorama --scale micro --epochs 16 --seeds 2"
    )
    assert (row["minutes"], row["device"], row["date"], row["commit"]) == (
        3,
        "CPU",
        "2026-01-03",
        "a, b",
    )


def test_unknown_kinds_are_refused():
    with pytest.raises(ValueError, match="kind None"):
        status.check("x", {})


def test_every_measured_record_is_listed_with_its_command():
    rows = {row["record"]: row for row in status.recorded()}
    assert set(rows) <= set(NAMES)
    for name, record in status.all_records().items():
        if record["kind"] not in ("annotation", "log"):  # which are not measured
            assert rows[name]["command"].startswith("python -m ")
            assert rows[name]["minutes"] >= 0


def test_the_speeds_are_those_of_the_record():
    machines = status.benchmarks()
    assert status.all_records()["benchmarks/cpu"] in machines.values()
    for benchmark in machines.values():
        rows, found = status.speeds(benchmark), benchmark["results"]
        assert [row["what"] for row in rows] == [result["name"] for result in found]
        assert all(
            row["ratio"] == pytest.approx(r["ratio"], rel=0.01)
            for row, r in zip(rows, found, strict=True)
        )
        assert {row["goal"].split(", ")[-1] for row in rows} <= {"", "reached", "missed"}


def test_environment_names_versions_and_data():
    rows = {row["what"]: row["which"] for row in status.environment()}
    assert rows["torch"] and rows["data set of the pages"] in (
        "diorama",
        "imagenette",
        "imagewoof",
        "imagenet20",
        "imagenet",
    )
