"""What a page shows besides figures: its answer, tables, and claims with their outcomes, as HTML.

A table is complete by itself; `book/_static/explorer.js` lets the reader sort and filter it where
scripts run.
"""

import html
import json
import os
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pandas as pd
from IPython.display import HTML
from pandas.io.formats.style import Styler

from zfrepro import claims
from zfrepro.claims import ADAPTED, COLUMNS, OUTCOMES, SOURCES, Claim

NUMBER = r"[+\-−–]?\d[\d,]*(\.\d+)?($|[^\d.\-])"
STATIC = Path(__file__).resolve().parents[1] / "book" / "_static"


def script() -> str:
    """Return style and script of explorers and tables, for a notebook, whose page has neither.

    Empty on the book's pages, which load both once (`ZFREPRO_PAGES`, see tools/notebooks.py), and
    where the package is installed without the book.
    """
    if os.environ.get("ZFREPRO_PAGES") or not STATIC.is_dir():
        return ""
    css, js = ((STATIC / f"explorer.{kind}").read_text("utf-8") for kind in ("css", "js"))
    return f"<style>{css}</style><script>{js}</script>"


def explorer(kind: str, label: str, body: str, content: dict) -> HTML:
    """Return what `explorer.js` animates: `body`, with what it needs to know as JSON."""
    # "</script>" inside a note would end the block early, so no "<" stays as it is.
    data = json.dumps(content, separators=(",", ":"), ensure_ascii=False).replace("<", "\\u003c")
    return HTML(
        f'<div class="zf-explorer" data-kind="{kind}" role="group" '
        f'aria-label="{html.escape(label)}">{body}'
        f'<script type="application/json">{data}</script></div>{script()}'
    )


def answer(text: str, chapter: str | None = None) -> HTML:
    """Show a page's answer, one sentence of HTML, and below it the `badge` of a chapter."""
    counts = badge(chapter) if chapter else ""
    return HTML(f'<div class="zf-answer"><p>{text}</p>{counts}</div>')


def finding(text: str) -> HTML:
    """Show a sentence on our result; the same on a page and in JupyterLab."""
    return HTML(f'<div class="zf-finding"><strong>Our result.</strong> {text}</div>')


def third_column(chapter: str, column: str = "squeezenet1_0") -> HTML:
    """Show what a network trained on ImageNet changes in a chapter's outcomes, in one sentence.

    Claims are those of `badge`; outcomes are compared with those on photographs of ImageNet-20.
    """
    badged, name = _badged(chapter), ADAPTED[column]
    findings = [(claim, claim.finding(column)) for claim in badged]
    tested = [claim for claim, result in findings if result.outcome != "not tested"]
    title = f"<strong>{html.escape(name)}.</strong>"
    if not tested:
        reasons = "; ".join(dict.fromkeys(result.reason for _, result in findings))
        text = f"{title} Nothing is tested with it here: {html.escape(reasons)}."
        return HTML(f'<div class="zf-finding">{text}</div>')
    changed = [
        f'<li><a href="#claim-{claim.name}">{html.escape(claim.says)}</a> {outcomes}</li>'
        for claim, outcomes in changed_outcomes(badged, column)
    ]
    record = tested[0].read(column)
    layers = ", ".join(
        f"{layer[-1]} is <code>{html.escape(module)}</code>"
        for layer, module in record["layers"].items()
    )
    text = f"Claims tested with it: {len(tested)} of {len(badged)}; with the same outcome as our "
    text += f"network on photographs: {len(tested) - len(changed)}. "
    text += f'<ul class="zf-listed">{"".join(changed)}</ul>' if changed else ""
    text += (
        "<details><summary>Its images and layers</summary>It was not trained on "
        f"{record['unseen']} of the {record['validation']:,} validation photographs. "
        f"Of its layers, {layers}.</details>"
    )
    return HTML(f'<div class="zf-finding">{title} {text}</div>')


def changed_outcomes(
    chosen: Sequence[Claim], column: str = "squeezenet1_0", base: str = "imagenet20"
) -> Iterator[tuple[Claim, str]]:
    """Yield the claims tested in a column whose outcome there is another than ours, and both."""
    for claim in chosen:
        ours, outcome = claim.finding(base).outcome, claim.finding(column).outcome
        if outcome not in ("not tested", ours):
            yield claim, f"{outcome_label(ours)} with ours, {outcome_label(outcome)} with it"


def _badged(chapter: str) -> list[Claim]:
    """Return the paper's claims of a chapter, or where it has none those of its first source."""
    listed = claims.of_chapter(chapter)
    source = min((claim.source for claim in listed), key=list(SOURCES).index)
    return [claim for claim in listed if claim.source == source]


def badge(chapter: str) -> str:
    """Return the outcomes of a chapter's claims as small labels, one a column and outcome.

    A chapter without claims of the paper shows those of its first other source, and names it.
    """
    badged = _badged(chapter)
    kind = "" if badged[0].source == "paper" else f", {SOURCES[badged[0].source]}"
    rows = []
    for column, name in COLUMNS.items():
        counts = Counter(claim.finding(column).outcome for claim in badged)
        if column in ADAPTED and counts["not tested"] == len(badged):
            continue
        labels = " ".join(
            outcome_label(outcome, counts[outcome]) for outcome in OUTCOMES if counts[outcome]
        )
        rows.append(f'<span class="zf-badges">{html.escape(name + kind)}: {labels}</span>')
    return f'<p class="zf-badge-rows">{"".join(rows)}</p>'


def outcome_label(outcome: str, count: int | None = None) -> str:
    kind = outcome.replace(",", "").replace(" ", "-")
    text = outcome if count is None else f"{count} {outcome}"
    if count not in (None, 1) and outcome in ("agrees", "contradicts"):
        text = text.removesuffix("s")  # 2 agree
    return f'<span class="zf-outcome zf-{kind}">{html.escape(text)}</span>'


