"""Linear classifiers on the frozen outputs of each layer (sections 5.2 and 5.3, Tables 4 to 7).

All layers are read in one pass. A linear SVM or a softmax is fitted to the outputs of one layer for
the training images of a draw, its regularisation chosen inside those images, and tested on others.
"""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from sklearn.base import ClassifierMixin
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import recall_score
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, LinearSVC
from torch import Tensor
from tqdm.auto import tqdm

from zfrepro.networks import Network
from zfrepro.records import write_atomically
from zfrepro.weights import Trained

MOST = 3500
"""Numbers kept of one layer of one image. Layers with more are averaged over a coarser grid."""

KINDS = ("svm", "softmax", "one-vs-rest")
STRENGTHS = (1.0, 10.0, 100.0)
"""Inverse regularisation C to choose among, for features of mean squared length 1."""


def outputs(network: Network, images: Tensor) -> dict[str, Tensor]:
    """Return what each of layers 1 to 7 hands to the next, in one pass.

    Args:
        images: (B, 3, S, S), mean subtracted.
    Returns:
        For a conv layer its maps after ReLU, pool and contrast norm, (B, C, H, W); for a full one
        (B, units).
    """
    layers = [name for name in network.layers if name != "fc8"]
    found = network.features(images, layers)
    for conv in network.architecture.convs:
        found[conv.name] = network.pool_and_norm(conv, found[conv.name])
    return found


def grid(maps: int, side: int, most: int = MOST) -> int:
    """Return the side, at most `side`, of the finest grid that leaves at most `most` numbers."""
    return max(1, min(side, int((most / maps) ** 0.5)))


def reduced(output: Tensor, most: int = MOST) -> Tensor:
    """Return one layer's outputs as rows, averaged over a grid where they are more than `most`."""
    if output.ndim == 4:
        output = F.adaptive_avg_pool2d(output, grid(output.shape[1], output.shape[-1], most))
    return output.flatten(1)


@torch.no_grad()
def features(
    network: Network,
    batches: Iterable[Tensor],
    *,
    most: int = MOST,
    total: int | None = None,
    progress: bool = False,
) -> dict[str, Tensor]:
    """Return the reduced outputs of layers 1 to 7, fp32 on the CPU, layer -> (N, numbers).

    Args:
        batches: (B, 3, S, S) each, mean subtracted.
        total: how many batches, for the progress bar.
    """
    network.eval()
    kept: dict[str, list[Tensor]] = {}
    for batch in tqdm(batches, total=total, disable=not progress, unit="batch", desc="features"):
        for name, output in outputs(network, batch).items():
            kept.setdefault(name, []).append(reduced(output, most).float().cpu())
    return {name: torch.cat(parts) for name, parts in kept.items()}


def fingerprint(*things: object) -> str:
    """Return twelve hex digits over weights, tensors and whatever else decides what is cached."""
    digest = hashlib.sha256()
    for thing in things:
        tensors = thing.state_dict().values() if isinstance(thing, torch.nn.Module) else [thing]
        for value in tensors:
            if isinstance(value, Tensor):
                value = value.detach().cpu().contiguous().numpy().tobytes()
            digest.update(value if isinstance(value, bytes) else repr(value).encode())
    return digest.hexdigest()[:12]


