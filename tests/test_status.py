"""Records have what their kind asks for; the status page lists them all."""

import json
import re

import pytest

from book import status
from zfrepro import claims, records

MADE = ("command", "commit", "versions", "date", "device", "dataset", "seconds")
KEYS: dict[str, tuple[str, ...]] = {
    "training": (*MADE, "scale", "recipe", "parameters", "errors", "history"),
    "study": (*MADE, "chapter", "image_size", "networks", "images", "seed"),
    "sweep": ("chapter", "scale", "dataset", "recipe", "runs"),
    "benchmark": ("command", "commit", "versions", "date", "device", "seconds", "results"),
    "support": ("command", "commit", "versions", "date", "networks"),
    "annotation": ("set", "what", "check"),
    "log": ("changes",),
}
"""What a record of each kind has at least."""
RUN = (
    "arch", "seed", "command", "commit", "versions", "date", "device", "seconds", "parameters",
    "multiply_adds", "errors", "history",
)  # fmt: skip
"""What each run of a sweep has."""
NAMES = status.all_records().keys()


@pytest.mark.parametrize("name", NAMES)
def test_a_record_has_what_its_kind_asks_for_and_is_finite(name):
    text = (records.results_root() / f"{name}.json").read_text()
    record = json.loads(text, parse_constant=lambda constant: pytest.fail(f"{constant} in {name}"))
    assert record.keys() >= set(KEYS[record["kind"]])
    if record["kind"] == "sweep":
        assert all(run.keys() >= set(RUN) for run in record["runs"])


def test_a_record_that_does_not_say_what_made_it_is_refused(own_places):
    root = records.results_root()
    for content, missing in (({}, "kind"), ({"kind": "study"}, "command")):
        records.write_json(root / "some.json", content)
        with pytest.raises(ValueError, match=f"results/some.json lacks '{missing}'; measure it"):
            status.recorded()


@pytest.mark.parametrize("dataset", claims.DATASETS)
def test_no_record_that_a_claim_reads_is_missing(dataset):
    # Sweeps may still be running: their pages say how far they are.
    chapters = {claim.chapter for claim in claims.all_claims() if not claim.sweep}
    missing = {f"{chapter}/{dataset}" for chapter in chapters} - NAMES
    assert not missing, "python -m zfrepro measure CHAPTER --dataset DATASET"


def test_every_record_that_a_page_reads_is_there():
    text = "".join(file.read_text() for file in sorted((records.ROOT / "book").rglob("*.ipynb")))
    read = set(re.findall(r'records\.read\((?:\\"|\')([\w/-]+)(?:\\"|\')\)', text))
    assert read <= NAMES


def test_every_measured_record_is_listed_with_its_command():
    rows = {row["record"]: row for row in status.recorded()}
    measured = {
        name for name, record in status.all_records().items()
        if record["kind"] not in ("annotation", "log")
    }  # fmt: skip
    assert rows.keys() == measured
    for row in rows.values():
        assert row["command"].startswith("python -m ") and row["minutes"] >= 0
