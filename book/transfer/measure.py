"""Recorded: Tables 4 and 7 and Fig. 9 on another data set, with controls that the paper lacks.

ImageNet-20 is transferred to Caltech-101, Diorama to its novel classes. Beside the frozen network
stand an untrained one in every layer, training from scratch, fine-tuning, and each layer on the
source's own classes.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from book.transfer import targets
from book.transfer.targets import Pool
from zfrepro import data, probes, training
from zfrepro.data import Split
from zfrepro.data.transforms import mean_image
from zfrepro.measure import Parts, Study
from zfrepro.networks import Network
from zfrepro.training import MODERN, Recipe
from zfrepro.weights import Trained

LAYERS = ("conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7")
FOLDS = 5
SIZES = (1, 2, 3, 4, 5, 6, 7, 10, 15, 30)  # training images a class
CURVES = (("fc7", "softmax"), ("conv5", "svm"))

SCRATCH: dict[str, Any] = MODERN | {
    "image_size": 96,
    "width": 0.5,
    "units": 256,
    "lr": 0.02,
    "area": 0.5,
    "label_smoothing": 0.0,
}
"""What a network from scratch is trained with where there is no GPU: the `mini` scale."""

TUNED: dict[str, Any] = {"lr": 0.01, "ema": 0.0, "schedule": "cosine", "warmup": 0.5}
"""Changes to the source's recipe for fine-tuning: few epochs at a low rate."""


@dataclass(frozen=True)
class Target:
    """How a target is loaded for an image size, and how much is trained on it."""

    load: Callable[[int], Pool]
    sizes: tuple[int, ...]
    epochs: dict[int, int]  # from scratch, by training images a class
    tuned: int  # epochs of fine-tuning
    batch: int  # few images need small batches, to make some hundred steps


def target_of(study: Study, name: str | None = None) -> Target:
    """Return the named target; by default Caltech-101 for photographs, novel classes for Diorama.

    Raises:
        ValueError: no such target.
    """
    name = name or ("novel" if study.dataset.name == "diorama" else "caltech101")
    found = {
        "novel": Target(
            lambda s: targets.novel_diorama(s, progress=study.progress),
            SIZES,
            {15: 60, 30: 40},
            20,
            16,
        ),
        "caltech101": Target(
            lambda s: targets.caltech101(s, study.root, progress=study.progress),
            SIZES,
            {15: 24, 30: 18},
            5,
            32,
        ),
        "caltech256": Target(
            lambda s: targets.caltech256(s, study.root, progress=study.progress),
            (*SIZES, 45, 60),
            {15: 24, 60: 12},
            5,
            32,
        ),
    }
    if name not in found:
        raise ValueError(f"unknown target {name!r}; there are: {', '.join(found)}")
    return found[name]


def parts(study: Study, target: str | None = None) -> Parts:
    """Return every measurement, cheap ones first."""
    bench = Bench(study, target_of(study, target))
    found: Parts = {"duplicates": bench.duplicates, "target": bench.describe}
    for which in bench.networks:
        for layer in LAYERS:
            found[f"{which}-svm-{layer}"] = lambda w=which, a=layer: bench.folds(w, a, "svm")
    for which, prefix in (("trained", ""), ("untrained", "untrained-")):
        for layer, kind in CURVES:
            found[f"curve-{prefix}{kind}-{layer}"] = lambda w=which, a=layer, k=kind: bench.curve(
                w, a, k
            )
    for number in bench.target.epochs:
        found[f"scratch-{number}"] = lambda n=number: bench.whole_networks(n, None)
    for layer in reversed(LAYERS):
        found[f"trained-softmax-{layer}"] = lambda a=layer: bench.folds("trained", a, "softmax")
    found["reduction"] = bench.reduction
    for layer in LAYERS:
        found[f"source-{layer}"] = lambda a=layer: {
            w: bench.on_source(w, a) for w in bench.networks
        }
    for number in reversed(bench.target.epochs):
        found[f"tuned-{number}"] = lambda n=number: bench.whole_networks(n, bench.source)
    return found


