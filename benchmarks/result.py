"""One line of the table: two times, their ratio, the goal, and the checks that both sides did the same work."""

from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor


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

    @property
    def correct(self) -> bool:
        return all(check.passed for check in self.checks)

    @property
    def reached(self) -> bool:
        return self.goal is None or (self.ratio <= self.goal if self.at_most else self.ratio >= self.goal)


def faster(
    name: str, seconds: float, rival: str, rival_seconds: float, checks: tuple[Check, ...], goal: float | None = None,
    least_seconds: float | None = None,
) -> Result:  # fmt: skip
    """A result whose ratio says how many times faster we are, and at best could be with `least_seconds`."""
    ceiling = rival_seconds / least_seconds if least_seconds else None
    return Result(name, seconds, rival_seconds / seconds, checks, rival, rival_seconds, goal, ceiling=ceiling)


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
