"""Claims: conditions judged on made-up intervals, rules put into words, and every claim of the
book.
"""

import math
import re
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import norm, sem, t

from book import scoreboard
from zfrepro import claims, page, records
from zfrepro.claims import Above, AllOf, Below, Claim, Finding, Includes, Quantity, Truth, Within
from zfrepro.stats import Interval

YES, OPEN, NO = Truth.YES, Truth.UNRESOLVED, Truth.NO
DROP = Quantity("drop", "drop", " points", form="+.1f")
GAIN = Quantity("gain", "gain", " points", form="+.1f")
NONE, BARE = Quantity("nan", "none"), Quantity("a number without interval", "bare")


def record(drop=(2.0, 1.0, 3.0), gain=(6.0, 5.0, 7.0), **more) -> dict:
    """Two quantities as mean, low and high."""
    return {"drop": list(drop), "gain": list(gain)} | more


@pytest.mark.parametrize(
    "condition, truth, margin",
    [
        (Above(DROP, 0.5), YES, 1.5), (Above(DROP, 1.5), OPEN, 0.5), (Above(DROP, 2.5), OPEN, -0.5),
        (Above(DROP, 3.0), NO, -1.0), (Above(DROP, 4.0), NO, -2.0),
        (Below(DROP, 4.0), YES, 2.0), (Below(DROP, 2.5), OPEN, 0.5), (Below(DROP, 1.0), NO, -1.0),
        (Above(GAIN, DROP), YES, 2.0), (Below(GAIN, DROP), NO, -2.0),
        (Within(DROP, 0.0, 4.0), YES, 2.0), (Within(DROP, 1.5, 4.0), OPEN, 0.5),
        (Within(DROP, 4.0, 5.0), NO, -2.0),
        (Includes(DROP, 1.2), YES, math.inf), (Includes(DROP, 3.2), NO, -math.inf),
        (AllOf(Above(DROP, 0.5), Above(GAIN, 6.5)), OPEN, -0.5),
        (AllOf(Above(DROP, 1.5), Above(GAIN, 8.0)), NO, -2.0),
        (Above(NONE, 0), OPEN, 0), (Within(NONE, 0, 1), OPEN, 0), (Above(GAIN, NONE), OPEN, 0),
        (Above(BARE, 1), YES, math.inf), (Below(BARE, 1), NO, -math.inf),
    ],
)  # fmt: skip
def test_conditions_are_judged_by_intervals(condition, truth, margin):
    content = record(none=[math.nan] * 3, bare=2.0)
    assert condition.judge(content) is truth
    assert condition.margin(content) == pytest.approx(margin)


def test_quantities_are_read_by_path_scale_and_form():
    nested = {"runs": [{"share": {"mean": 0.5, "low": 0.25, "high": 0.75, "n": 8}}]}
    share = Quantity("share", "runs/0/share", " %", 100, ".0f")
    assert share.of(nested) == Interval(50, 25, 75, 8)
    assert share.told(nested).startswith("share: 50") and share.told(nested).endswith(" %")
    assert Quantity("twice", lambda record: 2 * len(record["runs"])).of(nested).estimate == 2
    with pytest.raises(LookupError, match="no '1' of 'runs/1/share'"):
        Quantity("none", "runs/1/share").of(nested)


def made_up(name="gallery-made-up", **changes) -> Claim:
    parts = {"holds": Above(DROP, 1.5), "paper": "12 points"} | changes
    return Claim(name, place="Fig. 0", says="says <this>", measure="points", **parts)


def test_a_rule_is_put_into_words():
    rule = made_up(
        holds=AllOf(Above(DROP, 1.5), Below(DROP, GAIN), Within(GAIN, 0, 2)),
        size=Includes(DROP, 3),
    ).rule()
    assert rule == (
        "Agrees if drop is above +1.5 points and drop is below gain and gain is between 0 points "
        "and +2.0 points; same direction, other size, unless the interval of the drop includes "
        "+3.0 points. Judged by 95 % intervals."
    )


@pytest.mark.parametrize(
    "drop, outcome",
    [
        ((4, 3, 5), "agrees"),
        ((2.4, 2, 2.8), "same direction, other size"),
        ((2, 1, 3), "not resolved"),
        ((1, 0, 1.2), "contradicts"),
        ((math.nan,) * 3, "not resolved"),
    ],
)
def test_outcomes_follow_the_record(drop, outcome):
    claim = made_up(size=Above(DROP, 2.9))
    finding = claim.judge(record(drop))
    assert finding.outcome == claim.outcome(record(drop)) == outcome and len(finding.evidence) == 1


def test_a_premise_that_is_absent_is_told_before_the_rule_is_put():
    finding = made_up(applicable=lambda record: "no such maps").judge(record())
    assert (finding.outcome, str(finding)) == ("not applicable", "no such maps")
    few = made_up(untestable=lambda record: "too few images")
    assert few.judge(record()).outcome == "not tested"


@pytest.fixture
def results(tmp_path, monkeypatch):
    """Write records of the gallery; there is one of the synthetic data set, and no other."""
    monkeypatch.setenv("ZFREPRO_RESULTS", str(tmp_path))

    def write(name: str, content: dict) -> None:
        records.write_json(tmp_path / "gallery" / f"{name}.json", content)

    write("diorama", record())
    return write


