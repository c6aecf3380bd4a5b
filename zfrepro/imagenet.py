"""Networks that others trained on ImageNet, as the instruments want them.

    python -m zfrepro measure invariance --network squeezenet1_0 --weights FILE --dataset imagenet20

Any classifier of torchvision, with weights from a file under torchvision's names. The instruments
know ZFNet's layers, so each network says which of its own stands for which (`LAYERS`); the record
repeats it. A layer that a network lacks is left out, and what needs it is not measured."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

import torch
import torchvision
from safetensors.torch import load_file
from torch import Tensor, nn

from zfrepro import device as devices
from zfrepro.data import Dataset, photos
from zfrepro.data.transforms import stored_size
from zfrepro.layers import Fields
from zfrepro.models import Layered, dtype_of, evaluating, outputs_of
from zfrepro.receptive_field import probe
from zfrepro.records import sha256
from zfrepro.tensors import brief
from zfrepro.weights import Trained, WeightsError

MEAN_OF = "mean of "  # before a module whose maps are averaged over places
OUTPUT = "output"
LAYERS: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        # first convolution; end of the early stage, middle and end of the middle one, end of the
        # last; what the classifier reads, averaged as its scores are
        "squeezenet1_0": {
            "conv1": "features.1", "conv2": "features.5", "conv3": "features.8",
            "conv4": "features.10", "conv5": "features.12", "fc7": "mean of features.12",
        },
        "alexnet": {
            "conv1": "features.1", "conv2": "features.4", "conv3": "features.7",
            "conv4": "features.9", "conv5": "features.11", "fc6": "classifier.2",
            "fc7": "classifier.5",
        },
    }
)  # fmt: skip
"""For each network, ZFNet's layer -> the module that stands for it, as in `named_modules()`."""
HAN = "b60d73d32d7bf4d51f93b7741aef64f1ff659b62dd52bb5adac2806579291685"
"""SHA-256 of SqueezeNet v1.0 in Han et al.'s 8-bit form under torchvision's names. It wants Caffe's
preparation, and its last convolution is padded by 1."""
OFFICIAL = "ILSVRC2012_val_"  # names of ImageNet's validation images begin so


@dataclass(frozen=True)
class Preparation:
    """How a network wants its images: (levels of 0 to 255 - mean) / scale, a colour each."""

    image_size: int
    mean: tuple[float, float, float]
    scale: tuple[float, float, float]
    padded: bool = False  # whether SqueezeNet's last convolution is padded by 1


