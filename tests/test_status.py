"""Records have what their kind asks for; the status page lists them all."""

import json

import pytest

from zfrepro import records, status

NAMES = sorted(
    f.relative_to(records.results_root()).with_suffix("").as_posix() for f in records.results_root().rglob("*.json")
)


@pytest.mark.parametrize("name", NAMES)
def test_a_record_has_what_its_kind_asks_for(name):
    status.check(name, records.read(name))


@pytest.mark.parametrize("name", NAMES)
def test_a_record_is_finite(name):
    text = (records.results_root() / f"{name}.json").read_text()
    json.loads(text, parse_constant=lambda constant: pytest.fail(f"{constant} in {name}"))


@pytest.mark.parametrize("missing", status.KEYS["study"])
def test_a_record_without_a_key_is_refused(missing):
    record = dict.fromkeys(status.KEYS["study"], "x") | {"kind": "study"}
    status.check("gallery/diorama", record)
    del record[missing]
    with pytest.raises(ValueError, match=f"gallery/diorama.json: a record of kind study without {missing}"):
        status.check("gallery/diorama", record)


def test_unknown_kinds_are_refused():
    with pytest.raises(ValueError, match="kind None"):
        status.check("x", {})


def test_every_measured_record_is_listed_with_its_command():
    rows = {row["record"]: row for row in status.recorded()}
    assert set(rows) <= set(NAMES)
    for name, record in status.all_records().items():
        if record["kind"] != "annotation":
            assert rows[name]["command"].startswith("python -m zfrepro ")
            assert rows[name]["minutes"] >= 0


def test_environment_names_versions_and_data():
    rows = {row["what"]: row["which"] for row in status.environment()}
    assert rows["torch"] and rows["data set of the pages"] in (
        "diorama",
        "imagenette",
        "imagewoof",
        "imagenet20",
        "imagenet",
    )
