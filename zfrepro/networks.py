"""ZFNet, Krizhevsky's network and every row of the ablation table, each as one value."""

import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zfrepro.layers import CeilConv2d, Field, Fields, blur_down, ceil_size, contrast_norm
from zfrepro.models import Layered

POOL_KERNEL, POOL_STRIDE = 3, 2


@dataclass(frozen=True)
class Conv:
    """One convolutional layer: conv, ReLU and, where set, low-pass, 3x3/2 pool, contrast norm."""

    layer: int  # the paper's number, kept when other layers are removed
    maps: int
    kernel: int
    stride: int = 1
    padding: int = 0
    pool: bool = False
    norm: bool = False
    blur: bool = False  # before the pool, see `layers.blur_down`

    @property
    def name(self) -> str:
        return f"conv{self.layer}"


@dataclass(frozen=True)
class Full:
    """One fully connected layer with ReLU and dropout."""

    layer: int
    units: int

    @property
    def name(self) -> str:
        return f"fc{self.layer}"


@dataclass(frozen=True)
class Architecture:
    """A network up to its number of classes and its image size."""

    name: str
    convs: tuple[Conv, ...]
    fulls: tuple[Full, ...]
    norm_before_pool: bool = False  # Krizhevsky's order; ZFNet's norm comes after the pool

    def with_maps(self, *maps: int) -> "Architecture":
        """Return the layers with other numbers of maps, one for each of `convs`."""
        if len(maps) != len(self.convs):
            raise ValueError(
                f"{len(maps)} numbers of maps for {len(self.convs)} layers: give one a layer"
            )
        convs = tuple(replace(c, maps=m) for c, m in zip(self.convs, maps, strict=True))
        return replace(self, convs=convs)

    def with_width(self, factor: float) -> "Architecture":
        """Return every convolution `factor` times as wide, in multiples of 8 maps."""
        return self.with_maps(*(max(8, round(c.maps * factor / 8) * 8) for c in self.convs))

    def with_units(self, units: int) -> "Architecture":
        """Return every fully connected layer with `units` units."""
        return replace(self, fulls=tuple(replace(f, units=units) for f in self.fulls))

    def without(self, *layers: int) -> "Architecture":
        """Return the network with some of layers 3, 4, 6 and 7 taken out, as in Table 2."""
        if not set(layers) <= {3, 4, 6, 7}:
            raise ValueError(
                f"layers {layers}: only 3, 4, 6 and 7 can be taken out "
                "without changing the geometry"
            )
        return replace(
            self,
            convs=tuple(c for c in self.convs if c.layer not in layers),
            fulls=tuple(f for f in self.fulls if f.layer not in layers),
        )


@dataclass(frozen=True)
class Stage:
    """One convolution, low-pass or pool on one axis of the image."""

    name: str  # conv1, pool1, conv2, ...
    kernel: int
    stride: int
    padding: int
    maps: int
    size: int  # output size, units
    field: Field
    parameters: int
    multiply_adds: int  # for one image


@functools.cache
def stages(architecture: Architecture, image_size: int) -> tuple[Stage, ...]:
    """Return all convolutions, low-passes and pools in order, all with the ceil rule.

    Args:
        image_size: side of a square image, in pixels.
    Raises:
        ValueError: the image is too small for a layer.
    """
    size, field, below, result = image_size, Field(1, 1, 0), 3, []
    for c in architecture.convs:
        steps = [(c.name, c.kernel, c.stride, c.padding, below * c.kernel**2)]
        if c.blur:
            steps.append((f"blur{c.layer}", 3, 2, 1, 0))
        if c.pool:
            steps.append((f"pool{c.layer}", POOL_KERNEL, POOL_STRIDE, 0, 0))
        for name, kernel, stride, padding, weights in steps:  # weights of one output, without bias
            if size + 2 * padding < kernel:
                raise ValueError(
                    f"{architecture.name}: an image of {image_size} px is too small, "
                    f"{name} sees {size} px"
                )
            size = ceil_size(size, kernel, stride, padding)
            field = field.through(kernel, stride, padding)
            result.append(Stage(
                name, kernel, stride, padding, c.maps, size, field,
                parameters=c.maps * (weights + 1) if weights else 0,
                multiply_adds=c.maps * weights * size**2,
            ))  # fmt: skip
        below = c.maps
    return tuple(result)


