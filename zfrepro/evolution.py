"""How features change while a network learns (Fig. 4).

The paper shows, for some maps, the projection of the strongest activation over the training set at
several epochs. A maximum over a data set is an extreme statistic: it can jump while the map hardly
changes. So a measure of the whole layer stands beside it: linear CKA with the final layer.
"""

import copy
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm.auto import tqdm

from diorama.threads import single_threaded
from zfrepro import gallery
from zfrepro.data import Dataset
from zfrepro.data.transforms import mean_image
from zfrepro.gallery import Top
from zfrepro.training import Recipe, start, train_epoch
from zfrepro.weights import Trained, load_weights

GRID = 6  # feature maps are averaged to at most this many places a side before layers are compared


@dataclass(frozen=True)
class Snapshot:
    """A network after some epochs of training."""

    epoch: int
    trained: Trained


def snapshots(run: Path, device: torch.device | None = None) -> list[Snapshot]:
    """Load what `train --keep` left in a run's folder, by epoch.

    Raises FileNotFoundError if nothing, ValueError if not of one run.
    """
    matches = (
        (re.fullmatch(r"epoch-(\d+)", file.stem), file) for file in run.glob("epoch-*.safetensors")
    )
    files = {int(match[1]): file for match, file in matches if match}
    if not files:
        raise FileNotFoundError(
            f"{run}: holds no epoch-NNN.safetensors; train with --keep and --out {run}"
        )
    found = [Snapshot(epoch, load_weights(files[epoch], device=device)) for epoch in sorted(files)]
    if other := [s for s in found if s.trained.recipe != found[-1].trained.recipe]:
        raise ValueError(
            f"{files[other[0].epoch]}: of another recipe than the last epoch; move it away"
        )
    return found


@single_threaded()  # a small network gains little from more threads
def grow(
    recipe: Recipe,
    dataset: Dataset,
    epochs: Iterable[int],
    *,
    device: torch.device,
    progress: bool = True,
) -> list[Snapshot]:
    """Train a small network in memory and return its weights after the given epochs.

    Args:
        epochs: those that the recipe does not reach are left out.
    """
    state = start(recipe, len(dataset.classes), device)
    mean = mean_image(dataset.train.images).to(device)
    wanted, checkpoints = set(epochs), []
    bar = tqdm(range(1, recipe.epochs + 1), desc="training", unit="epoch", disable=not progress)
    for epoch in bar:
        row = train_epoch(recipe, state, dataset.train, mean, epoch - 1, progress=False)
        bar.set_postfix_str(f"loss {row['loss']:.2f}, train error {row['train_error']:.0f} %")
        if epoch in wanted:
            network = copy.deepcopy(state.evaluated)
            network.eval().requires_grad_(False)
            checkpoints.append(Snapshot(epoch, Trained(network, recipe, dataset.classes, mean)))
    return checkpoints


def strongest(
    trained: Trained, images: Tensor, layers: Sequence[str] | None = None, *, progress: bool = False
) -> dict[str, Top]:
    """Find the strongest unit of every map of some layers, by default of all conv layers.

    images: uint8 (N, 3, R, R).
    """
    batches = (trained.preprocess(part) for part in images.split(64))
    return gallery.top_units(trained.network, batches, layers, k=1, progress=progress)


def project(trained: Trained, images: Tensor, top: Top, maps: Sequence[int]) -> Tensor:
    """Project the strongest unit of M maps, zero where a map never responds. -> (M, 3, F, F)."""
    return gallery.projections(
        trained.network, lambda indices: trained.preprocess(images[indices]), top, maps
    )[:, 0]


