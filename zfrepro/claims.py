"""Claims and the rules that judge them. An outcome is computed from a record, never typed.

A claim reads quantities of a record by their path and puts conditions on them. A condition holds,
does not hold, or is not resolved, when the interval of a quantity holds values on both sides. The
sentence that states a rule on a page is generated from the rule. Each chapter lists its claims in
`book/CHAPTER/claims.py`, as `CLAIMS`."""

import importlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import IntEnum
from functools import cached_property
from typing import Any, ClassVar

from zfrepro import records
from zfrepro.stats import Interval, t_interval

Record = Mapping[str, Any]
Networks = tuple[Record, ...]
"""Records of one measurement on several networks, which then are the unit of replication."""

OUTCOMES = (
    "agrees", "same direction, other size", "not resolved", "contradicts", "not applicable",
    "not tested",
)  # fmt: skip
DATASETS = {"imagenet20": "ImageNet-20", "diorama": "Diorama"}
ADAPTED = {"squeezenet1_0": "ImageNet (SqueezeNet v1.0)"}
"""Networks that others trained on ImageNet, by the name of their records; see `imagenet`."""
COLUMNS = DATASETS | ADAPTED
"""Everything that claims are judged on. The counts are of `DATASETS` alone."""
ABOUT_OURS = {  # chapter -> why its claims say nothing of such a network
    "network": "these are checks of ZFNet's own geometry",
    "training": "its claims ask for networks that are trained alike, here of a thousand classes",
    "evolution": "its claims ask for the epochs of a training, of which only the end is published",
    "architecture": "its claims ask for two networks trained alike, with different first layers",
    "ablation": "its claims ask for networks that are trained alike, with and without some layers",
}
SOURCES = {
    "paper": "claims of the paper",
    "later": "claims of later work",
    "instrument": "checks of the instrument",
    "own": "questions of our own",
}
REPEATS = {f"{size}px": f"another ZFNet, of {size} px" for size in (96, 128)} | {
    f"seed{seed}": f"another ZFNet, seed {seed}" for seed in range(1, 5)
}
"""Records of other trained networks, by the end of their names; see `measure --trained`."""
FEWEST = 3  # images, maps or networks of a control: fewer show nothing
CHAPTERS = (
    "network", "deconvnet", "gallery", "training", "evolution", "architecture", "invariance",
    "occlusion", "correspondence", "ablation", "transfer", "projections",
)  # fmt: skip


class Truth(IntEnum):
    """Whether a condition holds, given what the interval of its quantity leaves open."""

    NO = 0
    UNRESOLVED = 1
    YES = 2


@dataclass(frozen=True)
class Quantity:
    """A number of a record, with its name and its unit.

    Args:
        name: in words, as it stands in a sentence: `extra drop on the object`.
        source: its path in the record (`main/object/extra`), or a function from the record to it.
            What is found there is a number, an `Interval`, a mapping with mean, low, high and n, or
            a list of mean, low and high.
        unit: as it follows the number: ` %`, ` points`.
        scale: factor from the record to the unit.
        form: format of the number.
    """

    name: str
    source: str | Callable[[Record], Any]
    unit: str = ""
    scale: float = 1.0
    form: str = "+.2f"

    def of(self, record: Record | Networks) -> Interval:
        """Return the quantity of a record, as an interval (of no width for a plain number).

        Of several networks it is the mean of their estimates, with its interval by Student's t.
        """
        if isinstance(record, tuple):
            return t_interval([self.of(each).estimate for each in record], "networks")
        value = self.source(record) if callable(self.source) else lookup(record, self.source)
        return Interval.of(value).scaled(self.scale)

    def told(self, record: Record | Networks) -> str:
        """Return the quantity with its interval, in words."""
        return f"{self.name}: {self.of(record):{self.form}}{self.unit}"


def points(name: str, source: str | Callable[[Record], Any], scale: float = 1.0) -> Quantity:
    """Return a difference of shares in per cent as a `Quantity`, with its sign."""
    return Quantity(name, source, " points", scale, "+.1f")


def lookup(record: Record, path: str) -> Any:
    """Return what a record holds at a path; LookupError names the first key that is missing."""
    value: Any = record
    for key in path.split("/"):
        try:
            value = value[int(key)] if isinstance(value, (list, tuple)) else value[key]
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise LookupError(f"no {key!r} of {path!r}") from error
    return value


