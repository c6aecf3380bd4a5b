"""Several processes that train one network by DDP, as `torchrun` starts them; one process alone needs none of it."""

import contextlib
import os
from collections.abc import Iterator
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

PATIENCE = timedelta(hours=24)  # the others wait while the first decodes a data set


def rank() -> int:
    """This process's number; the first, 0, is the one that writes."""
    return dist.get_rank() if dist.is_initialized() else 0


def count() -> int:
    """How many processes train together."""
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
def first_alone(device: torch.device) -> Iterator[None]:
    """The first process does what follows before the others do, so that they find its files."""
    if rank():
        summed(torch.zeros(1, device=device))
    yield
    if count() > 1 and not rank():
        summed(torch.zeros(1, device=device))


def share(things: int) -> slice:
    """This process's part of so many things."""
    return slice(things * rank() // count(), things * (rank() + 1) // count())


def summed(values: Tensor) -> Tensor:
    """Sum over all processes, the same in each; waits for all of them."""
    if count() > 1:
        values = values.clone()
        dist.all_reduce(values)
    return values


def wrapped(network: nn.Module) -> nn.Module:
    """The network as it is trained: its gradients are averaged over the processes, if there are several."""
    return DistributedDataParallel(network, gradient_as_bucket_view=True) if count() > 1 else network
