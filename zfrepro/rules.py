"""The deconvnet for any torch model (section 2.1), and its two relatives, as rules for rectifiers.

| rule | what a rectifier passes down (g: signal from above, a: its input) |
| --- | --- |
| `gradient` | g where a > 0 |
| `deconvnet` | g where g > 0 (Zeiler & Fergus 2014) |
| `guided` | g where both (Springenberg et al. 2015) |

The forward pass runs unchanged. Then every node of the autograd graph between the probed layer
and the pixels is classified: a rectifier gets the rule as a hook on its gradient, a linear
operation and a max-pool keep theirs (`LAYER_RULES`), and anything else is refused by name. The
graph shows what is differentiated, however it was written; what it does not show, such as a gate
without gradient, `_Dependence` looks for.
"""

import contextlib
import math
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.graph import Node, _engine_run_backward
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn.modules import module as global_hooks
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from zfrepro import deconvnet
from zfrepro.deconvnet import Units, validate_finite
from zfrepro.layers import Fields, contrast_norm, require_index
from zfrepro.models import (
    Layered,
    evaluating,
    output_of,
    replacing_tensors,
    uncompiled,
    which_call,
)

RULES = ("gradient", "deconvnet", "guided")


class LayerRule(NamedTuple):
    """What the way down does with one kind of layer."""

    layers: str
    way_down: str
    nodes: frozenset[str] = frozenset()  # names in the autograd graph, without `Backward0`


_RECTIFIERS = LayerRule(
    "ReLU in any spelling; ReLU6 and hardtanh from 0 to b",
    "keeps the positive part of the signal, whatever was positive on the way up; an upper bound "
    "has no part in it (`guided` and `gradient`: no signal where the bound was reached)",
    frozenset("Relu Threshold Clamp ClampMin Hardtanh LeakyRelu Maximum".split()),
)
_PRODUCTS = LayerRule(
    "convolution, linear, product with a parameter or a constant",
    "filters with the transposed weights, without bias",
    frozenset(
        "Convolution ConvolutionOverrideable Linear Addmm Addmv Mm Mv Bmm Baddbmm Mul Div".split()
    ),
)
_BATCH_NORM = LayerRule(
    "batch norm in evaluation mode",
    "multiplies each map by its weight over its running deviation, without shift",
    frozenset("NativeBatchNorm CudnnBatchNorm MiopenBatchNorm".split()),
)
_RESPONSE_NORM = LayerRule(
    "local response norm",
    "passes the signal unchanged (`skip_norm=False`, or the rule `gradient`: its gradient)",
)
_MAX_POOLS = LayerRule(
    "max-pool",
    "puts the signal where the maximum was (switches), summed where windows share it",
    frozenset(
        "MaxPool2DWithIndices MaxPool3DWithIndices AdaptiveMaxPool2D AdaptiveMaxPool3D".split()
    ),
)
_AVERAGES = LayerRule(
    "average pool, mean, sum, upsampling",
    "spreads the signal by the same weights (the transpose)",
    frozenset(
        "AvgPool2D AvgPool3D AdaptiveAvgPool2D AdaptiveAvgPool3D MkldnnAdaptiveAvgPool2D Mean Sum "
        "UpsampleNearest1D UpsampleNearest2D UpsampleNearestExact2D UpsampleBilinear2D "
        "UpsampleBicubic2D UpsampleBilinear2DAa UpsampleBicubic2DAa".split()
    ),
)
_REARRANGEMENTS = LayerRule(
    "sum of branches, concatenation, split, slice, reshape, permutation, padding; dropout and "
    "stochastic depth in evaluation mode",
    "sends to each branch or place its part",
    frozenset(
        "Add Sub Rsub Neg Cat Stack Split SplitWithSizes Unbind Slice Select Narrow Index "
        "IndexSelect View UnsafeView ReshapeAlias Unsqueeze Squeeze Expand Repeat Permute "
        "Transpose T AsStrided Alias Clone ToCopy Copy Roll Flip Unfold Im2Col PixelShuffle "
        "PixelUnshuffle ChannelShuffle NativeChannelShuffle ConstantPadNd ReflectionPad2D "
        "ReplicationPad2D".split()
    ),
)
LAYER_RULES = (
    _RECTIFIERS, _PRODUCTS, _BATCH_NORM, _RESPONSE_NORM, _MAX_POOLS, _AVERAGES, _REARRANGEMENTS,
    LayerRule(
        "everything else: GELU, SiLU, leaky ReLU, sigmoid gates, attention, layer and group norm, "
        "batch statistics, random or custom operations",
        "refused by name",
    ),
)  # fmt: skip
_LINEAR = frozenset().union(
    *(rule.nodes for rule in (_PRODUCTS, _BATCH_NORM, _MAX_POOLS, _AVERAGES, _REARRANGEMENTS))
)


