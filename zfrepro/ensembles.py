"""Several networks whose class probabilities are averaged (section 3, Table 1)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor

from zfrepro.records import write_atomically
from zfrepro.training import errors

FILE = "probabilities.safetensors"
"""In the folder of a finished run: what its network says of the validation images at one crop and at ten."""

TABLE1: dict[str, dict[str, tuple[str, str | None]]] = {
    "training": {"krizhevsky": ("krizhevsky", None), "zfnet": ("zfnet", None), "both": ("zfnet", "zfnet-wide")}
}
"""Sweep -> ensemble -> the network whose runs are all in it, and the network that joins with one run, if any."""


def keep(folder: Path, probabilities: dict[str, Tensor], labels: Tensor) -> None:
    """Write a run's probabilities, (N, classes) for each way to crop, and the labels, (N,), for `average`."""
    tensors = {name: values.contiguous() for name, values in probabilities.items()}
    write_atomically(folder / FILE, save(tensors | {"labels": labels}))


def average(folders: Sequence[Path]) -> dict[str, dict[str, float]]:
    """Errors of the mean of several runs' probabilities, for each way to crop.

    Raises:
        ValueError: no runs, a damaged file, or runs that were evaluated on different images, with the remedy.
    """
    found = [_kept(folder / FILE) for folder in folders]
    if not found:
        raise ValueError("an ensemble needs at least one run")
    labels = found[0].pop("labels")
    for folder, other in zip(folders[1:], found[1:], strict=True):
        if not torch.equal(other.pop("labels"), labels):
            raise ValueError(f"{folder}: evaluated on other images than {folders[0]}; average runs of one data set")
    return {name: errors(torch.stack([run[name] for run in found]).mean(0), labels) for name in found[0]}


def _kept(file: Path) -> dict[str, Tensor]:
    try:
        return load(file.read_bytes())
    except Exception as error:  # safetensors raises its own kinds for damage
        reason = " ".join(str(error).split())
        raise ValueError(f"{file}: no whole probabilities ({reason}); give the run's `train` command again") from error


def of_runs(sweep: str, folders: dict[tuple[str, int], Path]) -> list[dict[str, Any]]:
    """Errors of the ensembles of Table 1 among a sweep's finished runs; as far as they are there.

    An ensemble with a joining network is formed with each of that network's runs in turn.

    Args:
        folders: (network, seed) -> folder of the run.
    Returns:
        ensembles of at least two runs, each with its name, `members` as [network, seed], and its errors in per cent.
    """
    there = {key: folder for key, folder in folders.items() if (folder / FILE).is_file()}
    found = []
    for name, (network, joining) in TABLE1.get(sweep, {}).items():
        core = [key for key in there if key[0] == network]
        joined = [[*core, key] for key in there if key[0] == joining] if joining else [core]
        for members in joined:
            if core and len(members) > 1:
                row = {"name": name, "members": [list(key) for key in members]}
                found.append(row | {"errors": average([there[key] for key in members])})
    return found
