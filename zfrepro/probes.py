"""Linear classifiers on the frozen outputs of each layer (sections 5.2 and 5.3, Tables 4 to 7).

All layers are read in one pass. A linear SVM or a softmax is fitted to the outputs of one layer for
the training images of a draw, its regularisation chosen inside those images, and tested on others.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.metrics import balanced_accuracy_score
from torch import Tensor
from tqdm.auto import tqdm

from zfrepro import device as devices
from zfrepro.models import Layered
from zfrepro.networks import Network

MOST = 3500
"""Numbers kept of one layer of one image. Layers with more are averaged over a coarser grid."""

KINDS = ("svm", "softmax")
STRENGTHS = (0.1, 1.0, 10.0, 100.0)
"""Inverse regularisation C to choose among, for features of mean squared length 1."""

Linear = tuple[Tensor, Tensor]
"""Weights (numbers, classes) and biases (classes,)."""


def outputs(network: Layered, images: Tensor) -> dict[str, Tensor]:
    """Return what each of layers 1 to 7 hands to the next, in one pass.

    Args:
        images: (B, 3, S, S), mean subtracted.
    Returns:
        For a conv layer its maps after ReLU, pool and contrast norm, (B, C, H, W); for a full one
        (B, units). Networks that others trained give their maps after the ReLU.
    """
    layers = [name for name in network.layers if name != "fc8"]
    by_layer = network.features(images, layers)
    if isinstance(network, Network):
        for conv in network.architecture.convs:
            by_layer[conv.name] = network.pool_and_norm(conv, by_layer[conv.name])
    return by_layer


def reduced(output: Tensor, most: int = MOST) -> Tensor:
    """Return a layer's outputs as rows, averaged over the finest grid of `most` numbers or less."""
    if output.ndim == 4:
        side = int((most / output.shape[1]) ** 0.5)
        output = F.adaptive_avg_pool2d(output, max(1, min(side, output.shape[-1])))
    return output.flatten(1)


@torch.no_grad()
def features(
    network: Layered, batches: Iterable[Tensor], *, precision: str = "fp32",
    total: int | None = None, progress: bool = False,
) -> dict[str, Tensor]:  # fmt: skip
    """Return the reduced outputs of layers 1 to 7, fp32 on the CPU, layer -> (N, numbers).

    Args:
        batches: (B, 3, S, S) each, mean subtracted.
        precision: of the forward pass; bf16 is fp32 on a CPU that is slow at it.
        total: how many batches, for the progress bar.
    """
    network.eval()
    rows: dict[str, list[Tensor]] = {}
    for batch in tqdm(batches, total=total, disable=not progress, unit="batch", desc="features"):
        with devices.autocast(batch.device, devices.precision(batch.device, precision)):
            by_layer = outputs(network, batch)
        for name, output in by_layer.items():
            rows.setdefault(name, []).append(reduced(output.float()).cpu())
    return {name: torch.cat(parts) for name, parts in rows.items()}


@dataclass(frozen=True)
class Draw:
    """Which images a classifier learns from and which it is tested on; no image is both."""

    train: Tensor  # (M,) indices, class by class
    test: Tensor  # (T,)


def draw(
    labels: Tensor, number: int, *, reserve: int | None = None, test: int = 50, fold: int = 0,
    seed: int = 0,
) -> Draw:  # fmt: skip
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
    train, tested = [], []
    for label in labels.unique():
        rows = order[labels[order] == label]
        if len(rows) <= reserve:
            raise ValueError(
                f"class {int(label)} has {len(rows)} images; needs more than {reserve}, to test on "
                "some"
            )
        train.append(rows[:number])
        tested.append(rows[reserve : reserve + test])
    return Draw(torch.cat(train), torch.cat(tested))


def loss_of(kind: str, scores: Tensor, labels: Tensor) -> Tensor:
    """Return the loss of scores (N, K) for labels (N,), summed.

    `svm` decides each class against the rest by a squared hinge, `softmax` by cross-entropy.

    Raises:
        ValueError: unknown kind.
    """
    if kind == "svm":
        signs = 2 * F.one_hot(labels, scores.shape[1]).float() - 1
        return F.relu(1 - signs * scores).square().sum()
    if kind == "softmax":
        return F.cross_entropy(scores, labels, reduction="sum")
    raise ValueError(f"classifier {kind!r}: choose among {', '.join(KINDS)}")