_NO_GRADIENT = "no gradient leads from the layer to the images"
_UNREADABLE = {
    "BackwardHookFunctionBackward": "a full backward hook may change the signal: remove the hook",
    "CopySlices": "what it writes into a part of a tensor cannot be seen",
    "DifferentiableGraphBackward": "scripted code that torch has compiled cannot be seen",
}


class _Skipped(torch.autograd.Function):
    """The value of a function of x, whose signal passes down unchanged."""

    @staticmethod
    def forward(ctx, x, function):
        return function(x)

    @staticmethod
    def backward(ctx, above):
        return above, None


class _Offence(NamedTuple):
    """An operation to which no rule applies."""

    sequence: float  # its place in the forward pass, as the autograd graph counts
    operation: str
    module: str
    why: str


class _Modules:
    """Context that notes which module runs when, as the autograd graph counts its nodes."""

    def __init__(self, model: Callable):
        named = model.named_modules() if isinstance(model, nn.Module) else ()
        self.names = {module: name for name, module in named}
        self._spans: list[list] = []  # module, first node, node after its last
        self._open: list[list] = []

    def __enter__(self):
        enter = global_hooks.register_module_forward_pre_hook(self._enter)
        self._handles = [enter, global_hooks.register_module_forward_hook(self._leave)]
        return self

    def __exit__(self, *raised):
        for handle in self._handles:
            handle.remove()

    def _enter(self, module, inputs):
        self._open.append([module, torch.autograd._get_sequence_nr(), math.inf])
        self._spans.append(self._open[-1])

    def _leave(self, module, inputs, output):
        while self._open and (span := self._open.pop())[0] is not module:
            pass
        span[2] = torch.autograd._get_sequence_nr()

    def at(self, sequence: float) -> str:
        """Name the innermost module that made a node."""
        return self._title([m for m, first, end in self._spans if first <= sequence < end])

    def running(self) -> str:
        """Name the innermost module that runs now."""
        return self._title([m for m, *_ in self._open])

    def _title(self, around: list[nn.Module]) -> str:
        if not around:
            return "the model's own code"
        name, kind = self.names.get(around[-1]), type(around[-1]).__name__
        return f"{name!r} ({kind})" if name else kind


class _Dependence(TorchDispatchMode):
    """Look for uses of the image that the autograd graph does not show.

    Every storage with values made of the image is known. An operation that reads one without a
    gradient (after `detach`, under `no_grad`, from a comparison) is an offence, which its results
    inherit; so is a random operation, or a branch on a value.
    """

    _KEEP_NO_VALUE = frozenset(
        "empty_like zeros_like ones_like full_like new_empty new_zeros new_ones new_full "
        "new_empty_strided".split()
    )
    _READ_A_VALUE = frozenset("_local_scalar_dense is_nonzero equal".split())

    def __init__(self, modules: _Modules):
        super().__init__()
        self.modules = modules
        self.paused = False
        self._known: dict[int, tuple[StorageWeakRef, _Offence | None]] = {}
        self._branch: _Offence | None = None

    def mark(self, x: Tensor, offence: _Offence | None = None) -> None:
        """Note that x is made of the image, and what was wrong in its making."""
        storage = x.untyped_storage()
        # The weak reference keeps the address from being given to another storage.
        self._known[storage._cdata] = (StorageWeakRef(storage), offence)

    def offence_of(self, x: Tensor) -> _Offence | None:
        """Return the first offence in the making of x."""
        _, offence = self._known.get(x.untyped_storage()._cdata, (None, None))
        return min(filter(None, (offence, self._branch)), default=None)

    def leave_torch(self, operation: str) -> None:
        """Note that a value made of the image was read, with which the model can do anything."""
        why = "what the model does with values that it reads cannot be followed"
        self._branch = self._branch or self._offence(operation, why)

    def _offence(self, operation: str, why: str) -> _Offence:
        sequence = torch.autograd._get_sequence_nr()
        return _Offence(sequence, operation, self.modules.running(), why)

    def is_known(self, x: object) -> bool:
        """Whether x is a tensor made of the image."""
        has_storage = isinstance(x, Tensor) and x.layout == torch.strided
        return has_storage and x.untyped_storage()._cdata in self._known

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        name = func._schema.name.removeprefix("aten::").rstrip("_")
        if self.paused or name in self._KEEP_NO_VALUE:
            return result
        inputs = [x for x in tree_leaves((args, kwargs)) if self.is_known(x)]
        why = self._judge(func, name, args, inputs)
        offence = why and self._offence(name, why)
        if name in self._READ_A_VALUE and inputs:
            self.leave_torch(name)
        inherited = [self._known[x.untyped_storage()._cdata][1] for x in inputs]
        offence = min(filter(None, (*inherited, offence)), default=None)
        if inputs or offence:
            for x in tree_leaves(result):
                is_view = self.is_known(x) and not func._schema.is_mutable
                if isinstance(x, Tensor) and x.layout == torch.strided and not is_view:
                    self.mark(x, offence)
        return result

    def _judge(self, func, name: str, args: tuple, inputs: list[Tensor]) -> str | None:
        """Return what is wrong with an operation on tensors made of the image, if anything."""
        if torch.Tag.nondeterministic_seeded in func.tags:
            return "it is random"
        if not inputs:
            return None
        if name == "threshold" and args[2] != 0:
            return f"it puts {args[2]} where a rectifier has 0"
        if "batch_norm" in name and len(inputs) > 1:
            return "its weights or statistics are made of the image"
        if not all(x.requires_grad for x in inputs):
            return "it uses a tensor made of the image without gradient"
        if func._schema.is_mutable and not torch.is_grad_enabled():
            return "it changes values without gradient"
        return None


