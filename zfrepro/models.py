"""Run any torch model up to a layer and read what the layer gives.

`with evaluating(model):` comes first. A layer is named as in `model.named_modules()`; None is the
model's own output. A model may also be a plain function, which has no layers to name.
"""

import contextlib
import hashlib
import itertools
import math
import sys
import warnings
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.utils._pytree import tree_leaves

from zfrepro.layers import Fields


@contextlib.contextmanager
def evaluating(model: Callable) -> Iterator[None]:
    """Put every submodule into evaluation mode, and each back as it was at the end.

    Meanwhile compiled code runs uncompiled, as it would run no hooks.
    """
    modules = model.modules() if isinstance(model, nn.Module) else ()
    training = [module for module in modules if getattr(module, "training", False)]
    eager = contextlib.nullcontext()
    if "torch._dynamo" in sys.modules:
        eager = torch.compiler.set_stance("force_eager")
    with eager:
        for module in training:
            module.training = False
        try:
            yield
        finally:
            for module in training:
                module.training = True


@contextlib.contextmanager
def replacing_tensors(
    model: Callable, replacement: Callable[[nn.Module, Tensor], Tensor]
) -> Iterator[None]:
    """Let a model compute with other parameters and buffers, and give its own back at the end.

    Args:
        replacement: returns what to use instead of a tensor of a module. Scripted modules and
            parameters without a shape yet are not asked for.
    """
    modules = model.modules() if isinstance(model, nn.Module) else ()
    originals: list[tuple[dict, dict]] = []
    try:
        for module in modules:
            if isinstance(module, torch.jit.ScriptModule):
                continue
            for tensors in (module._parameters, module._buffers):
                originals.append((tensors, dict(tensors)))
                for name, x in tensors.items():
                    if x is not None and not is_lazy(x):
                        tensors[name] = replacement(module, x)
        yield
    finally:
        for tensors, before in originals:
            tensors.update(before)


def fingerprint(*things: object) -> str:
    """Return twelve hex digits over the weights of modules, tensors and whatever else counts."""
    digest = hashlib.sha256()
    for thing in things:
        for value in thing.state_dict().values() if isinstance(thing, nn.Module) else [thing]:
            if isinstance(value, Tensor):
                value = value.detach().cpu().contiguous().flatten().view(torch.uint8)
                value = value.numpy().tobytes()
            digest.update(value if isinstance(value, bytes) else repr(value).encode())
    return digest.hexdigest()[:12]


class Layered(nn.Module):
    """A network whose layers have names: ZFNet's and its kin, or what `imagenet` adapts."""

    image_size: int

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the layers, from pixels to classes; the last are the class scores."""
        raise NotImplementedError

    def features(self, images: Tensor, layers: Iterable[str]) -> dict[str, Tensor]:
        """Return the named layers' outputs after their ReLU, (B, C, H, W) or (B, units)."""
        raise NotImplementedError

    def require_layers(self, layers: Iterable[str]) -> None:
        """Refuse no layers at all, and layers that the network lacks."""
        names = set(layers)
        if not names or not names <= set(self.layers):
            raise ValueError(f"layers {sorted(names)}: choose among {', '.join(self.layers)}")

    def output(self, layer: str) -> Callable[[Tensor], Tensor]:
        """Return the function from images to one layer's output."""
        return lambda images: self.features(images, [layer])[layer]

    def module(self, layer: str) -> str:
        """Return the name of the submodule that computes a layer, as in `named_modules()`."""
        raise NotImplementedError

    def first(self) -> nn.Conv2d:
        """Return the first convolution."""
        return next(m for m in self.modules() if isinstance(m, nn.Conv2d))

    def fields(self, layer: str) -> Fields:
        """Return the receptive fields of a layer's units."""
        raise NotImplementedError


def in_proportion(high: int, wide: int, size: tuple[int, int]) -> bool:
    """Whether maps of so many units have the proportions of an image of that height and width."""
    rounding = 0 if size[0] == size[1] else 1 / high + 1 / wide
    return abs(math.log(high / wide) - math.log(size[0] / size[1])) <= rounding


def device_of(model: Callable) -> torch.device | None:
    """Return where a model's parameters are, or None where it has none."""
    parameters = model.parameters() if isinstance(model, nn.Module) else ()
    return next((p.device for p in parameters), None)


def dtype_of(model: Callable) -> torch.dtype | None:
    """Return the floating type of a model's parameters, or None where it has none."""
    parameters = model.parameters() if isinstance(model, nn.Module) else ()
    return next((p.dtype for p in parameters if p.is_floating_point()), None)


def uncompiled(model: Callable, layer: str | None) -> tuple[Callable, str | None]:
    """Return the module inside a compiled one, and the name that the layer has there."""
    return getattr(model, "_orig_mod", model), layer and layer.removeprefix("_orig_mod.")


def _title(model: Callable) -> str:
    if isinstance(model, nn.Module):
        return type(model).__name__
    return getattr(model, "__name__", "the model")


