"""All claims together: counts, a plot of how far each lies from its bound, bars a chapter,
sensitivity and controls."""

import html
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import matplotlib.pyplot as plt
import numpy as np
from IPython.display import HTML
from matplotlib.figure import Figure
from scipy.stats import norm

from zfrepro import claims, page, plots
from zfrepro.claims import CHAPTERS, COLUMNS, DATASETS, OUTCOMES, Claim, Record

COLOURS = {
    "agrees": "#009e73", "same direction, other size": "#8fbf3f", "not resolved": "#e0a800",
    "contradicts": "#d55e00", "not applicable": "#999999", "not tested": "#bbbbbb",
}  # fmt: skip
VERBS = {
    "agrees": ("agrees", "agree"),
    "same direction, other size": ("has the paper's direction but another size",
                                   "have the paper's direction but another size"),
    "not resolved": ("is not resolved", "are not resolved"),
    "contradicts": ("is contradicted", "are contradicted"),
    "not applicable": ("is not applicable", "are not applicable"),
    "not tested": ("is not tested", "are not tested"),
}  # fmt: skip
LIMIT = 5.0  # half-widths beyond which the plot stops
POWER = 1 + norm.ppf(0.8) / norm.ppf(0.975)  # half-widths to a detectable effect


def of_source(source: str) -> list[Claim]:
    """Return the claims of one source, in the order of the book."""
    return [claim for claim in claims.all_claims() if claim.source == source]


def counts(dataset: str, chosen: Sequence[Claim]) -> Counter:
    """Return how many of some claims have each outcome on a data set."""
    return Counter(claim.finding(dataset).outcome for claim in chosen)


def counted(dataset: str, chosen: Sequence[Claim]) -> str:
    """Return the counts in words: `12 agree, 1 is not resolved, 3 are contradicted`."""
    totals = counts(dataset, chosen)
    return ", ".join(
        f"{totals[outcome]} {VERBS[outcome][totals[outcome] > 1]}"
        for outcome in OUTCOMES
        if totals[outcome]
    )


def judged(chosen: Sequence[Claim], dataset: str) -> Iterator[tuple[Claim, str, Record]]:
    """Yield the claims that are tested on a data set, with their outcome and the record."""
    for claim in chosen:
        finding = claim.finding(dataset)
        if finding.evidence:
            yield claim, finding.outcome, claim.read(dataset)


def short(claim: Claim) -> str:
    """Return the label of a claim in a figure: `occlusion: object`."""
    name = claim.name.removeprefix(f"{claim.chapter}-").replace("-", " ")
    return f"{claim.chapter}: {claim.label or name}"


def margins(dataset: str) -> Figure:
    """Draw how far each estimate of the paper's claims lies beyond the bound of its rule.

    The unit is the half-width of its 95 % interval: right of 1 the rule's condition holds, left
    of -1 it is refuted, and between them the data cannot tell.
    """
    rows = list(judged(of_source("paper"), dataset))
    figure, ax = plt.subplots(figsize=(plots.WIDTH, 0.24 * len(rows) + 0.9))
    ax.axvspan(-1, 1, color=plots.TEXT, alpha=0.15, lw=0)
    chapter = None
    for y, (claim, outcome, record) in enumerate(rows):
        margin = claim.holds.margin(record)
        shown = float(np.clip(margin, -LIMIT, LIMIT))
        ends = np.clip([shown - 1, shown + 1], -LIMIT - 0.2, LIMIT + 0.2)
        marker = "o" if abs(margin) <= LIMIT else ">" if margin > 0 else "<"
        ax.plot(ends, [y, y], color=COLOURS[outcome], lw=2.4)
        ax.plot(shown, y, marker, color=COLOURS[outcome], ms=6.5)
        if claim.chapter != chapter:
            ax.axhline(y - 0.5, color=plots.TEXT, lw=0.4)
            chapter = claim.chapter
    ax.axvline(0, color=plots.TEXT, lw=1)
    ax.set_yticks(range(len(rows)), [short(claim) for claim, *_ in rows])
    ax.set(xlim=(-LIMIT - 0.3, LIMIT + 0.3), ylim=(len(rows) - 0.4, -0.6))
    unit = "estimate beyond the rule's bound, in half-widths of its 95 % interval"
    ax.set_xlabel(unit, loc="right")
    for outcome in dict.fromkeys(outcome for _, outcome, _ in rows):
        ax.plot([], [], "o", color=COLOURS[outcome], label=outcome)
    ax.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=4, columnspacing=1.2)
    ax.spines["left"].set_visible(False)
    figure.tight_layout(pad=0.4)
    return plots.detached(figure)