class _Functions(TorchFunctionMode):
    """Give one node with a known backward pass to functions that lack one.

    These are response norm, padding and ReLU in place on a view.
    """

    _RESPONSE_NORMS = (F.local_response_norm, contrast_norm)
    _IN_PLACE = (torch.relu_, Tensor.relu_)
    _LEAVE_TORCH = (Tensor.numpy, Tensor.__array__, Tensor.tolist, Tensor.__dlpack__)

    def __init__(self, dependence: _Dependence, *, skip_norm: bool):
        super().__init__()
        self.dependence, self.skip_norm = dependence, skip_norm
        self.children: dict[Node, list[Node]] = {}  # of the nodes whose inside is vouched for

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        x = args[0] if args else kwargs.get("input")
        if func in self._LEAVE_TORCH and self.dependence.is_known(x):
            self.dependence.leave_torch(func.__name__)
        if not isinstance(x, Tensor) or not x.requires_grad:
            return func(*args, **kwargs)
        if func in self._RESPONSE_NORMS:
            return self._one_node(func, x, args, kwargs, skipped=self.skip_norm)
        if func is F.pad:  # linear in every mode; `circular` writes into parts of a tensor
            return self._one_node(func, x, args, kwargs)
        in_place = func in self._IN_PLACE or (
            func is F.relu and (kwargs.get("inplace") or args[1:2] == (True,))
        )
        if in_place and x._is_view():
            x.copy_(torch.relu(x))
            written = x._base.grad_fn
            self.children[written] = [node for node, _ in written.next_functions if node]
            return x
        return func(*args, **kwargs)

    def _one_node(
        self, func: Callable, x: Tensor, args: tuple, kwargs: dict, *, skipped: bool = False
    ) -> Tensor:
        """Call a function of x, perhaps one that signals skip."""
        self.dependence.paused = True
        try:
            if skipped:
                y = _Skipped.apply(x, lambda _: func(*args, **kwargs))
            else:
                y = func(*args, **kwargs)
        finally:
            self.dependence.paused = False
        self.dependence.mark(y, self.dependence.offence_of(x))
        self.children[y.grad_fn] = [x.grad_fn] if x.grad_fn else []
        return y


@contextlib.contextmanager
def _differentiable(model: Callable) -> Iterator[None]:
    """Put a model into evaluation mode, with tensors that autograd can save and plain nodes."""

    def without_inference(module: nn.Module, x: Tensor) -> Tensor:
        return x.clone() if x.is_inference() else x

    with (
        evaluating(model),
        torch.inference_mode(False),
        torch.jit.optimized_execution(False),  # else scripted code fuses its nodes
        replacing_tensors(model, without_inference),
    ):
        yield


