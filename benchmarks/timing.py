"""Times of several functions, taken in turn so that a busy machine affects all of them."""

import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch


def _seconds(function: Callable[[], object], calls: int) -> float:
    began = time.perf_counter()
    for _ in range(calls):
        function()
    return (time.perf_counter() - began) / calls


def medians(
    functions: Sequence[Callable[[], object]], repeats: int, at_least: float = 0.02
) -> list[float]:
    """Return the median seconds a call of each function.

    Args:
        repeats: measurements of each, after one call that warms up.
        at_least: seconds a measurement lasts; a fast function is called several times for it.
    """
    calls = []
    for function in functions:
        fast = _seconds(function, 1) < at_least
        calls.append(max(1, round(at_least / max(_seconds(function, 1), 1e-9))) if fast else 1)
    pairs = list(zip(functions, calls, strict=True))
    taken = [[_seconds(function, number) for function, number in pairs] for _ in range(repeats)]
    return [statistics.median(column) for column in zip(*taken, strict=True)]


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


def peak(work: Callable[[], object]) -> float:
    """Return the most memory that this process held during `work`, in MB. Linux only."""
    Path("/proc/self/clear_refs").write_text("5")  # importing torch takes more than the work
    work()
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024
