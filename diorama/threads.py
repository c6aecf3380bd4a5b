"""One thread a tensor: tensors are small here, to stay in a core's cache, and splitting each among
threads costs more than it gains. Images are shared out among threads instead."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def single_threaded() -> Iterator[None]:
    """Run torch's operators on the calling thread alone; restore the setting afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
