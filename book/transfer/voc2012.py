"""Table 6: a 20-way softmax on PASCAL VOC 2012, scored by average precision. Not run here: the images are not at hand.

The paper learns from train and val and has the test images scored by VOC's server. Here it learns from train and is
scored on val, whose labels are public.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from book.transfer import targets
from book.transfer import training as transfer
from zfrepro import probes
from zfrepro.measure import Study


def once_a_class(truth: Tensor) -> tuple[Tensor, Tensor]:
    """An image of several classes counts once for each: which image, (M,), and which class, (M,). truth: (N, C)."""
    images, classes = (truth > 0).nonzero(as_tuple=True)
    return images, classes


def parts(study: Study) -> dict[str, Callable[[], Any]]:
    """Per-class average precision of a softmax on layer 7."""
    source = study.networks["zfnet"]

    def seen(part: str) -> tuple[targets.Presence, Tensor]:
        found = targets.voc2012(part, source.recipe.image_size, study.root, progress=study.progress)
        batches = map(source.normalised, found.images.split(32))
        return found, probes.features(source.network, batches)["fc7"]

    def table6() -> dict[str, Any]:
        (train, learned), (val, tested) = seen("train"), seen("val")
        images, labels = once_a_class(train.truth)
        rows, numbers = learned[images].numpy(), labels.numpy()
        strength = probes.chosen_strength("softmax", rows, numbers)
        rows, others = probes.standardised(rows, tested.numpy())
        scores = probes.classifier("softmax", strength).fit(rows, numbers).predict_proba(others)
        precision = {
            name: round(transfer.average_precision(scores[:, i], val.truth[:, i].numpy()), 2)
            for i, name in enumerate(val.classes)
        }
        mean = round(float(torch.tensor(list(precision.values())).mean()), 2)
        return {"average_precision": precision, "mean": mean, "strength": strength, "train": len(train.images),
                "test": len(val.images)}  # fmt: skip

    return {"table6": table6}