def cached(file: Path, make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
    """Read features from a file, or make and keep them there in half precision."""
    try:
        found = load_file(file)
    except (OSError, SafetensorError):  # absent or damaged
        found = {name: values.half().contiguous() for name, values in make().items()}
        write_atomically(file, save(found))
    return {name: values.float() for name, values in found.items()}


@dataclass(frozen=True)
class Draw:
    """Which images a classifier learns from and which it is tested on; no image is both."""

    train: Tensor  # (M,) indices, class by class
    test: Tensor  # (T,)


def draw(
    labels: Tensor,
    number: int,
    *,
    reserve: int | None = None,
    test: int = 50,
    fold: int = 0,
    seed: int = 0,
) -> Draw:
    """Draw `number` training images of each class and up to `test` others (section 5.2).

    Draws of one fold are nested: fewer training images are the first of more, and with the same
    `reserve` all are tested on the same images.

    Args:
        labels: (N,) integers.
        reserve: images of each class that are kept from the test; default `number`.
    Raises:
        ValueError: a class that has too few images to leave one for the test.
    """
    reserve = number if reserve is None else reserve
    if not 1 <= number <= reserve or test < 1:
        raise ValueError(
            f"number {number}, reserve {reserve}, test {test}: "
            "must be 1 <= number <= reserve and test >= 1"
        )
    generator = torch.Generator().manual_seed(1_000_003 * seed + fold)
    order = torch.randperm(len(labels), generator=generator)
    train, others = [], []
    for label in labels.unique():
        own = order[labels[order] == label]
        if len(own) <= reserve:
            raise ValueError(
                f"class {int(label)} has {len(own)} images; "
                f"needs more than {reserve}, to test on some"
            )
        train.append(own[:number])
        others.append(own[reserve : reserve + test])
    return Draw(torch.cat(train), torch.cat(others))


@dataclass(frozen=True)
class Probe:
    """What a linear classifier reaches on one draw."""

    accuracy: float  # mean over classes, per cent
    strength: float  # the C that was chosen inside the training images


def classifier(kind: str, strength: float) -> ClassifierMixin:
    """Return a linear model of standardised rows.

    `svm` decides between pairs of classes, on inner products; it takes a twentieth of the time of
    `one-vs-rest` where classes are many. `softmax` is logistic regression.

    Raises:
        ValueError: unknown kind.
    """
    if kind == "svm":
        return SVC(C=strength, kernel="precomputed", cache_size=1000)
    if kind == "one-vs-rest":
        return LinearSVC(C=strength, dual=True, tol=1e-2, max_iter=300, random_state=0)
    if kind == "softmax":
        return LogisticRegression(C=strength, max_iter=100, tol=1e-4)
    raise ValueError(f"classifier {kind!r}: choose among {', '.join(KINDS)}")


def standardised(train: np.ndarray, *others: np.ndarray) -> list[np.ndarray]:
    """Standardise all sets by the first, whose rows get a mean squared length of at most 1."""
    scaler = StandardScaler().fit(train)
    return [
        (scaler.transform(rows) / train.shape[1] ** 0.5).astype(np.float32)
        for rows in (train, *others)
    ]


def predicted(
    kind: str, strength: float, train: np.ndarray, labels: np.ndarray, test: np.ndarray
) -> np.ndarray:
    """Predict the test rows with a classifier fitted to the training rows, both as they come."""
    train, test = standardised(train, test)
    model = classifier(kind, strength)
    if kind == "svm":  # a linear kernel, so that libsvm never sees the long rows
        products = [(rows @ train.T).astype(np.float64) for rows in (train, test)]
        return model.fit(products[0], labels).predict(products[1])
    return model.fit(train, labels).predict(test)


def per_class_accuracy(predicted: np.ndarray, labels: np.ndarray) -> float:
    """Return the mean over classes of the accuracy on their images, in per cent (section 5.2)."""
    by_class = recall_score(
        labels, predicted, average=None, labels=np.unique(labels), zero_division=0
    )
    return 100 * float(by_class.mean())


def held_out(labels: np.ndarray) -> np.ndarray:
    """Return a mask of the last third of each class's rows, at least one."""
    mask = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        own = np.flatnonzero(labels == label)
        mask[own[-max(1, len(own) // 3) :]] = True
    return mask


def chosen_strength(
    kind: str, rows: np.ndarray, labels: np.ndarray, strengths: tuple[float, ...] = STRENGTHS
) -> float:
    """Return the C that does best on a held-out third of the training rows; the smaller of equals.

    With one image a class there is nothing to hold out: the middle one is returned.
    """
    mask = held_out(labels)
    if len(strengths) == 1 or set(labels[mask]) - set(labels[~mask]):
        return strengths[len(strengths) // 2]
    reached = [
        per_class_accuracy(predicted(kind, c, rows[~mask], labels[~mask], rows[mask]), labels[mask])
        for c in strengths
    ]
    return strengths[int(np.argmax(reached))]


def probe(
    features: Tensor,
    labels: Tensor,
    chosen: Draw,
    kind: str,
    strengths: tuple[float, ...] = STRENGTHS,
) -> Probe:
    """Fit and test one layer's features on one draw; the test images are used once, at the end.

    Args:
        features: (N, numbers), of one layer.
        labels: (N,).
    Raises:
        ValueError: unknown kind of classifier.
    """
    if kind not in KINDS:
        raise ValueError(f"classifier {kind!r}: choose among {', '.join(KINDS)}")
    train, test = features[chosen.train].numpy(), features[chosen.test].numpy()
    own, theirs = labels[chosen.train].numpy(), labels[chosen.test].numpy()
    strength = chosen_strength(kind, train, own, strengths)
    return Probe(per_class_accuracy(predicted(kind, strength, train, own, test), theirs), strength)


def untrained(trained: Trained, seed: int = 0) -> Trained:
    """Return the control: the same network and mean, with weights as before any training."""
    return trained.untrained(seed)
