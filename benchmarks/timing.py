"""Times of several functions, taken in turn so that a busy machine affects all of them."""

import time
from collections.abc import Callable, Sequence

import numpy as np
import torch

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

    Args:
        repeats: measurements of each, in turn, after one call that warms up.
        at_least: seconds a measurement lasts; a fast function is called several times for it.
    """
    calls = []
    for function in functions:
        fast = _seconds(function, 1) < at_least
        calls.append(max(1, round(at_least / max(_seconds(function, 1), 1e-9))) if fast else 1)
    times = [[*map(_seconds, functions, calls)] for _ in range(repeats)]
    return np.median(times, axis=0).tolist()


def matmul_rate(precision: str, device: torch.device) -> float:
    """Return the multiply-adds a second of a large matrix product in `fp32` or `bf16`."""
    side, products = (2048, 1) if device.type == "cpu" else (8192, 20)
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    matrix = torch.randn(side, side, device=device).to(dtype)

    def work() -> None:
        for _ in range(products):
            product = matrix @ matrix
        product[0, 0].item()  # a GPU works on while we go on, until it is asked for a number

    return products * side**3 / medians([work], 9)[0]