def submodule(model: Callable, layer: str) -> nn.Module:
    """Return the submodule of that name.

    Raises:
        ValueError: there is none, or it is scripted, where torch runs no hooks.
    """
    modules = {}
    if isinstance(model, nn.Module):
        modules = dict(model.named_modules(remove_duplicate=False))
    if layer not in modules:
        names = ", ".join(name for name in modules if name) or "none"
        raise ValueError(f"no submodule {layer!r} in {_title(model)}; there are: {names}")
    if isinstance(modules[layer], torch.jit.ScriptModule):
        raise ValueError(f"submodule {layer!r} is scripted, which cannot be watched: name another")
    return modules[layer]


@contextlib.contextmanager
def watching(
    model: Callable, layer: str, read: Callable[[object], object]
) -> Iterator[list[object]]:
    """Yield a list to which each call of a submodule appends what `read` makes of its output."""
    calls: list[object] = []

    def append(module: nn.Module, inputs: tuple, output: object) -> None:
        calls.append(read(output))

    handle = submodule(model, layer).register_forward_hook(append)
    try:
        yield calls
    finally:
        handle.remove()


_CALLS: "weakref.WeakKeyDictionary[nn.Module, weakref.WeakKeyDictionary[nn.Module, dict]]"
_CALLS = weakref.WeakKeyDictionary()  # model -> submodule -> kind of image -> calls in a pass


@torch.no_grad()
def calls_of(model: Callable, image: Tensor, layer: str) -> int:
    """Return how often a submodule is called in a forward pass, which is run once to count.

    Args:
        image: (1, C, H, W).
    Raises:
        ValueError: there is no such submodule, or it is not called.
    """
    target = submodule(model, layer)
    counts = _CALLS.setdefault(model, weakref.WeakKeyDictionary()).setdefault(target, {})
    kind = image.shape, image.dtype  # a model may loop more often over larger images
    if kind not in counts:
        with watching(model, layer, lambda output: None) as calls, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                model(image.clone())
            except Exception:  # a model that fails behind the layer can still be run up to it
                if not calls:
                    raise
        counts[kind] = len(calls)
    if counts[kind] == 0:
        raise _not_called(model, layer)
    return counts[kind]


def which_call(model: Callable, image: Tensor, layer: str | None, call: int | None) -> int:
    """Return which call of a submodule is meant, counted from 0.

    Args:
        image: (1, C, H, W).
        call: as the user gave it; None where there is only one.
    Raises:
        ValueError: a submodule that is not called, or called several times where `call` is None;
            a call that does not exist.
    """
    if layer is None:
        if call is not None:
            raise ValueError(f"call={call}: needs the name of a layer")
        return 0
    count = calls_of(model, image, layer)
    chosen = 0 if call is None and count == 1 else call
    if chosen not in range(count):
        raise ValueError(
            f"call={call}: submodule {layer!r} is called {count} times: "
            f"choose one, call=0 to {count - 1}"
        )
    return chosen


def _not_called(model: Callable, layer: str) -> ValueError:
    return ValueError(
        f"submodule {layer!r} of {_title(model)} was not called as a module in the forward pass "
        "(unused, or inside scripted code)"
    )


class _Reached(BaseException):  # noqa: N818, it is no error, and no model may catch it
    """End a forward pass at the last output that is wanted, so that nothing above it runs."""


def outputs_of(
    model: Callable, images: Tensor, calls: Mapping[str | None, int]
) -> dict[str | None, Tensor]:
    """Run a model on a copy of the images, no further than needed, and return layers' outputs.

    Args:
        images: (B, C, H, W). They are copied as a model may begin with an operation in place.
        calls: layer -> which call of it, see `which_call`.
    Raises:
        ValueError: a layer is not called, or gives several tensors.
    """
    outputs: dict[str | None, Tensor] = {}

    def keep(layer: str, passed: Iterator[int], output: object) -> None:
        if next(passed) == calls[layer]:
            outputs[layer] = tensor_of(output, f"layer {layer!r}")
            if len(outputs) == len(calls):
                raise _Reached
            outputs[layer] = outputs[layer].clone()  # the next module may work in place

    with contextlib.ExitStack() as stack:
        for layer in calls.keys() - {None}:
            stack.enter_context(watching(model, layer, partial(keep, layer, itertools.count())))
        with contextlib.suppress(_Reached):
            output = model(images.clone())
            if None in calls:
                outputs[None] = tensor_of(output, "the output")
    if missing := calls.keys() - outputs.keys():
        raise _not_called(model, min(missing))
    return {layer: outputs[layer] for layer in calls}


def output_of(model: Callable, images: Tensor, layer: str | None = None, call: int = 0) -> Tensor:
    """Return the output of one layer, see `outputs_of`."""
    return outputs_of(model, images, {layer: call})[layer]


def tensor_of(output: object, where: str) -> Tensor:
    """Return the one tensor of an output, or the `logits` among several.

    Args:
        output: a tensor, or a mapping, sequence or object with tensors.
        where: what gives it, for the message.
    Raises:
        ValueError: no tensor, or several without `logits`.
    """
    if isinstance(output, Tensor):
        return output
    is_mapping = isinstance(output, Mapping)
    logits = output.get("logits") if is_mapping else getattr(output, "logits", None)
    if isinstance(logits, Tensor):
        return logits
    tensors = [x for x in tree_leaves(output) if isinstance(x, Tensor)]
    if len(tensors) == 1:
        return tensors[0]
    raise ValueError(
        f"{where} is a {type(output).__name__} with {len(tensors)} tensors: needs one, or one "
        "named logits; a function around the model can pick it"
    )
