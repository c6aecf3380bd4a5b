"""Table 6: a 20-way softmax on PASCAL VOC 2012, scored by average precision. Not run here.

The paper learns from train and val and has the test images scored by VOC's server. Here it learns
from train and is scored on val, whose labels are public.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from book.transfer import targets
from zfrepro import probes
from zfrepro.measure import Study


def once_a_class(truth: Tensor) -> tuple[Tensor, Tensor]:
    """Return the images (M,) and classes (M,) of (N, C) truth; an image counts once a class."""
    images, classes = (truth > 0).nonzero(as_tuple=True)
    return images, classes


def average_precision(scores: np.ndarray, truth: np.ndarray) -> float:
    """Return the average precision of one class in per cent, as PASCAL VOC counts it since 2010.

    It is the area under precision against recall, precision made never to rise with recall.

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


def parts(study: Study) -> dict[str, Callable[[], Any]]:
    """Return the measurement of per-class average precision of a softmax on layer 7."""
    source = study.networks["zfnet"]

    def seen(part: str) -> tuple[targets.Presence, Tensor]:
        found = targets.voc2012(part, source.recipe.image_size, study.root, progress=study.progress)
        batches = map(source.preprocess, found.images.split(32))
        return found, probes.features(source.network, batches)["fc7"]

    def table6() -> dict[str, Any]:
        (train, learned), (val, tested) = seen("train"), seen("val")
        images, labels = once_a_class(train.truth)
        rows, numbers = learned[images].numpy(), labels.numpy()
        strength = probes.chosen_strength("softmax", rows, numbers)
        rows, others = probes.standardised(rows, tested.numpy())
        scores = probes.classifier("softmax", strength).fit(rows, numbers).predict_proba(others)
        precision = {
            name: round(average_precision(scores[:, i], val.truth[:, i].numpy()), 2)
            for i, name in enumerate(val.classes)
        }
        mean = round(float(torch.tensor(list(precision.values())).mean()), 2)
        return {
            "average_precision": precision,
            "mean": mean,
            "strength": strength,
            "train": len(train.images),
            "test": len(val.images),
        }

    return {"table6": table6}
