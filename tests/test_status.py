"""Records have what their kind asks for; the status page lists them all."""

import json
import re

import pytest

from book import status
from zfrepro import claims, data, records

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


@pytest.mark.parametrize("kind", status.KEYS)
def test_a_record_without_a_key_is_refused(kind):
    status.check("some/record", whole(kind))
    for missing in status.KEYS[kind]:
        record = whole(kind)
        del record[missing]
        says = f"some/record.json: a record of kind {kind} without {missing}; measure it again"
        with pytest.raises(ValueError, match=says):
            status.check("some/record", record)
    for missing in status.RUN if kind == "sweep" else ():
        record = whole(kind)
        del record["runs"][0][missing]
        with pytest.raises(ValueError, match=f"sweeps/x.json: run 0 without {missing}"):
            status.check("sweeps/x", record)
    with pytest.raises(ValueError, match="kind None"):
        status.check("x", {})


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
    one = {"seed": 0, "seconds": 90, "device": "CPU", "versions": {"torch": "2"}}
    one |= {"date": "2026-01-02", "commit": "a"}
    other = one | {"seed": 1, "commit": "b", "date": "2026-01-03"}
    record = {"kind": "sweep", "chapter": "ablation", "scale": "micro", "runs": [one, other]}
    record |= {"dataset": {"name": "diorama"}, "recipe": {"epochs": 16}}
    monkeypatch.setattr(status, "all_records", lambda: {"sweeps/x": record})
    command = "sweep ablation --dataset diorama --scale micro --epochs 16 --seeds 2"
    assert status.recorded() == [{
        "record": "sweeps/x", "command": f"python -m zfrepro {command}", "minutes": 3,
        "device": "CPU", "torch": "2", "date": "2026-01-03", "commit": "a, b",
    }]  # fmt: skip


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
        ratios = [result["ratio"] for result in found]
        assert [row["ratio"] for row in rows] == pytest.approx(ratios, rel=0.01)
        assert {row["goal"].split(", ")[-1] for row in rows} <= {"", "reached", "missed"}


def test_environment_names_versions_and_data():
    rows = {row["what"]: row["which"] for row in status.environment()}
    assert rows["torch"] and rows["data set of the pages"] in data.DATASETS
