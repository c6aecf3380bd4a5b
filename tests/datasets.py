"""A made-up data set, recipes that learn it in seconds, and a study of it."""

import torch

from tests.networks import small
from zfrepro.data import Dataset, Split
from zfrepro.data.transforms import stored_size
from zfrepro.measure import Study
from zfrepro.networks import architecture
from zfrepro.training import Recipe
from zfrepro.weights import Trained

TINY = {
    "arch": "zfnet", "dataset": "diorama", "image_size": 64, "width": 0.125, "units": 16,
    "epochs": 3, "batch": 8,
    "lr": 0.02, "crops": "random", "init": "modern", "input_scale": 64.0, "precision": "fp32",
    "dropout": 0.5,
}  # fmt: skip


def tiny(**changes) -> Recipe:
    return Recipe(**(TINY | changes))


def stripes(
    train: int = 48, val: int = 12, image_size: int = 64, classes: int = 3, seed: int = 0
) -> Dataset:
    """Grey noise with one bright colour channel a class: easy, and different for every image."""
    generator = torch.Generator().manual_seed(seed)

    def split(count: int) -> Split:
        side = stored_size(image_size)
        labels = torch.arange(count) % classes
        images = torch.randint(0, 90, (count, 3, side, side), generator=generator)
        images[torch.arange(count), labels % 3] += 150
        return Split(images.to(torch.uint8).contiguous(memory_format=torch.channels_last), labels)

    names = tuple(f"class{i}" for i in range(classes))
    return Dataset("made-up", names, split(train), split(val), image_size, "0")


def study(val: int = 24, archs: tuple[str, ...] = ("zfnet",), images: int | None = None) -> Study:
    """Return a study of untrained networks on stripes of 96 px, of all `val` images or of fewer."""
    dataset = stripes(val=val, image_size=96)
    mean = torch.full((3, *dataset.val.images.shape[2:]), 60.0)
    networks = {
        arch: Trained(
            small(architecture(arch)).requires_grad_(False), tiny(arch=arch, image_size=96),
            dataset.classes, mean,
        )
        for arch in archs
    }  # fmt: skip
    return Study(dataset, networks, torch.device("cpu"), images=images or val, progress=False)
