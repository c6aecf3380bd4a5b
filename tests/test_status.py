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


@pytest.mark.parametrize("kind", status.KEYS)
def test_a_record_without_a_key_is_refused(kind):
    record = whole(kind)
    status.check("some/record", record)
    if kind == "sweep":
        missing, _ = record["runs"][0].popitem()
        with pytest.raises(ValueError, match=f"some/record.json: run 0 without {missing}"):
            status.check("some/record", record)
    missing = list(status.KEYS[kind])[-1]
    del record[missing]
    says = f"some/record.json: a record of kind {kind} without {missing}; measure it again"
    with pytest.raises(ValueError, match=says):
        status.check("some/record", record)
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


def test_every_measured_record_is_listed_with_its_command():
    rows = {row["record"]: row for row in status.recorded()}
    assert set(rows) <= set(NAMES)
    for name, record in status.all_records().items():
        if record["kind"] not in ("annotation", "log"):  # which are not measured
            assert rows[name]["command"].startswith("python -m ")
            assert rows[name]["minutes"] >= 0
