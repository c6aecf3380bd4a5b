"""The claims as a table of a page, with a summary count. Everything in it is computed when it is shown."""

import html
import re
from dataclasses import dataclass

from zfrepro import verdicts as claims
from zfrepro.records import ROOT

WORLD_NAMES = {"diorama": "diorama", "imagenet20": "ImageNet-20"}

LONG = 100  # characters of numbers from which they are folded


@dataclass(frozen=True)
class Table:
    """Claims and what the records of each world say of them; a notebook shows it as HTML."""

    claims: tuple[claims.Claim, ...]
    findings: tuple[dict[str, claims.Finding], ...]  # by world, one for each claim
    linked: bool  # with a link to each chapter

    def verdicts(self) -> dict[str, str]:
        """Claim -> its verdict over both worlds, see `claims.combined`."""
        found = (claims.combined(list(by_world.values())) for by_world in self.findings)
        return dict(zip((claim.name for claim in self.claims), found, strict=True))

    def summary(self) -> dict[str, int]:
        """Verdict -> how many claims have it, over both worlds."""
        verdicts = list(self.verdicts().values())
        return {verdict: verdicts.count(verdict) for verdict in claims.VERDICTS}

    def __str__(self) -> str:
        return "\n".join(
            f"{claim.name}: " + "; ".join(f"{world}: {f.verdict} ({f.numbers})" for world, f in by_world.items())
            for claim, by_world in zip(self.claims, self.findings, strict=True)
        )

    def _repr_html_(self) -> str:
        count = ", ".join(f"{number} {verdict}" for verdict, number in self.summary().items() if number)
        caption = f"{len(self.claims)} claims of the paper; over both worlds {count}"
        heads = ["claim", "the paper's number", *(WORLD_NAMES.get(world, world) for world in claims.WORLDS)]
        head = "".join(f'<th scope="col">{html.escape(text)}</th>' for text in heads)
        body = "".join(map(self._row, self.claims, self.findings))
        return (
            f'<div class="zf-scroll zf-claims" tabindex="0" role="group" aria-label="Claims of the paper">'
            f'<table class="table"><caption>{html.escape(caption)}.</caption>'
            f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
        )

    def _row(self, claim: claims.Claim, by_world: dict[str, claims.Finding]) -> str:
        place = html.escape(claim.place)
        if self.linked and f"book/{claim.chapter}/{claim.chapter}" in _pages():
            place += f'; chapter <a href="{claim.chapter}/{claim.chapter}.html#claim-{claim.name}">{claim.chapter}</a>'
        anchor = "" if self.linked else f' id="claim-{claim.name}"'
        return (
            f'<tr><th scope="row"{anchor}><span>{html.escape(claim.says)}</span><small>{place}</small>'
            f"<details><summary>How it is judged</summary><p>{html.escape(claim.measure)}</p>"
            f"<p>{html.escape(claim.rule)}</p></details></th><td>{html.escape(claim.paper)}</td>"
            + "".join(map(_cell, by_world.values()))
            + "</tr>"
        )


def _pages() -> set[str]:
    """The pages of the book, such as book/gallery."""
    toc = ROOT / "_toc.yml"
    return set(re.findall(r"(?:file|root): *(\S+)", toc.read_text())) if toc.is_file() else set()


def _cell(finding: claims.Finding) -> str:
    kind = finding.verdict.replace(" ", "-")
    numbers = html.escape(finding.numbers)
    numbers = f"<code>{numbers}</code>" if numbers.startswith("python -m ") else numbers
    if len(finding.numbers) > LONG:
        numbers = f"<details><summary>numbers</summary><p>{numbers}</p></details>"
    else:
        numbers = f"<p>{numbers}</p>"
    return f'<td><strong class="zf-verdict zf-{kind}">{finding.verdict}</strong>{numbers}</td>'


def table(chapter: str | None = None) -> Table:
    """The claims of one chapter, or of all with links to their chapters.

    Raises:
        ValueError: no such chapter, or a record that cannot be read.
    """
    chosen = claims.of_chapter(chapter) if chapter else claims.all_claims()
    findings = tuple({world: claim.finding(world) for world in claims.WORLDS} for claim in chosen)
    return Table(chosen, findings, linked=chapter is None)