class Condition:
    """Part of a rule: judged on a record, stated as a sentence."""

    def gap(self, record: Record | Networks) -> Interval:
        """Return by how much the condition is met: it holds if all of the interval is above 0."""
        raise NotImplementedError

    def sentence(self) -> str:
        """State the condition."""
        raise NotImplementedError

    def quantities(self) -> tuple[Quantity, ...]:
        """Return what the condition reads."""
        return tuple(value for value in vars(self).values() if isinstance(value, Quantity))

    def judge(self, record: Record | Networks) -> Truth:
        """Return whether the condition holds for the record."""
        gap = self.gap(record)
        if gap.low > 0:
            return Truth.YES
        return Truth.NO if gap.high <= 0 else Truth.UNRESOLVED

    def margin(self, record: Record) -> float:
        """Return how far inside the condition the estimate lies, in half-widths of its interval.

        Above 1 the condition holds, below -1 it does not; between them it is not resolved.
        """
        gap = self.gap(record)
        half = (gap.high - gap.low) / 2
        if half == 0:
            return math.copysign(math.inf, gap.estimate) if gap.estimate else 0.0
        return gap.estimate / half if math.isfinite(half) else 0.0

    def scaled(self, factor: float) -> "Condition":
        """Return the condition with its numeric bounds multiplied, where they stay in reach."""
        return self

    def deciding(self, record: Record | Networks) -> "Condition":
        """Return the part that decides: the first that is as true as the whole."""
        return self


def _number(value: float, like: Quantity) -> str:
    return f"{value:{like.form}}{like.unit}" if value else f"0{like.unit}"


@dataclass(frozen=True)
class _Compared(Condition):
    """The quantity against a bound: a number, or another quantity."""

    quantity: Quantity
    bound: float | Quantity
    sign: ClassVar[int]
    word: ClassVar[str]

    def gap(self, record: Record | Networks) -> Interval:
        value, bound = self.quantity.of(record), self.bound
        limit = bound.of(record) if isinstance(bound, Quantity) else Interval.of(bound)
        high, low = (value, limit) if self.sign > 0 else (limit, value)
        return Interval(high.estimate - low.estimate, high.low - low.high, high.high - low.low)

    def scaled(self, factor: float) -> Condition:
        if isinstance(self.bound, Quantity):
            return self
        bound = factor * self.bound
        # what shares (in per cent) and correlations (without a unit) cannot exceed
        most = {" %": 100.0, "": 1.0}.get(self.quantity.unit, math.inf)
        return self if abs(bound) >= most else replace(self, bound=bound)

    def sentence(self) -> str:
        quantity, bound = self.quantity, self.bound
        limit = bound.name if isinstance(bound, Quantity) else _number(bound, quantity)
        return f"{quantity.name} is {self.word} {limit}"


class Above(_Compared):
    """The quantity lies above a bound: a number, or another quantity."""

    sign, word = 1, "above"


class Below(_Compared):
    """The quantity lies below a bound: a number, or another quantity."""

    sign, word = -1, "below"


@dataclass(frozen=True)
class Includes(Condition):
    """The interval of the quantity includes a value, such as the paper's own. Never unresolved."""

    quantity: Quantity
    value: float

    def gap(self, record: Record | Networks) -> Interval:
        interval = self.quantity.of(record)
        slack = 1e-9  # of rounding, for a plain number
        return Interval.of(slack + min(self.value - interval.low, interval.high - self.value))

    def sentence(self) -> str:
        value = _number(self.value, self.quantity)
        return f"the interval of the {self.quantity.name} includes {value}"


class AllOf(Condition):
    """Every part holds. One that does not hold decides; else one that is not resolved leaves it
    open.
    """

    def __init__(self, *parts: Condition):
        self.parts = parts

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.parts == other.parts

    def judge(self, record: Record | Networks) -> Truth:
        return min(part.judge(record) for part in self.parts)

    def margin(self, record: Record) -> float:
        return min(part.margin(record) for part in self.parts)

    def scaled(self, factor: float) -> Condition:
        return AllOf(*(part.scaled(factor) for part in self.parts))

    def sentence(self) -> str:
        return " and ".join(part.sentence() for part in self.parts)

    def quantities(self) -> tuple[Quantity, ...]:
        return tuple(dict.fromkeys(q for part in self.parts for q in part.quantities()))

    def deciding(self, record: Record | Networks) -> Condition:
        whole = self.judge(record)
        part = next(part for part in self.parts if part.judge(record) is whole)
        return part.deciding(record)


class Within(AllOf):
    """The quantity lies between two numbers."""

    def __init__(self, quantity: Quantity, low: float, high: float):
        super().__init__(Above(quantity, low), Below(quantity, high))

    def sentence(self) -> str:
        quantity = self.parts[0].quantity
        low, high = (_number(part.bound, quantity) for part in self.parts)
        return f"{quantity.name} is between {low} and {high}"