def activations_of(
    model: Callable[[Tensor], Tensor], images: Tensor, layer: str | None = None, *,
    call: int | None = None,
) -> Tensor:  # fmt: skip
    """Return the activations that `project` sees: of the model in evaluation mode, without graph.

    Args:
        model, images, layer, call: as in `project`.
    Returns:
        The output of the layer, (B, C, H, W) or (B, C) for convolutional networks.
    Raises:
        ValueError: no such submodule, not called or called more than once, or no single tensor.
    """
    _require_batch(images)
    model, layer = uncompiled(model, layer)
    with _differentiable(model), torch.no_grad():
        return output_of(model, images, layer, which_call(model, images[:1], layer, call))


def _require_batch(images: Tensor) -> None:
    if images.ndim == 3 or not len(images):
        raise ValueError(
            f"images {tuple(images.shape)}: needs (B, C, H, W); images[None] makes a batch of one"
        )


def _path(top: Node, leaf: Node, children: Callable[[Node], list[Node]]) -> set[Node]:
    """Return all nodes between `top` and `leaf`, both included; empty where none leads there."""
    parents: dict[Node, list[Node]] = {top: []}
    stack = [top]
    while stack:
        node = stack.pop()
        for child in children(node):
            if child not in parents:
                parents[child] = []
                stack.append(child)
            parents[child].append(node)
    nodes: set[Node] = set()
    stack = [leaf] if leaf in parents else []
    while stack:
        node = stack.pop()
        if node not in nodes:
            nodes.add(node)
            stack.extend(parents[node])
    return nodes


def _kind(node: Node) -> str:
    """Name a node of torch's own as its documentation does; others keep their full name."""
    match = re.fullmatch(r"(?:torch::autograd::)?(\w+?)Backward(?:\d+|s)", node.name())
    return match[1] if match else node.name().rsplit("::", 1)[-1]


def _is_zero(bound: Tensor | float | None) -> bool:
    return bound is not None and not torch.as_tensor(bound).any()


def _is_rectifier(node: Node, kind: str, below: list[int]) -> bool:
    """Whether a node computes max(x, 0), perhaps with a positive upper bound."""
    if kind not in _RECTIFIERS.nodes or len(below) != 1:
        return False
    match kind:
        case "Threshold":
            return node._saved_threshold == 0
        case "Clamp":
            top = node._saved_max
            is_open = top is None or (not isinstance(top, Tensor) and top > 0)
            return is_open and _is_zero(node._saved_min)
        case "ClampMin":
            return _is_zero(node._saved_min)
        case "Hardtanh":
            return node._saved_min_val == 0 < node._saved_max_val
        case "LeakyRelu":
            return node._saved_negative_slope == 0
        case "Maximum":
            return _is_zero(node._saved_self if below == [1] else node._saved_other)
    return True


def _why_not_linear(node: Node, kind: str, below: list[int]) -> str | None:
    """Return why a node is no linear operation or max-pool on what is made of the image."""
    if kind in _UNREADABLE:
        return _UNREADABLE[kind]
    if kind not in _LINEAR:
        return "it is neither a rectifier nor linear"
    if kind in _PRODUCTS.nodes and len(below) > 1:
        return "it multiplies two tensors made of the image (a gate or attention)"
    if kind == "Div" and below != [0]:
        return "it divides by a tensor made of the image"
    if kind in _BATCH_NORM.nodes and getattr(node, "_saved_training", False):
        return "it normalises with statistics of the image"
    return None


def _rectify(rule: str) -> Callable:
    """Return the hook of a rectifier's node, whose own gradient is that of `gradient`."""

    def hook(below: Sequence[Tensor | None], above: Sequence[Tensor]) -> tuple[Tensor | None, ...]:
        if rule == "deconvnet":
            signals = [g if g is None else above[0] for g in below]
        else:  # `maximum` passes half of the signal down to an input of 0
            signals = [g if g is None else torch.where(g == above[0], g, 0) for g in below]
        return tuple(g if g is None else g.clamp_min(0) for g in signals)

    return hook


def _rectify_path(
    rule: str, output: Tensor, leaf: Tensor, functions: _Functions, modules: _Modules
) -> _Offence | None:
    """Hook every rectifier between `output` and `leaf`; return the first node without a rule."""
    end = torch.autograd.graph.get_gradient_edge(leaf).node

    def children(node: Node) -> list[Node]:
        vouched = functions.children.get(node)
        return vouched or [child for child, _ in node.next_functions if child]

    path = _path(output.grad_fn, end, children)
    offences = [functions.dependence.offence_of(output)]
    for node in path - {end} - functions.children.keys():
        kind = _kind(node)
        below = [i for i, (child, _) in enumerate(node.next_functions) if child in path]
        if _is_rectifier(node, kind, below):
            node.register_hook(_rectify(rule))
        elif why := _why_not_linear(node, kind, below):
            operation = re.sub(r"(?<=[a-z0-9D])(?=[A-Z][a-z])", "_", kind).lower()
            sequence = node._sequence_nr()
            offences.append(_Offence(sequence, operation, modules.at(sequence), why))
    return min(filter(None, offences), default=None)


