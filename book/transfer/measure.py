"""Recorded: Tables 4 and 7 and Fig. 9 on another data set, with controls that the paper lacks.

Photographs are transferred to Caltech-101, Diorama to its novel classes. Beside the frozen network
stand an untrained one in every layer, training from scratch, fine-tuning, and each layer on the
source's own classes; on Caltech-101 also a method of the time, and random filters whose accuracy is
published. What limits transfer is told from small sources that differ in one thing, as many images
seen: five of the classes (a folder of links, 48 epochs), 100 of mini-ImageNet (4 epochs),
`--units 1024`, or `--image-size 224`, in folders called as `figures.LIMITS` says:

    python -m zfrepro train --recipe modern --scale micro --init modern --dataset imagenet20 \\
        --epochs 12 --batch 64 --lr 0.03 --dropout 0 --area 0.4 --out runs/limits/classes-20
    python -m zfrepro measure transfer --dataset imagenet20 --runs runs/limits/* \\
        --only limits-classes-20 limits-classes-5 limits-classes-100 limits-units-1024 \\
        limits-size-224
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import compress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from book.transfer import rivals, targets
from book.transfer.claims import LAYERS
from book.transfer.targets import Pool, View
from zfrepro import data, probes, training
from zfrepro.data import Split
from zfrepro.data.transforms import center_crop, mean_image
from zfrepro.measure import Parts, Study
from zfrepro.training import MODERN, SCALES, Recipe
from zfrepro.weights import Trained, load_weights

REVISION = 5  # features are not rounded to half precision
FOLDS = 5

SCRATCH: dict[str, Any] = (
    MODERN
    | SCALES["micro"]
    | {"lr": 0.02, "crops": "random", "dropout": 0.0, "label_smoothing": 0.0, "ema": 0.0}
)
"""What fits its few training images: a small network, no dropout, many epochs."""

TUNED: dict[str, Any] = {"lr": 0.01, "ema": 0.0, "schedule": "cosine", "warmup": 0.5}
"""Changes to the source's recipe for fine-tuning: few epochs at a low rate."""


@dataclass(frozen=True)
class Target:
    """How a target is loaded with so many pixels a side, and how much is trained on it."""

    load: Callable[..., Pool]  # of (side, view=...)
    epochs: dict[int, int]  # from scratch, by training images a class
    tuned: int  # epochs of fine-tuning
    batch: int  # few images need small batches, to make some hundred steps
    sizes: tuple[int, ...] = (1, 3, 6, 10, 15, 30)  # training images a class


def target_of(study: Study) -> Target:
    """Return the target: Caltech-101 for photographs, novel classes for Diorama."""
    if study.dataset.name == "diorama":
        load = partial(targets.novel_diorama, progress=study.progress)
        return Target(load, epochs={15: 300, 30: 150}, tuned=20, batch=16)
    load = partial(targets.caltech101, root=study.root, progress=study.progress)
    return Target(load, epochs={15: 120, 30: 80}, tuned=5, batch=32)


def parts(study: Study) -> Parts:
    """Return every measurement, cheap ones first."""
    bench = Bench(study, target_of(study))
    measurements: Parts = {"target": bench.describe}
    measurements[f"curve-softmax-{bench.top}"] = partial(bench.top_curve, "trained")
    for layer in bench.layers:
        measurements[f"trained-svm-{layer}"] = partial(bench.folds, "trained", layer, "svm")
    for layer in ("conv5", "fc7"):  # as in Table 7
        measurements[f"trained-softmax-{layer}"] = partial(bench.folds, "trained", layer, "softmax")
    for layer in bench.layers:
        measurements[f"untrained-svm-{layer}"] = partial(bench.folds, "untrained", layer, "svm")
    measurements[f"curve-untrained-softmax-{bench.top}"] = partial(bench.top_curve, "untrained")
    if study.dataset.photographs:
        measurements["whole-images"] = bench.whole_images
    if bench.source.recipe is None:  # others trained it: the rest is in the record of our network
        return measurements
    measurements["duplicates"] = bench.duplicates
    for layer in bench.layers:
        measurements[f"source-{layer}"] = partial(bench.on_source, layer)
    if study.dataset.photographs:
        measurements["hog"] = bench.hog
        measurements["random, whole"] = partial(bench.random_stages, uncut=False)
        if not study.images:  # the files of some classes alone are not told apart
            measurements["random, uncut"] = partial(bench.random_stages, uncut=True)
    for run in study.runs:
        measurements[f"limits-{run.name}"] = partial(bench.limits, run)
    for number in bench.target.epochs:
        for fold in range(FOLDS):
            train = partial(bench.whole_network, number, fold)
            measurements[f"scratch-{number}-fold{fold}"] = partial(train, None)
            measurements[f"tuned-{number}-fold{fold}"] = partial(train, bench.source)
    return measurements