def bars() -> HTML:
    """Show, for each chapter, a bar of the outcomes of the paper's claims a data set."""
    body = ""
    for chapter in CHAPTERS:
        if chosen := [claim for claim in of_source("paper") if claim.chapter == chapter]:
            link = f'<a href="{chapter}/{chapter}.html">{chapter}</a>'
            cells = "".join(f"<td>{_bar(counts(column, chosen))}</td>" for column in COLUMNS)
            body += f'<tr><th scope="row">{link}</th>{cells}</tr>'
    heads = "".join(f'<th scope="col">{html.escape(name)}</th>' for name in COLUMNS.values())
    key = " ".join(
        f'<span class="zf-key"><span style="background:{COLOURS[o]}"></span>{html.escape(o)}</span>'
        for o in OUTCOMES
    )
    return HTML(
        '<div class="zf-scroll zf-bars" tabindex="0" role="group" '
        'aria-label="Outcomes by chapter">'
        '<table class="table">'
        f'<thead><tr><th scope="col">chapter</th>{heads}</tr></thead>'
        f'<tbody>{body}</tbody></table>{key}</div>'
    )


def _bar(totals: Counter) -> str:
    parts = "".join(
        f'<span style="background:{COLOURS[outcome]};flex:{totals[outcome]}"></span>'
        for outcome in OUTCOMES if totals[outcome]
    )  # fmt: skip
    words = ", ".join(f"{totals[outcome]} {outcome}" for outcome in OUTCOMES if totals[outcome])
    label = html.escape(words)
    return f'<div class="zf-bar" role="img" aria-label="{label}" title="{label}">{parts}</div>'


def sensitivity() -> HTML:
    """Show each outcome with the rule's numeric bound halved, as it is, and doubled in reach."""
    heads = ("bound halved", "as it is", "bound doubled")
    rows = [
        {"claim": claim.name, "judged on": name} | dict(zip(heads, outcomes, strict=True))
        for claim in claims.all_claims()
        for dataset, name in COLUMNS.items()
        if (outcomes := claim.sensitivity(dataset))
    ]
    caption = "Outcomes with each rule's numeric bound halved and doubled; one out of reach stays"
    return page.table(rows, caption=caption)


def hanging() -> tuple[int, int]:
    """Return how many outcomes change when a bound is halved or doubled, and how many have one."""
    rows = [claim.sensitivity(dataset) for claim in claims.all_claims() for dataset in DATASETS]
    return sum(len(set(outcomes)) > 1 for outcomes in rows), sum(map(bool, rows))


def _against_zero(claim: Claim) -> bool:
    """Return whether the rule compares the quantity that is drawn with 0."""
    parts = getattr(claim.holds, "parts", (claim.holds,))
    return any(getattr(part, "bound", None) == 0 and part.quantity == claim.drawn for part in parts)


def detectable() -> HTML:
    """Show beside each effect the smallest that our data would detect: two-sided at 5 %, with a
    power of 80 %, from the half-width of its 95 % interval.

    Only effects that a rule compares with 0: others are no distances from their bound.
    """
    rows = []
    for claim in filter(_against_zero, of_source("paper")):
        for dataset, name in COLUMNS.items():
            for _, outcome, record in judged([claim], dataset):
                drawn, effect, paper = claim.drawn, claim.drawn.of(record), claim.paper_effect
                if effect.high > effect.low:
                    smallest = POWER * (effect.high - effect.low) / 2
                    rows.append({
                        "claim": claim.name, "judged on": name, "outcome": outcome,
                        "effect": drawn.name,
                        "ours": f"{effect.estimate:{drawn.form}}{drawn.unit}",
                        "smallest detectable": f"{smallest:.2g}{drawn.unit}",
                        "the paper's":
                            None if paper is None else f"{paper:{drawn.form}}{drawn.unit}",
                    })  # fmt: skip
    return page.table(rows, caption="Effects, and the smallest that our data would detect")