def test_a_network_of_another_maker_has_a_column_of_its_own(results, monkeypatch):
    name, title = next(iter(claims.ADAPTED.items()))
    assert name not in claims.DATASETS and list(claims.COLUMNS) == [*claims.DATASETS, name]
    claim, silent = made_up(), made_up(name="gallery-made-silent", adapted="it has no such layer")
    finding = claim.finding(name)
    assert finding.outcome == "not tested" and f"--network {name}" in finding.reason
    monkeypatch.setattr(claims, "of_chapter", lambda chapter: (claim, silent))
    assert "Nothing is tested with it here" in page.third_column("gallery").data
    assert title not in page.badge("gallery")

    results(name, record(layers={"conv1": "features.1"}, unseen=5, validation=9))
    results("imagenet20", record(drop=(1, 0, 1.2)))
    assert claim.finding(name).outcome == "not resolved"
    # what it cannot speak to stays untested, whatever the record holds
    assert silent.finding(name) == Finding("not tested", reason="it has no such layer")
    told = page.third_column("gallery").data
    assert "Claims tested with it: 1 of 2; with the same outcome as our network" in told
    assert ">says &lt;this&gt;</a> " in told and "gallery-made-up<" not in told
    assert page.outcome_label("contradicts") in told and "1 is <code>features.1<" in told
    assert title in page.badge("gallery") and title in page.claims_table("gallery").data


def test_sensitivity_and_control_are_computed_from_the_record(results):
    claim = made_up(untrained=lambda record: {"drop": record["gain"]})
    assert claim.sensitivity("diorama") == ["agrees", "not resolved", "contradicts"]
    assert claim.control_outcome("diorama") == "agrees"
    assert made_up().control_outcome("diorama") is None
    for holds in (Above(GAIN, DROP), Above(DROP, 0)):  # no number to change
        assert made_up(holds=holds, size=Above(DROP, 9)).sensitivity("diorama") == []
    share = Quantity("share", "drop", " %", 30, ".0f")  # 60 (30 to 90) %, never above 100 %
    outcomes = ["agrees", "not resolved", "not resolved"]
    assert made_up(holds=Above(share, 50)).sensitivity("diorama") == outcomes


def test_a_record_of_untrained_networks_is_a_control(results):
    results("diorama-untrained", record(drop=(-2.0, -3.0, -1.0)))
    assert made_up().control_outcome("diorama") == "contradicts"
    no_premise = made_up(untestable=lambda record: "" if record["drop"][0] > 0 else "no drop")
    assert no_premise.control_outcome("diorama") is None
    few = {"mean": 2.0, "low": 1.9, "high": 2.1, "n": 1}
    results("diorama-untrained", {"drop": few})
    assert made_up().control("diorama") is None  # one image shows nothing
    results("diorama-untrained", {"other": 1})  # measured with --only
    assert made_up().control_outcome("diorama") is None


def test_records_of_other_networks_are_judged_beside_the_first(results):
    assert made_up().repeats("diorama") == {}
    results("diorama-seed1", record(drop=(-2.0, -3.0, -1.0)))
    results("diorama-seed2", {"other": 1})
    ((title, finding),) = made_up().repeats("diorama").items()
    assert title == "another ZFNet, seed 1" and finding.outcome == "contradicts"
    shown = page._cell(made_up(), "diorama")
    assert "another ZFNet, seed 1: contradicts, drop: -2.0" in shown


def test_three_networks_of_a_recipe_are_judged_by_their_spread(results):
    claim = made_up(holds=Above(DROP, 0))
    results("diorama-seed1", record(drop=(2.0, 1.9, 2.1)))
    # two networks, and one that sees another number of pixels, have no spread
    results("diorama-96px", record())
    assert claim.over_networks("diorama") is None
    results("diorama-seed2", record(drop=(4, 3, 5)))
    estimates = [DROP.of(record()).estimate, 2.0, 4.0]
    networks = claim.over_networks("diorama")
    low, high = t.interval(0.95, 2, np.mean(estimates), sem(estimates))
    assert DROP.of((record(), {"drop": 2.0}, {"drop": 4.0})).low == pytest.approx(low)
    assert networks.outcome == ("agrees" if low > 0 else "not resolved")
    assert f"{high:+.1f}) points over 3 networks" in str(networks)
    assert f"networks as the unit: {networks.outcome}" in page._cell(claim, "diorama")
    assert made_up(applicable=lambda record: "no such maps").over_networks("diorama") is None