class Bench:
    """A source network, a target, and what they share between measurements."""

    def __init__(self, study: Study, target: Target):
        self.study, self.target = study, target
        self.source = study.trained
        self.layers = [layer for layer in LAYERS if layer in self.source.network.layers]
        # what the classifier reads: layer 7, or the maps of a network without full layers
        self.top = "fc7" if "fc6" in self.layers else "conv5"
        self.most = max(target.sizes)
        self._features: dict[str, dict[str, Tensor]] = {}

    def networks(self, trained: Trained) -> dict[str, Trained]:
        """Return a network, and the same before any training."""
        return {"trained": trained, "untrained": trained.untrained(self.study.seed)}

    def load(self, side: int, view: View = "middle") -> Pool:
        """Return the target, or only its first classes where the study asks for few images."""
        pool = self.target.load(side, view=view)
        if self.study.images:  # whole classes, so that draws still work
            pool = pool.where(pool.labels < max(2, self.study.images // 80))
        return pool

    @cached_property
    def correlations(self) -> Tensor:
        """Of each target image, the highest correlation with an image of the source, (N,)."""
        size = self.source.image_size
        source_images = center_crop(self.study.dataset.train.images, size)
        target_images = self.load(size).images
        return targets.closest(targets.thumbnails(target_images), targets.thumbnails(source_images))

    def of_size(self, side: int, view: View = "middle") -> Pool:
        """Return the target without near-duplicates of the source's training images.

        Those of networks that others trained are not at hand.
        """
        pool = self.load(side, view)
        return pool if self.source.recipe is None else pool.where(self.kept)

    @cached_property
    def kept(self) -> Tensor:
        """Which target images are no near-duplicates, bool (N,)."""
        return self.correlations < targets.THRESHOLD

    @cached_property
    def pool(self) -> Pool:
        """The target at the source's image size."""
        return self.of_size(self.source.image_size)

    def features(self, trained: Trained, images: Tensor) -> dict[str, Tensor]:
        """Return every layer's features of a network."""
        batches, progress = images.split(32), self.study.progress
        seen = map(trained.preprocess_crop, batches)
        return probes.features(
            trained.network, seen, precision="bf16", total=len(batches), progress=progress
        )

    def rows(self, which: str, layer: str) -> Tensor:
        """Return one layer's features of the target, trained or untrained, (N, numbers)."""
        if which not in self._features:
            network = self.networks(self.source)[which]
            self._features[which] = self.features(network, self.pool.images)
        return self._features[which][layer]

    @cached_property
    def own(self) -> dict[str, Tensor]:
        """Every layer's features of the source's own validation images."""
        images = center_crop(self.study.dataset.val.images, self.source.image_size)
        return self.features(self.source, images)

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
            "image_size": self.source.image_size,
            "source_classes": len(self.source.classes),
            "top": self.top,
        }

    def duplicates(self) -> dict[str, Any]:
        """Count the target's near-duplicates of source images, at several thresholds."""
        best = self.correlations
        return {
            "images": len(best),
            "removed": int((~self.kept).sum()),
            "at": {str(level): int((best >= level).sum()) for level in (0.8, 0.9)},
            "highest": round(best.max().item(), 4),
        }

    def probed(self, rows: Tensor, number: int, kind: str, **options: Any) -> list[float]:
        """Return the accuracy of a probe of the target in every fold."""
        labels, draws = self.pool.labels, [self.draw(fold, number) for fold in range(FOLDS)]
        return accuracies(rows, labels, draws, kind, **options)

    def folds(self, which: str, layer: str, kind: str) -> dict[str, list[float]]:
        """Probe a layer in every fold (Table 7)."""
        return {"accuracy": self.probed(self.rows(which, layer), self.most, kind)}

    def curve(self, rows: Tensor, kind: str, **options: Any) -> dict[str, list[float]]:
        """Probe features with few to many training images a class (Fig. 9)."""
        return {str(n): self.probed(rows, n, kind, **options) for n in self.target.sizes}

    def top_curve(self, which: str) -> dict[str, list[float]]:
        """Measure Fig. 9's curve of the layer that the source's classifier reads."""
        return self.curve(self.rows(which, self.top), "softmax")

    def whole_images(self) -> dict[str, list[float]]:
        """Measure the same for whole images, squeezed into squares."""
        images = self.of_size(self.source.image_size, "whole").images
        return self.curve(self.features(self.source, images)[self.top], "softmax")

    def hog(self) -> dict[str, list[float]]:
        """Measure the same of a method of the time: dense HOG, a pyramid, a linear SVM.

        The dictionary is learned without labels, from training images of the first fold.
        """
        pool = self.of_size(rivals.SIDE)
        rows = rivals.hog_pyramids(pool.images, self.draw(0).train)
        return self.curve(rows, "svm", prepare=probes.unprepared)

    def random_stages(self, uncut: bool) -> dict[str, float]:
        """Probe a random two-stage network, one fold, with as many images as its authors.

        Args:
            uncut: whole photographs, as its authors have them; else the squares that networks see.
        """
        filters, one = rivals.random_filters(self.study.seed), self.draw(0)
        side = rivals.STAGES_SIDE
        pool = self.of_size(side)
        images = list(pool.images)
        if uncut:
            files = targets.caltech101_files(pool.classes, self.study.root)
            images = [targets.longest(file, side) for file in compress(files, self.kept)]
        batches = torch.arange(len(images)).split(16)
        greys = ((rivals.grey(images[i]) for i in batch) for batch in batches)
        rows = torch.cat([rivals.random_stages(batch, filters) for batch in greys])
        return {kind: accuracies(rows, pool.labels, [one], kind)[0] for kind in probes.KINDS}

    def on_source(self, layer: str) -> dict[str, list[float]]:
        """Probe a layer on the source's own classes, with 30 new images of each to learn from."""
        labels, seed = self.study.dataset.val.labels, self.study.seed
        number = min(30, int(labels.bincount().min()) // 2)
        draws = [probes.draw(labels, number, fold=fold, seed=seed) for fold in range(FOLDS)]
        return {"trained": accuracies(self.own[layer], labels, draws, "svm")}

    def limits(self, run: Path) -> dict[str, Any]:
        """Probe every layer of another source, and of it before training, one fold.

        Sources that differ in one thing show what limits transfer: image size, classes or units.
        """
        trained = load_weights(run / "weights.safetensors")
        pool, one = self.of_size(trained.image_size), self.draw(0)
        accuracy = {
            which: {
                layer: accuracies(rows, pool.labels, [one], "svm")[0]
                for layer, rows in self.features(network, pool.images).items()
            }
            for which, network in self.networks(trained).items()
        }
        recipe = trained.recipe
        names = ("dataset", "image_size", "width", "units", "epochs")
        described = {name: getattr(recipe, name) for name in names}
        described["dataset"] = data.dataset_name(recipe.dataset)
        return described | {"classes": len(trained.classes), "accuracy": accuracy}

    def whole_network(self, number: int, fold: int, start: Trained | None) -> dict[str, Any]:
        """Train a whole network on the target: from scratch, or on from the source's layers."""
        changes: dict[str, Any] = {"batch": self.target.batch, "seed": fold}
        if start is None:
            changes |= {"epochs": self.target.epochs[number], "dataset": self.pool.name}
            recipe = Recipe(**SCRATCH | changes)
        else:
            recipe = replace(start.recipe, **TUNED | changes | {"epochs": self.target.tuned})
        pool, one = self.of_size(recipe.image_size, "square"), self.draw(fold, number)
        split = Split(pool.images[one.train], pool.labels[one.train])
        network = fitted(recipe, split, pool.classes, self.study, start)
        scores: dict[str, Any] = {}
        for name, rows in (("accuracy", one.test), ("train", one.train)):
            named = network.predict_proba(pool.images[rows]).argmax(1)
            accuracy = probes.per_class_accuracy(named.numpy(), pool.labels[rows].numpy())
            scores[name] = round(accuracy, 2)
        names = ("epochs", "batch", "lr", "image_size", "width", "units")
        return scores | {name: getattr(recipe, name) for name in names}


def accuracies(
    rows: Tensor, labels: Tensor, draws: list[probes.Draw], kind: str, **options: Any
) -> list[float]:
    """Return the accuracy of a probe of features (N, numbers) in every draw, in per cent."""
    return [round(probes.probe(rows, labels, one, kind, **options), 2) for one in draws]


def fitted(
    recipe: Recipe, split: Split, classes: tuple[str, ...], study: Study, source: Trained | None
) -> Trained:
    """Train a network on few images: from scratch, or from layers 1 to 7 of another.

    Args:
        recipe: without averaged weights; of the source's image size and widths.
        split: the training images, stored for `recipe.image_size`.
        classes: of layer 8, which starts anew.
        source: where layers 1 to 7 come from, and the mean image; None for from scratch.
    Raises:
        RuntimeError: the source's layers are of other sizes.
    """
    state = training.start(recipe, len(classes), study.device)
    network, mean = state.network, mean_image(split.images)
    if source is not None:
        mean, weights = source.mean, source.network.state_dict()
        shared = {k: v for k, v in weights.items() if not k.startswith("fulls.fc8")}
        network.load_state_dict(network.state_dict() | shared)
    mean = mean.to(study.device)
    for epoch in range(recipe.epochs):
        training.train_epoch(recipe, state, split, mean, epoch, study.progress)
    return Trained(network.eval(), recipe, classes, mean)