TORCHVISION = Preparation(224, (123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
CAFFE = Preparation(227, (123.0, 117.0, 104.0), (1.0, 1.0, 1.0), padded=True)


class Adapted(Layered):
    """A model of any kind with ZFNet's names for its layers; it gives scores of some classes."""

    def __init__(
        self, model: nn.Module, modules: Mapping[str, str], image_size: int, classes: Tensor
    ):
        super().__init__()
        self.model, self.image_size = model, image_size
        self.modules_of = dict(modules) | {"fc8": OUTPUT}
        self.register_buffer("classes", classes, persistent=False)  # columns of the output
        self._fields: dict[str, Fields] = {}

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the layers, from pixels to classes."""
        return tuple(self.modules_of)

    def forward(self, images: Tensor) -> Tensor:
        """images: (B, 3, S, S), prepared -> class scores (B, classes)."""
        return self.model(images)[:, self.classes]

    def features(self, images: Tensor, layers: Iterable[str]) -> dict[str, Tensor]:
        """Return the named layers' outputs, in one pass; for `fc8` the scores.

        Maps are (B, C, H, W), full layers and averaged maps (B, units). ValueError for others.
        """
        wanted = list(dict.fromkeys(layers))
        self.require_layers(wanted)
        names = {layer: self.modules_of[layer] for layer in wanted}
        modules = {n: None if n == OUTPUT else n.removeprefix(MEAN_OF) for n in names.values()}
        outputs = outputs_of(self.model, images, dict.fromkeys(modules.values(), 0))

        def of(name: str) -> Tensor:
            values = outputs[modules[name]]
            if name == OUTPUT:
                return values[:, self.classes]
            return values.mean((2, 3)) if name.startswith(MEAN_OF) else values

        return {layer: of(name) for layer, name in names.items()}

    def fields(self, layer: str) -> Fields:
        """Return the receptive fields of a layer's units, found once, from gradients."""
        if layer not in self._fields:
            # autograd would find tensors of a caller's inference mode unfit
            with evaluating(self), torch.inference_mode(False):
                image = torch.randn(
                    1, 3, *(self.image_size,) * 2, device=self.classes.device, dtype=dtype_of(self)
                )
                self._fields[layer] = probe(self.output(layer), image)
        return self._fields[layer]

    def module(self, layer: str) -> str:
        """Return the name of the module that stands for a layer."""
        return f"model.{self.modules_of[layer].removeprefix(MEAN_OF)}"


@dataclass(frozen=True)
class Pretrained(Trained):
    """A network that others trained: it has no recipe, and its mean is one colour."""

    name: str = ""
    preparation: Preparation = TORCHVISION

    @property
    def image_size(self) -> int:
        return self.preparation.image_size

    @property
    def scale(self) -> Tensor:
        return torch.tensor(self.preparation.scale, device=self.mean.device)[:, None, None]

    def restrict_classes(self, classes: tuple[str, ...]) -> "Pretrained":
        """Return the network asked to choose among some of its classes, in the order given."""
        if unknown := set(classes) - set(self.classes):
            raise ValueError(f"the network does not know {', '.join(sorted(unknown))}")
        rows = self.network.classes[[self.classes.index(name) for name in classes]]
        network = Adapted(self.network.model, LAYERS[self.name], self.image_size, rows).eval()
        return replace(self, network=network, classes=classes)

    def untrained(self, seed: int = 0) -> "Pretrained":
        """Return the control: the same network with torchvision's initial weights."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(10_007 + seed)
            model = skeleton(self.name, self.preparation)
        model.to(self.mean.device, memory_format=torch.channels_last)
        rows = self.network.classes.clone()
        network = Adapted(model, LAYERS[self.name], self.image_size, rows).eval()
        return replace(self, network=network)


def skeleton(name: str, preparation: Preparation = TORCHVISION) -> nn.Module:
    """Return a torchvision network with initial weights, in evaluation mode."""
    require_known(name)
    model = torchvision.models.get_model(name, weights=None)
    if preparation.padded:
        model.classifier[1].padding = (1, 1)
    return model.eval().requires_grad_(False)


def require_known(name: str) -> None:
    """Refuse a network without a list of layers here."""
    if name not in LAYERS:
        raise ValueError(
            f"unknown network {name!r}; there are: zfnet, {', '.join(LAYERS)}; {download(name)}"
        )


def download(name: str) -> str:
    """Return how torchvision fetches the weights of a network, or those of SqueezeNet."""
    known = name if name in LAYERS else "squeezenet1_0"
    call = f"torchvision.models.{known}(weights='DEFAULT')"
    return (
        f'python -c "import torchvision; {call}" downloads weights, which torch keeps in '
        "hub/checkpoints of its cache: give that file to --weights"
    )


def adapt(
    name: str, model: nn.Module, preparation: Preparation, device: torch.device | None = None
) -> Pretrained:
    """Return a torchvision model as the instruments want it, with all its 1,000 classes."""
    device = device or devices.pick()
    model = model.eval().requires_grad_(False).to(device, memory_format=torch.channels_last)
    size = preparation.image_size
    mean = torch.tensor(preparation.mean)[:, None, None].repeat(1, *(stored_size(size),) * 2)
    categories = torchvision.models.get_model_weights(name).DEFAULT.meta["categories"]
    every = torch.arange(len(categories))
    network = Adapted(model, LAYERS[name], size, every).eval().to(device)
    return Pretrained(
        network, None, tuple(categories), mean.to(device), name=name, preparation=preparation
    )


def load(
    name: str, file: str | Path | None = None, *, device: torch.device | None = None
) -> Pretrained:
    """Load a torchvision network. Nothing in the file is executed.

    Args:
        name: one of `LAYERS`.
        file: weights under torchvision's names, safetensors or torch's own; default, those that
            torchvision has put into torch's cache. All want torchvision's preparation, but for the
            file whose hash is `HAN`.
    Raises:
        ValueError: unknown network.
        WeightsError: weights that are missing or do not fit, with torchvision's command.
    """
    require_known(name)
    file = Path(file).expanduser() if file else default_file(name)
    if not file.is_file():
        raise WeightsError(f"{file}: no such file; {download(name)}")
    digest = sha256(file)
    preparation = CAFFE if digest == HAN else TORCHVISION
    model = skeleton(name, preparation)
    try:
        if file.suffix == ".safetensors":
            weights = load_file(file)
        else:
            weights = torch.load(file, map_location="cpu", weights_only=True)
        model.load_state_dict(weights)
    except Exception as error:  # safetensors, pickle and torch each raise their own kinds
        raise WeightsError(
            f"{file}: no weights of {name} ({brief(error)}); {download(name)}"
        ) from error
    return replace(adapt(name, model, preparation, device), sha256=digest)


def default_file(name: str) -> Path:
    """Return where torch keeps torchvision's own weights of a network."""
    url = torchvision.models.get_model_weights(name).DEFAULT.url
    return Path(torch.hub.get_dir()) / "checkpoints" / Path(url).name


def unseen(dataset: Dataset, root: str | Path | None = None) -> Tensor:
    """Return which validation images are ImageNet's own validation images, by name: bool (N,).

    The others of ImageNet-20 are from ImageNet's training set, which such a network has seen.
    """
    folder = photos.find_folder(dataset.name, root)
    files, _ = photos.list_part(folder, "val", list(photos.class_folders(dataset.name, folder)))
    official = torch.tensor([file.name.startswith(OFFICIAL) for file in files])
    if len(official) > len(dataset.val):  # some were skipped
        raise ValueError(
            f"{folder}: {len(official)} validation images, {len(dataset.val)} of them loaded; "
            "replace or remove the damaged ones"
        )
    if not official.any() or len(official) < len(dataset.val):
        raise ValueError(
            f"{folder}: no image is called {OFFICIAL}..., so a network trained on ImageNet may "
            "have seen them all; use imagenet20"
        )
    return official