_UPPER = (
    Conv(3, 384, kernel=3, padding=1),
    Conv(4, 384, kernel=3, padding=1),
    Conv(5, 256, kernel=3, padding=1, pool=True),
)
_FULLS = (Full(6, 4096), Full(7, 4096))


def zfnet() -> Architecture:
    """Return the network of Fig. 3: 7x7/2 and 5x5/2 filters, contrast norm after the pool."""
    lower = (
        Conv(1, 96, kernel=7, stride=2, pool=True, norm=True),
        Conv(2, 256, kernel=5, stride=2, pool=True, norm=True),
    )
    return Architecture("zfnet", lower + _UPPER, _FULLS)


def krizhevsky() -> Architecture:
    """Return Krizhevsky's network (2012) as Zeiler & Fergus replicate it.

    Dense, 11x11/4 and 5x5/1, norm before the pool.
    """
    lower = (
        Conv(1, 96, kernel=11, stride=4, pool=True, norm=True),
        Conv(2, 256, kernel=5, stride=1, padding=2, pool=True, norm=True),
    )
    return Architecture("krizhevsky", lower + _UPPER, _FULLS, norm_before_pool=True)


def zfnet_wide() -> Architecture:
    """Return Fig. 3 with 512, 1024 and 512 maps in layers 3 to 5."""
    return replace(zfnet().with_maps(96, 256, 512, 1024, 512), name="zfnet-wide")


def _table2() -> dict[str, Architecture]:
    old, ours = krizhevsky(), zfnet()
    rows = {
        "krizhevsky": old,
        "krizhevsky-without-3-4": old.without(3, 4),
        "krizhevsky-without-7": old.without(7),
        "krizhevsky-without-6-7": old.without(6, 7),
        "krizhevsky-without-3-4-6-7": old.without(3, 4, 6, 7),
        "krizhevsky-fc2048": old.with_units(2048),
        "krizhevsky-fc8192": old.with_units(8192),
        "zfnet": ours,
        "zfnet-fc2048": ours.with_units(2048),
        "zfnet-fc8192": ours.with_units(8192),
        "zfnet-wide": zfnet_wide(),
        "zfnet-wide-fc8192": zfnet_wide().with_units(8192),
    }
    return {name: replace(architecture, name=name) for name, architecture in rows.items()}


ARCHITECTURES: dict[str, Architecture] = _table2()
"""All twelve rows of Table 2 by name, in the paper's order."""