@dataclass(frozen=True)
class Finding:
    """What one record says of a claim."""

    outcome: str  # one of OUTCOMES
    evidence: tuple[str, ...] = ()  # our numbers, each with its name and interval
    reason: str = ""  # why it is not tested or not applicable, or the command that makes the record

    def __str__(self) -> str:
        return "; ".join(self.evidence) or self.reason


@dataclass(frozen=True)
class Claim:
    """A sentence that can be checked, and the rule that checks it.

    The outcome is `agrees` if `holds` and, where there is one, `size` is not refuted; `same
    direction, other size` if `holds` but `size` is refuted; `contradicts` if `holds` is refuted;
    else `not resolved`.
    """

    name: str  # short and unique, for links, begins with the chapter: occlusion-object
    place: str  # where it is said: section 4.2, Fig. 7
    says: str
    measure: str  # what is measured, with its unit
    holds: Condition
    size: Condition | None = None  # of the effect, where the source prints one
    effect: Quantity | None = None  # what the scoreboard draws; default, the first of `holds`
    paper: str = ""  # the source's own number, in words; empty where it prints none
    paper_effect: float | None = None  # the same in the unit of `effect`, for the scoreboard
    source: str = "paper"  # one of SOURCES
    # why this record cannot tell; empty if it can
    untestable: Callable[[Record], str] = lambda record: ""
    # why the premise is absent; empty if it is not
    applicable: Callable[[Record], str] = lambda record: ""
    adapted: str = ""  # why networks that others trained say nothing of it; empty if they can
    sweep: bool = False  # whether the record is one of `sweep CHAPTER`, not of `measure CHAPTER`
    # the source's own numbers, at the paths that the rule reads
    printed: Record = field(default_factory=dict)
    # from a record to the same of an untrained network
    untrained: Callable[[Record], Record] | None = None
    note: str = ""  # such as: rule changed after the numbers were known
    label: str = ""  # in a figure, where the name does not read as words

    @property
    def chapter(self) -> str:
        """Name of the chapter."""
        return self.name.partition("-")[0]

    def rule(self) -> str:
        """State the rule, in words."""
        text = f"Agrees if {self.holds.sentence()}"
        if self.size:
            text += f"; same direction, other size, unless {self.size.sentence()}"
        return f"{text}. Judged by 95 % intervals."

    def command(self, dataset: str) -> str:
        """Return the command that makes the record."""
        if dataset in ADAPTED:
            options = f"--network {dataset} --dataset imagenet20"
            return f"python -m zfrepro measure {self.chapter} {options}"
        verb = "sweep" if self.sweep else "measure"
        return f"python -m zfrepro {verb} {self.chapter} --dataset {dataset}"

    def judge(self, record: Record) -> Finding:
        """Apply the rule to a record."""
        if reason := self.applicable(record):
            return Finding("not applicable", reason=reason)
        if reason := self.untestable(record):
            return Finding("not tested", reason=reason)
        shown = (quantity.told(record) for quantity in (self.drawn, *self.quantities))
        return Finding(self.outcome(record), tuple(dict.fromkeys(shown)))

    def outcome(self, record: Record | Networks) -> str:
        """Return what the rule alone makes of a record, or of those of several networks."""
        held = self.holds.judge(record)
        if held is Truth.NO:
            return "contradicts"
        if held is Truth.UNRESOLVED:
            return "not resolved"
        if self.size and self.size.judge(record) is Truth.NO:
            return "same direction, other size"
        return "agrees"

    def brief(self, record: Record | Networks) -> Finding:
        """Judge by the rule alone, and tell the quantity that is drawn or, where it decides nothing
        against the claim, what does.
        """
        outcome = self.outcome(record)
        rule = self.size if outcome == "same direction, other size" else self.holds
        told = rule.deciding(record).quantities()
        if outcome == "agrees" or self.drawn in told:
            told = (self.drawn,)
        return Finding(outcome, tuple(quantity.told(record) for quantity in told))

    @cached_property
    def quantities(self) -> tuple[Quantity, ...]:
        """Everything that the rule reads."""
        size = self.size.quantities() if self.size else ()
        return tuple(dict.fromkeys((*self.holds.quantities(), *size)))

    @property
    def drawn(self) -> Quantity:
        """The quantity that the scoreboard draws."""
        return self.effect or self.quantities[0]

    def finding(self, dataset: str) -> Finding:
        """Judge the claim on a record, one of `COLUMNS`; without a record it is `not tested`.

        So it is where the record of a network that others trained lacks the part. For any other
        that lacks it, ValueError names the command that measures it again.
        """
        record = self.read(dataset)
        if record is None:
            return Finding("not tested", reason=self.silent(dataset) or self.command(dataset))
        try:
            return self.judge(record)
        except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError) as error:
            if dataset in ADAPTED and isinstance(error, LookupError):  # a part is not measured yet
                return Finding("not tested", reason=self.command(dataset))
            raise ValueError(
                f"results/{self.file(dataset)}.json does not hold what the claim {self.name} reads "
                f"({type(error).__name__}: {error}); {self.command(dataset)} --fresh makes it again"
            ) from error

    def file(self, dataset: str) -> str:
        """Return the name of the record below results/."""
        return f"sweeps/{self.chapter}-{dataset}" if self.sweep else f"{self.chapter}/{dataset}"

    def silent(self, dataset: str) -> str:
        """Return why a network that others trained says nothing of the claim; empty if it can."""
        return (self.adapted or ABOUT_OURS.get(self.chapter, "")) if dataset in ADAPTED else ""

    def read(self, dataset: str) -> Record | None:
        """Return the record that the claim is judged on, or None."""
        if self.silent(dataset):
            return None
        try:
            return records.read(self.file(dataset))
        except FileNotFoundError:
            return None

    def sensitivity(self, dataset: str) -> list[str]:
        """Return the outcomes with the rule's numeric bounds halved, as they are and doubled; empty
        if none of them changes.
        """
        halved, same, doubled = scaled = [self.holds.scaled(factor) for factor in (0.5, 1.0, 2.0)]
        if halved == same == doubled or not self.finding(dataset).evidence:
            return []
        record = self.read(dataset)
        return [replace(self, holds=holds).outcome(record) for holds in scaled]

    def control(self, dataset: str) -> Finding | None:
        """Judge the rule on an untrained network; None where that was not measured.

        Its numbers stand in the record itself (`untrained`), or in a record of `measure
        --untrained`. `agrees` here says that the claim's rule is no evidence of learning.
        """
        record = self.read(dataset)
        if record is None:
            return None
        try:
            if self.untrained:
                control = self.untrained(record)
            else:
                control = records.read(f"{self.file(dataset)}-untrained")
            if self.untestable(control):
                return None
            if any(0 < quantity.of(control).n < FEWEST for quantity in self.quantities):
                return None
            return self.brief(control)
        except (LookupError, FileNotFoundError):
            return None

    def control_outcome(self, dataset: str) -> str | None:
        """Return the outcome of `control`, or None."""
        finding = self.control(dataset)
        return finding and finding.outcome

    def repeats(self, dataset: str) -> dict[str, Finding]:
        """Judge the rule on other trained networks, by what they are called in `REPEATS`.

        Networks without a record, or whose record cannot tell, are left out.
        """
        return {REPEATS[name]: finding for name, (_, finding) in self._repeated(dataset).items()}

    def over_networks(self, dataset: str) -> Finding | None:
        """Judge the rule with networks as the unit: the pretrained one and other seeds of its
        recipe. None for fewer than `FEWEST`.
        """
        record = self.read(dataset)
        if record is None or self.untestable(record) + self.applicable(record):
            return None
        repeated = self._repeated(dataset).items()
        networks = (record, *(seed for name, (seed, _) in repeated if name.startswith("seed")))
        if len(networks) < FEWEST:
            return None
        finding = self.brief(networks)
        return Finding(finding.outcome, (f"{finding} over {len(networks)} networks",))

    def _repeated(self, dataset: str) -> dict[str, tuple[Record, Finding]]:
        """Return the records of other trained networks that can tell, and what they say."""
        result = {}
        for name in REPEATS:
            try:
                record = records.read(f"{self.file(dataset)}-{name}")
                if not self.untestable(record) + self.applicable(record):
                    result[name] = record, self.brief(record)
            except (LookupError, FileNotFoundError):
                continue
        return result

    def printed_outcome(self) -> str | None:
        """Return what the rule makes of the source's printed numbers, or None where it prints none.
        """
        return self.outcome(self.printed) if self.printed else None


def lacks_full_layers(record: Record) -> str:
    """Return why a claim about a full layer cannot be tested; empty if the network has one."""
    stands_for = record.get("layers", {}).get("fc7", "")
    if not stands_for.startswith("mean of "):
        return ""
    return f"{record['network']} has no full layers: layer 7 would be the {stands_for}"


def of_chapter(chapter: str) -> tuple[Claim, ...]:
    """Return the claims of one chapter; ValueError if no chapter of that name lists any."""
    if chapter not in CHAPTERS:
        raise ValueError(f"no claims of {chapter!r}; there are: {', '.join(CHAPTERS)}")
    return importlib.import_module(f"book.{chapter}.claims").CLAIMS  # found by name, as a plug-in


def all_claims() -> tuple[Claim, ...]:
    """Return every claim, in the order of the book."""
    return tuple(claim for chapter in CHAPTERS for claim in of_chapter(chapter))
