"""Train with the paper's recipe (section 3) or a modern one; a killed run resumes bit for bit."""

import copy
import math
import shlex
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import get_ema_multi_avg_fn
from tqdm.auto import tqdm

from zfrepro import device as devices
from zfrepro import distributed
from zfrepro.data import LARGEST_IMAGE, Dataset, Split
from zfrepro.data.transforms import (
    CROPS,
    augment,
    center_crop,
    normalise,
    pixel_sum,
    stored_size,
    ten_crops,
)
from zfrepro.layers import clip_filters_
from zfrepro.networks import (
    INITIAL_WEIGHTS,
    Architecture,
    Network,
    architecture,
    build,
    initialise_,
)
from zfrepro.receptive_field import multiply_adds
from zfrepro.tensors import brief, load_tensors, save_tensors

CHECKPOINT_FILE, WEIGHTS = "checkpoint.safetensors", "weights.safetensors"  # in a run's folder
SCHEDULES = ("plateau", "cosine")
KINDS = {str: "a word", int: "a whole number", float: "a number"}  # what a recipe's values are


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the outcome of a run. The defaults are the paper's."""

    arch: str = "zfnet"
    """Row of Table 2, such as krizhevsky, zfnet, zfnet-wide; `table --arch list` prints all."""
    dataset: str = "diorama"
    """diorama (drawn, needs nothing), imagenette, imagewoof, imagenet20, imagenet, caltech101, or
    the path of a folder with train/CLASS/ and val/CLASS/.
    """
    image_size: int = 224
    """Side of the input in pixels; images are stored at 256/224 of it."""
    width: float = 1.0
    """Convolutions this many times as wide as the paper's."""
    units: int = 4096
    """Units in layers 6 and 7, where the paper has 4096; its 2048 and 8192 scale likewise."""
    epochs: int = 70
    """Passes over the training images."""
    batch: int = 128
    """Images a step."""
    lr: float = 1e-2
    """Learning rate at the start (plateau) or at its highest (cosine)."""
    momentum: float = 0.9
    """Momentum of SGD."""
    weight_decay: float = 0.0
    """The paper mentions none; Krizhevsky used 5e-4."""
    dropout: float = 0.5
    """Dropout of layers 6 and 7."""
    clip: float = 0.1
    """Largest RMS of a conv filter, checked after every step; 0 clips none."""
    crops: str = "ten"
    """ten (the paper's fixed views), random (Krizhevsky's) or resized (random size and aspect)."""
    area: float = 0.35
    """Smallest share of the image that a resized crop covers."""
    init: str = "paper"
    """paper (Gaussian 0.01 everywhere), modern (0.01 in the first layer, He's rule above) or clean
    (0.002 in the first layer).
    """
    input_scale: float = 1.0
    """Inputs are divided by it; 1 keeps the paper's [-128, 128]."""
    schedule: str = "plateau"
    """plateau (the rate drops tenfold when the validation error stalls) or cosine."""
    patience: int = 3
    """Epochs without a better validation error before the plateau schedule acts."""
    warmup: float = 1.0
    """Epochs of rising rate before the cosine."""
    label_smoothing: float = 0.0
    """Share of the target spread over all classes."""
    ema: float = 0.0
    """Decay a step of the averaged weights that are evaluated and published; 0 for none."""
    precision: str = "bf16"
    """fp32, or bf16, which is fp32 on a CPU that is slow at bf16."""
    seed: int = 0
    """Seed of the weights, the order of the images, the crops and dropout."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value, kind = getattr(self, field.name), field.type
            fits = isinstance(value, (int, float) if kind is float else kind)
            if not fits or isinstance(value, bool) or kind is float and not math.isfinite(value):
                raise ValueError(f"{field.name} {value!r}: must be {KINDS[kind]}")
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise ValueError(
                    f"{name} {getattr(self, name)!r}: choose among {', '.join(choices)}"
                )
        for names, holds, words in RANGES:
            for name in names.split():
                if not holds(getattr(self, name)):
                    raise ValueError(f"{name} {getattr(self, name)}: must be {words}")
        if self.lr * self.weight_decay >= 1:
            raise ValueError(
                f"weight_decay {self.weight_decay}: at lr {self.lr} each step would take away more "
                "than the weights; lower it"
            )
        # unknown networks and images too small for them are told before any data is read
        with torch.device("meta"):
            self._built(classes=2)

    def architecture(self) -> Architecture:
        """Return the architecture of the network."""
        return architecture(self.arch, width=self.width, units=self.units)

    def _built(self, classes: int) -> Network:
        return build(self.architecture(), self.image_size, classes, self.dropout)

    def network(self, classes: int) -> Network:
        """Return the network this recipe trains, freshly initialised from the seed."""
        return initialise_(
            self._built(classes), self.init, torch.Generator().manual_seed(self.seed)
        )


CHOICES = {
    "crops": CROPS, "init": INITIAL_WEIGHTS, "schedule": SCHEDULES,
    "precision": devices.PRECISIONS,
}  # fmt: skip
RANGES: tuple[tuple[str, Callable[[float], bool], str], ...] = (
    ("image_size epochs batch lr width units input_scale", lambda v: v > 0, "above 0"),
    ("weight_decay clip patience warmup", lambda v: v >= 0, "at least 0"),
    ("momentum dropout label_smoothing ema", lambda v: 0 <= v < 1, "at least 0 and below 1"),
    ("area", lambda v: 0 < v <= 1, "above 0 and at most 1"),
    ("seed", lambda v: 0 <= v < 2**32, "at least 0 and below 2**32"),
    # beyond, no memory would do
    ("image_size", lambda v: v <= LARGEST_IMAGE, f"at most {LARGEST_IMAGE:,}"),
    ("width", lambda v: v <= 64, "at most 64"),
    ("units", lambda v: v <= 2**16, "at most 65,536"),
)
"""Options, what must hold of their values, and the same in words."""

MODERN: dict[str, Any] = {
    "lr": 0.04,
    "weight_decay": 5e-4,
    "crops": "resized",
    "init": "modern",
    "input_scale": 64.0,
    "schedule": "cosine",
    "label_smoothing": 0.1,
    "ema": 0.998,
    "epochs": 30,
}
"""What `--recipe modern` changes: small data sets leave the paper's recipe at chance."""


