"""Occlusion sensitivity (section 4.2, Fig. 7): slide a square over an image, watch the classifier.

For any torch classifier. A map has a value for each position of the square, as in the paper; it is
not an average over the squares that cover a pixel. Every position is a full forward pass; speed
comes from memory layout, precision and batch sizes alone.
"""

import contextlib
import itertools
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm.auto import tqdm

from zfrepro import device as devices
from zfrepro.layers import require_index
from zfrepro.models import (
    evaluating,
    in_proportion,
    replacing_tensors,
    tensor_of,
    uncompiled,
    watching,
    which_call,
)
from zfrepro.networks import Network

FILLS = ("grey", "mean", "blur", "noise")
BORDERS = ("flush", "overhang")
SCORES: dict[str, Callable[[Tensor], Tensor]] = {
    "softmax": lambda logits: logits.softmax(1),
    "sigmoid": torch.sigmoid,
    "none": nn.Identity(),
}
PAPER_SIDE, PAPER_PATCH, PAPER_POSITIONS = 224, 50, 30  # px, px, a side: measured on the figure
CPU_BATCH, GPU_BATCH = 8, 512  # images: on a CPU, convolutions are fastest on few
FULL_BATCH = 128  # images at once for the fully connected layers, which read all weights each time
TOLERANCE = {"fp32": 5e-3, "bf16": 5e-2}  # of an image's largest score, between two ways to it


def paper_geometry(image_size: int) -> tuple[int, float]:
    """Return the side of the square and its stride in pixels: 50 and 6 at 224 px (Fig. 7).

    Other sizes get the same proportion and the same 30 x 30 positions; their stride is no whole
    number, and `corners` rounds each position.
    """
    patch = round(image_size * PAPER_PATCH / PAPER_SIDE)
    return patch, (image_size - patch) / (PAPER_POSITIONS - 1)


def corners(size: int, patch: int, stride: float, border: str = "flush") -> Tensor:
    """Return the first pixel of every position of the window along one axis, (positions,) int64.

    Args:
        size, patch: length of the image and of the window in pixels.
        stride: pixels between neighbours; positions of a fractional stride are rounded.
        border: where the last position goes if the stride does not end at the border: `flush`, the
            window moves back until it ends there; `overhang`, it keeps the stride and covers only
            the pixels that are left, as in Captum.
    Raises:
        ValueError: a window that does not fit, a stride below one pixel, unknown border.
    """
    if not 1 <= patch <= size or stride < 1:
        raise ValueError(
            f"a {patch} px square every {stride} px on {size} px: "
            "needs 1 <= square <= image, stride >= 1"
        )
    if border not in BORDERS:
        raise ValueError(f"border {border!r}: choose among {', '.join(BORDERS)}")
    steps = (size - patch) / stride
    firsts = [round(i * stride) for i in range(int(steps + 1e-9) + 1)]
    if firsts[-1] < size - patch:
        firsts.append(size - patch if border == "flush" else round(len(firsts) * stride))
    return torch.tensor(firsts)


@dataclass(frozen=True)
class Occlusion:
    """Scores of a classifier at every position of the window.

    `...` stands for the positions: R x Q, with the top left corner (i, j) at rows[i], columns[j];
    or M, for as many masks.
    """

    probabilities: Tensor  # (B, ..., classes); what `scores=` makes of the model's output
    clean: Tensor  # (B, classes), of the whole images
    activity: Tensor | None = None  # (B, ..., C): each watched map, rectified and summed over space
    clean_activity: Tensor | None = None  # (B, C)
    rows: Tensor | None = None  # (R,) pixels
    columns: Tensor | None = None  # (Q,) pixels
    window: tuple[int, int] | None = None  # height and width in pixels

    @property
    def predicted(self) -> Tensor:
        """Most probable class at every position, (B, ...): panel (e)."""
        return self.probabilities.argmax(-1)

    def of(self, labels: Tensor) -> Tensor:
        """Return the probability of one class an image, (B,) -> (B, ...): panel (d).

        Raises:
            ValueError: not one class an image, or a class that does not exist.
        """
        return _one_an_image("class", self.probabilities, labels)

    def activity_of(self, maps: Tensor) -> Tensor:
        """Return the summed activity of one map an image, (B,) -> (B, ...): panel (b).

        Raises:
            ValueError: no layer was watched, not one map an image, or a map that does not exist.
        """
        return _one_an_image("map", self._watched(self.activity), maps)

    @property
    def strongest(self) -> Tensor:
        """The map with the largest sum in each whole image, (B,)."""
        return self._watched(self.clean_activity).argmax(1)

    def _watched(self, activity: Tensor | None) -> Tensor:
        if activity is None:
            raise ValueError("no layer was watched; give occlude(..., layer=...) one")
        return activity