def test_beside_an_outcome_stands_the_quantity_that_decides(results):
    rule = AllOf(Above(DROP, 1.5), Within(GAIN, 0, 4))
    claim = made_up(holds=rule, size=Above(GAIN, 9))
    assert str(claim.brief(record((4, 3, 5)))).startswith("gain: +6.0")  # the drop is large enough
    assert str(claim.brief(record((1, 0, 1.2)))).startswith("drop: +1.0")
    agrees = record((4, 3, 5), (3, 2, 3.5))
    assert str(replace(claim, size=None).brief(agrees)).startswith("drop: +4.0")
    small = claim.brief(agrees)
    assert small.outcome == "same direction, other size" and str(small).startswith("gain: +3.0")
    for name in ("seed1", "seed2"):
        results(f"diorama-{name}", record((4, 3, 5)))
    shown = page._cell(made_up(holds=rule), "diorama")
    assert "another ZFNet, seed 1: contradicts, gain: +6.0" in shown
    assert "networks as the unit: contradicts, gain: +6.0" in shown


def test_a_claim_that_was_not_tested_shows_no_control(results):
    results("diorama-untrained", record())
    shown = "an untrained network"
    assert shown in page._cell(made_up(), "diorama")
    assert shown not in page._cell(made_up(applicable=lambda record: "no such maps"), "diorama")


def test_without_a_record_a_claim_is_not_tested_and_says_what_to_run(results):
    finding = made_up().finding("imagenet20")
    command = "python -m zfrepro measure gallery --dataset imagenet20"
    assert finding == Finding("not tested", reason=command)


@pytest.mark.parametrize("content", [{"other": 1}, {"drop": "three"}, {"drop": []}])
def test_a_record_of_another_form_is_one_clear_error(results, content):
    results("diorama", content)
    with pytest.raises(ValueError, match=r"diorama\.json does not hold .* gallery-made-up reads"):
        made_up().finding("diorama")


def test_a_row_shows_the_controls_and_escapes_text(monkeypatch, results):
    claim = made_up(
        holds=Above(GAIN, DROP), untrained=lambda record: record, printed=record(gain=(9, 9, 9))
    )
    monkeypatch.setattr(claims, "of_chapter", lambda chapter: (claim,))
    shown = page.claims_table("gallery").data
    assert 'id="claim-gallery-made-up"' in shown and "says &lt;this&gt;" in shown
    assert "<code>python -m zfrepro" in shown
    # so the rule says nothing of learning
    assert f"an untrained network: {page.outcome_label('agrees')}" in shown
    assert "The printed numbers themselves, put through the rule: agrees." in shown


def test_the_table_of_all_links_every_claim_to_its_chapter():
    shown = page.claims_table().data
    for claim in ALL:
        assert f'href="{claim.chapter}/{claim.chapter}.html#claim-{claim.name}"' in shown
    with pytest.raises(ValueError, match="no claims of 'cooking'"):
        page.claims_table("cooking")


ALL = claims.all_claims()
each_claim = pytest.mark.parametrize("claim", ALL, ids=lambda claim: claim.name)


def test_names_are_unique_and_fit_for_links():
    names = [claim.name for claim in ALL]
    assert len(names) == len(set(names))
    assert all(re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)+", name) for name in names)


@each_claim
def test_a_claim_is_well_formed_and_the_papers_own_numbers_pass_its_rule(claim):
    assert claim.source in claims.SOURCES and claim in claims.of_chapter(claim.chapter)
    assert all(text.strip() for text in (claim.place, claim.says, claim.measure))
    assert bool(claim.printed) <= bool(claim.paper)
    assert claim.printed_outcome() in (None, "agrees")


@pytest.mark.parametrize("dataset", claims.COLUMNS)
@each_claim
def test_every_record_gives_an_outcome_with_numbers(claim, dataset):
    finding = claim.finding(dataset)
    content = claim.read(dataset)
    if content is None or finding.outcome in ("not tested", "not applicable"):
        assert finding.reason
        return
    assert finding.outcome == claim.outcome(content)
    assert claim.read(dataset) == content  # judging changes nothing
    assert all(re.search(r"\d|nan", line) for line in finding.evidence)
    truth, margin = claim.holds.judge(content), claim.holds.margin(content)
    assert not (truth is YES and margin < 0 or truth is NO and margin > 0)


def test_an_effect_of_the_smallest_detectable_size_is_found_four_times_in_five():
    cells = re.findall(r"<td[^>]*>([^<]*)</td>", scoreboard.detectable().data)
    rows = {tuple(row[:2]): row for row in zip(*[iter(cells)] * 7, strict=True)}
    *_, smallest, paper = rows["training-better", "ImageNet-20"]
    claim = next(c for c in claims.all_claims() if c.name == "training-better")
    effect = claim.drawn.of(claim.read("imagenet20"))
    error = (effect.high - effect.low) / 2 / norm.ppf(0.975)
    power = norm.sf(norm.ppf(0.975) - float(smallest.split()[0]) / error)
    assert power == pytest.approx(0.8, abs=0.03) and paper == "-2.1 points"


def test_claims_with_another_outcome_on_another_network_are_told(results, monkeypatch):
    same = made_up()
    other, alone = (replace(same, name=name) for name in ("gallery-other", "occlusion-alone"))
    monkeypatch.setattr(claims, "all_claims", lambda: (same, other, alone))
    results("diorama-128px", record())
    assert scoreboard.repeated("diorama") == ([same, other], [])
    results("diorama-128px", record(drop=(0.0, -1.0, 1.0)))
    assert scoreboard.repeated("diorama") == ([same, other], [same, other])