def fitted(
    kind: str, strength: float, rows: Tensor, labels: Tensor, iterations: int = 300,
    tolerance: float = 1e-5,
) -> Linear:  # fmt: skip
    """Fit all classes at once: least C * loss + |weights|^2 / 2, by L-BFGS.

    With the squared hinge this is scikit-learn's `LinearSVC`, with cross-entropy its
    `LogisticRegression`, in a small part of their time where classes are many.

    Args:
        rows: (N, numbers).
        labels: (N,), from 0 to K - 1.
        tolerance: stops when an iteration lowers the mean loss by less.
    """
    classes = int(labels.max()) + 1
    # from zero, since the first step of L-BFGS is small, and would end a search near its start
    weights = torch.zeros(rows.shape[1], classes, requires_grad=True)
    biases = torch.zeros(classes, requires_grad=True)
    optimiser = torch.optim.LBFGS(
        [weights, biases], max_iter=iterations, tolerance_grad=0, tolerance_change=tolerance,
        line_search_fn="strong_wolfe",
    )  # fmt: skip

    def objective() -> Tensor:
        optimiser.zero_grad()
        loss = loss_of(kind, torch.addmm(biases, rows, weights), labels)
        loss = loss / len(rows) + weights.square().sum() / (2 * strength * len(rows))
        loss.backward()
        return loss

    optimiser.step(objective)
    return weights.detach(), biases.detach()


Prepare = Callable[..., list[Tensor]]
"""From training rows and others to the same, prepared by what the training rows tell."""


def unprepared(*rows: Tensor) -> list[Tensor]:
    """Leave rows as they are, such as histograms of length 1."""
    return list(rows)


def standardised(train: Tensor, *others: Tensor) -> list[Tensor]:
    """Take square roots and standardise all sets by the first, whose rows get a mean squared
    length of at most 1.

    A few strong activations would else decide the inner products.
    """
    rooted = [rows.abs().sqrt() * rows.sign() for rows in (train, *others)]
    mean, deviation = rooted[0].mean(0), rooted[0].std(0, correction=0)
    scale = torch.where(deviation > 0, deviation, 1) * train.shape[1] ** 0.5
    return [(rows - mean) / scale for rows in rooted]


def predicted(
    kind: str, strengths: Iterable[float], train: Tensor, labels: Tensor, test: Tensor,
    prepare: Prepare = standardised,
) -> Iterator[Tensor]:  # fmt: skip
    """Predict the test rows with classifiers fitted to the training rows, one a strength."""
    train, test = prepare(train, test)
    for strength in strengths:
        weights, biases = fitted(kind, strength, train, labels)
        yield torch.addmm(biases, test, weights).argmax(1)


def per_class_accuracy(predicted: np.ndarray, labels: np.ndarray) -> float:
    """Return the mean over classes of the accuracy on their images, in per cent (section 5.2)."""
    return 100 * float(balanced_accuracy_score(labels, predicted))


def held_out(labels: Tensor) -> Tensor:
    """Return a mask of the last third of each class's rows, at least one."""
    mask = torch.zeros(len(labels), dtype=torch.bool)
    for label in labels.unique():
        rows = (labels == label).nonzero()[:, 0]
        mask[rows[-max(1, len(rows) // 3) :]] = True
    return mask


def chosen_strength(
    kind: str, rows: Tensor, labels: Tensor, strengths: tuple[float, ...] = STRENGTHS,
    prepare: Prepare = standardised,
) -> float:  # fmt: skip
    """Return the C that does best on a held-out third of the training rows; the smaller of equals.

    C rises until the accuracy has fallen by more than a point. With one image a class there is
    nothing to hold out: the third in the list is returned.
    """
    mask = held_out(labels)
    if len(strengths) == 1 or set(labels[mask].tolist()) - set(labels[~mask].tolist()):
        return strengths[len(strengths) // 2]
    accuracies: list[float] = []
    for classes in predicted(kind, strengths, rows[~mask], labels[~mask], rows[mask], prepare):
        accuracies.append(per_class_accuracy(classes.numpy(), labels[mask].numpy()))
        if accuracies[-1] < max(accuracies) - 1:
            break
    return strengths[int(np.argmax(accuracies))]


def probe(
    features: Tensor, labels: Tensor, chosen: Draw, kind: str,
    strengths: tuple[float, ...] = STRENGTHS, prepare: Prepare = standardised,
) -> float:  # fmt: skip
    """Return the accuracy of one layer's features on one draw, mean over classes in per cent.

    C is chosen inside the training images; the test images are used once, at the end.

    features: (N, numbers), of one layer; labels: (N,), from 0 on; kind: as for `loss_of`.
    """
    train, train_labels = features[chosen.train], labels[chosen.train]
    strength = chosen_strength(kind, train, train_labels, strengths, prepare)
    (classes,) = predicted(kind, [strength], train, train_labels, features[chosen.test], prepare)
    return per_class_accuracy(classes.numpy(), labels[chosen.test].numpy())
