"""One line of the table: two times, their ratio, the goal, and checks of the same result."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor

from benchmarks.timing import medians


@dataclass(frozen=True)
class Check:
    """A largest difference, found and allowed."""

    what: str
    error: float
    bound: float

    @property
    def passed(self) -> bool:
        return self.error <= self.bound  # nan does not pass


@dataclass(frozen=True)
class Result:
    """A comparison; without a rival, a rate."""

    name: str
    seconds: float  # an item, ours
    ratio: float  # times faster, or what `unit` says
    checks: tuple[Check, ...]
    rival: str = ""
    rival_seconds: float | None = None
    goal: float | None = None
    at_most: bool = False  # whether a small ratio is good
    unit: str = "x faster"

    @property
    def correct(self) -> bool:
        return all(check.passed for check in self.checks)

    @property
    def reached(self) -> bool:
        if self.goal is None:
            return True
        return self.ratio <= self.goal if self.at_most else self.ratio >= self.goal


def faster(
    name: str, seconds: float, rival: str, rival_seconds: float, checks: tuple[Check, ...],
    goal: float | None = None,
) -> Result:  # fmt: skip
    """Return a result that says how many times faster we are. Seconds are those of an item."""
    return Result(name, seconds, rival_seconds / seconds, checks, rival, rival_seconds, goal)


def compare(
    name: str, ours: Callable, rivals: Mapping[str, Callable], checks: tuple[Check, ...],
    repeats: int, *, items: int = 1, goal: float | None = None, at_least: float = 0.05,
) -> Result:  # fmt: skip
    """Time ours and the rivals in turn, see `medians`; the quickest rival counts."""
    seconds, *others = medians([ours, *rivals.values()], repeats, at_least)
    best, rival = min(zip(others, rivals, strict=True))
    return faster(name, seconds / items, rival, best / items, checks, goal)


def difference(a: Tensor, b: Tensor) -> float:
    """Return the largest difference in units of the largest value of b."""
    return ((a - b).abs().max() / b.abs().max().clamp_min(1e-30)).item()


def _time(seconds: float) -> str:
    return f"{seconds:.3g} s" if seconds >= 1 else f"{1e3 * seconds:.3g} ms"


def _row(result: Result) -> tuple[str, ...]:
    rival = "" if result.rival_seconds is None else f"{_time(result.rival_seconds)}, {result.rival}"
    goal = ""
    if result.goal is not None:
        bound, outcome = "<=" if result.at_most else ">=", "reached" if result.reached else "MISSED"
        goal = f"{bound} {result.goal:g} {outcome}"
    goal = goal if result.correct else "WRONG RESULT"
    return result.name, _time(result.seconds), rival, f"{result.ratio:.3g} {result.unit}", goal


def table(results: Iterable[Result]) -> str:
    """Return all results as text; times are those of one item."""
    rows = [("what", "ours", "theirs", "ratio", "goal"), *map(_row, results)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    return "\n".join(lines)
