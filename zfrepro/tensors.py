"""Tensors on disk, with a few words about them: safetensors, so nothing in a file is executed."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from textwrap import shorten
from typing import Any

from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from zfrepro.records import write_atomically


def save_tensors(file: Path, tensors: Mapping[str, Tensor], **info: Any) -> str:
    """Write tensors, and `info` as JSON in the header, atomically. Return the file's SHA-256."""
    whole = {name: tensor.detach().contiguous().cpu() for name, tensor in tensors.items()}
    data = save(whole, {"zfrepro": json.dumps(info)})
    write_atomically(file, data)
    return hashlib.sha256(data).hexdigest()


def load_tensors(file: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read tensors and what `save_tensors` noted with them.

    Raises:
        ValueError: damaged, or with a number that is not finite; in one short line.
    """
    try:
        with safe_open(file, "pt") as opened:
            info = json.loads((opened.metadata() or {}).get("zfrepro", "{}"))
            if not isinstance(info, dict):
                raise ValueError("its header is no JSON object")
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    except Exception as error:  # safetensors raises its own kinds for damage
        raise ValueError(brief(error)) from error
    if wrong := [name for name, tensor in tensors.items() if not tensor.isfinite().all()]:
        raise ValueError(f"{wrong[0]} is not finite")
    return tensors, info


def brief(error: Exception) -> str:
    """Return what an error says, in one line; torch lists every tensor that does not fit."""
    return f"no {error}" if isinstance(error, KeyError) else shorten(str(error), 200)
