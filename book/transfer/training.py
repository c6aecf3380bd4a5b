"""Transfer to another data set (section 5.2): a new softmax on a frozen network, training from scratch, fine-tuning."""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from zfrepro import training
from zfrepro.data import Split
from zfrepro.data.transforms import mean_image
from zfrepro.networks import Network, initialise_
from zfrepro.training import MODERN, Recipe
from zfrepro.weights import Trained

SCRATCH: dict[str, Any] = MODERN | {
    "image_size": 96, "width": 0.5, "units": 256, "lr": 0.02, "area": 0.5, "label_smoothing": 0.0,
}  # fmt: skip
"""What a network from scratch is trained with where there is no GPU: the `mini` scale and few epochs."""

TUNED: dict[str, Any] = {"lr": 0.01, "ema": 0.0, "schedule": "cosine", "warmup": 0.5}
"""Changes to the source network's recipe when all its layers are trained on: few epochs at a low rate."""


def untrained(trained: Trained, seed: int = 0) -> Trained:
    """The control: the same network and the same mean image, with its weights as they were before any training."""
    network = trained.recipe.network(len(trained.classes))
    initialise_(network, trained.recipe.init, torch.Generator().manual_seed(10_007 + seed))
    network.eval().requires_grad_(False).to(trained.mean.device, memory_format=torch.channels_last)
    return replace(trained, network=network)


def fitted(
    recipe: Recipe, split: Split, classes: int, *, source: Trained | None = None,
    device: torch.device | None = None, progress: bool = False,
) -> tuple[Network, Tensor]:  # fmt: skip
    """A network trained on few images: from scratch, or from the layers 1 to 7 of another.

    Args:
        recipe: the source's image size and widths, where there is a source.
        split: the training images, stored for `recipe.image_size`.
        classes: how many; layer 8 starts anew.
        source: where layers 1 to 7 come from, and the mean image.
    Returns:
        The network in evaluation mode, and the mean image (3, R, R) it sees images with.
    Raises:
        RuntimeError: the source's layers are of other sizes.
    """
    device = device or torch.device("cpu")
    state = training.start(recipe, classes, device)
    mean = mean_image(split.images).to(device)
    if source is not None:
        own = {k: v for k, v in source.network.state_dict().items() if not k.startswith("fulls.fc8")}
        state.network.load_state_dict(state.network.state_dict() | own)
        state.average = {k: v.detach().clone() for k, v in state.network.state_dict().items()} if recipe.ema else {}
        mean = source.mean.to(device)
    for epoch in range(recipe.epochs):
        training.train_epoch(recipe, state, split, mean, epoch, progress)
    return training.evaluated(recipe, state, device).eval(), mean


def names(network: Network, recipe: Recipe, mean: Tensor, images: Tensor) -> np.ndarray:
    """The class that a network gives each stored image, at the centre crop. uint8 (N, 3, R, R) -> (N,)."""
    found = training.scores(network, images, mean, scale=recipe.input_scale, image_size=recipe.image_size)
    return found.argmax(1).numpy()


def average_precision(scores: np.ndarray, truth: np.ndarray) -> float:
    """Average precision of one class in per cent, as PASCAL VOC counts it since 2010 (Table 6).

    The area under precision against recall, precision made never to rise with recall.

    Args:
        scores: (N,), higher for more certain.
        truth: (N,) 1 where the class is there, -1 where not, 0 where it is too difficult to count.
    Raises:
        ValueError: no image has the class.
    """
    counted = truth != 0
    order = np.argsort(-scores[counted], kind="stable")
    hits = truth[counted][order] > 0
    if not hits.any():
        raise ValueError("average precision needs at least one image that has the class")
    precision = hits.cumsum() / np.arange(1, len(hits) + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return 100 * float(envelope[hits].mean())


def gains_by_likeness(
    likeness: np.ndarray, trained: np.ndarray, untrained: np.ndarray
) -> tuple[np.ndarray, float, float]:
    """What training a network adds for classes of a target that look little, more and most like its source's.

    Args:
        likeness: (K,) of each class.
        trained: (K,) accuracy on each class with a trained layer.
        untrained: (K,) the same before any training.
    Returns:
        Mean gain of the three thirds of classes, least alike first, (3,); rank correlation of gain and likeness over
        the classes, and its p.
    Raises:
        ValueError: fewer than three classes, or arrays of different lengths.
    """
    if not len(likeness) == len(trained) == len(untrained) >= 3:
        raise ValueError(f"{len(likeness)}, {len(trained)} and {len(untrained)} classes; give three or more, of each")
    gain = np.asarray(trained) - np.asarray(untrained)
    thirds = np.array([part.mean() for part in np.array_split(gain[np.argsort(likeness, kind="stable")], 3)])
    found = stats.spearmanr(likeness, gain)
    return thirds, float(found.statistic), float(found.pvalue)


def spread(values: list[float]) -> tuple[float, float]:
    """Mean and standard deviation over folds, as the paper prints them; the deviation of one value is nan."""
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")
