"""Where to run and in which precision; the only file that names CUDA."""

import contextlib
import ctypes
import os
import platform
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import torch
from torch import Tensor
from tqdm.auto import tqdm

Result = TypeVar("Result")

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4  # of malloc.h


def pick(name: str | None = None) -> torch.device:
    """Return the named device, or `$ZFREPRO_DEVICE`, or a GPU if there is one, or the CPU.

    Of several processes that torchrun starts, each gets a GPU of its own. Raises RuntimeError if
    CUDA, or that many GPUs, are asked for and absent.
    """
    name = (
        name or os.environ.get("ZFREPRO_DEVICE") or ("cuda" if torch.cuda.is_available() else "cpu")
    )
    if name == "cuda" and (rank := os.environ.get("LOCAL_RANK")):
        name = f"cuda:{rank}"
    kind, _, number = name.partition(":")
    if kind not in ("cpu", "cuda") or not (number.isdecimal() or name == kind):
        raise ValueError(f"device {name!r}: choose cpu, cuda or cuda:NUMBER")
    if kind == "cuda":
        if not torch.cuda.is_available():
            raise RuntimeError(
                f"device {name!r}: torch finds no CUDA here; use cpu or leave it out"
            )
        if int(number or 0) >= torch.cuda.device_count():
            raise RuntimeError(
                f"device {name!r}: there are {torch.cuda.device_count()} GPUs, counted from cuda:0"
            )
        torch.cuda.set_device(int(number or 0))
        # else convolutions called fp32 keep 10 of its 23 bits
        torch.backends.cudnn.allow_tf32 = False
    return torch.device(name)


def cores() -> int:
    """Return how many of the machine's cores this process may use."""
    if hasattr(os, "sched_getaffinity"):  # Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


PRECISIONS = ("fp32", "bf16")


def autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager:
    """Return the context of bf16 arithmetic with fp32 weights, or of nothing for fp32."""
    if precision not in PRECISIONS:
        raise ValueError(f"precision {precision!r}: choose among {', '.join(PRECISIONS)}")
    if precision == "fp32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, torch.bfloat16)


def fast_bf16(device: torch.device) -> bool:
    """Return whether bf16 convolutions are faster than fp32 ones here."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    if not (torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()):
        return False
    # Intel's AVX-512 does no more in bf16 than in fp32; its AMX does, and AMD's AVX-512
    return torch.cpu._is_amx_tile_supported() or "Intel" not in cpu_model()


def keep_freed_memory() -> None:
    """Keep memory that this process frees (Linux with glibc; elsewhere nothing changes).

    A training step frees and takes again hundreds of megabytes. By default glibc hands each large
    block back to the system, which clears every page of it anew: half of the time of a step at 224
    px on a CPU.
    """
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        for option, value in ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, -1), (M_TOP_PAD, 2**28)):
            libc.mallopt(option, value)


def release_freed_memory() -> None:
    """Give freed memory, which `keep_freed_memory` holds on to, back to the system."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def resident(tensor: Tensor, device: torch.device) -> Tensor:
    """Return the tensor on a GPU that has twice the memory free for it; else as it is.

    No batch is then carried over.
    """
    if device.type != "cuda":
        return tensor
    free, _ = torch.cuda.mem_get_info(device)
    return tensor.to(device) if 2 * tensor.nbytes <= free else tensor


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Return the tensor on the device, without waiting for a GPU, so that it always has work."""
    if tensor.device == device or device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def precision(device: torch.device, wanted: str) -> str:
    """Return the precision to train in: `fp32` where bf16 is wanted and many times slower."""
    return "fp32" if wanted == "bf16" and not fast_bf16(device) else wanted


def with_oom_backoff(
    run: Callable[[Tensor], Result], batches: Iterable[Tensor]
) -> Iterator[Result]:
    """Yield `run` of each batch, in smaller parts once the GPU's memory does not suffice.

    `run` must keep nothing of a batch when it raises: it is called again with a part of the same.
    Raises RuntimeError if not even one image fits.
    """
    most: int | None = None
    for batch in batches:
        start = 0
        while start < len(batch):
            part = batch[start : start + (most or len(batch))]
            with contextlib.suppress(torch.OutOfMemoryError):
                yield run(part)
                start += len(part)
                continue
            # not inside an `except`, which would keep the failed batch alive
            most = len(part) // 2
            if not most:
                raise RuntimeError(
                    "out of GPU memory with one image at a time; free some, or use --device cpu"
                )
            torch.cuda.empty_cache()
            tqdm.write(
                f"out of GPU memory with {len(part)} images at once: going on with {most}",
                file=sys.stderr,
            )


def cpu_model() -> str:
    """Return the name of the processor, or as much as the system tells."""
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8") as lines:
        names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
        if names and names[0] != "unknown":
            return names[0]
    return platform.processor() or platform.machine()


def describe(device: torch.device) -> str:
    """Return the hardware in a few words, for records."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    capability, threads = torch.backends.cpu.get_cpu_capability(), torch.get_num_threads()
    return f"CPU {cpu_model()} ({capability}), {threads} {'thread' if threads == 1 else 'threads'}"
