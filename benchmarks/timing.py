"""Times of several functions, taken in turn so that a busy machine affects all of them."""

import math
import statistics
import time
from collections.abc import Callable, Sequence

import torch

ROUNDS = 6
CPU = torch.device("cpu")


def _seconds(function: Callable[[], object], calls: int) -> float:
    wait = torch.cuda.synchronize if torch.cuda.is_initialized() else lambda: None
    wait()
    began = time.perf_counter()
    for _ in range(calls):
        function()
    wait()  # a GPU works on while Python goes on
    return (time.perf_counter() - began) / calls


def medians(
    functions: Sequence[Callable[[], object]], repeats: int, at_least: float = 0.05
) -> list[float]:
    """Return the median seconds a call of each function.

    All are measured again, `ROUNDS` times at most, until two rounds in a row agree on the ratio of
    the first to each other function. One measurement of each is a check and is not repeated.

    Args:
        repeats: measurements of each in a round, after one call that warms up.
        at_least: seconds a measurement lasts; a fast function is called several times for it.
    """
    calls = []
    for function in functions:
        fast = _seconds(function, 1) < at_least
        calls.append(max(1, round(at_least / max(_seconds(function, 1), 1e-9))) if fast else 1)
    pairs = list(zip(functions, calls, strict=True))

    def measure() -> list[float]:
        times = [[_seconds(function, number) for function, number in pairs] for _ in range(repeats)]
        return [statistics.median(column) for column in zip(*times, strict=True)]

    rounds = [measure()]
    while repeats > 1 and len(rounds) < ROUNDS:
        rounds.append(measure())
        if _agree(*rounds[-2:]):
            break
    return [statistics.fmean(column) for column in zip(*rounds[-2:], strict=True)]


def _agree(one: Sequence[float], other: Sequence[float]) -> bool:
    """Whether two rounds differ by less than a tenth in the ratio of the first time to any other.

    A single function has no rival: its time is compared.
    """
    ratios = [[times[0] / time for time in times[1:]] or times for times in (one, other)]
    return all(abs(math.log(a / b)) < math.log(1.1) for a, b in zip(*ratios, strict=True))


def matmul_rate(precision: str, device: torch.device) -> float:
    """Return the multiply-adds a second of a large matrix product in `fp32` or `bf16`."""
    side, products = (2048, 1) if device.type == "cpu" else (8192, 20)
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    matrix = torch.randn(side, side, device=device).to(dtype)

    def work() -> None:
        for _ in range(products):
            product = matrix @ matrix
        product[0, 0].item()  # a GPU works on while we go on, until it is asked for a number

    return products * side**3 / medians([work], 5)[0]