def table(rows: Sequence[Mapping[str, object]], *, caption: str, digits: int = 1) -> HTML:
    """Show rows as a table that the reader sorts by a click on a heading and filters by a word.

    Args:
        rows: of the same keys, which are the headings; None is a dash. Text is escaped.
        digits: decimals of numbers that are not formatted yet.
    """
    if not rows or any(list(row) != list(rows[0]) for row in rows):
        raise ValueError("a table needs rows, all with the same keys")
    frame = pd.DataFrame(rows)
    kinds = {key: "zf-number" if _numeric(frame[key]) else "zf-text" for key in frame}
    styled = Styler(frame, cell_ids=False).hide(axis="index")
    styled.format(precision=digits, na_rep="–", escape="html", thousands=",")
    styled.set_td_classes(pd.DataFrame([kinds] * len(frame)))
    styled.set_table_attributes('class="table"').set_caption(_caption(caption))
    styled.set_uuid(f"{zlib.crc32(caption.encode()):x}")
    text = styled.to_html().partition("</style>")[2]
    body = f'<div class="zf-scroll" tabindex="0">{text}</div>'
    return explorer("table", f"Table: {caption}", body, {})


def _caption(text: str) -> str:
    """Return a caption in a box of its own, which the style keeps as wide as the page."""
    return f"<span>{html.escape(text)}</span>"


def details(summary: str, *parts: HTML) -> HTML:
    """Fold tables or text behind a line that the reader opens."""
    inner = "".join(part.data for part in parts)
    return HTML(
        f'<details class="zf-details"><summary>{html.escape(summary)}</summary>{inner}</details>'
    )


def _numeric(column: pd.Series) -> bool:
    """Return whether a column reads as numbers, such as 12.3 ± 0.4; versions and dates do not."""
    texts = column.dropna().astype(str)
    return bool(texts.str.match(NUMBER).all()) if len(texts) else True


PRINTED = "the paper's number"  # name of a column of claims


def claims_table(chapter: str | None = None, sources: Sequence[str] = tuple(SOURCES)) -> HTML:
    """Show claims with the paper's numbers, our outcomes and evidence, and how each is judged.

    Those of one chapter, or all, each linked to its chapter. Each source has a table of its own;
    below the paper's claims, the others are folded.
    """
    chosen = claims.of_chapter(chapter) if chapter else claims.all_claims()
    parts: list[str] = []
    for source in sources:
        if group := [claim for claim in chosen if claim.source == source]:
            part = HTML(_claims(group, SOURCES[source], linked=chapter is None))
            if parts and sources[0] == "paper":
                part = details(SOURCES[source].capitalize(), part)
            parts.append(part.data)
    return HTML("".join(parts))


def _claims(chosen: Sequence[Claim], title: str, linked: bool) -> str:
    heads = ["claim", PRINTED, *COLUMNS.values()]
    head = "".join(f'<th scope="col">{html.escape(text)}</th>' for text in heads)
    body = "".join(_row(claim, linked) for claim in chosen)
    caption = f"{len(chosen)} {title}" if len(chosen) > 1 else title.capitalize()
    return (
        '<div class="zf-scroll zf-claims" tabindex="0" role="group" aria-label="Claims">'
        f'<table class="table"><caption>{_caption(caption)}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _row(claim: Claim, linked: bool) -> str:
    place = html.escape(claim.place)
    if linked:
        page = f"{claim.chapter}/{claim.chapter}.html#claim-{claim.name}"
        place += f'; chapter <a href="{page}">{claim.chapter}</a>'
    anchor = "" if linked else f' id="claim-{claim.name}"'
    judged = [claim.measure, claim.rule(), claim.note]
    if printed := claim.printed_outcome():
        judged.append(f"The printed numbers themselves, put through the rule: {printed}.")
    details = "".join(f"<p>{html.escape(text)}</p>" for text in judged if text)
    return (
        f'<tr><th scope="row"{anchor}><span>{html.escape(claim.says)}</span><small>{place}</small>'
        f"<details><summary>Rule and controls</summary>{details}</details></th>"
        + _of(PRINTED, html.escape(claim.paper or "none printed"))
        + "".join(_cell(claim, column) for column in COLUMNS)
        + "</tr>"
    )


def _of(head: str, text: str) -> str:
    """Return a cell with the name of its column, which stands before it on a phone."""
    return f'<td data-head="{html.escape(head)}">{text}</td>'


def _cell(claim: Claim, column: str) -> str:
    result = claim.finding(column)
    control = claim.control(column) if result.evidence else None
    lines = list(result.evidence) or [result.reason]
    text = "".join(f"<li>{html.escape(line)}</li>" for line in lines if line)
    if result.reason.startswith("python -m "):
        text = f"<li><code>{html.escape(result.reason)}</code></li>"
    label = ""
    if control:
        label = f'<p class="zf-control">an untrained network: {outcome_label(control.outcome)}</p>'
        text += f"<li>an untrained network, {html.escape(str(control))}</li>"
    for title, repeat in claim.repeats(column).items():
        text += f"<li>{html.escape(f'{title}: {repeat.outcome}, {repeat}')}</li>"
    if networks := claim.over_networks(column):
        line = f"networks as the unit: {networks.outcome}, {networks}"
        text += f"<li>{html.escape(line)}</li>"
    counted = "numbers" if result.evidence else "reason"
    evidence = f"<details><summary>{counted}</summary><ul>{text}</ul></details>"
    return _of(COLUMNS[column], outcome_label(result.outcome) + evidence + label)
