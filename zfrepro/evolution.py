"""How features change while a network learns (Fig. 4): snapshots, strongest projections, how settled a layer is.

The paper shows, for some maps, the projection of the strongest activation over the training set at several epochs. A
maximum over a data set is an extreme statistic: it can jump while the map hardly changes, and stay while it does. So
beside it stand measures of the whole layer: linear CKA with the final self and the accuracy of a linear probe.
"""

import copy
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm.auto import tqdm

from zfrepro import gallery
from zfrepro.data import Dataset
from zfrepro.data.diorama.threads import one_thread_a_tensor
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
    """What `train --keep` left in a run's folder, in the order of epochs.

    Raises:
        FileNotFoundError: there are none, with the remedy.
    """
    named = ((re.fullmatch(r"epoch-(\d+)", file.stem), file) for file in run.glob("epoch-*.safetensors"))
    files = {int(name[1]): file for name, file in named if name}
    if not files:
        raise FileNotFoundError(f"{run}: holds no epoch-NNN.safetensors; train with --keep and --out {run}")
    return [Snapshot(epoch, load_weights(files[epoch], device=device)) for epoch in sorted(files)]


@one_thread_a_tensor()  # a small network gains little from more, and on cores that are shared they wait for each other
def grow(
    recipe: Recipe, dataset: Dataset, epochs: Iterable[int], *, device: torch.device, frozen: Sequence[str] = (),
    frozen_after: int = 0, progress: bool = True,
) -> list[Snapshot]:  # fmt: skip
    """Train in memory and keep the weights after the given epochs; for networks small enough to train while you wait.

    Args:
        frozen: layers that no longer learn once `frozen_after` epochs are over.
    Returns:
        The snapshots, those of epochs the recipe does not reach left out.
    """
    state = start(recipe, len(dataset.classes), device)
    mean = mean_image(dataset.train.images).to(device)
    wanted, kept = set(epochs), []
    bar = tqdm(range(1, recipe.epochs + 1), desc="training", unit="epoch", disable=not progress)
    for epoch in bar:
        if frozen and epoch == frozen_after + 1:
            for name in frozen:
                layer = {**state.network.convs, **state.network.fulls}[name]
                layer.requires_grad_(False)
                for parameter in layer.parameters():
                    parameter.grad = None
        row = train_epoch(recipe, state, dataset.train, mean, epoch - 1, progress=False)
        bar.set_postfix_str(f"loss {row['loss']:.2f}, train error {row['train_error']:.0f} %")
        if epoch in wanted:
            network = copy.deepcopy(state.network).eval().requires_grad_(False)
            kept.append(Snapshot(epoch, Trained(network, recipe, dataset.classes, mean)))
    return kept


def strongest(trained: Trained, images: Tensor, *, batch: int = 64, progress: bool = False) -> dict[str, Top]:
    """The strongest unit of every map of every conv layer over stored images, uint8 (N, 3, R, R)."""
    batches = (trained.normalised(part) for part in images.split(batch))
    return gallery.top_units(
        trained.network, batches, k=1, progress=progress
    )  # fmt: skip


def project(trained: Trained, images: Tensor, top: Top, maps: Sequence[int]) -> Tensor:
    """Projections of the strongest unit of some maps, zero for maps that never respond. -> (len(maps), 3, F, F)."""
    found = gallery.projections(trained.network, lambda chosen: trained.normalised(images[chosen]), top, maps)[:, 0]
    return found * (top.values[list(maps), 0] > 0)[:, None, None, None]


def jumps(before: Top, after: Top) -> Tensor:
    """Whether another image has become a map's strongest, what the paper's figure shows as a jump. -> bool (C,)."""
    return before.images[:, 0] != after.images[:, 0]


def cosine(before: Tensor, after: Tensor) -> Tensor:
    """Cosine of two sets of projections, nan where one is blank. (M, 3, F, F) twice -> (M,)."""
    a, b = before.flatten(1), after.flatten(1)
    norms = a.norm(dim=1) * b.norm(dim=1)
    return ((a * b).sum(1) / norms).masked_fill(norms == 0, torch.nan)


@torch.no_grad()
def layer_features(trained: Trained, images: Tensor, *, batch: int = 64) -> dict[str, Tensor]:
    """Every layer's features of stored images, maps averaged to at most GRID x GRID places. -> name: float (N, D)."""
    layers = trained.network.layers
    rows: dict[str, list[Tensor]] = {name: [] for name in layers}
    for part in images.split(batch):
        for name, x in trained.network.features(trained.normalised(part), layers).items():
            if x.ndim == 4 and x.shape[-1] > GRID:
                x = F.adaptive_avg_pool2d(x, GRID)
            rows[name].append(x.flatten(1).float().cpu())
    return {name: torch.cat(parts) for name, parts in rows.items()}


def cka(a: Tensor, b: Tensor) -> float:
    """Linear centred kernel alignment of two sets of features of the same images, (N, D1) and (N, D2).

    With the unbiased estimate of HSIC (Song et al. 2012; Nguyen et al. 2021): the plain one nears 1 for any features
    once there are more of them than images. 1 for features equal up to rotation and scale, about 0 for unrelated ones.

    Raises:
        ValueError: fewer than four images, or different numbers.
    """
    if len(a) != len(b) or len(a) < 4:
        raise ValueError(f"features of the same four images or more wanted, got {len(a)} and {len(b)}")
    k, m = (_off_diagonal_gram(x.double()) for x in (a, b))
    scale = (_hsic(k, k) * _hsic(m, m)).clamp_min(0).sqrt()
    return float(_hsic(k, m) / scale) if scale > 0 else float("nan")


def _off_diagonal_gram(x: Tensor) -> Tensor:
    x = x - x.mean(0)
    gram = x @ x.T
    return gram - gram.diagonal().diag()


def _hsic(k: Tensor, m: Tensor) -> Tensor:
    n = len(k)
    middle = k.sum() * m.sum() / ((n - 1) * (n - 2)) - 2 / (n - 2) * (k.sum(0) @ m.sum(0))
    return ((k * m).sum() + middle) / (n * (n - 3))


def probe_accuracy(train: Tensor, train_labels: Tensor, test: Tensor, test_labels: Tensor) -> float:
    """Accuracy in per cent of a linear classifier (ridge) on features, its penalty chosen on the training images.

    Args:
        train, test: (N, D) and (M, D), standardised here by the training images.
    """
    from sklearn.linear_model import RidgeClassifierCV

    mean, scale = train.mean(0), train.std(0)
    scale = torch.where(scale > 1e-6 * scale.amax().clamp_min(1e-12), scale, torch.inf)  # dead units say nothing
    a, b = (((x - mean) / scale).numpy() for x in (train, test))
    penalties = [len(train) * s for s in (0.1, 1.0, 10.0, 100.0)]
    fitted = RidgeClassifierCV(penalties).fit(a, train_labels.numpy())
    return 100 * float(fitted.score(b, test_labels.numpy()))
