"""The deconvnet for any torch model, and its two relatives, as rules for the backward pass of the ReLU.

| rule | what a ReLU passes back (g: signal from above, a: its input) |
| --- | --- |
| `gradient` | g where a > 0 |
| `deconvnet` | g where g > 0 (Zeiler & Fergus 2014) |
| `guided` | g where both (Springenberg et al. 2015) |

While the mode is on, every ReLU (module, function, method, in place) follows the rule, and response norm passes the
signal back unchanged, as the paper's section 2.1 asks. Max-pool's own gradient already is the unpooling with summed
switches, and a convolution's the filtering with transposed weights without bias.
"""

import contextlib
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from zfrepro.deconvnet import Units, validate_finite
from zfrepro.layers import contrast_norm

RULES = ("gradient", "deconvnet", "guided")

_RELUS = {F.relu, torch.relu, Tensor.relu}
_RELUS_IN_PLACE = {torch.relu_, Tensor.relu_}
_CLAMPS = {torch.clamp, Tensor.clamp, torch.clamp_min, Tensor.clamp_min}
_CLAMPS_IN_PLACE = {torch.clamp_, Tensor.clamp_, torch.clamp_min_, Tensor.clamp_min_}
_NORMS = {F.local_response_norm, contrast_norm}


class _Relu(torch.autograd.Function):
    """max(x, 0) with one of the backward rules."""

    @staticmethod
    def forward(ctx, x, rule, in_place):
        ctx.rule = rule
        if in_place:
            ctx.mark_dirty(x)
        y = x.clamp_min_(0) if in_place else x.clamp_min(0)
        if rule != "deconvnet":
            ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, grad):
        signal = grad if ctx.rule == "gradient" else grad.clamp_min(0)
        if ctx.rule != "deconvnet":
            (y,) = ctx.saved_tensors
            signal = signal * (y > 0)
        return signal, None, None


class _PassBack(torch.autograd.Function):
    """The value of a function of x with the identity as its backward pass."""

    @staticmethod
    def forward(ctx, x, value):
        return value.clone()

    @staticmethod
    def backward(ctx, grad):
        return grad, None


def _clamps_at_zero(args: tuple, kwargs: dict) -> bool:
    """Whether the arguments of a clamp make it a ReLU: lower bound 0 and no upper bound."""
    bounds = list(args[1:]) + [kwargs.get("min"), kwargs.get("max")]
    given = [b for b in bounds if b is not None]
    return len(given) == 1 and not isinstance(given[0], Tensor) and given[0] == 0 and kwargs.get("max") is None


class BackwardRule(TorchFunctionMode):
    """Context in which ReLUs follow `rule` and response norms pass signals back unchanged. Leaves nothing behind.

    Args:
        rule: one of `RULES`.
        skip_norm: False keeps the true gradient of response norm.
    """

    def __init__(self, rule: str = "deconvnet", *, skip_norm: bool = True):
        if rule not in RULES:
            raise ValueError(f"backward rule {rule!r}: choose among {', '.join(RULES)}")
        super().__init__()
        self.rule, self.skip_norm = rule, skip_norm
        self.relus = 0  # seen so far

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        x = args[0] if args else kwargs.get("input")
        if func in _RELUS or func in _RELUS_IN_PLACE:
            in_place = func in _RELUS_IN_PLACE or kwargs.get("inplace", False) or args[1:2] == (True,)
            return self._relu(x, in_place)
        if (func in _CLAMPS or func in _CLAMPS_IN_PLACE) and _clamps_at_zero(args, kwargs):
            return self._relu(x, func in _CLAMPS_IN_PLACE)
        if func in _NORMS and self.skip_norm:
            with torch.no_grad():
                value = func(*args, **kwargs)
            return _PassBack.apply(x, value)
        return func(*args, **kwargs)

    def _relu(self, x: Tensor, in_place: bool) -> Tensor:
        self.relus += 1
        return _Relu.apply(x, self.rule, in_place)


