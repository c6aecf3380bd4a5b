"""One thread a tensor: the drawing's tensors are small on purpose, to stay in a core's cache, and splitting
each among threads costs more than it gains. Pictures are shared out among threads instead."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def one_thread_a_tensor() -> Iterator[None]:
    """Run torch's operators on the calling thread alone, and give back the setting afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