def _one_an_image(what: str, values: Tensor, indices: Tensor) -> Tensor:
    """Select one entry of the last axis for each image. (B, ..., K), (B,) -> (B, ...)."""
    indices = torch.as_tensor(indices).cpu()
    if indices.shape != values.shape[:1]:
        raise ValueError(
            f"{what} indices {tuple(indices.shape)}: wanted one for each of {len(values)} images"
        )
    require_index(what, indices, values.shape[-1])
    return values[torch.arange(len(values)), ..., indices]


def filling(
    kind: str, images: Tensor, patch: int, *, grey: Tensor | float = 0.0,
    generator: torch.Generator | None = None,
) -> Tensor:  # fmt: skip
    """Return the picture that shows through the square, (B, 3, H, W).

    Args:
        kind: `grey`, the constant `grey`; `mean`, zero, which is the training mean in inputs with
            the mean subtracted; `blur`, the image blurred beyond recognition (sigma a quarter of
            the square); `noise`, Gaussian noise with the mean and standard deviation of each
            image's channels.
        images: (B, 3, H, W), as the classifier wants them.
        patch: side of the square in pixels.
        grey: mid-grey as the classifier sees it, a number or of a shape that fits the images.
        generator: of the noise, on the CPU.
    Raises:
        ValueError: unknown kind.
    """
    if kind == "grey":
        return torch.as_tensor(grey, dtype=images.dtype, device=images.device).expand_as(images)
    if kind == "mean":
        return torch.zeros_like(images)
    if kind == "blur":
        from torchvision.transforms.functional import gaussian_blur  # loads all of torchvision

        sigma = max(patch / 4, 1.0)
        # the kernel may not be wider than what reflection can pad
        width = min(2 * int(2 * sigma) + 1, 2 * (min(images.shape[-2:]) - 1) + 1)
        return gaussian_blur(images, [width, width], [sigma, sigma])
    if kind == "noise":
        noise = torch.randn(images.shape, generator=generator).to(images)
        return images.mean((2, 3), keepdim=True) + noise * images.std((2, 3), keepdim=True)
    raise ValueError(f"fill {kind!r}: choose among {', '.join(FILLS)}")


