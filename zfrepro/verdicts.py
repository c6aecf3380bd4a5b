"""The paper's claims and what our records say of each. A verdict is computed from a record, never typed.

Each chapter lists its claims in a module of its name, as `CLAIMS`; the landing page is the table of all of them.
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from zfrepro import records
from zfrepro.records import ROOT

VERDICTS = ("reproduced", "partly", "not reproduced", "not tested")
WORLDS = ("diorama", "imagenet20")
CHAPTERS = (
    "network", "deconvnet", "gallery", "training", "evolution", "architecture", "invariance", "occlusion",
    "correspondence", "ablation", "transfer", "projections",
)  # fmt: skip


@dataclass(frozen=True)
class Finding:
    """What one record says of a claim."""

    verdict: str  # one of VERDICTS
    numbers: str  # ours, in words, with n and spread

    def __post_init__(self) -> None:
        if self.verdict not in VERDICTS:
            raise ValueError(f"verdict {self.verdict!r}: choose among {', '.join(VERDICTS)}")


@dataclass(frozen=True)
class Claim:
    """A sentence of the paper that can be checked, and the rule that checks it."""

    name: str  # short and unique, for links: occlusion-object
    chapter: str  # the page that tests it, and the folder of the records that it reads
    place: str  # where the paper says it: section 4.2, Fig. 7
    says: str  # the claim in our words
    measure: str  # what is measured, with its unit
    rule: str  # how numbers become a verdict, in words: what `judge` does
    judge: Callable[[dict[str, Any]], Finding]  # from the record, see `finding`
    paper: str = "no number"  # the paper's own number
    sweep: bool = False  # whether the record is one of `sweep CHAPTER`, and not of `measure CHAPTER`

    def command(self, world: str) -> str:
        """What makes the record."""
        return f"python -m zfrepro {'sweep' if self.sweep else 'measure'} {self.chapter} --dataset {world}"

    def finding(self, world: str) -> Finding:
        """What results/CHAPTER/WORLD.json, or results/sweeps/CHAPTER-WORLD.json, says; without it, `not tested`.

        Raises:
            ValueError: the record lacks what the claim reads, with the command that measures it again.
        """
        name = f"sweeps/{self.chapter}-{world}" if self.sweep else f"{self.chapter}/{world}"
        try:
            record = records.read(name)
        except FileNotFoundError:
            return Finding("not tested", self.command(world))
        try:
            return self.judge(record)
        except (LookupError, TypeError, ArithmeticError, AttributeError) as error:
            raise ValueError(
                f"results/{name}.json does not hold what the claim {self.name} reads "
                f"({type(error).__name__}: {error}); "
                f"{self.command(world)} --fresh makes it again"
            ) from error


def of_chapter(chapter: str) -> tuple[Claim, ...]:
    """The claims of one chapter.

    Raises:
        ValueError: no chapter of that name lists claims.
    """
    if chapter not in _listed():
        raise ValueError(f"no claims of {chapter!r}; there are: {', '.join(_listed())}")
    return importlib.import_module(f"book.{chapter}.claims").CLAIMS


def all_claims() -> tuple[Claim, ...]:
    """Every claim, in the order of the book."""
    return tuple(claim for chapter in _listed() for claim in of_chapter(chapter))


def _listed() -> tuple[str, ...]:
    there = {file.parent.name for file in (ROOT / "book").glob("*/claims.py")}
    return tuple(chapter for chapter in CHAPTERS if chapter in there)


def combined(findings: list[Finding]) -> str:
    """One verdict from those of several worlds: theirs where the tested ones agree, else `partly`."""
    tested = {finding.verdict for finding in findings} - {"not tested"}
    if not tested:
        return "not tested"
    return tested.pop() if len(tested) == 1 else "partly"


from zfrepro.verdicts_table import Table, table  # noqa: E402

__all__ = [
    "CHAPTERS",
    "VERDICTS",
    "WORLDS",
    "Claim",
    "Finding",
    "Table",
    "all_claims",
    "combined",
    "of_chapter",
    "table",
]
