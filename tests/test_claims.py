"""The claims of the paper: each well formed, judged from a record, never typed."""

import json
import re

import pytest

from zfrepro import records
from zfrepro import verdicts as claims
from zfrepro.sweeps import SWEEPS
from zfrepro.verdicts import Claim, Finding
from zfrepro.words import graded, told, told_of

ALL = claims.all_claims()
each_claim = pytest.mark.parametrize("claim", ALL, ids=lambda claim: claim.name)


def made_up(judge, name: str = "made-up") -> Claim:
    return Claim(name, "gallery", "nowhere", "says <this>", "measure", "rule", judge, "12 %")


@pytest.fixture
def results(tmp_path, monkeypatch):
    """A folder of records with one for the gallery in the drawn world."""
    monkeypatch.setenv("ZFREPRO_RESULTS", str(tmp_path))
    (tmp_path / "gallery").mkdir()
    (tmp_path / "gallery" / "diorama.json").write_text(json.dumps({"purity": 3}))
    return tmp_path


def test_names_are_unique_and_fit_for_links():
    names = [claim.name for claim in ALL]
    assert len(names) == len(set(names))
    assert all(re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)+", name) for name in names)


@each_claim
def test_a_claim_belongs_to_a_chapter_and_says_everything(claim):
    assert claim.chapter in claims.CHAPTERS
    study = records.ROOT / "book" / claim.chapter / "measure.py"
    assert claim.chapter in SWEEPS if claim.sweep else study.is_file()
    assert all(text.strip() for text in (claim.place, claim.says, claim.measure, claim.rule, claim.paper))


@pytest.mark.parametrize("world", claims.WORLDS)
@each_claim
def test_every_record_gives_a_finding_with_numbers(claim, world):
    finding = claim.finding(world)
    assert isinstance(finding, Finding) and finding.numbers
    if (records.results_root() / claim.chapter / f"{world}.json").is_file() and finding.verdict != "not tested":
        assert re.search(r"\d", finding.numbers)


def test_verdicts_follow_the_record(results):
    claim = made_up(lambda record: Finding("reproduced" if record["purity"] > 2 else "not reproduced", "3"))
    assert claim.finding("diorama").verdict == "reproduced"
    (results / "gallery" / "diorama.json").write_text(json.dumps({"purity": 1}))
    assert claim.finding("diorama").verdict == "not reproduced"


def test_without_a_record_a_claim_is_not_tested_and_says_what_to_run(results):
    finding = made_up(lambda record: Finding("reproduced", "")).finding("imagenet20")
    assert finding.verdict == "not tested"
    assert finding.numbers == "python -m zfrepro measure gallery --dataset imagenet20"


@pytest.mark.parametrize("content", ['{"other": 1}', '{"purity": "three"}', '{"purity": []}'])
def test_a_record_of_another_form_is_one_clear_error(results, content):
    (results / "gallery" / "diorama.json").write_text(content)
    claim = made_up(lambda record: Finding("partly", f"{1 / record['purity']}"))
    with pytest.raises(ValueError, match=r"results/gallery/diorama\.json does not hold what the claim made-up reads"):
        claim.finding("diorama")


def test_a_damaged_record_names_its_file(results):
    (results / "gallery" / "diorama.json").write_text("{")
    with pytest.raises(ValueError, match=r"diorama\.json: not a whole record"):
        made_up(lambda record: Finding("partly", "")).finding("diorama")


def test_unknown_verdicts_are_refused():
    with pytest.raises(ValueError, match="choose among"):
        Finding("confirmed", "1")


@pytest.mark.parametrize(
    "verdicts, together",
    [
        (["reproduced", "reproduced"], "reproduced"),
        (["reproduced", "not reproduced"], "partly"),
        (["not reproduced", "not tested"], "not reproduced"),
        (["not tested", "not tested"], "not tested"),
    ],
)
def test_two_worlds_give_one_verdict(verdicts, together):
    assert claims.combined([Finding(verdict, "1") for verdict in verdicts]) == together


def test_the_table_counts_and_shows_every_claim():
    table = claims.table()
    assert sum(table.summary().values()) == len(ALL) == len(table.verdicts())
    shown = table._repr_html_()
    assert shown.count("<tr>") == len(ALL) + 1
    for claim in ALL:
        assert f'href="{claim.chapter}/{claim.chapter}.html#claim-{claim.name}"' in shown or claim.chapter not in shown
    assert f"{len(ALL)} claims of the paper" in shown


def test_a_chapters_table_carries_the_anchors_that_the_whole_one_links_to():
    shown = claims.table("gallery")._repr_html_()
    for claim in claims.of_chapter("gallery"):
        assert f'id="claim-{claim.name}"' in shown
    with pytest.raises(ValueError, match="no claims of 'cooking'"):
        claims.table("cooking")


def test_text_in_a_table_is_escaped(monkeypatch, results):
    claim = made_up(lambda record: Finding("partly", "1 < 2"))
    monkeypatch.setattr(claims, "of_chapter", lambda chapter: (claim,))
    shown = claims.table("gallery")._repr_html_()
    assert "says &lt;this&gt;" in shown and "1 &lt; 2" in shown and "<code>python -m zfrepro" in shown


def test_a_verdict_follows_from_which_parts_held():
    assert [graded(True, True), graded(True, False), graded(False, False)] == ["reproduced", "partly", "not reproduced"]
    assert told_of({"mean": 0.5, "low": 0.4, "high": 0.6}, ".0f", 100) == told(50, 40, 60, ".0f") == "50 (40 to 60)"