class Bench:
    """A source network, a target, and what they share between measurements."""

    def __init__(self, study: Study, target: Target):
        self.study, self.target = study, target
        self.source = study.networks["zfnet"]
        self.networks = {
            "trained": self.source,
            "untrained": probes.untrained(self.source, study.seed),
        }
        self.most = max(target.sizes)
        self._features: dict[tuple[str, str], dict[str, Tensor]] = {}

    def load(self, image_size: int) -> Pool:
        """Return the target, or only its first classes where the study asks for few images."""
        found = self.target.load(image_size)
        if self.study.images:
            few = found.labels < max(
                2, self.study.images // 80
            )  # whole classes, so that draws still work
            found = found.where(few)
        return found

    @cached_property
    def whole(self) -> Pool:
        """The target at the source's image size."""
        return self.load(self.source.recipe.image_size)

    @cached_property
    def correlations(self) -> Tensor:
        """Of each target image, the highest correlation with an image of the source, (N,)."""
        theirs = targets.thumbnails(self.study.dataset.train.images)
        return targets.closest(targets.thumbnails(self.whole.images), theirs)[0]

    @cached_property
    def pool(self) -> Pool:
        """The target without near-duplicates of the source's training images."""
        return self.whole.where(self.correlations < targets.THRESHOLD)

    def features(self, which: str, images: Tensor, name: str) -> dict[str, Tensor]:
        """Return every layer's features of the trained or the untrained network, cached."""
        if (which, name) not in self._features:
            net, some = self.networks[which], images[:: max(1, len(images) // 64)]
            key = probes.fingerprint(net.network, net.recipe.input_scale, some, len(images))
            batches = images.split(32)
            self._features[which, name] = probes.cached(
                data.cache_root() / "features" / f"{name}-{key}.safetensors",
                lambda: probes.features(
                    net.network,
                    map(net.preprocess, batches),
                    total=len(batches),
                    progress=self.study.progress,
                ),
            )
        return self._features[which, name]

    def rows(self, which: str, layer: str) -> Tensor:
        """Return one layer's features of the target, (N, numbers)."""
        return self.features(which, self.pool.images, self.pool.name)[layer]

    def draw(self, fold: int, number: int | None = None) -> probes.Draw:
        """Return a fold's training and test images."""
        labels, seed = self.pool.labels, self.study.seed
        return probes.draw(labels, number or self.most, reserve=self.most, fold=fold, seed=seed)

    def describe(self) -> dict[str, Any]:
        """Return the sizes of target and source."""
        pool, one = self.pool, self.draw(0)
        return {
            "name": pool.name,
            "classes": len(pool.classes),
            "images": len(pool.labels),
            "fingerprint": pool.fingerprint,
            "train": len(one.train),
            "test": len(one.test),
            "image_size": self.source.recipe.image_size,
            "source_classes": len(self.source.classes),
        }

    def duplicates(self) -> dict[str, Any]:
        """Count the target's near-duplicates of source images, at several thresholds."""
        best = self.correlations
        gone = best >= targets.THRESHOLD
        return {
            "threshold": targets.THRESHOLD,
            "side": targets.SIDE,
            "images": len(best),
            "removed": int(gone.sum()),
            "most_of_a_class": int(self.whole.labels[gone].bincount(minlength=1).max()),
            "at": {
                str(level): int((best >= level).sum()) for level in (0.8, 0.85, 0.9, 0.95, 0.99)
            },
            "highest": round(best.max().item(), 4),
        }

    def folds(self, which: str, layer: str, kind: str) -> dict[str, list[float]]:
        """Probe a layer in every fold (Table 7)."""
        rows, labels = self.rows(which, layer), self.pool.labels
        found = [probes.probe(rows, labels, self.draw(fold), kind) for fold in range(FOLDS)]
        return {
            "accuracy": rounded([p.accuracy for p in found]),
            "strength": [p.strength for p in found],
        }

    def curve(self, which: str, layer: str, kind: str) -> dict[str, list[float]]:
        """Probe a layer with few to many training images a class (Fig. 9)."""
        rows, labels = self.rows(which, layer), self.pool.labels
        return {
            str(n): rounded(
                [probes.probe(rows, labels, self.draw(f, n), kind).accuracy for f in range(FOLDS)]
            )
            for n in self.target.sizes
        }

    def on_source(self, which: str, layer: str) -> list[float]:
        """Probe a layer on the source's own classes, with 30 new images of each to learn from."""
        images, labels = self.study.dataset.val.images, self.study.dataset.val.labels
        rows = self.features(which, images, self.study.dataset.name)[layer]
        number = min(30, int(labels.bincount().min()) // 2)
        draws = [
            probes.draw(labels, number, fold=fold, seed=self.study.seed) for fold in range(FOLDS)
        ]
        return rounded([probes.probe(rows, labels, one, "svm").accuracy for one in draws])

    def reduction(self) -> dict[str, Any]:
        """Measure what averaging layer 4 and voting by pairs cost: one fold, 15 images a class."""
        pool, source = self.pool, self.source
        number = min(15, self.most)
        one = probes.draw(pool.labels, number, reserve=self.most, test=10, seed=self.study.seed)
        chosen = torch.cat([one.train, one.test])
        batches = map(source.preprocess, pool.images[chosen].split(32))
        with torch.no_grad():
            whole = torch.cat(
                [probes.outputs(source.network, batch)["conv4"] for batch in batches]
            ).cpu()
        side = probes.grid(whole.shape[1], whole.shape[-1])
        averaged, labels = adaptive_avg_pool2d(whole, side), pool.labels[chosen]
        split = probes.Draw(torch.arange(len(one.train)), torch.arange(len(one.train), len(chosen)))
        found = {
            "whole": probes.probe(whole.flatten(1), labels, split, "svm"),
            "averaged": probes.probe(averaged.flatten(1), labels, split, "svm"),
            "one_vs_rest": probes.probe(
                averaged.flatten(1), labels, split, "one-vs-rest", (0.1, 1.0)
            ),
        }
        return {name: round(result.accuracy, 2) for name, result in found.items()}

    def whole_networks(self, number: int, start: Trained | None) -> dict[str, Any]:
        """Train whole networks on the target: from scratch, or on from the source's layers."""
        if start is None:
            own = {"epochs": self.target.epochs[number], "dataset": self.pool.name}
            recipe = Recipe(**SCRATCH | own | {"batch": self.target.batch})
        else:
            own = {"epochs": self.target.tuned, "batch": self.target.batch}
            recipe = replace(start.recipe, **TUNED | own)
        pool = self.load(recipe.image_size).where(self.correlations < targets.THRESHOLD)
        accuracy: dict[str, list[float]] = {"test": [], "train": []}
        for fold in range(FOLDS):
            one, seeded = self.draw(fold, number), replace(recipe, seed=fold)
            split = Split(pool.images[one.train], pool.labels[one.train])
            network, mean = fitted(seeded, split, len(pool.classes), self.study, source=start)
            for name, chosen in (("test", one.test), ("train", one.train)):
                predicted = predict(network, recipe, mean, pool.images[chosen])
                labels = pool.labels[chosen].numpy()
                accuracy[name].append(probes.per_class_accuracy(predicted, labels))
        return {
            "accuracy": rounded(accuracy["test"]),
            "train": rounded(accuracy["train"]),
            **{
                key: getattr(recipe, key)
                for key in ("epochs", "batch", "lr", "image_size", "width", "units")
            },
        }


def rounded(values: list[float], digits: int = 2) -> list[float]:
    """Round numbers for the record."""
    return [round(float(value), digits) for value in values]


def fitted(
    recipe: Recipe, split: Split, classes: int, study: Study, *, source: Trained | None = None
) -> tuple[Network, Tensor]:
    """Train a network on few images: from scratch, or from layers 1 to 7 of another.

    Args:
        recipe: of the source's image size and widths, where there is a source.
        split: the training images, stored for `recipe.image_size`.
        classes: how many; layer 8 starts anew.
        source: where layers 1 to 7 come from, and the mean image.
    Returns:
        The network in evaluation mode, and the mean image (3, R, R) it sees images with.
    Raises:
        RuntimeError: the source's layers are of other sizes.
    """
    device = study.device
    state = training.start(recipe, classes, device)
    mean = mean_image(split.images).to(device)
    if source is not None:
        own = {
            k: v for k, v in source.network.state_dict().items() if not k.startswith("fulls.fc8")
        }
        state.network.load_state_dict(state.network.state_dict() | own)
        weights = state.network.state_dict()
        state.average = {k: v.detach().clone() for k, v in weights.items()} if recipe.ema else {}
        mean = source.mean.to(device)
    for epoch in range(recipe.epochs):
        training.train_epoch(recipe, state, split, mean, epoch, study.progress)
    return training.evaluated(recipe, state, device).eval(), mean


def predict(network: Network, recipe: Recipe, mean: Tensor, images: Tensor) -> np.ndarray:
    """Predict the class of each image at the centre crop. uint8 (N, 3, R, R) -> (N,)."""
    found = training.predict_proba(
        network, images, mean, scale=recipe.input_scale, image_size=recipe.image_size
    )
    return found.argmax(1).numpy()
