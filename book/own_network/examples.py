"""A pretrained network and real photographs, for pages that cannot download either."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torchvision
from matplotlib.cbook import get_sample_data
from PIL import Image
from skimage import data as skimage_data
from sklearn.datasets import load_sample_image
from torch import Tensor, nn

import zfrepro
from zfrepro.data.photos import square, to_rgb

# torchvision's networks that are looked for, and two layers of each
TORCHVISION = {
    "resnet18": ("layer2", "layer3"),
    "alexnet": ("features.6", "features.10"),
    "vgg11": ("features.8", "features.15"),
    "squeezenet1_1": ("features.7", "features.12"),
}
CREDITS = {
    "astronaut": "Eileen Collins, NASA, public domain (scikit-image)",
    "cat": "Chelsea, Stefan van der Walt, CC0 (scikit-image)",
    "coffee": "Rachel Michetti, CC0 (scikit-image)",
    "rocket": "SpaceX, public domain (scikit-image)",
    "china": "danielbuechele on Flickr, CC BY 2.0 (scikit-learn)",
    "flower": "vultilion on Flickr, CC BY 2.0 (scikit-learn)",
    "hopper": "Grace Hopper, US Navy, public domain (matplotlib)",
}


@dataclass(frozen=True)
class Pretrained:
    """A classifier with what it needs to see photographs."""

    name: str
    model: nn.Module
    preprocess: Callable[[Image.Image], Tensor]  # to (3, S, S), as the model wants it
    view: Callable[[Tensor], Tensor]  # from those, (B, 3, S, S), back to colours of 0 to 1
    layers: tuple[str, str]  # two names of submodules
    classes: tuple[str, ...]
    remark: str = ""  # on what it was trained


def photographs() -> dict[str, Image.Image]:
    """Load the photographs of `CREDITS`, which travel with the packages named there."""
    pixels = {
        "astronaut": skimage_data.astronaut(), "cat": skimage_data.chelsea(),
        "coffee": skimage_data.coffee(), "rocket": skimage_data.rocket(),
        "china": load_sample_image("china.jpg"), "flower": load_sample_image("flower.jpg"),
    }  # fmt: skip
    images = {name: Image.fromarray(np.asarray(array)) for name, array in pixels.items()}
    with get_sample_data("grace_hopper.jpg") as file, Image.open(file) as image:
        images["hopper"] = image.convert("RGB")
    return images


def windows(photo: Image.Image, share: float = 0.55, grid: int = 3) -> list[Image.Image]:
    """Cut square windows out of a photograph, in rows: its side is `share` of the shorter side."""
    side = int(share * min(photo.size))
    lefts, tops = (np.linspace(0, size - side, grid).astype(int).tolist() for size in photo.size)
    return [photo.crop((x, y, x + side, y + side)) for y in tops for x in lefts]


def pretrained() -> Pretrained:
    """Return a network of torchvision whose weights are in torch's cache, else the book's ZFNet.

    Nothing is downloaded, and no network has random weights.
    """
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    for name, layers in TORCHVISION.items():
        weights = torchvision.models.get_model_weights(name).DEFAULT
        if (folder / Path(weights.url).name).is_file():
            return _of_torchvision(name, weights, layers)
    return _zfnet()


def _of_torchvision(name: str, weights, layers: tuple[str, str]) -> Pretrained:
    model = torchvision.models.get_model(name, weights=weights).eval()
    steps = weights.transforms()
    mean, std = (torch.tensor(values)[:, None, None] for values in (steps.mean, steps.std))
    classes = tuple(weights.meta["categories"])
    return Pretrained(
        f"torchvision's {name}", model, lambda photo: steps(to_rgb(photo)),
        lambda x: (x * std + mean).clamp(0, 1), layers, classes, "It was trained on ImageNet.",
    )  # fmt: skip


def _zfnet() -> Pretrained:
    trained = zfrepro.pretrained("zfnet", "imagenet20")
    size = trained.mean.shape[-1]
    mean = trained.preprocess(torch.zeros(1, *trained.mean.shape, dtype=torch.uint8))
    scale = trained.recipe.input_scale

    def preprocess(photo: Image.Image) -> Tensor:
        stored = torch.tensor(square(photo, size)).permute(2, 0, 1)
        return trained.preprocess(stored[None])[0]

    # in a container, so that the instruments do not know that it is this package's own
    return Pretrained(
        "the book's ZFNet of photographs", nn.Sequential(trained.network), preprocess,
        lambda x: ((x - mean) * scale / 255).clamp(0, 1),
        ("0.convs.conv3", "0.convs.conv5"), trained.classes,
        "It was trained on photographs of 20 classes of ImageNet, and knows no others.",
    )  # fmt: skip