def occlude(
    model: Callable[[Tensor], Any],
    images: Tensor,
    *,
    patch: int | tuple[int, int] | None = None,
    stride: float | tuple[float, float] | None = None,
    border: str = "flush",
    masks: Iterable[Tensor] | None = None,
    fill: Tensor | float = 0.0,
    scores: str | Callable[[Any], Tensor] = "softmax",
    layer: str | None = None,
    call: int | None = None,
    channels: int | None = None,
    precision: str = "fp32",
    batch: int | None = None,
    progress: bool = True,
) -> Occlusion:
    """Cover each image with a window at every position and record the classifier's scores.

    Args:
        model: a module or a function from images to class scores, (B, C, H, W) -> (B, classes), or
            to a container with `logits` or one tensor. A module runs in evaluation mode, uncompiled
            and with its weights in another layout, and is left as it was; a function is called
            as it is.
        images: (B, C, H, W), as the model wants them, on its device.
        patch: side of the square in pixels, or height and width of a rectangle.
        stride: pixels between neighbouring positions, or one down and one across.
        border: `flush` or `overhang`, see `corners`.
        masks: instead of `patch` and `stride`, what to cover: (H, W) each, or (B, H, W) with one an
            image; bool, or 0 (visible) to 1 (covered). Read one after another.
        fill: what the window shows: a number, or a picture that fits the images (see `filling`).
        scores: `softmax`, `sigmoid` or `none` over the model's output; or a function from what the
            model returns to (B, classes).
        layer: name of a submodule to watch, as in `model.named_modules()`. What is summed is its
            positive part, so that a convolution and the ReLU behind it give the same.
        call: which call of that submodule, counted from 0, if one forward pass makes several.
        channels: axis of the maps in the layer's output, if it is not (B, C, h, w): -1 for tokens
            and channels-last layers, 1 for fully connected ones.
        precision: `fp32` or `bf16`.
        batch: covered images in memory at once, by default 8 on a CPU and up to 512 on a GPU; fewer
            where a GPU's memory does not suffice. Nothing else grows with the positions but the
            result.
        progress: show a bar.
    Returns:
        `Occlusion`, on the CPU.
    Warns:
        UserWarning: the scores of one image differ between two runs, or look like probabilities.
    Raises:
        ValueError: images, fill or scores that are not finite; a window, mask or fill that does not
            fit; an output that is not one score a class, or of which `scores` makes no sense; a
            layer that is unknown or ambiguous; unknown options.
    """
    if images.ndim != 4 or not len(images):
        raise ValueError(f"images {tuple(images.shape)}: wanted (B, C, H, W), at least one")
    if batch is not None and batch < 1:
        raise ValueError(f"batch {batch}: must be at least 1")
    if (number := _first_not_finite(images)) is not None:
        raise ValueError(f"image {number}: holds NaN or infinite pixels; mend it or leave it out")
    fill = _fitted(fill, images)
    count, (height, width) = len(images), images.shape[-2:]
    batch = batch or (GPU_BATCH if images.is_cuda else CPU_BATCH)
    at_once = max(1, batch // count)  # positions
    rows = columns = window = positions = None
    if masks is None:
        if patch is None or stride is None:
            raise ValueError("needs a patch and a stride, or masks")
        window, steps = _pair("patch", patch), _pair("stride", stride)
        rows = corners(height, window[0], steps[0], border)
        columns = corners(width, window[1], steps[1], border)
        positions = len(rows) * len(columns)
        groups = _window_masks(rows, columns, window, images, at_once)
    elif patch is not None or stride is not None:
        raise ValueError("masks cover by themselves: leave out patch and stride")
    else:
        groups = _stacked_masks(masks, images, at_once)

    def batches() -> Iterator[Tensor]:
        yield from images.split(batch)
        for group in groups:
            for first in range(0, count, batch):
                part = slice(first, first + batch)
                yield _cover(images[part], fill[part], group[:, part])

    results, done = [], 0
    total = None if positions is None else count * (1 + positions)
    model, layer = uncompiled(model, layer)
    with (
        torch.no_grad(),
        evaluating(model),
        devices.autocast(images.device, precision),
        contextlib.ExitStack() as stack,
        tqdm(total=total, desc="covering", unit="image", disable=not progress) as bar,
    ):
        call, calls = which_call(model, images[:1], layer, call), None
        if layer is not None:
            # summed at once: a ReLU behind may work in place, and whole maps would fill the memory
            sums = partial(_sums_of_maps, layer=layer, channels=channels, size=images.shape[-2:])
            calls = stack.enter_context(watching(model, layer, sums))
        runner = _Runner(model, scores, precision, calls, call, stack)
        runner.settle(images[:1], fill[:1])
        final = SCORES["none" if callable(scores) else scores]
        for values, *sums in runner.run(batches()):
            values = final(values)
            if (number := _first_not_finite(values)) is not None:
                number = (done + number) % count
                raise ValueError(f"image {number}: the model returns NaN or infinite scores")
            results.append((values, *sums))
            done += len(values)
            bar.update(len(values))
    if done == count:
        raise ValueError("no masks: needs at least one")
    shape = (-1,) if masks is not None else (len(rows), len(columns))

    def split(values: Tensor) -> tuple[Tensor, Tensor]:
        """Part the clean images from the covered ones, which come position by position."""
        by_position = values[count:].view(-1, count, values.shape[1])
        return by_position.transpose(0, 1).reshape(count, *shape, values.shape[1]), values[:count]

    values, *activity = (split(torch.cat(parts)) for parts in zip(*results, strict=True))
    watched = activity[0] if activity else (None, None)
    return Occlusion(*values, *watched, rows, columns, window)


def _first_not_finite(values: Tensor) -> int | None:
    """Return the first row with NaN or infinite values. (B, ...) -> its number."""
    wrong = (~values.isfinite()).flatten(1).any(1).nonzero()
    return int(wrong[0]) if len(wrong) else None


def _pair(what: str, value: float | tuple[float, float]) -> tuple[float, float]:
    pair = tuple(value) if isinstance(value, Sequence) else (value, value)
    if len(pair) != 2:
        raise ValueError(f"{what} {value}: wanted one number, or two: down and across")
    return pair


def _fitted(fill: Tensor | float, images: Tensor) -> Tensor:
    """Return the fill in the shape of the images."""
    original = torch.as_tensor(fill, device=images.device)
    if not original.isfinite().all():
        raise ValueError("fill: holds NaN or infinite values")
    fill = original.to(images.dtype)
    if not images.is_floating_point() and not fill.equal(original):
        raise ValueError(f"fill: the images are {images.dtype}, which cannot hold its values")
    try:
        return fill.expand_as(images)
    except RuntimeError as error:
        raise ValueError(
            f"fill {tuple(fill.shape)} does not fit images {tuple(images.shape)}"
        ) from error


def _window_masks(
    rows: Tensor, columns: Tensor, window: tuple[int, int], images: Tensor, at_once: int
) -> Iterator[Tensor]:
    """Yield the pixels under successive positions of the window, (M, B, H, W) bool."""
    inside = []  # (R, H) and (Q, W)
    for firsts, length, size in zip((rows, columns), window, images.shape[-2:], strict=True):
        firsts = firsts.to(images.device)[:, None]
        pixels = torch.arange(size, device=images.device)
        inside.append((pixels >= firsts) & (pixels < firsts + length))
    places = torch.cartesian_prod(torch.arange(len(rows)), torch.arange(len(columns)))
    for part in places.to(images.device).split(at_once):
        down, across = inside[0][part[:, 0]], inside[1][part[:, 1]]
        under = down[:, :, None] & across[:, None, :]
        yield under[:, None].expand(-1, len(images), -1, -1)


def _stacked_masks(masks: Iterable[Tensor], images: Tensor, at_once: int) -> Iterator[Tensor]:
    """Yield successive masks, (M, B, H, W), after a check of each."""
    count, size = len(images), images.shape[-2:]
    numbered = iter(enumerate(masks))
    while group := list(itertools.islice(numbered, at_once)):
        fitted = []
        for number, mask in group:
            mask = torch.as_tensor(mask, device=images.device)
            if tuple(mask.shape) not in {tuple(size), (1, *size), (count, *size)}:
                raise ValueError(
                    f"mask {number}: {tuple(mask.shape)}, wanted {tuple(size)} or {(count, *size)}"
                )
            if mask.dtype != torch.bool:
                mask = mask.to(torch.promote_types(images.dtype, torch.float32))
                if not ((mask >= 0) & (mask <= 1)).all():
                    raise ValueError(f"mask {number}: holds values outside 0 to 1")
            fitted.append(mask.expand(count, *size))
        yield torch.stack(fitted)


def _cover(images: Tensor, fill: Tensor, masks: Tensor) -> Tensor:
    """Cover every image with every mask. (M, B, H, W) -> (M * B, C, H, W)."""
    masks = masks[:, :, None]
    if masks.dtype == torch.bool:
        return torch.where(masks, fill, images).flatten(0, 1)
    if not images.is_floating_point():
        raise ValueError(f"soft masks need images of floating point, these are {images.dtype}")
    return torch.lerp(images, fill, masks.to(images.dtype)).flatten(0, 1)


# --- running the model ---------------------------------------------------------------------------


def _sums_of_maps(
    output: object, layer: str, channels: int | None, size: tuple[int, int]
) -> Tensor:
    """Rectify a layer's output and sum it over every axis but batch and channels. -> (B, C)."""
    output = tensor_of(output, f"layer {layer!r}")
    if channels is None:
        if output.ndim != 4 or _may_be_channels_last(output, size):
            raise ValueError(
                f"layer {layer!r} returns {tuple(output.shape)}, which need not be maps "
                "(B, C, h, w): give channels= the axis of its maps, 1 if it is, -1 if they are last"
            )
        channels = 1
    if not -output.ndim <= channels < output.ndim or channels % output.ndim == 0:
        raise ValueError(f"channels {channels}: layer {layer!r} returns {tuple(output.shape)}")
    axes = [axis for axis in range(1, output.ndim) if axis != channels % output.ndim]
    positive = output.clamp_min(0)
    return positive.sum(axes, dtype=torch.float32) if axes else positive.float()


def _may_be_channels_last(output: Tensor, size: tuple[int, int]) -> bool:
    """Tell whether axes 1 and 2, not 2 and 3, have the proportions of the image."""
    _, a, b, c = output.shape
    # in the channels-last layout a convolution's output has its channels side by side in memory
    maps_first = in_proportion(b, c, size) and output.stride(1) == 1
    return in_proportion(a, b, size) and not maps_first


class _Runner:
    """Runs a model in batches: layers before the flattening in small ones, the others in large.

    A convolution on a CPU is fastest on few images; a fully connected layer reads all its weights
    for each batch, and wants many.
    """

    def __init__(
        self, model: Callable, scores: str | Callable, precision: str,
        calls: list[Tensor] | None, call: int, stack: contextlib.ExitStack,
    ):  # fmt: skip
        if not callable(scores) and scores not in SCORES:
            raise ValueError(f"scores {scores!r}: choose among {', '.join(SCORES)} or a function")
        self.model, self.scores, self.precision = model, scores, precision
        self.calls, self.call = calls, call  # of a watched layer; which of them is meant
        self.layout, self.stack = torch.channels_last, stack
        self.trunk, self.head, self.rows = self._whole, nn.Identity(), 1

    def _suited(self, module: nn.Module, x: Tensor) -> Tensor:
        """Return a tensor of the model in the arithmetic's layout and precision.

        Autocast alone would convert the weights again for every batch.
        """
        if x.ndim == 4:
            x = x.contiguous(memory_format=self.layout)
        # not where the weight is computed from others
        converts = isinstance(module, nn.Conv2d | nn.Linear) and "weight" in module._parameters
        return x.bfloat16() if self.precision == "bf16" and converts else x

    def _read(self, output: object, count: int) -> Tensor:
        """Return the class scores of `count` images before softmax or sigmoid, (B, classes)."""
        return _class_scores(self.scores(output) if callable(self.scores) else output, count)

    def _copied(self, x: Tensor) -> Tensor:
        # a model may begin with an operation in place
        return x.clone(memory_format=self.layout)

    def _whole(self, x: Tensor) -> Tensor:
        return self._read(self.model(self._copied(x)), len(x))

    def _step(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return what the trunk gives and, of a watched layer, the sums (B, C)."""
        if self.calls is None:
            return (self.trunk(x),)
        self.calls.clear()
        features, sums = self.trunk(x), self.calls[self.call]
        if len(sums) != len(x):  # such as one row a window of attention
            raise ValueError(f"the layer returns {len(sums)} rows for {len(x)} images")
        return features, sums

    def run(self, batches: Iterable[Tensor]) -> Iterator[tuple[Tensor, ...]]:
        """Yield scores (B, classes) and, of a watched layer's call, sums (B, C), on the CPU."""
        for features, *sums in _joined(devices.with_oom_backoff(self._step, batches), self.rows):
            values = torch.cat(list(devices.with_oom_backoff(self.head, [features])))
            yield values.float().cpu(), *(s.cpu() for s in sums)

    def _all_scores(self, batches: Iterable[Tensor]) -> Tensor:
        return torch.cat([values for values, *_ in self.run(batches)])

    def settle(self, image: Tensor, fill: Tensor) -> None:
        """Try layout, parts and repeatability on an image and one covered by half, and the pair."""
        # a model may begin with what changes the fill alone, such as a clamp
        half = torch.arange(image.shape[-1], device=image.device) < image.shape[-1] // 2
        pair = torch.cat([image, torch.where(half, fill, image)])
        try:
            expected, values = self._trial(pair)
        except RuntimeError:  # such as x.view(len(x), -1), which wants the channels first
            self.layout = torch.contiguous_format
            expected, values = self._trial(pair)
        if not _agree(values, expected, self.precision):
            warnings.warn(
                "the scores of an image differ between two runs: they depend on chance or on the "
                "other images of a batch; is the network in evaluation mode?",
                stacklevel=3,
            )
        if not callable(self.scores):
            _check_meaning(self.scores, values)

    def _trial(self, pair: Tensor) -> tuple[Tensor, Tensor]:
        """Return the scores of each image alone by the whole model, and of both as settled."""
        self.stack.enter_context(replacing_tensors(self.model, self._suited))
        expected = self._all_scores(pair.split(1))
        if parts := _parts(self.model):
            before, behind = parts
            self.trunk = lambda x: before(self._copied(x))
            self.head = lambda features: self._read(behind(features), len(features))
            # The parts may be joined in another way, which shows as a failure or as other scores;
            # a watched call in the head shows as an IndexError.
            with contextlib.suppress(RuntimeError, TypeError, ValueError, IndexError):
                values = self._all_scores([pair])
                if _agree(values, expected, self.precision):
                    self.rows = FULL_BATCH
                    return expected, values
            self.trunk, self.head = self._whole, nn.Identity()
        return expected, self._all_scores([pair])


def _joined(parts: Iterable[tuple[Tensor, ...]], rows: int) -> Iterator[tuple[Tensor, ...]]:
    """Join successive batches to `rows` rows or more, the last to what is left."""
    waiting: list[tuple[Tensor, ...]] = []
    for part in parts:
        waiting.append(part)
        if sum(len(first) for first, *_ in waiting) >= rows:
            yield tuple(map(torch.cat, zip(*waiting, strict=True)))
            waiting = []
    if waiting:
        yield tuple(map(torch.cat, zip(*waiting, strict=True)))


def _parts(model: Callable) -> tuple[Callable, Callable] | None:
    """Return the layers up to the flattening and those behind it, where their names tell.

    For networks of this package, and for torchvision's that have `features`, `avgpool` and
    `classifier`.
    """
    if isinstance(model, Network):
        last = model.architecture.convs[-1]
        *hidden, classes = model.fulls.values()

        def before(x: Tensor) -> Tensor:
            return model.pool_and_norm(last, model.features(x, [last.name])[last.name]).flatten(1)

        def behind(x: Tensor) -> Tensor:
            for full in hidden:
                x = F.relu(full(x), inplace=True)
            return classes(x)

        return before, behind
    parts = [getattr(model, name, None) for name in ("features", "avgpool", "classifier")]
    if not all(isinstance(part, nn.Module) for part in parts):
        return None
    features, pool, classifier = parts
    return lambda x: pool(features(x)).flatten(1), classifier


def _agree(values: Tensor, expected: Tensor, precision: str) -> bool:
    """Tell whether the scores of each image differ from expected ones by no more than rounding."""
    if values.shape != expected.shape:
        return False
    scale = expected.abs().nan_to_num(0, posinf=0).amax(1, keepdim=True).clamp_min(1e-30)
    tolerance = {"rtol": 0, "atol": TOLERANCE[precision], "equal_nan": True}
    return torch.allclose(values / scale, expected / scale, **tolerance)


def _class_scores(output: object, count: int) -> Tensor:
    """Return the one tensor (B, classes) in what a model returns for `count` images."""
    output = tensor_of(output, "the output")
    values = output[:, None] if output.ndim == 1 else output
    if values.ndim != 2 or len(values) != count:
        raise ValueError(
            f"the model returns {tuple(output.shape)} for {count} images: wanted one score a "
            "class, (B, classes); give scores= a function that makes it so"
        )
    if values.is_complex():
        raise ValueError("the model returns complex scores: give scores= a function to real ones")
    return values


def _check_meaning(scores: str, values: Tensor) -> None:
    """Refuse scores for which softmax or sigmoid cannot be meant. values: (B, classes)."""
    if scores == "softmax" and values.shape[1] == 1:
        raise ValueError(
            "the model returns one score an image, of which softmax makes 1: "
            "give scores='sigmoid' or 'none'"
        )
    if scores == "none" or not (values.min() >= 0 and values.max() <= 1):  # nor NaN
        return
    if values.shape[1] > 1 and (values.sum(1) - 1).abs().max() < 1e-2:
        raise ValueError(
            "the model returns probabilities that sum to 1 over classes, of which a further "
            f"{scores} makes no sense: give scores='none'"
        )
    warnings.warn(
        "all scores lie between 0 and 1: if they are probabilities, give scores='none', "
        f"not {scores!r}",
        stacklevel=4,
    )