def _require_channels_first(output: Tensor, where: str, image_count: int) -> None:
    """Refuse (B, H, W, C), where that can be seen: a permutation or linear layer at the end."""
    axis, node = 1, output.grad_fn
    while node is not None and axis is not None:
        shape = tuple(node._input_metadata[0].shape)
        kind = _kind(node)
        if kind == "Permute" and len(shape) == 4:
            axis = node._saved_dims[axis] % 4
        elif kind == "Transpose" and len(shape) == 4:
            swapped = [node._saved_dim0 % 4, node._saved_dim1 % 4]
            axis = swapped[1 - swapped.index(axis)] if axis in swapped else axis
        elif kind in ("View", "UnsafeView"):
            before = tuple(node._saved_self_sym_sizes)
            if len(before) == 2 and len(shape) == 4 and before[0] != image_count:
                axis = 1 if axis == 3 else 3  # rows are places, columns are maps
            break
        elif kind in _MAX_POOLS.nodes | _BATCH_NORM.nodes | {"Convolution"}:
            break
        node = node.next_functions[0][0] if node.next_functions else None
    if axis != 1:
        raise ValueError(
            f"{where} gives {tuple(output.shape)} with its maps last: units need (B, C, H, W)"
        )


def _as_units(units: Units | Sequence, device: torch.device) -> Units:
    """Return units as tensors on a device that autograd can save."""
    if not isinstance(units, Units):
        listed = torch.as_tensor(units)
        if not len(listed) or listed.shape[1:] not in ((), (3,)):
            raise ValueError("units: needs a list of maps, or of (map, row, column)")
        units = Units(*listed.view(len(listed), -1).unbind(1))
    return Units(*(torch.as_tensor(index, device=device).clone() for index in units.places))


def _float_images(model: Callable, images: Tensor, layer: str | None, call: int) -> Tensor:
    """Return images that can carry a gradient and give the same activations."""
    if images.is_floating_point():
        return images.detach().clone()
    floats = images.to(torch.get_default_dtype())
    with torch.no_grad():
        original, as_floats = (output_of(model, x, layer, call) for x in (images, floats))
    if not torch.equal(original, as_floats):
        raise ValueError(f"the model treats {images.dtype} images in its own way: give it floats")
    return floats


def _require_maps(output: Tensor, units: Units, where: str, image_count: int) -> None:
    if output.ndim not in (2, 4) or len(output) != image_count:
        raise ValueError(
            f"{where} gives {tuple(output.shape)} for {image_count} images: "
            "needs maps (B, C, H, W) or scores (B, C)"
        )
    if output.ndim == 4:
        _require_channels_first(output, where, image_count)
    units.validate(where, len(units), tuple(output.shape[1:]))


def _carry_down(output: Tensor, leaf: Tensor, tops: Tensor) -> Tensor:
    """Return what each signal leaves at the pixels. tops: (K, B, ...) -> (K, B, 3, H, W)."""

    def down(signal: Tensor) -> Tensor:
        # `torch.autograd.grad` would suspend the function mode, which recomputation needs.
        (pixels,) = _engine_run_backward(
            (output,), (signal,), True, False, (leaf,),
            allow_unreachable=True, accumulate_grad=False,
        )  # fmt: skip
        if pixels is None:
            raise ValueError(_NO_GRADIENT)
        return pixels

    return torch.stack([down(top) for top in tops])