def controls() -> HTML:
    """Show what each rule makes of untrained networks, of other trained ones, and of the paper's
    own printed numbers.
    """
    rows = []
    for claim in claims.all_claims():
        row = {"claim": claim.name}
        for dataset, name in COLUMNS.items():
            row[name] = claim.finding(dataset).outcome
            row[f"untrained, {name}"] = claim.control_outcome(dataset)
            repeats = claim.repeats(dataset).values()
            row[f"other networks, {name}"] = ", ".join(o.outcome for o in repeats) or None
            networks = claim.over_networks(dataset)
            row[f"networks as the unit, {name}"] = networks and networks.outcome
        row["the printed numbers"] = claim.printed_outcome()
        if any(row[head] for head in row if head not in ("claim", *COLUMNS.values())):
            rows.append(row)
    filled = [head for head in rows[0] if any(row[head] for row in rows)]
    rows = [{head: row[head] for head in filled} for row in rows]
    return page.table(rows, caption="Each rule on its controls")


def passed_untrained() -> list[Claim]:
    """Return the claims that agree although an untrained network passes their rule too."""
    return [
        claim for claim in claims.all_claims()
        if any(claim.finding(d).outcome == claim.control_outcome(d) == "agrees" for d in DATASETS)
    ]  # fmt: skip


def repeated(dataset: str) -> tuple[list[Claim], list[Claim]]:
    """Return the paper's claims that were judged on other trained networks too, and those of them
    whose outcome is not the same with each.
    """
    pairs = [(claim, claim.repeats(dataset).values()) for claim in of_source("paper")]
    judged = [(claim, repeats) for claim, repeats in pairs if repeats]
    changed = [
        claim for claim, repeats in judged
        if any(repeat.outcome != claim.finding(dataset).outcome for repeat in repeats)
    ]  # fmt: skip
    return [claim for claim, _ in judged], changed


def over_networks(dataset: str) -> list[tuple[Claim, str]]:
    """Return the paper's claims and their outcomes with networks as the unit of replication; a
    claim that was not measured on enough networks is left out.
    """
    pairs = [(claim, claim.over_networks(dataset)) for claim in of_source("paper")]
    return [(claim, finding.outcome) for claim, finding in pairs if finding]


def listed(*outcomes: str) -> HTML:
    """List the paper's claims that have one of some outcomes on photographs."""
    rows = []
    for claim in of_source("paper"):
        finding = claim.finding("imagenet20")
        if finding.outcome in outcomes:
            shown = finding.reason and "python -m" not in finding.reason
            reason = f" ({html.escape(finding.reason)})" if shown else ""
            label = page.outcome_label(finding.outcome) if len(outcomes) > 1 else ""
            rows.append((claim, f"{label}{reason}"))
    return linked(rows)


def linked(rows: Iterable[tuple[Claim, str]]) -> HTML:
    """List claims, each linked to its row in its chapter, with HTML behind it."""
    items = "".join(
        f"<li>{html.escape(claim.says)} "
        f'<a href="{claim.chapter}/{claim.chapter}.html#claim-{claim.name}">{claim.chapter}</a> '
        f"{text}</li>"
        for claim, text in rows
    )
    return HTML(f'<ul class="zf-listed">{items or "<li>none</li>"}</ul>')


def evidence(name: str) -> str:
    """Return a claim with its outcome on photographs and the numbers behind it, as HTML."""
    (claim,) = (claim for claim in claims.all_claims() if claim.name == name)
    finding = claim.finding("imagenet20")
    label, numbers = page.outcome_label(finding.outcome), html.escape(str(finding))
    return f"<em>{html.escape(claim.says)}</em> {label} on {COLUMNS['imagenet20']} ({numbers})."
