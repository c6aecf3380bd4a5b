"""Times of several functions, taken in turn so that whatever else the machine does falls on all of them."""

import functools
import statistics
import time
from collections.abc import Callable, Sequence

import torch

CPU = torch.device("cpu")


def _seconds(function: Callable[[], object], calls: int) -> float:
    began = time.perf_counter()
    for _ in range(calls):
        function()
    return (time.perf_counter() - began) / calls


def medians(functions: Sequence[Callable[[], object]], repeats: int, at_least: float = 0.02) -> list[float]:
    """Median seconds a call of each function.

    Args:
        repeats: measurements of each, after one call that warms up.
        at_least: seconds a measurement lasts; a fast function is called several times for it.
    """
    calls = []
    for function in functions:
        warm_up = _seconds(function, 1)
        fast = warm_up < at_least
        calls.append(max(1, round(at_least / max(_seconds(function, 1), 1e-9))) if fast else 1)
    taken = [[_seconds(f, n) for f, n in zip(functions, calls, strict=True)] for _ in range(repeats)]
    return [statistics.median(column) for column in zip(*taken, strict=True)]


@functools.cache
def matmul_rate(precision: str, device: torch.device = CPU) -> float:
    """Multiply-adds a second of a large matrix product in `fp32` or `bf16`: what arithmetic can cost at the least."""
    side, products = (2048, 1) if device.type == "cpu" else (8192, 20)
    matrix = torch.randn(side, side, device=device).to(torch.bfloat16 if precision == "bf16" else torch.float32)

    def work() -> None:
        for _ in range(products):
            found = matrix @ matrix
        found[0, 0].item()  # a GPU works on while we go on, until it is asked for a number

    return products * side**3 / medians([work], 5)[0]
