"""Trained networks on disk: half-precision safetensors, with provenance in the header."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zfrepro import device as devices
from zfrepro.data import dataset_name, default_name, photos, require_known
from zfrepro.data.transforms import center_crop, normalise, stored_size
from zfrepro.networks import Network, architecture, initialise_
from zfrepro.records import read_json, results_root, sha256
from zfrepro.tensors import brief, load_tensors, save_tensors
from zfrepro.training import Recipe, known_recipe, predict_proba


class WeightsError(ValueError):
    """Weights that cannot be used, with the file and the remedy in one line."""


@dataclass(frozen=True)
class Trained:
    """A network with what it needs to see images as it did in training."""

    network: Network  # in evaluation mode
    recipe: Recipe
    classes: tuple[str, ...]
    mean: Tensor  # (3, R, R), of the training images
    sha256: str = ""  # of the file it was loaded from

    @property
    def image_size(self) -> int:
        """Side of what the network sees, in pixels."""
        return self.recipe.image_size

    @property
    def scale(self) -> float | Tensor:
        """What levels are divided by once the mean is subtracted; (3, 1, 1) if one a colour."""
        return self.recipe.input_scale

    def preprocess(self, images: Tensor) -> Tensor:
        """Return what the network sees of stored images, mean subtracted.

        images: uint8 (B, 3, R, R) -> float (B, 3, S, S).
        """
        if images.shape[1:] != self.mean.shape:
            raise ValueError(
                f"images are {tuple(images.shape[1:])}, "
                f"this network's are stored as {tuple(self.mean.shape)}"
            )
        images = images.to(self.mean.device)
        return center_crop(normalise(images, self.mean, self.scale), self.image_size)

    def preprocess_crop(self, views: Tensor) -> Tensor:
        """Return what the network sees of images at its own size, mean subtracted.

        views: 0 to 255, (B, 3, S, S) -> the same shape; ValueError for another size.
        """
        size = self.image_size
        if views.shape[1:] != (3, size, size):
            raise ValueError(f"pictures are {tuple(views.shape[1:])}, this network sees {size} px")
        mean = center_crop(self.mean[None], size)[0]
        return normalise(views.to(self.mean.device), mean, self.scale)

    def predict_proba(self, images: Tensor, *, ten: bool = False, progress: bool = False) -> Tensor:
        """Return the class probabilities of stored images, at the centre crop or ten crops.

        images: uint8 (N, 3, R, R) -> (N, classes), see `training.predict_proba`.
        """
        return predict_proba(
            self.network, images, self.mean, scale=self.scale,
            image_size=self.image_size, ten=ten, progress=progress,
        )  # fmt: skip

    def restrict_classes(self, classes: tuple[str, ...]) -> "Trained":
        """Return the network asked to choose among some of its classes, in the order given."""
        if unknown := set(classes) - set(self.classes):
            raise ValueError(f"the network does not know {', '.join(sorted(unknown))}")
        rows = [self.classes.index(name) for name in classes]
        weights = self.network.state_dict()
        for name in ("fulls.fc8.weight", "fulls.fc8.bias"):
            weights[name] = weights[name][rows]
        network = self.recipe.network(len(classes))
        network.load_state_dict(weights)
        return replace(self, network=_frozen(network, self.mean.device), classes=classes)

    def center_crop(self, images: Tensor) -> Tensor:
        """Cut out what the network sees of stored images. (B, 3, R, R) -> (B, 3, S, S)."""
        return center_crop(images, self.image_size)

    def untrained(self, seed: int = 0) -> "Trained":
        """Return the control: the same network and mean, with weights as before any training."""
        network = self.recipe.network(len(self.classes))
        initialise_(network, self.recipe.init, torch.Generator().manual_seed(10_007 + seed))
        return replace(self, network=_frozen(network, self.mean.device))


def _frozen(network: Network, device: torch.device) -> Network:
    return network.eval().requires_grad_(False).to(device, memory_format=torch.channels_last)


def save_weights(
    file: Path, network: Network, recipe: Recipe, classes: tuple[str, ...], mean: Tensor,
    **more: Any,
) -> str:  # fmt: skip
    """Write weights and mean image in fp16, atomically, with `more` in the header.

    Returns the SHA-256 of the file. Raises WeightsError if a weight is not finite in fp16.
    """
    tensors = {f"network.{k}": v for k, v in network.state_dict().items()} | {"mean": mean}
    tensors = {name: tensor.half() for name, tensor in tensors.items()}
    if wrong := [name for name, tensor in tensors.items() if not tensor.isfinite().all()]:
        raise WeightsError(
            f"{file}: not written, {wrong[0]} is not finite in half precision; "
            "train it again with a lower --lr"
        )
    return save_tensors(file, tensors, recipe=asdict(recipe), classes=classes, **more)


def load_weights(
    file: str | Path, *, expected_sha256: str | None = None, device: torch.device | None = None
) -> Trained:
    """Load a network from its weights. Nothing in the file is executed.

    Raises:
        WeightsError: missing, damaged, foreign, of another hash, or of tensors that do not fit.
    """
    file = Path(file)
    device = device or devices.pick()
    if not file.is_file():
        raise WeightsError(
            f"{file}: no such file; name the weights.safetensors in the folder of a run "
            "(`python -m zfrepro train --help`)"
        )
    digest = sha256(file)
    if expected_sha256 and digest != expected_sha256:
        raise WeightsError(
            f"{file}: SHA-256 is {digest[:12]}..., the record says {expected_sha256[:12]}...; "
            "restore both from git, or ship the run again"
        )
    try:
        tensors, info = load_tensors(file)
        recipe = known_recipe(info["recipe"])
        network = recipe.network(len(info["classes"]))
        mean, side = tensors.pop("mean").float(), stored_size(recipe.image_size)
        if mean.shape != (3, side, side):
            raise ValueError(
                f"a mean image of {tuple(mean.shape)} does not fit {recipe.image_size} px"
            )
        network.load_state_dict({k.removeprefix("network."): v for k, v in tensors.items()})
    except (KeyError, RuntimeError, TypeError, ValueError) as error:
        raise WeightsError(
            f"{file}: not whole weights of this package ({brief(error)}); train them again or "
            "restore them from git"
        ) from error
    network, classes = _frozen(network, device), tuple(info["classes"])
    return Trained(network, recipe, classes, mean.to(device), digest)


def record_name(arch: str, dataset: str, image_size: int | None = None) -> str:
    """Return the name of a pretrained network's record.

    Imagenette and Imagewoof, which ImageNet-20 is made of, have its network where none of their own
    is pretrained.
    """
    dataset, size = dataset_name(dataset), f"-{image_size}" if image_size else ""
    name = f"networks/{dataset}-{arch}{size}"
    if dataset in ("imagenette", "imagewoof") and not (results_root() / f"{name}.json").is_file():
        return f"networks/imagenet20-{arch}{size}"
    return name


def pretrained(
    arch: str = "zfnet", dataset: str | None = None, *, image_size: int | None = None,
    device: torch.device | None = None,
) -> Trained:  # fmt: skip
    """Return the pretrained network of an architecture for a data set.

    For Imagenette and Imagewoof it is that of ImageNet-20, which then chooses among their ten
    classes only.

    Args:
        image_size: in pixels, of a network that is there besides the one that is measured: 96
            for the diorama.
    Raises:
        ValueError: unknown architecture.
        WeightsError: none is there, with the command that trains one, or its hash is not the
            recorded one.
    """
    architecture(arch)
    dataset = dataset or default_name()
    name = record_name(arch, dataset, image_size)
    record, file = results_root() / f"{name}.json", results_root() / f"{name}.safetensors"
    if not record.is_file():
        require_known(dataset)  # or the advice would be to train on what is not there
        size = f" --image-size {image_size}" if image_size else ""
        out = f"runs/{dataset_name(dataset)}-{arch}" + (f"-{image_size}" if image_size else "")
        raise WeightsError(
            f"no {arch} for {dataset} in {results_root()}; train one: python -m zfrepro train "
            f"--arch {arch} --dataset {dataset} --recipe modern --scale compact{size} "
            f"--out {out}, then python -m zfrepro ship {out}" + (" --by-size" if size else "")
        )
    expected = read_json(record).get("weights_sha256", "no hash")
    trained = load_weights(file, expected_sha256=expected, device=device)
    by_wnid = photos.WNIDS.get(dataset_name(dataset), {})
    classes = tuple(by_wnid[wnid] for wnid in sorted(by_wnid))
    if classes and set(classes) < set(trained.classes):
        return trained.restrict_classes(classes)
    return trained
