"""Where to run and in which precision; the only file that names CUDA."""

import contextlib
import os
import platform

import torch


def pick(name: str | None = None) -> torch.device:
    """The named device, or `$ZFREPRO_DEVICE`, or a GPU if there is one, or the CPU.

    Raises:
        ValueError: neither the CPU nor CUDA.
        RuntimeError: CUDA, or that many GPUs, asked for and absent.
    """
    name = name or os.environ.get("ZFREPRO_DEVICE") or ("cuda" if torch.cuda.is_available() else "cpu")
    kind, _, number = name.partition(":")
    if kind not in ("cpu", "cuda") or not (number.isdecimal() or name == kind):
        raise ValueError(f"device {name!r}: choose cpu, cuda or cuda:NUMBER")
    if kind == "cuda":
        if not torch.cuda.is_available():
            raise RuntimeError(f"device {name!r}: torch finds no CUDA here; use cpu or leave it out")
        if int(number or 0) >= torch.cuda.device_count():
            raise RuntimeError(f"device {name!r}: there are {torch.cuda.device_count()} GPUs, counted from cuda:0")
    return torch.device(name)


PRECISIONS = ("fp32", "bf16")


def autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager:
    """bf16 arithmetic with fp32 weights, or nothing for fp32."""
    if precision not in PRECISIONS:
        raise ValueError(f"precision {precision!r}: choose among {', '.join(PRECISIONS)}")
    if precision == "fp32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, torch.bfloat16)


def fast_bf16(device: torch.device) -> bool:
    """Whether bf16 convolutions are faster than fp32 ones here."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    return torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()


def describe(device: torch.device) -> str:
    """The hardware in a few words, for records."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    model = platform.processor() or platform.machine()
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8") as lines:
        names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
        model = names[0] if names and names[0] != "unknown" else model
    return f"CPU {model}, {torch.get_num_threads()} threads"