class _Reached(Exception):  # noqa: N818, it is no error
    """Carries the probed module's output out of the forward pass, so that nothing above it runs."""

    def __init__(self, output: Tensor):
        self.output = output


@contextlib.contextmanager
def _evaluating(model: Callable) -> Iterator[None]:
    """Every submodule in evaluation mode, each put back as it was."""
    modules = [m for m in model.modules() if m.training] if isinstance(model, nn.Module) else []
    for m in modules:
        m.training = False
    try:
        yield
    finally:
        for m in modules:
            m.training = True


def activations_of(model: Callable[[Tensor], Tensor], images: Tensor, layer: str | None) -> Tensor:
    """Output of the named submodule at its first call, or of the whole model for `None`.

    Raises:
        ValueError: no such submodule, or it was not called.
    """
    if layer is None:
        return model(images)
    modules = dict(model.named_modules()) if isinstance(model, nn.Module) else {}
    if layer not in modules:
        raise ValueError(
            f"no submodule {layer!r} in {type(model).__name__}; there are: {', '.join(n for n in modules if n)}"
        )

    def stop(module, inputs, output):
        raise _Reached(output)

    handle = modules[layer].register_forward_hook(stop)
    try:
        model(images)
    except _Reached as reached:
        return reached.output
    finally:
        handle.remove()
    raise ValueError(f"submodule {layer!r} of {type(model).__name__} was not called in the forward pass")


def _require_relu(model: Callable, images: Tensor, layer: str | None, seen: int) -> None:
    """Refuse a model in which the rule changes nothing because it has no ReLU, not even above the probed layer."""
    if seen == 0 and layer is not None:
        with torch.no_grad(), BackwardRule() as above:
            model(images[:1])
        seen = above.relus
    if seen == 0:
        raise ValueError(f"{type(model).__name__} uses no ReLU: the deconvnet is defined for rectified networks only")


def project(
    model: Callable[[Tensor], Tensor], images: Tensor, units: Units, layer: str | None = None, *,
    rule: str = "deconvnet", skip_norm: bool = True, seed: str = "activation",
) -> Tensor:  # fmt: skip
    """Project one unit of each image to the pixels of any torch model.

    Args:
        model: a module, or any function from images to feature maps (B, C, H, W) or scores (B, C).
        images: (B, 3, H, W) as the model wants them.
        units: one a image.
        layer: name of the probed submodule, as in `model.named_modules()`; None probes the model's output.
        rule: `deconvnet`, or `gradient` or `guided` for comparison.
        skip_norm: pass through response norm unchanged (the paper), or with its gradient.
        seed: `activation` (the paper) or `one` (Captum), which differ by a factor.
    Returns:
        (B, 3, H, W).
    Raises:
        ValueError: unknown layer or rule, a model without any ReLU, units that do not fit or see NaN.
    """
    if seed not in ("activation", "one"):
        raise ValueError(f"seed {seed!r}: choose activation or one")
    if len(units) != len(images):
        raise ValueError(f"{len(units)} units for {len(images)} images; give one a image")
    with _evaluating(model), torch.inference_mode(False), torch.enable_grad():
        images = images.detach().clone().requires_grad_()
        with BackwardRule(rule, skip_norm=skip_norm) as mode:
            found = activations_of(model, images, layer)
        if rule != "gradient":
            _require_relu(model, images, layer, mode.relus)
        if found.ndim != (2 if units.rows is None else 4):
            needed = "a row and a column" if found.ndim == 4 else "a map only"
            raise ValueError(f"layer {layer!r} gives {tuple(found.shape)}: units there need {needed}")
        units.validate(layer or "output", len(images), tuple(found.shape[1:]))
        batch = torch.arange(len(units), device=found.device)
        where = (batch, units.maps) if units.rows is None else (batch, units.maps, units.rows, units.columns)
        value = found[where]
        validate_finite(layer or "output", value.detach())
        top = torch.ones_like(value) if seed == "one" else value.detach()
        return torch.autograd.grad(value, images, top)[0]