def strongest_projections(
    checkpoints: Sequence[Snapshot], images: Tensor, maps: dict[str, list[int]]
) -> dict[str, tuple[Tensor, Tensor]]:
    """Project the strongest unit of some maps at every snapshot (Fig. 4).

    images: uint8 (N, 3, R, R), over which the strongest is sought; maps: layer -> M of its maps.
    Returns layer -> signed projections (M, E, 3, F, F), and the strongest images (M, E).
    """
    by_layer: dict[str, list[tuple[Tensor, Tensor]]] = {layer: [] for layer in maps}
    for snapshot in checkpoints:
        tops = strongest(snapshot.trained, images, list(maps))
        for layer, indices in maps.items():
            projected = project(snapshot.trained, images, tops[layer], indices)
            by_layer[layer].append((projected, tops[layer].images[indices, 0]))
    return {
        layer: tuple(torch.stack(over_epochs, 1) for over_epochs in zip(*pairs, strict=True))
        for layer, pairs in by_layer.items()
    }


def cosine(before: Tensor, after: Tensor) -> Tensor:
    """Return the cosine of pairs of projections (M, 3, F, F), nan where one is blank. -> (M,)."""
    a, b = before.flatten(1), after.flatten(1)
    norms = a.norm(dim=1) * b.norm(dim=1)
    return ((a * b).sum(1) / norms).masked_fill(norms == 0, torch.nan)


@torch.no_grad()
def layer_features(trained: Trained, images: Tensor) -> dict[str, Tensor]:
    """Return every layer's features, float (N, D), maps averaged to at most GRID x GRID places."""
    layers = trained.network.layers
    rows: dict[str, list[Tensor]] = {name: [] for name in layers}
    for part in images.split(64):
        for name, x in trained.network.features(trained.preprocess(part), layers).items():
            if x.ndim == 4 and x.shape[-1] > GRID:
                x = F.adaptive_avg_pool2d(x, GRID)
            rows[name].append(x.flatten(1).float().cpu())
    return {name: torch.cat(parts) for name, parts in rows.items()}


def cka(a: Tensor, b: Tensor) -> float:
    """Return the linear centred kernel alignment of two sets of features of the same images.

    As in Kornblith et al. (2019), with the unbiased estimate of HSIC (Song et al. 2012; Nguyen et
    al. 2021): the plain one nears 1 for any features once there are more of them than images. 1
    for features equal up to rotation and scale, about 0 for unrelated ones.

    a, b: (N, D1) and (N, D2), N at least four, else ValueError.
    """
    if len(a) != len(b) or len(a) < 4:
        raise ValueError(
            f"features of the same four images or more wanted, got {len(a)} and {len(b)}"
        )
    centred = (x.double() - x.double().mean(0) for x in (a, b))
    k, m = ((x @ x.T).fill_diagonal_(0) for x in centred)
    scale = (_hsic(k, k) * _hsic(m, m)).clamp_min(0).sqrt()
    return float(_hsic(k, m) / scale) if scale > 0 else float("nan")


def _hsic(k: Tensor, m: Tensor) -> Tensor:
    n = len(k)
    middle = k.sum() * m.sum() / ((n - 1) * (n - 2)) - 2 / (n - 2) * (k.sum(0) @ m.sum(0))
    return ((k * m).sum() + middle) / (n * (n - 3))


def converged(epochs: Sequence[int], similarity: Sequence[float], threshold: float) -> float:
    """Return the epoch from which a layer stays as similar to its final form as the threshold.

    Between the last epoch below the threshold and the next, similarity is taken as linear in the
    logarithm of the epoch.

    epochs, similarity: of the checkpoints, ascending, and of each with the last, (E,); nan counts
    as below. Raises ValueError if the last one is below the threshold.
    """
    below = [i for i, value in enumerate(similarity) if not value >= threshold]
    if not below:
        return float(epochs[0])
    last = below[-1]
    if last == len(epochs) - 1:
        raise ValueError(f"similarity ends at {similarity[-1]}, below the threshold {threshold}")
    low, high = similarity[last], similarity[last + 1]
    share = (threshold - low) / (high - low) if low == low else 1.0
    return math.exp((1 - share) * math.log(epochs[last]) + share * math.log(epochs[last + 1]))