SCALES: dict[str, dict[str, Any]] = {
    "paper": {"image_size": 224, "width": 1.0, "units": 4096},
    "compact": {"image_size": 128, "width": 1.0, "units": 512},
    "mini": {"image_size": 96, "width": 0.5, "units": 256},
    "micro": {"image_size": 96, "width": 0.25, "units": 256},
}
"""Sizes: the paper's for a GPU, one for an hour or two on two cores, for minutes, for sweeps."""


def command_of(recipe: Recipe) -> str:
    """Return the shortest command that makes this recipe again."""

    def flags(base: dict[str, Any]) -> str:
        defaults = {f.name: f.default for f in fields(Recipe)} | base
        changed = {n: v for n, v in asdict(recipe).items() if v != defaults[n]}
        words = (f"--{n.replace('_', '-')} {shlex.quote(str(v))}" for n, v in changed.items())
        return " ".join(words)

    kinds = {"": {}, "--recipe modern ": MODERN}
    scales = {"": {}} | {f"--scale {name} ": sizes for name, sizes in SCALES.items()}
    choices = [
        f"python -m zfrepro train {kind}{scale}{flags(modern | sizes)}"
        for kind, modern in kinds.items()
        for scale, sizes in scales.items()
    ]
    return min(choices, key=lambda text: len(text.split())).strip()


def scale_of(recipe: Recipe) -> str:
    """Return the name of a recipe's sizes in `SCALES`, or `own` for others."""
    for name, sizes in SCALES.items():
        if all(getattr(recipe, k) == v for k, v in sizes.items()):
            return name
    return "own"


@dataclass
class State:
    """What a run carries from epoch to epoch."""

    network: Network
    optimiser: torch.optim.Optimizer
    average: Network | None  # of the moving average of the weights, if the recipe has one
    history: list[dict[str, float]]
    rate: float  # learning rate of the plateau schedule
    waited: int = 0  # epochs since the best validation error
    data: str = ""  # fingerprint of the images it learns from
    trained: Callable | None = None  # the network as it is trained: compiled, or for DDP

    @property
    def evaluated(self) -> Network:
        """The network that counts: of averaged weights if there are any."""
        return self.network if self.average is None else self.average


