"""Tables 4 and 7 and Fig. 9 on another data set: ImageNet-20 to Caltech-101, the diorama to its novel classes.

What the paper lacks is measured too: an untrained network as the control in every layer, fine-tuning, and how the
layers do on the source's own classes.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from zfrepro import data, duplicates, probes, transfer
from zfrepro.data import Split, targets
from zfrepro.data.targets import Pool
from zfrepro.studies import Study
from zfrepro.training import Recipe
from zfrepro.weights import Trained

LAYERS = ("conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7")
FOLDS = 5


@dataclass(frozen=True)
class Target:
    """Where the numbers of images a class come from, and how the pool is loaded for an image size."""

    load: Callable[[int], Pool]
    sizes: tuple[int, ...]
    trained: tuple[int, ...]  # sizes at which whole networks are trained
    epochs: dict[int, int]  # from scratch, by size
    tuned: int  # epochs of fine-tuning
    batch: int  # few images need small batches, to make some hundred steps


def target_of(study: Study, name: str | None = None) -> Target:
    """The target of a source: Caltech-101 for photographs, the novel classes for the diorama, or the named one.

    Raises:
        ValueError: no such target.
    """
    name = name or ("novel" if study.dataset.name == "diorama" else "caltech101")
    shown, sizes = study.progress, (1, 2, 3, 4, 5, 6, 7, 10, 15, 30)
    if name == "novel":
        return Target(lambda s: targets.novel_diorama(s, progress=shown), sizes, (15, 30), {15: 60, 30: 40}, 20, 16)
    if name == "caltech101":
        return Target(
            lambda s: targets.caltech101(s, study.root, progress=shown), sizes, (15, 30), {15: 24, 30: 18}, 5, 32
        )
    if name == "caltech256":
        return Target(
            lambda s: targets.caltech256(s, study.root, progress=shown),
            (*sizes, 45, 60),
            (15, 60),
            {15: 24, 60: 12},
            5,
            32,
        )
    raise ValueError(f"unknown target {name!r}; there are: novel, caltech101, caltech256")


def rounded(values: list[float], digits: int = 2) -> list[float]:
    return [round(float(v), digits) for v in values]


def parts(study: Study, target: str | None = None) -> dict[str, Callable[[], Any]]:
    """Every measurement, cheap ones first."""
    aim = target_of(study, target)
    source = study.networks["zfnet"]
    nets = {"trained": source, "untrained": transfer.untrained(source, study.seed)}
    most = max(aim.sizes)

    @cache
    def pool(image_size: int = source.recipe.image_size) -> Pool:
        """The target as it comes, or only its first classes where `study.images` says so."""
        found = aim.load(image_size)
        if study.images:
            some = found.labels < max(2, study.images // 80)  # whole classes, so that draws by class still work
            found = replace(found, images=found.images[some], labels=found.labels[some])
        return found

    @cache
    def doubles() -> tuple[Tensor, Tensor]:
        theirs = duplicates.thumbnails(study.dataset.train.images)
        return duplicates.closest(duplicates.thumbnails(pool().images), theirs)

    @cache
    def kept(image_size: int = source.recipe.image_size) -> Pool:
        """The target without what looks like an image of the source's training split."""
        clean = doubles()[0] < duplicates.THRESHOLD
        found = pool(image_size)
        return replace(found, images=found.images[clean], labels=found.labels[clean])

    def read(net: Trained, images: Tensor, name: str) -> dict[str, Tensor]:
        key = probes.fingerprint(net.network, net.recipe.input_scale, images[:: max(1, len(images) // 64)], len(images))
        batches = images.split(32)
        return probes.cached(
            data.cache_root() / "features" / f"{name}-{key}.safetensors",
            lambda: probes.features(
                net.network, map(net.normalised, batches), progress=study.progress
            ),
        )

    @cache
    def features(which: str) -> dict[str, Tensor]:
        return read(nets[which], kept().images, kept().name)

    @cache
    def own(which: str) -> dict[str, Tensor]:
        return read(nets[which], study.dataset.val.images, study.dataset.name)

    def draw(fold: int, number: int = most) -> probes.Draw:
        return probes.draw(kept().labels, number, reserve=most, fold=fold, seed=study.seed)

    def describe() -> dict[str, Any]:
        counts, one = kept().labels.bincount(), draw(0)
        return {
            "name": kept().name, "classes": len(kept().classes), "images": len(kept().labels),
            "fewest": int(counts.min()), "fingerprint": kept().fingerprint, "train": len(one.train),
            "test": len(one.test), "folds": FOLDS, "image_size": source.recipe.image_size,
            "source_classes": len(source.classes), "source_images": len(study.dataset.train),
        }  # fmt: skip

    def removed() -> dict[str, Any]:
        best, _ = doubles()
        gone = best >= duplicates.THRESHOLD
        by_class = pool().labels[gone].bincount(minlength=1)
        levels = (0.8, 0.85, 0.9, 0.95, 0.99)
        return {
            "threshold": duplicates.THRESHOLD, "side": duplicates.SIDE, "images": len(best),
            "removed": int(gone.sum()), "most_of_a_class": int(by_class.max()),
            "at": {str(level): int((best >= level).sum()) for level in levels}, "highest": round(best.max().item(), 4),
        }  # fmt: skip

    def table7(which: str, layer: str, kind: str) -> dict[str, Any]:
        found = [probes.probe(features(which)[layer], kept().labels, draw(fold), kind) for fold in range(FOLDS)]
        by_class = np.mean([p.by_class for p in found], 0)
        return {
            "accuracy": rounded([p.accuracy for p in found]), "strength": [p.strength for p in found],
            "by_class": rounded(by_class, 1),
        }  # fmt: skip

    def likeness() -> dict[str, float]:
        """How sure the source network is, in the mean, that a class's images show one of its own classes, per cent."""
        sure = 100 * source.probabilities(kept().images, progress=study.progress).amax(1)
        there = kept().labels.unique().tolist()
        return {kept().classes[c]: round(sure[kept().labels == c].mean().item(), 2) for c in there}

    def curve(which: str, layer: str, kind: str) -> dict[str, list[float]]:
        rows, labels = features(which)[layer], kept().labels
        return {
            str(n): rounded([probes.probe(rows, labels, draw(fold, n), kind).accuracy for fold in range(FOLDS)])
            for n in aim.sizes
        }

    def on_source(which: str, layer: str) -> list[float]:
        """30 new images of each of the source's own classes to learn from, the others to test."""
        labels = study.dataset.val.labels
        number = min(30, int(labels.bincount().min()) // 2)
        draws = [probes.draw(labels, number, fold=fold, seed=study.seed) for fold in range(FOLDS)]
        return rounded([probes.probe(own(which)[layer], labels, d, "svm").accuracy for d in draws])

    def reduction() -> dict[str, Any]:
        """What averaging layer 4 over a coarser grid costs: 15 images a class, one fold, up to 10 to test."""
        one = probes.draw(kept().labels, min(15, most), reserve=most, test=10, seed=study.seed)
        chosen = torch.cat([one.train, one.test])
        with torch.no_grad():
            whole = torch.cat(
                [probes.outputs(source.network, source.normalised(b))["conv4"] for b in kept().images[chosen].split(32)]
            ).cpu()
        side = probes.grid(whole.shape[1], whole.shape[-1])
        here = probes.Draw(torch.arange(len(one.train)), torch.arange(len(one.train), len(chosen)))
        sets = {
            "whole": whole, "averaged": torch.nn.functional.adaptive_avg_pool2d(whole, side),
            "largest": torch.nn.functional.adaptive_max_pool2d(whole, side),
        }  # fmt: skip
        labels = kept().labels[chosen]
        found: dict[str, Any] = {"layer": "conv4", "side": whole.shape[-1], "grid": side, "test": len(one.test)}
        for name, maps in sets.items():
            found[name] = round(probes.probe(maps.flatten(1), labels, here, "svm").accuracy, 2)
        rest = probes.probe(sets["averaged"].flatten(1), labels, here, "one-vs-rest", (0.1, 1.0))
        found["one_vs_rest"] = round(rest.accuracy, 2)
        return found

    def networks(number: int, start: Trained | None) -> dict[str, Any]:
        """Whole networks trained on the target: from scratch at the small scale, or on from the source's layers."""
        if start is None:
            recipe = Recipe(
                **transfer.SCRATCH | {"epochs": aim.epochs[number], "batch": aim.batch, "dataset": kept().name}
            )
        else:
            recipe = replace(start.recipe, **transfer.TUNED | {"epochs": aim.tuned, "batch": aim.batch})
        images = kept(recipe.image_size).images
        found = []
        for fold in range(FOLDS):
            one = draw(fold, number)
            split = Split(images[one.train], kept().labels[one.train])
            net, mean = transfer.fitted(
                replace(recipe, seed=fold), split, len(kept().classes), source=start, device=study.device,
                progress=study.progress,
            )  # fmt: skip
            names = transfer.names(net, recipe, mean, images[one.test])
            learned = transfer.names(net, recipe, mean, split.images)
            found.append([
                probes.per_class_accuracy(names, kept().labels[one.test].numpy()),
                probes.per_class_accuracy(learned, split.labels.numpy()),
            ])  # fmt: skip
        test, train = zip(*found, strict=True)
        return {
            "accuracy": rounded(test), "train": rounded(train), "epochs": recipe.epochs, "batch": recipe.batch,
            "lr": recipe.lr, "image_size": recipe.image_size, "width": recipe.width, "units": recipe.units,
        }  # fmt: skip

    made: dict[str, Callable[[], Any]] = {"duplicates": removed, "target": describe, "likeness": likeness}
    for layer in LAYERS:
        made[f"trained-svm-{layer}"] = lambda layer=layer: table7("trained", layer, "svm")
    for layer in LAYERS:
        made[f"untrained-svm-{layer}"] = lambda layer=layer: table7("untrained", layer, "svm")
    made["curve-softmax-fc7"] = lambda: curve("trained", "fc7", "softmax")
    made["curve-svm-conv5"] = lambda: curve("trained", "conv5", "svm")
    made["curve-untrained-softmax-fc7"] = lambda: curve("untrained", "fc7", "softmax")
    made["curve-untrained-svm-conv5"] = lambda: curve("untrained", "conv5", "svm")
    for number in aim.trained:
        made[f"scratch-{number}"] = lambda number=number: networks(number, None)
    for layer in reversed(LAYERS):
        made[f"trained-softmax-{layer}"] = lambda layer=layer: table7("trained", layer, "softmax")
    made["reduction"] = reduction
    for layer in LAYERS:
        made[f"source-{layer}"] = lambda layer=layer: {w: on_source(w, layer) for w in ("trained", "untrained")}
    for number in reversed(aim.trained):
        made[f"tuned-{number}"] = lambda number=number: networks(number, source)
    return made
