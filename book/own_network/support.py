"""Which classification networks `rules.project` handles, each compared with an oracle.

`python -m book.own_network.support` walks torchvision's classification networks and one network of
every timm module, with random weights, and writes `results/support.json`. A network is

- `handled`: its projection equals that of the oracle, in which torch's rectifier functions are
  replaced by one written out, and no other nonlinearity ran;
- `refused`: `project` names the operation to which no rule applies;
- `wrong`: anything else. There must be none.
"""

import argparse
import contextlib
import importlib.metadata
import warnings
from collections.abc import Iterator
from typing import Any
from unittest import mock

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from zfrepro import records, rules

TOLERANCE = 1e-4  # of the largest value of the oracle's projection
LARGEST = 140e6  # parameters; larger networks of the same kinds would add hours, not kinds
# Rectified networks of timm beside the smallest network of each of its modules.
RECTIFIED = (
    "ese_vovnet19b_slim", "efficientnet_lite0", "mobilenetv2_035", "repvgg_a0", "resnet14t",
    "resnetblur50", "resnext50_32x4d", "wide_resnet50_2", "resnetv2_50", "tf_mixnet_s",
    "vgg11_bn", "hrnet_w18_small", "dla46x_c", "densenetblur121d", "regnetx_004",
)  # fmt: skip
NONLINEAR = frozenset(
    "gelu silu mish hardswish hardsigmoid sigmoid tanh elu prelu leaky_relu softplus exp log pow "
    "sqrt rsqrt abs where softmax _softmax native_layer_norm native_group_norm rms_norm "
    "scaled_dot_product_attention linalg_vector_norm var var_mean std".split()
)


class _Rectify(torch.autograd.Function):
    """min(max(x, 0), top), whose backward pass is the deconvnet's, written out."""

    @staticmethod
    def forward(ctx, x, top):
        return (x * (x > 0)).clamp(max=top)

    @staticmethod
    def backward(ctx, above):
        return above * (above > 0), None


def _hardtanh(x: Tensor, low: float = -1.0, top: float = 1.0, inplace: bool = False) -> Tensor:
    return _Rectify.apply(x, top) if low == 0 else torch.clamp(x, low, top)


RECTIFIERS = {
    "relu": lambda x, inplace=False: _Rectify.apply(x, float("inf")),
    "relu6": lambda x, inplace=False: _Rectify.apply(x, 6.0),
    "hardtanh": _hardtanh,
}


class _Operations(TorchDispatchMode):
    """Collect the names of the operations that run."""

    def __init__(self):
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.add(func._schema.name.removeprefix("aten::").rstrip("_"))
        return func(*args, **(kwargs or {}))


def oracle(model: nn.Module, images: Tensor, unit: int) -> tuple[Tensor, set[str]]:
    """Project a class score with rectifiers written out.

    Args:
        model: in evaluation mode, whose rectifiers are torch's functions or modules.
        images: (B, 3, H, W).
    Returns:
        (B, 3, H, W), and the nonlinear operations that ran beside rectifiers and pools.
    """
    leaf = images.clone().requires_grad_()
    operations = _Operations()
    relu = mock.patch.object(torch, "relu", RECTIFIERS["relu"])
    with mock.patch.multiple(F, **RECTIFIERS), relu, operations:
        scores = model(leaf)[:, unit]
    return torch.autograd.grad(scores, leaf, scores.detach())[0], operations.names & NONLINEAR


def networks() -> Iterator[tuple[str, str]]:
    """Yield library and name of the networks to try."""
    for name in torchvision.models.list_models(module=torchvision.models):
        if _size("torchvision", name) <= LARGEST:
            yield "torchvision", name
    import timm  # of the extra `test`, which no page needs

    chosen = set(RECTIFIED)
    for module in timm.list_modules():
        shortest = sorted(timm.list_models(module=module), key=lambda name: (len(name), name))[:4]
        sizes = {name: _size("timm", name) for name in shortest}
        smallest = min(sizes, key=sizes.__getitem__, default=None)
        if smallest and sizes[smallest] <= LARGEST:
            chosen.add(smallest)
    for name in sorted(chosen):
        yield "timm", name