def start(recipe: Recipe, classes: int, device: torch.device) -> State:
    """Return the state before the first epoch."""
    network = recipe.network(classes).to(device, memory_format=torch.channels_last)
    optimiser = torch.optim.SGD(
        network.parameters(),
        recipe.lr,
        recipe.momentum,
        weight_decay=recipe.weight_decay,
        fused=True,
    )
    average = copy.deepcopy(network) if recipe.ema else None
    return State(network, optimiser, average, [], recipe.lr)


def learning_rate(recipe: Recipe, state: State, epoch: float) -> float:
    """Return the rate at a (fractional) epoch: of the plateau rule, or warm-up and cosine."""
    if recipe.schedule == "plateau":
        return state.rate
    if epoch < recipe.warmup:
        return recipe.lr * (epoch + 1e-3) / recipe.warmup
    progress = (epoch - recipe.warmup) / max(recipe.epochs - recipe.warmup, 1e-9)
    return recipe.lr * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))


def train_epoch(
    recipe: Recipe, state: State, split: Split, mean: Tensor, epoch: int, progress: bool = True
) -> dict[str, float]:
    """Train for one pass, in an order and with views that depend on (seed, epoch) alone.

    Of several processes each takes its share of every batch, and draws its own dropout. Raises
    FloatingPointError once the loss or a weight is no longer finite.
    """
    network, device = state.network, mean.device
    seed = recipe.seed * 1_000_003 + epoch
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed + 1000 * distributed.rank())  # dropout
    order = torch.randperm(len(split), generator=generator)
    steps = max(1, len(split) // recipe.batch)
    network.train()
    trained = network if state.trained is None else state.trained
    loss_sum = torch.zeros((), device=device)
    wrong = torch.zeros((), device=device)
    seen = 0
    bar = tqdm(
        range(steps),
        desc=f"epoch {epoch + 1}/{recipe.epochs}",
        unit=" images",
        unit_scale=recipe.batch,
        disable=not progress,
        mininterval=1,
    )
    for step in bar:
        batch = order[step * recipe.batch : (step + 1) * recipe.batch]
        share = distributed.shard(len(batch))
        chosen = batch[share]
        labels = devices.to_device(split.labels[chosen], device)
        stored = split.images[devices.to_device(chosen, split.images.device)]
        images = normalise(devices.to_device(stored, device), mean, recipe.input_scale)
        images = augment(
            images, recipe.image_size, recipe.crops, generator, (recipe.area, 1.0),
            of=len(batch), share=share,
        )  # fmt: skip
        for group in state.optimiser.param_groups:
            group["lr"] = learning_rate(recipe, state, epoch + step / steps)
        with devices.autocast(device, devices.precision(device, recipe.precision)):
            scores = trained(images)
            loss = F.cross_entropy(scores.float(), labels, label_smoothing=recipe.label_smoothing)
        # shares differ in size, DDP averages over them
        loss = loss * (distributed.count() * len(chosen) / len(batch))
        state.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        state.optimiser.step()
        if recipe.clip:
            for conv in network.convs.values():
                clip_filters_(conv.weight, recipe.clip)
        _update_average(recipe, state, epoch * steps + step)
        loss_sum += loss.detach()
        wrong += scores.detach().argmax(1).ne(labels).sum()
        seen += len(batch)
        if step % 10 == 9 or step == steps - 1:
            sums = distributed.all_reduce_sum(torch.stack([loss_sum, wrong]))
            loss_so_far, wrong_so_far = sums.tolist()
            loss_so_far /= distributed.count() * (step + 1)
            if not math.isfinite(loss_so_far):
                raise FloatingPointError(
                    f"epoch {epoch + 1}, step {step + 1}: the loss is not finite; "
                    f"lower --lr (now {recipe.lr}). The last checkpoint is untouched."
                )
            train_error = 100 * wrong_so_far / seen
            bar.set_postfix_str(f"loss {loss_so_far:.3f}, train error {train_error:.1f} %")
    # the last step's update comes after its loss
    if not torch.nn.utils.get_total_norm(list(network.parameters())).isfinite():
        raise FloatingPointError(
            f"epoch {epoch + 1}: weights are no longer finite; lower --lr (now {recipe.lr}). "
            "The last checkpoint is untouched."
        )
    return {"loss": loss_so_far, "train_error": train_error}


def _update_average(recipe: Recipe, state: State, step: int) -> None:
    if state.average is not None:
        decay = min(recipe.ema, (1 + step) / (10 + step))  # a young average forgets its start
        averaged, weights = (list(n.parameters()) for n in (state.average, state.network))
        get_ema_multi_avg_fn(decay)(averaged, weights, None)


@torch.no_grad()
def predict_proba(
    network: nn.Module, images: Tensor, mean: Tensor, *, scale: float, image_size: int,
    ten: bool = False, precision: str = "fp32", batch: int = 64, progress: bool = False,
) -> Tensor:  # fmt: skip
    """Return class probabilities of stored images, at the centre crop or averaged over ten.

    images: uint8 (N, 3, R, R), mean: of the training set, (3, R, R) -> (N, classes), on the CPU.
    """
    network.eval()

    def predict(part: Tensor) -> Tensor:
        x = normalise(part.to(mean.device), mean, scale)
        views = ten_crops(x, image_size) if ten else center_crop(x, image_size)[None]
        with devices.autocast(mean.device, precision):
            return torch.stack([network(v).float().softmax(1) for v in views]).mean(0).cpu()

    batches = tqdm(images.split(batch), disable=not progress, unit="batch", desc="evaluating")
    return torch.cat(list(devices.with_oom_backoff(predict, batches)))


def errors(probabilities: Tensor, labels: Tensor) -> dict[str, float]:
    """Return the top-1 and top-5 error in per cent. probabilities: (N, C), labels: (N,)."""
    ranked = probabilities.argsort(dim=1, descending=True, stable=True)
    right = ranked[:, :5].eq(labels[:, None])
    missed = {k: int((~right[:, :k].any(1)).sum()) for k in (1, 5)}
    return {f"top{k}_error": 100 * count / len(labels) for k, count in missed.items()}


def evaluate(recipe: Recipe, state: State, split: Split, mean: Tensor) -> dict[str, float]:
    """Return the errors on a split at the centre crop; each process evaluates its share."""
    share = distributed.shard(len(split))
    probabilities = predict_proba(
        state.evaluated, split.images[share], mean, scale=recipe.input_scale,
        image_size=recipe.image_size, precision=devices.precision(mean.device, recipe.precision),
    )  # fmt: skip
    rates = errors(probabilities, split.labels[share])
    wrong = torch.tensor(list(rates.values()), dtype=torch.float64) * len(probabilities) / 100
    total = distributed.all_reduce_sum(wrong.round().to(mean.device)).tolist()
    return {name: 100 * number / len(split) for name, number in zip(rates, total, strict=True)}


def record(
    recipe: Recipe, state: "State", dataset: Dataset, where: torch.device, processes: int,
    origin: dict[str, Any], sha: str, errors: dict[str, dict[str, float]],
) -> dict[str, Any]:  # fmt: skip
    """Return the record of a finished training, by `origin` (see `records.provenance`).

    sha: SHA-256 of its weights' file; errors: of the weights as written, in per cent.
    """
    return {
        "kind": "training",
        "scale": scale_of(recipe),
        **origin,
        "device": devices.describe(where),
        "precision": devices.precision(where, recipe.precision),
        "processes": processes,
        "recipe": asdict(recipe),
        "dataset": {
            "name": dataset.name,
            "fingerprint": dataset.fingerprint,
            "train": len(dataset.train),
            "val": len(dataset.val),
            **({"skipped": list(dataset.skipped)} if dataset.skipped else {}),
        },
        "parameters": sum(p.numel() for p in state.network.parameters()),
        "multiply_adds": multiply_adds(
            recipe.architecture(), recipe.image_size, len(dataset.classes)
        ),
        "weights_sha256": sha,
        "seconds": sum(row["seconds"] for row in state.history),
        "errors": errors,
        "history": state.history,
    }


def require_training(record: dict[str, Any]) -> None:
    """Refuse what is not the record of a training, or tells an error that is no per cent.

    Raises KeyError, TypeError or ValueError, which says why.
    """
    if record["kind"] != "training" or record["scale"] not in (*SCALES, "own"):
        raise ValueError(f"its kind is {record['kind']}, its scale {record['scale']}")
    if not isinstance(record["weights_sha256"], str):
        raise ValueError("its weights_sha256 is no hash")
    known_recipe(record["recipe"])
    for part in ("train", "one_crop", "ten_crops"):
        for kind in ("top1_error", "top5_error"):
            value = record["errors"][part][kind]
            if not 0 <= value <= 100:
                raise ValueError(f"its {part} {kind} {value!r} is no per cent")


def known_recipe(options: dict[str, Any]) -> Recipe:
    """Return the recipe of a file, without options that this version does not know."""
    return Recipe(**{f.name: options[f.name] for f in fields(Recipe) if f.name in options})


# --- checkpoints ---------------------------------------------------------------------------------


class CheckpointError(ValueError):
    """A checkpoint that cannot be used, with its name and the remedy in one line."""


def save_checkpoint(file: Path, recipe: Recipe, state: State, mean: Tensor) -> None:
    """Write everything a run needs to continue in one file, atomically."""
    tensors = {f"network.{k}": v for k, v in state.network.state_dict().items()} | {"mean": mean}
    if state.average is not None:
        tensors |= {f"average.{k}": v for k, v in state.average.state_dict().items()}
    for name, parameter in state.network.named_parameters():
        momentum = state.optimiser.state.get(parameter, {}).get("momentum_buffer")
        if momentum is not None:
            tensors[f"momentum.{name}"] = momentum
    save_tensors(
        file, tensors, recipe=asdict(recipe), history=state.history, rate=state.rate,
        waited=state.waited, classes=state.network.classes, data=state.data,
    )  # fmt: skip


EPOCH = ("loss", "train_error", "val_top1_error", "val_top5_error", "seconds")
"""What a row of a history holds."""
DAMAGE = (AttributeError, KeyError, RuntimeError, TypeError, ValueError)
"""What is raised where a file lacks something, or has another thing in its place."""


def read_checkpoint(file: Path, recipe: Recipe) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a checkpoint's tensors and header; CheckpointError as for `load_checkpoint`."""
    try:
        tensors, info = load_tensors(file)
        options = dict(info["recipe"])
        info["history"] = [{key: float(row[key]) for key in EPOCH} for row in info["history"]]
    except DAMAGE as error:
        raise _not_whole(file, error) from error
    refuse_other(file, options, recipe)
    return tensors, info


def refuse_other(file: Path, options: dict[str, Any], recipe: Recipe) -> None:
    """Refuse to go on with a file of a run that has other options than a recipe."""
    if differing := [name for name, value in asdict(recipe).items() if options.get(name) != value]:
        raise CheckpointError(
            f"{file}: made with another {', '.join(differing)}; use the same options or another "
            "--out"
        )


def load_checkpoint(file: Path, recipe: Recipe, device: torch.device) -> tuple[State, Tensor]:
    """Read state and mean image of a checkpoint.

    Raises:
        CheckpointError: the file is damaged, foreign, or of another recipe.
    """
    tensors, info = read_checkpoint(file, recipe)

    def load(network: Network, prefix: str) -> None:
        parts = {k: v for k, v in tensors.items() if k.startswith(prefix)}
        network.load_state_dict({k.removeprefix(prefix): v for k, v in parts.items()})

    side = stored_size(recipe.image_size)
    try:
        state = start(recipe, info["classes"], device)
        load(state.network, "network.")
        if state.average is not None:
            load(state.average, "average.")
        for name, parameter in state.network.named_parameters() if recipe.momentum else ():
            # in the parameter's memory format, which keeps the optimiser's fused path
            momentum = tensors[f"momentum.{name}"].view(parameter.shape)
            momentum = torch.empty_like(parameter).copy_(momentum)
            state.optimiser.state[parameter]["momentum_buffer"] = momentum
        # a copy, not a view of the file, which the next checkpoint replaces
        mean = tensors["mean"].view(3, side, side).to(device, copy=True)
        state.history, state.rate = info["history"], float(info["rate"])
        state.waited = int(info["waited"])
        if len(state.history) > recipe.epochs:
            raise ValueError(f"its history is longer than {recipe.epochs} epochs")
    except DAMAGE as error:
        raise _not_whole(file, error) from error
    state.data = info.get("data", "")  # which early checkpoints do not tell
    return state, mean


def _not_whole(file: Path, error: Exception) -> CheckpointError:
    return CheckpointError(
        f"{file}: not a whole zfrepro checkpoint ({brief(error)}); remove it to start anew"
    )


def train(
    recipe: Recipe, dataset: Dataset, out: Path, *, device: torch.device, progress: bool = True,
    say=print, after_epoch: Callable[[State, Tensor], None] | None = None, compiled: bool = False,
) -> tuple[State, Tensor]:  # fmt: skip
    """Train from the start or from `out/checkpoint.safetensors`, checkpointing after every epoch.

    Several processes (see `distributed`) train as one would, up to the order of sums and dropout;
    the first writes.

    Args:
        after_epoch: called with the state and the mean image once an epoch is over, before its
            checkpoint is written.
        compiled: let torch compile the network, which takes a minute before the first step.
    Returns:
        The final state and the training set's mean image (3, R, R).
    Raises:
        ValueError: more processes than images in a batch or in a split.
        CheckpointError: the checkpoint in `out` is damaged, foreign, or of another recipe or number
            of classes.
        FloatingPointError: the training diverged; the last checkpoint stays.
    """
    first, few = not distributed.rank(), min(recipe.batch, len(dataset.train), len(dataset.val))
    if distributed.count() > few:
        raise ValueError(
            f"{distributed.count()} processes for {few} images at a time: "
            "start fewer, or raise --batch"
        )
    split = replace(dataset.train, images=devices.resident(dataset.train.images, device))
    checkpoint = out / CHECKPOINT_FILE
    if checkpoint.exists():
        state, mean = load_checkpoint(checkpoint, recipe, device)
        classes, others = len(dataset.classes), state.data not in ("", dataset.fingerprint)
        if state.network.classes != classes or others:
            raise CheckpointError(
                f"{checkpoint}: made with other images than those of {dataset.name} here, or with "
                f"other than its {classes} classes; use the same data or another --out"
            )
        if first:
            say(f"continuing {checkpoint} after epoch {len(state.history)}")
    else:
        total = distributed.all_reduce_sum(
            pixel_sum(split.images[distributed.shard(len(split))]).to(device)
        )
        state, mean = start(recipe, len(dataset.classes), device), (total / len(split)).float()
        state.data = dataset.fingerprint
    state.trained = state.network
    if distributed.count() > 1:
        state.trained = DistributedDataParallel(state.network, gradient_as_bucket_view=True)
    if compiled:
        state.trained = torch.compile(state.trained, dynamic=False)
    for epoch in range(len(state.history), recipe.epochs):
        began = time.perf_counter()
        row = train_epoch(recipe, state, split, mean, epoch, progress and first)
        row |= {f"val_{k}": v for k, v in evaluate(recipe, state, dataset.val, mean).items()}
        row["seconds"] = time.perf_counter() - began
        best = min((r["val_top1_error"] for r in state.history), default=math.inf)
        state.history.append(row)
        state.waited = 0 if row["val_top1_error"] < best else state.waited + 1
        if recipe.schedule == "plateau" and state.waited > recipe.patience:
            state.rate, state.waited = state.rate / 10, 0
        if not first:
            continue
        if after_epoch:
            after_epoch(state, mean)
        save_checkpoint(checkpoint, recipe, state, mean)
        left = (recipe.epochs - epoch - 1) * row["seconds"] / 60
        say(
            f"epoch {epoch + 1}/{recipe.epochs}: loss {row['loss']:.3f}, "
            f"train error {row['train_error']:.1f} %, "
            f"val top-1 {row['val_top1_error']:.1f} %, top-5 {row['val_top5_error']:.1f} %, "
            f"{len(dataset.train) / row['seconds']:.0f} images/s, {left:.0f} min left",
            flush=True,
        )
    return state, mean