def _stem(kernel: int, stride: int, stride2: int, wide: bool, blur: bool) -> Architecture:
    first = Conv(1, 96, kernel, stride // 2 if blur else stride, blur=blur, pool=True, norm=True)
    second = Conv(2, 256, kernel=5, stride=stride2, padding=2, pool=True, norm=True)
    name = f"{kernel}s{stride}{'-blur' if blur else ''}-5s{stride2}{'-wide' if wide else ''}"
    stem = Architecture(name, (first, second, *_UPPER), _FULLS)
    return stem.with_maps(96, 256, 512, 1024, 512) if wide else stem


STEMS: dict[str, Architecture] = {
    stem.name: stem
    for stem in (
        *(
            _stem(kernel, stride, stride2, wide, blur=False)
            for wide in (False, True) for stride2 in (2, 1)
            for stride in (4, 2) for kernel in (11, 7)
        ),
        *(_stem(kernel, 4, 1, wide=False, blur=True) for kernel in (11, 7)),
    )
}  # fmt: skip
"""What the paper changes at once, changed one by one: filter and stride of layer 1, stride of layer
2, width.

All have ZFNet's order of norm and pool and Krizhevsky's padding in layer 2: `11s4-5s1` is his
network but for the order, `7s2-5s2` is ZFNet but for the padding. Two have half their stride of 4
behind a low-pass filter."""


def architecture(name: str, *, width: float = 1.0, units: int = 4096) -> Architecture:
    """Return a row of `ARCHITECTURES` or `STEMS`, at another width if asked for.

    Args:
        width: every convolution this many times as wide.
        units: of a fully connected layer that has 4096; one of 2048 or 8192 keeps its proportion.
    """
    rows = ARCHITECTURES | STEMS
    if name not in rows:
        raise ValueError(f"unknown architecture {name!r}; there are: {', '.join(rows)}")
    if not width > 0 or units < 1:
        raise ValueError(f"width {width}, units {units}: must be above 0")
    row = rows[name] if width == 1.0 else rows[name].with_width(width)
    fulls = tuple(replace(f, units=max(1, f.units * units // 4096)) for f in row.fulls)
    return replace(row, fulls=fulls)


def max_pool(x: Tensor) -> Tensor:
    """Max-pool 3x3/2 with ceil borders. (B, C, H, W) -> (B, C, h, w)."""
    return F.max_pool2d(x, POOL_KERNEL, POOL_STRIDE, ceil_mode=True)


class Network(Layered):
    """The module of an `Architecture`. Its maps are taken after the ReLU, before the pool."""

    def __init__(
        self, architecture: Architecture, image_size: int, classes: int, dropout: float = 0.5
    ):
        super().__init__()
        self.architecture, self.image_size = architecture, image_size
        self.classes, self.dropout = classes, dropout
        self.convs, self.fulls = nn.ModuleDict(), nn.ModuleDict()
        size = stages(architecture, image_size)[-1].size
        maps = 3
        for c in architecture.convs:
            self.convs[c.name] = CeilConv2d(maps, c.maps, c.kernel, c.stride, c.padding)
            maps = c.maps
        units = maps * size * size
        for f in architecture.fulls:
            self.fulls[f.name] = nn.Linear(units, f.units)
            units = f.units
        self.fulls["fc8"] = nn.Linear(units, classes)

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of all layers with weights, from pixels to classes."""
        return (*self.convs, *self.fulls)

    def module(self, layer: str) -> str:
        """Return the name of a layer's convolution or full layer."""
        return f"convs.{layer}" if layer in self.convs else f"fulls.{layer}"

    def fields(self, layer: str) -> Fields:
        """Return the receptive fields of a layer's units; a full layer sees the whole image."""
        self.require_layers([layer])
        size, field = 1, Field(self.image_size, 0, 0)
        if layer in self.convs:
            by_name = {s.name: s for s in stages(self.architecture, self.image_size)}
            size, field = by_name[layer].size, by_name[layer].field
        return Fields(field, field, (self.image_size,) * 2, (size, size), exact=True)

    def forward(self, images: Tensor) -> Tensor:
        """images: (B, 3, S, S), mean subtracted -> class scores (B, classes)."""
        return self.features(images, ["fc8"])["fc8"]

    def features(
        self, images: Tensor, layers: Iterable[str],
        pool_and_norm: Callable[[Conv, Tensor], Tensor] | None = None,
    ) -> dict[str, Tensor]:  # fmt: skip
        """Return the named layers' outputs, in one pass that stops at the highest of them.

        Args:
            images: (B, 3, S, S), mean subtracted.
            pool_and_norm: instead of the method, one that keeps what it sees.
        Returns:
            For a conv layer its feature maps after ReLU and before the pool, (B, C, H, W); for
            `fc6` and `fc7` the activations after ReLU, (B, units); for `fc8` the class scores.
        """
        self.validate(images)
        names = set(layers)
        self.require_layers(names)
        pool_and_norm = pool_and_norm or self.pool_and_norm
        outputs: dict[str, Tensor] = {}
        x = images
        for c in self.architecture.convs:
            x = F.relu(self.convs[c.name](x), inplace=True)
            if c.name in names:
                outputs[c.name] = x
                if len(outputs) == len(names):
                    return outputs
            x = pool_and_norm(c, x)
        x = x.flatten(1)
        if x.shape[1] != next(iter(self.fulls.values())).in_features:
            raise ValueError(
                f"{self.architecture.name}: its fully connected layers need images of "
                f"{self.image_size} px, these are {tuple(images.shape[-2:])}"
            )
        for name, full in self.fulls.items():
            x = full(x) if name == "fc8" else F.relu(full(x), inplace=True)
            if name in names:
                outputs[name] = x
                if len(outputs) == len(names):
                    break
            x = F.dropout(x, self.dropout, self.training)
        return outputs

    def validate(self, images: Tensor) -> None:
        """Refuse images that are not float (B, 3, H, W), or too small for the convolutions."""
        if images.ndim != 4 or images.shape[1] != 3 or not images.is_floating_point():
            raise ValueError(
                f"images are {images.dtype} {tuple(images.shape)}: "
                "wanted float (B, 3, H, W), as `Trained.preprocess` makes them"
            )
        if min(images.shape[-2:]) != self.image_size:  # which fits, and compiled code skips this
            stages(self.architecture, min(images.shape[-2:]))

    def pool_and_norm(
        self, conv: Conv, x: Tensor, pool: Callable[[Tensor], Tensor] = max_pool
    ) -> Tensor:
        """Apply low-pass, pool and contrast norm of a layer, in the architecture's order.

        Args:
            x: (B, C, H, W), after the ReLU.
            pool: instead of the 3x3/2 pool, one that keeps its switches.
        """
        if conv.blur:
            x = blur_down(x)
        if conv.norm and self.architecture.norm_before_pool:
            x = contrast_norm(x)
        if conv.pool:
            x = pool(x)
        if conv.norm and not self.architecture.norm_before_pool:
            x = contrast_norm(x)
        return x


def build(
    architecture: Architecture, image_size: int = 224, classes: int = 1000, dropout: float = 0.5
) -> Network:
    """Return the network of an architecture, with torch's default initial weights."""
    return Network(architecture, image_size, classes, dropout)


INITIAL_WEIGHTS = ("paper", "modern", "clean")


@torch.no_grad()
def initialise_(
    network: Network, rule: str = "paper", generator: torch.Generator | None = None
) -> Network:
    """Set the initial weights, in place; biases are zero.

    Args:
        rule: `paper`, Gaussian of standard deviation 0.01 everywhere (section 3); `modern`, the
            same in the first and the last layer and He's rule between them, which learns within an
            epoch on small data sets and, unlike He's rule everywhere, leaves little noise in the
            first-layer filters; `clean`, the modern rule with 0.002 in the first layer, so that
            after a short training no noise of the start is seen in its filters.
    """
    if rule not in INITIAL_WEIGHTS:
        raise ValueError(f"initial weights {rule!r}: choose among {', '.join(INITIAL_WEIGHTS)}")
    for name, layer in (*network.convs.items(), *network.fulls.items()):
        if rule == "paper" or name in ("conv1", "fc8"):
            std = 0.002 if rule == "clean" and name == "conv1" else 0.01
            nn.init.normal_(layer.weight, std=std, generator=generator)
        else:
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=generator)
        nn.init.zeros_(layer.bias)
    return network


def without_norm(network: Network) -> Network:
    """Return the network, sharing its weights, without contrast norm, which other tools lack."""
    convs = tuple(replace(c, norm=False) for c in network.architecture.convs)
    without = replace(network.architecture, convs=convs)
    plain = Network(without, network.image_size, network.classes, network.dropout)
    plain.convs, plain.fulls = network.convs, network.fulls
    return plain.train(network.training)


def as_modules(network: Network, layer: str = "fc8") -> nn.Sequential:
    """Return a network without norm (`without_norm`) or blur up to `layer` as modules, for Captum.

    They share its weights.
    """
    if layer not in network.layers or any(c.norm or c.blur for c in network.architecture.convs):
        raise ValueError(
            "needs a network without contrast norm and one of its layers "
            f"{', '.join(network.layers)}"
        )
    parts: list[nn.Module] = []
    for c in network.architecture.convs:
        parts += [network.convs[c.name], nn.ReLU()]
        if c.name == layer:
            return nn.Sequential(*parts)
        if c.pool:
            parts.append(nn.MaxPool2d(POOL_KERNEL, POOL_STRIDE, ceil_mode=True))
    parts.append(nn.Flatten())
    for name, full in network.fulls.items():
        parts += [full] if name == "fc8" else [full, nn.ReLU()]
        if name == layer:
            break
    return nn.Sequential(*parts)
