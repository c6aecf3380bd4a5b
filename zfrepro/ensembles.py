"""Average the class probabilities of several networks (section 3, Table 1)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zfrepro.tensors import load_tensors
from zfrepro.training import errors

FILE = "probabilities.safetensors"
"""In the folder of a finished run: the probabilities of the validation images, (N, classes) at one
crop and at ten, and their labels, (N,).
"""

TABLE1: dict[str, tuple[str, str | None]] = {
    "krizhevsky": ("krizhevsky", None),
    "zfnet": ("zfnet", None),
    "both": ("zfnet", "zfnet-wide"),
}
"""Ensemble -> the network whose runs are all in it, and the network that joins with one run."""


def average(folders: Sequence[Path]) -> dict[str, dict[str, float]]:
    """Return the errors of the mean of several runs' probabilities, for each way to crop.

    Raises ValueError for a damaged file, or runs evaluated on different images.
    """
    runs = [_load(folder / FILE) for folder in folders]
    labels = runs[0].pop("labels")
    for folder, run in zip(folders[1:], runs[1:], strict=True):
        if not torch.equal(run.pop("labels"), labels):
            raise ValueError(
                f"{folder}: evaluated on other images than {folders[0]}; "
                "average runs of one data set"
            )
    return {
        name: errors(torch.stack([run[name] for run in runs]).mean(0), labels) for name in runs[0]
    }


def _load(file: Path) -> dict[str, Tensor]:
    try:
        return load_tensors(file)[0]
    except ValueError as error:
        raise ValueError(
            f"{file}: no whole probabilities ({error}); give the run's `train` command again"
        ) from error


def ensemble_errors(sweep: str, folders: Mapping[tuple[str, int], Path]) -> list[dict[str, Any]]:
    """Return the errors of the ensembles of Table 1, as far as a sweep's finished runs form them.

    An ensemble with a joining network is formed with each of that network's runs in turn.

    folders: (network, seed) -> folder of the run. Returns ensembles of at least two runs: name,
    `members` as [network, seed], errors in per cent. Only the sweep `training` has any.
    """
    if sweep != "training":
        return []
    runs = {key: folder for key, folder in folders.items() if (folder / FILE).is_file()}
    rows = []
    for name, (network, joining) in TABLE1.items():
        core = [key for key in runs if key[0] == network]
        groups = [[*core, key] for key in runs if key[0] == joining] if joining else [core]
        for members in groups if core else ():
            if len(members) > 1:
                row = {"name": name, "members": [list(key) for key in members]}
                rows.append(row | {"errors": average([runs[key] for key in members])})
    return rows
