"""One line of the table: two times, their ratio, the goal, and the checks that both sides did the same work."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from torch import Tensor

from benchmarks import where


@dataclass(frozen=True)
class Check:
    """A largest difference, found and allowed."""

    what: str
    error: float
    bound: float

    @property
    def passed(self) -> bool:
        return self.error <= self.bound  # nan does not pass

    def __str__(self) -> str:
        return f"{self.what} {self.error:.0e}" + ("" if self.passed else f" WRONG, allowed {self.bound:.0e}")


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
    ceiling: float | None = None  # the ratio if nothing but the multiply-adds took time, at the measured matmul rate
    shares: Mapping[str, float] = field(default_factory=dict)  # of our time, by kind of operation

    @property
    def correct(self) -> bool:
        return all(check.passed for check in self.checks)

    @property
    def reached(self) -> bool:
        return self.goal is None or (self.ratio <= self.goal if self.at_most else self.ratio >= self.goal)


def faster(
    name: str, seconds: float, rival: str, rival_seconds: float, checks: tuple[Check, ...], goal: float | None = None,
    least_seconds: float | None = None, work: Callable[[], object] | None = None,
) -> Result:  # fmt: skip
    """A result whose ratio says how many times faster we are, and at best could be with `least_seconds`.

    Args:
        work: ours, to profile it.
    """
    ceiling = rival_seconds / least_seconds if least_seconds else None
    spent = where.shares(work) if work else {}
    ratio = rival_seconds / seconds
    return Result(name, seconds, ratio, checks, rival, rival_seconds, goal, ceiling=ceiling, shares=spent)


def difference(a: Tensor, b: Tensor) -> float:
    """Largest difference in units of the largest value of b."""
    return ((a - b).abs().max() / b.abs().max().clamp_min(1e-30)).item()


def _time(seconds: float | None) -> str:
    if seconds is None:
        return ""
    return f"{seconds:.2f} s" if seconds >= 1 else f"{1e3 * seconds:.3g} ms"


def _row(r: Result) -> tuple[str, ...]:
    ratio = f"{r.ratio:.2f}" if r.ratio < 10 else f"{r.ratio:.0f}"
    goal = "" if r.goal is None else f"{'at most' if r.at_most else 'at least'} {r.goal:g}"
    verdict = "" if r.goal is None else "reached" if r.reached else "missed"
    ceiling = "" if r.ceiling is None else f"{r.ceiling:.2f}"
    checks = "; ".join(map(str, r.checks))
    return (
        r.name,
        _time(r.seconds),
        r.rival,
        _time(r.rival_seconds),
        f"{ratio} {r.unit}",
        goal,
        verdict,
        ceiling,
        checks,
    )


def table(results: Iterable[Result]) -> str:
    """All results as text; times are those of one item.

    The ceiling is the ratio that would be had if nothing but the network's multiply-adds took time, at the rate that a
    large matrix product in the same precision reaches on this machine.
    """
    head = ("what", "ours", "against", "its time", "ratio", "goal", "", "ceiling", "largest difference")
    rows = [head, *map(_row, results)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows)


def profiles(results: Iterable[Result]) -> str:
    """Where our own time goes, a line a profiled result; kinds below 1 % are left out."""
    lines = [
        f"{r.name}: " + ", ".join(f"{kind} {100 * share:.0f} %" for kind, share in r.shares.items() if share >= 0.01)
        for r in results
        if r.shares
    ]
    return "\n".join(["where our time goes", *lines]) if lines else ""