def project(
    model: Callable[[Tensor], Tensor], images: Tensor, units: Units | Sequence,
    layer: str | None = None, *, of: Tensor | Sequence[int] | None = None, call: int | None = None,
    rule: str = "deconvnet", skip_norm: bool | None = None, seed: str = "activation",
    mixed: str = "refuse",
) -> Tensor:  # fmt: skip
    """Project units of any torch model to the pixels, one picture a unit.

    The model runs in evaluation mode, once for each image and no further than the layer.

    Args:
        model: a module, or any function from images to feature maps (B, C, H, W) or scores (B, C).
        images: (B, 3, H, W) as the model wants them.
        units: U units, as `Units` or as a list of (map, row, column) or of maps.
        layer: name of the probed submodule, as in `model.named_modules()`; None probes the output.
        of: (U,) the image of each unit; None gives each image its own, so that U = B.
        call: which call of a submodule that the model calls several times, counted from 0.
        rule: `deconvnet`, or `gradient` (true of any model) or `guided` for comparison.
        skip_norm: pass through response norm unchanged (the paper), or with its gradient, which is
            the default of the rule `gradient` alone.
        seed: `activation` (the paper) or `one` (Captum). The pictures of a positive unit differ by
            its activation as a factor. A negative activation starts with the other sign, and
            rectifiers pass other parts of it; a unit at zero gives an empty picture.
        mixed: `refuse` a model with other nonlinearities on the way down, or `allow` them with
            their gradient and a warning.
    Returns:
        (U, 3, H, W).
    Raises:
        ValueError: an operation between layer and pixels that is neither a rectifier nor linear,
            with its module; unknown layer or rule; units that do not fit or see NaN.
    """
    for name, value, choices in (
        ("backward rule", rule, RULES), ("seed", seed, ("activation", "one")),
        ("mixed", mixed, ("refuse", "allow")),
    ):  # fmt: skip
        if value not in choices:
            raise ValueError(f"{name} {value!r}: choose among {', '.join(choices)}")
    _require_batch(images)
    skip_norm = rule != "gradient" if skip_norm is None else skip_norm
    model, layer = uncompiled(model, layer)
    where = layer or "output"
    with _differentiable(model), torch.enable_grad(), contextlib.ExitStack() as stack:
        units = _as_units(units, images.device)
        of = range(len(images)) if of is None else of
        if len(of) != len(units):
            raise ValueError(f"{len(units)} units for {len(of)} images: one an image, or of=")
        of = torch.as_tensor(of, device=images.device).clone()
        require_index("of: image", of, len(images))
        used, of = of.unique(return_inverse=True)

        call = which_call(model, images[:1], layer, call)
        leaf = _float_images(model, images[used], layer, call).requires_grad_()
        modules = _Modules(model)
        dependence = _Dependence(modules)
        dependence.mark(leaf)
        functions = _Functions(dependence, skip_norm=skip_norm)
        stack.enter_context(functions)
        with modules, dependence:
            output = output_of(model, leaf, layer, call)
        if not output.requires_grad:
            raise ValueError(_NO_GRADIENT)
        if rule != "gradient":
            first = _rectify_path(rule, output, leaf, functions, modules)
            if first is not None:
                what = f"{first.operation} in {first.module} has no backward rule: {first.why}"
                if mixed == "refuse":
                    raise ValueError(f'{what}; mixed="allow" goes on with its gradient')
                warnings.warn(f"{what}; its gradient is mixed with the rule {rule!r}", stacklevel=2)
        _require_maps(output, units, where, len(leaf))

        at = (of, *units.places)
        value = output[at].detach()
        validate_finite(where, value)
        rank = (of[:, None] == of).tril(-1).sum(1)  # of each unit among those of its image
        tops = output.new_zeros(int(rank.max()) + 1, *output.shape)
        tops[(rank, *at)] = 1 if seed == "one" else value
        return _carry_down(output, leaf, tops)[rank, of]


def project_to_fields(
    model: Callable[[Tensor], Tensor], images: Tensor, layer: str | None, units: Units,
    of: Tensor | None = None, fields: Fields | None = None,
) -> deconvnet.Projections:  # fmt: skip
    """Project units, cut to their receptive fields; on crops in this package's networks.

    Args:
        images: as the model wants them, all of one size.
        layer: of a network of named layers, or the name of a submodule.
        of: (U,) the image of each unit; default, one unit an image.
        fields: of the layer; a network of named layers knows its own.
    Returns:
        as `deconvnet.project_crops`; `activations` only from there.
    """
    units = units.to(images.device)
    of = None if of is None else of.to(images.device)
    if deconvnet.has_crops(model, layer):
        return deconvnet.project_crops(model, images, layer, units, of)
    probed, name = (model.output(layer), None) if isinstance(model, Layered) else (model, layer)
    with _differentiable(model):  # of `output(layer)`, `project` sees no module
        pixels = project(probed, images.clone(), units, name, of=of).detach()
        fields = fields or model.fields(layer)
    units = units.to("cpu")
    window = fields.windows(units.rows, units.columns, len(units))
    return deconvnet.Projections(deconvnet.crop(pixels, *window), *window[:2])
