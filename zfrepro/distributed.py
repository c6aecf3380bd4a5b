"""Train one network by DDP in the processes that `torchrun` starts; one alone needs none of it."""

import contextlib
import os
from collections.abc import Iterator
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

PATIENCE = timedelta(hours=24)  # the others wait while the first decodes a data set


def rank() -> int:
    """Return this process's number; the first, 0, is the one that writes."""
    return dist.get_rank() if dist.is_initialized() else 0


def count() -> int:
    """Return how many processes train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


@contextlib.contextmanager
def group(device: torch.device) -> Iterator[None]:
    """Join the processes that torchrun started, if it did: by gloo on CPUs, by NCCL on GPUs."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield
        return
    dist.init_process_group(timeout=PATIENCE, device_id=None if device.type == "cpu" else device)
    try:
        yield
    finally:
        dist.destroy_process_group()


@contextlib.contextmanager
def rank0_first(device: torch.device) -> Iterator[None]:
    """Run the body in the first process before the others, so that they find its files."""
    if rank():
        all_reduce_sum(torch.zeros(1, device=device))
    yield
    if count() > 1 and not rank():
        all_reduce_sum(torch.zeros(1, device=device))


def shard(n: int) -> slice:
    """Return the slice of `n` items owned by this rank."""
    return slice(n * rank() // count(), n * (rank() + 1) // count())


def all_reduce_sum(values: Tensor) -> Tensor:
    """Return the sum over all processes, the same in each; waits for all of them."""
    if count() > 1:
        values = values.clone()
        dist.all_reduce(values)
    return values