def _build(library: str, name: str) -> nn.Module:
    if library == "timm":
        import timm

        return timm.create_model(name)
    options = {"googlenet": {"init_weights": False}, "inception_v3": {"init_weights": False}}
    return torchvision.models.get_model(name, weights=None, **options.get(name, {}))


def _size(library: str, name: str) -> float:
    """Return the number of parameters, without making them; inf where that does not work."""
    with warnings.catch_warnings(), torch.device("meta"):
        warnings.simplefilter("ignore")
        try:
            return sum(p.numel() for p in _build(library, name).parameters())
        except Exception:  # whatever a library raises here, the network is not tried
            return float("inf")


def _randomise_norms(model: nn.Module) -> None:
    """Give batch norms weights and statistics; many begin at 0, which would hide a branch."""
    for m in model.modules():
        if isinstance(m, nn.BatchNorm2d) and m.affine:
            nn.init.uniform_(m.weight, 0.5, 1.5)
            nn.init.normal_(m.bias, std=0.1)
            nn.init.normal_(m.running_mean, std=0.1)
            nn.init.uniform_(m.running_var, 0.5, 1.5)


def _images(model: nn.Module) -> Tensor:
    """Return one random image of the smallest size that the model takes."""
    full = getattr(model, "default_cfg", {}).get("input_size", (3, 224, 224))[-1]
    for side in (64, 96, full):
        images = torch.randn(1, 3, side, side)
        with contextlib.suppress(Exception), torch.no_grad():
            if model(images).isfinite().all():
                return images
    raise ValueError(f"takes no image of 64, 96 or {full} px")


def check(library: str, name: str, unit: int = 3) -> dict[str, Any]:
    """Project the score of one class of a network with random weights, by `rules` and the oracle.

    Returns:
        `library`, `name`, `parameters`, `side` (px), `status`, `reason` of a refusal, `difference`
        from the oracle in units of its largest value, `others`: nonlinear operations that ran.
    """
    torch.manual_seed(0)
    model = _build(library, name).eval().requires_grad_(False)
    _randomise_norms(model)
    images = _images(model)
    expected, nonlinear = oracle(model, images, unit)
    row = {
        "library": library, "name": name, "side": images.shape[-1], "others": sorted(nonlinear),
        "parameters": sum(p.numel() for p in model.parameters()), "reason": "", "difference": None,
    }  # fmt: skip
    try:
        projection = rules.project(model, images, [unit])
    except ValueError as error:
        reason, _, _ = str(error).partition("; mixed=")
        return row | {"status": "refused", "reason": reason}
    difference = ((projection - expected).abs().max() / expected.abs().max()).item()
    agrees = difference <= TOLERANCE and not nonlinear and bool(expected.any())
    return row | {"status": "handled" if agrees else "wrong", "difference": difference}


def main(arguments: list[str] | None = None) -> int:
    """Check every network, print a line each, write the record; 1 if any is wrong."""
    parser = argparse.ArgumentParser("python -m book.own_network.support", description=__doc__)
    parser.add_argument("--only", metavar="NAME", nargs="+", help="names of networks; no record")
    options = parser.parse_args(arguments)
    origin = records.provenance("python -m book.own_network.support")  # of the code that runs
    checked = []
    for library, name in networks():
        if options.only and name not in options.only:
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                row = check(library, name)
            except Exception as error:  # a fault in any network is a line of the list, no end of it
                row = {"library": library, "name": name, "status": "wrong", "reason": repr(error)}
        checked.append(row)
        print(f"{row['status']:8} {library:12} {name:28} {row['reason']}", flush=True)
    wrong = [row["name"] for row in checked if row["status"] == "wrong"]
    print(f"{len(checked)} networks, wrong: {', '.join(wrong) or 'none'}")
    if not options.only:
        for library in ("torchvision", "timm"):
            origin["versions"][library] = importlib.metadata.version(library)
        record = {"kind": "support", **origin, "tolerance": TOLERANCE, "networks": checked}
        records.write_json(records.results_root() / "support.json", record)
    return int(bool(wrong))


if __name__ == "__main__":
    raise SystemExit(main())
