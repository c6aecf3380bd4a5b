"""What excites each unit most (Fig. 2): its top images in a data set, their projections and patches.

`top_units` searches a data set in one pass, `projections` and `patches` show what it found, pixel by
pixel in the same places, `figure2` does all of it for several layers, and `gallery` makes a page.
All take any torch model; for this package's networks projections are computed on crops.
"""

import base64
import contextlib
import functools
import hashlib
import html
import io
import itertools
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
import torch.utils.data
from torch import Tensor, nn

from zfrepro import backward_rules as rules
from zfrepro import deconvnet
from zfrepro.deconvnet import Units, evaluating
from zfrepro.layers import require_index
from zfrepro.networks import Network
from zfrepro.receptive_field import Field, Fields, probe, stage

Model = Callable[[Tensor], Tensor]
Data = Tensor | torch.utils.data.Dataset | torch.utils.data.DataLoader | Iterable
Fetch = Callable[[Tensor], Tensor]  # from image indices (B,) to images (B, 3, H, W)


@dataclass(frozen=True)
class Top:
    """The strongest activations of every unit (feature map, FC unit or class) of a layer.

    Strongest first, all (U, K). At most one position an image and map is kept, so that nine patches
    show nine images; the paper does not say. Empty places, where there are fewer than K images, have
    value -inf and image -1. Ties go to the lower image index.
    """

    layer: str | None
    values: Tensor  # float
    images: Tensor  # int64, index in the data set
    rows: Tensor | None = None  # int64, position in the feature map; None for layers without maps
    columns: Tensor | None = None
    image_size: tuple[int, int] | None = None  # height and width of the images searched, in pixels

    def of(self, maps: Iterable[int]) -> tuple[Tensor, Units]:
        """Return image indices and units of some maps, (B,), map after map.

        Empty places, and those without a positive activation, are left out.

        Raises:
            ValueError: a map that does not exist.
        """
        chosen = torch.as_tensor(list(maps), dtype=torch.int64)
        require_index(f"{self.layer}: map", chosen, len(self.values))
        responds = self.responds(chosen)
        units = chosen[:, None].expand_as(responds)[responds]
        if self.rows is None:
            return self.images[chosen][responds], Units(units)
        rows, columns = self.rows[chosen][responds], self.columns[chosen][responds]
        return self.images[chosen][responds], Units(units, rows, columns)

    def responds(self, maps: Sequence[int] | Tensor) -> Tensor:
        """Return which places hold a positive activation. (len(maps), K) bool."""
        chosen = torch.as_tensor(maps, dtype=torch.int64)
        return (self.images[chosen] >= 0) & (self.values[chosen] > 0)


class TopTracker:
    """Keep the K strongest activations of each unit of a layer over a stream, in fixed memory."""

    def __init__(
        self, layer: str | None, units: int, k: int = 9, device: torch.device | str = "cpu"
    ):
        self.layer, self.seen = layer, 0
        self.image_size: tuple[int, int] | None = None
        self.flat = False  # a layer without maps
        self.values = torch.full((units, k), -torch.inf, device=device)
        # image, row, column
        self.where = torch.full((units, k, 3), -1, dtype=torch.int64, device=device)

    def add(self, activations: Tensor, images: Tensor | None = None) -> None:
        """Take in the activations of the next images, (B, C, H, W) or (B, units).

        Args:
            images: (B,) their indices in the data set; default, they are counted.
        Raises:
            ValueError: activations that are not finite.
        """
        self.flat = activations.ndim == 2
        if self.flat:
            activations = activations[:, :, None, None]
        best = activations.amax((2, 3)).float()  # (B, C)
        if not torch.isfinite(best).all():
            raise ValueError(
                f"{self.layer}: activations are not finite; the images or the weights hold NaN or inf"
            )
        count, k = len(activations), self.values.shape[1]
        if images is None:
            images = torch.arange(self.seen, self.seen + count)
        images = images.to(best.device)
        known = torch.cat([self.where[:, :, 0], images.expand(best.shape[1], count)], 1)
        values = torch.cat([self.values, best.T], 1)
        # by image, then by value with a stable sort: of equal activations the lower index stays
        known, order = known.sort(dim=1, stable=True)
        self.values, kept = values.gather(1, order).sort(dim=1, descending=True, stable=True)
        self.values, kept = self.values[:, :k], order.gather(1, kept[:, :k])
        entering = kept >= k
        maps, places = entering.nonzero(as_tuple=True)
        new = kept[maps, places] - k
        # positions are looked up only for the few that enter, which costs less than for all
        position = activations[new, maps].flatten(1).argmax(1)
        width = activations.shape[3]
        self.where = self.where.gather(1, kept.clamp_max(k - 1)[:, :, None].expand(-1, -1, 3))
        found = [images[new], position // width, position % width]
        self.where[maps, places] = torch.stack(found, 1)
        self.seen += count

    def top(self) -> Top:
        """Return the result so far, on the CPU."""
        image, row, column = self.where.cpu().unbind(2)
        if self.flat:
            return Top(self.layer, self.values.cpu(), image, image_size=self.image_size)
        return Top(self.layer, self.values.cpu(), image, row, column, self.image_size)


# --- any data: batches with the images' indices ---------------------------------------------------


class _Indexed(torch.utils.data.Dataset):
    """A data set that also yields each item's index."""

    def __init__(self, dataset: torch.utils.data.Dataset):
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[int, object]:
        return index, self.dataset[index]


class _CollateIndexed:
    """Collate the items of an `_Indexed` data set, their indices apart."""

    def __init__(self, collate: Callable):
        self.collate = collate

    def __call__(self, rows: Sequence[tuple[int, object]]) -> tuple[Tensor, object]:
        indices, items = zip(*rows, strict=True)
        return torch.tensor(indices), self.collate(list(items))


class _Remaining:
    """The batches of a batch sampler without the images that were seen, now or in an earlier run."""

    def __init__(self, batches: Iterable[list[int]], seen: Tensor):
        self.batches, self.seen = batches, seen.clone()

    def __iter__(self) -> Iterator[list[int]]:
        for batch in self.batches:
            left = []
            for index in batch:
                if not self.seen[index]:
                    self.seen[index] = True
                    left.append(index)
            if left:
                yield left


class _Batch(NamedTuple):
    indices: Tensor  # (B,)
    images: Tensor
    labels: Tensor | None  # (B,)


def _map_style(data: Data) -> bool:
    """Whether `data` is a data set whose images can be got by their index, and not a stream."""
    iterable = isinstance(data, torch.utils.data.IterableDataset)
    return isinstance(data, torch.utils.data.Dataset) and not iterable


def _length(data: Data) -> int | None:
    """Return how many images there are, or None for streams, which do not say."""
    if isinstance(data, torch.utils.data.DataLoader):
        return _length(data.dataset) if data.batch_sampler is not None else None
    return len(data) if isinstance(data, Tensor) or _map_style(data) else None


def _unpack(item: object) -> tuple[Tensor, Tensor | None]:
    """Split what a loader yields into images (B, 3, H, W) and labels (B,), where there are any."""
    images, labels = item, None
    if isinstance(item, (tuple, list)) and item:
        images = item[0]
        labels = item[1] if len(item) > 1 and isinstance(item[1], Tensor) else None
    if not isinstance(images, Tensor) or images.ndim != 4:
        what = tuple(images.shape) if isinstance(images, Tensor) else type(images).__name__
        raise ValueError(f"the data yield {what}; wanted images (B, 3, H, W), or (images, labels)")
    return images, labels if labels is not None and labels.shape == images.shape[:1] else None


def _batches(data: Data, size: int, seen: Tensor) -> Iterator[_Batch]:
    """Yield the images not yet seen, with their indices in the data set (or in the stream).

    Args:
        seen: (N,) bool for data of known length; (1,) int64, how many, for a stream.
    """
    if isinstance(data, Tensor):
        _unpack(data)
        for chosen in (~seen).nonzero().flatten().split(size):
            yield _Batch(chosen, data[chosen], None)
        return
    if _length(data) is None:
        start = 0
        for item in data:
            images, labels = _unpack(item)
            if start >= int(seen):
                yield _Batch(torch.arange(start, start + len(images)), images, labels)
            start += len(images)
        return
    if _map_style(data):
        data = torch.utils.data.DataLoader(data, size)
    loader = torch.utils.data.DataLoader(
        _Indexed(data.dataset), batch_sampler=_Remaining(data.batch_sampler, seen),
        num_workers=data.num_workers, collate_fn=_CollateIndexed(data.collate_fn),
        pin_memory=data.pin_memory, worker_init_fn=data.worker_init_fn,
    )  # fmt: skip
    for indices, item in loader:
        yield _Batch(indices, *_unpack(item))


def _fetcher(images: Data | Fetch) -> Fetch:
    """Return a function from indices (B,) to images (B, 3, H, W)."""
    if isinstance(images, Tensor):
        return lambda chosen: images[chosen]
    if isinstance(images, torch.utils.data.DataLoader):
        images = images.dataset
    if not _map_style(images):
        if callable(images) and not isinstance(images, nn.Module):
            return images
        raise ValueError(
            f"{type(images).__name__}: a stream has no images to go back to; give a tensor, a data "
            "set, or a function from indices to images"
        )

    def fetch(chosen: Tensor) -> Tensor:
        items = (images[int(i)] for i in chosen)
        return torch.stack([item[0] if isinstance(item, (tuple, list)) else item for item in items])

    return fetch


# --- any model: the outputs of several layers -----------------------------------------------------


class _Complete(Exception):  # noqa: N818, it is no error
    """Ends a forward pass once every layer wanted has been run."""


def _validate_output(layer: str | None, output: object, images: Tensor) -> Tensor:
    name = "output" if layer is None else layer
    if not isinstance(output, Tensor):
        raise ValueError(f"{name} gives a {type(output).__name__}; name a layer that gives a tensor")
    shape = tuple(output.shape)
    square = images.shape[-1] == images.shape[-2]
    channels_last = len(shape) == 4 and square and shape[1] == shape[2] != shape[3]
    if len(shape) not in (2, 4) or shape[0] != len(images) or channels_last:
        raise ValueError(
            f"{name} gives {shape}; wanted feature maps (B, C, H, W) or units (B, C), B = {len(images)}"
        )
    return output


def layer_outputs(
    model: Model, images: Tensor, layers: Sequence[str | None], *, to_the_end: bool = True
) -> dict[str | None, Tensor]:
    """Run a model and return the outputs of several layers.

    Args:
        images: (B, 3, H, W).
        layers: names as in `model.named_modules()`, or None for the model's own output; for this
            package's networks `conv1` to `fc8`, after their ReLU.
        to_the_end: False stops once all layers were run, and so does not notice one that is run
            once more.
    Returns:
        layer -> (B, C, H, W) or (B, units).
    Raises:
        ValueError: a layer that does not exist, is run never or more than once, or whose output is
            neither.
    """
    if isinstance(model, Network):
        return model.features(images, layers)
    modules = dict(model.named_modules()) if isinstance(model, nn.Module) else {}
    for layer in layers:
        if layer is not None and layer not in modules:
            names = ", ".join(name for name in modules if name)
            raise ValueError(f"no layer {layer!r} in {type(model).__name__}; there are: {names}")
    found: dict[str | None, Tensor] = {}

    def keep(layer: str, module: nn.Module, inputs: tuple, output: object) -> None:
        if layer in found:
            raise ValueError(f"{layer} is run more than once in one pass; name another module")
        # cloned, as the next module may work in place
        found[layer] = _validate_output(layer, output, images).clone()
        if not to_the_end and len(found) == len(set(layers)):
            raise _Complete

    with contextlib.ExitStack() as hooks:
        for layer in set(layers) - {None}:
            hook = functools.partial(keep, layer)
            hooks.callback(modules[layer].register_forward_hook(hook).remove)
        with contextlib.suppress(_Complete):
            output = model(images)
            if None in layers:
                found[None] = _validate_output(None, output, images)
    if missing := [layer for layer in layers if layer not in found]:
        raise ValueError(f"{missing[0]} of {type(model).__name__} is not run in a forward pass")
    return {layer: found[layer] for layer in layers}


def _device_of(model: Model) -> torch.device | None:
    parameters = model.parameters() if isinstance(model, nn.Module) else iter(())
    return next((p.device for p in parameters), None)


# --- the search -----------------------------------------------------------------------------------


def _no_images() -> ValueError:
    return ValueError("no images to search; give at least one batch")


@torch.no_grad()
def _stream(
    run: Callable[[Tensor], dict], data: Data, device: torch.device | None, seen: Tensor,
    batch: int, progress: bool,
) -> Iterator[tuple[_Batch, dict]]:  # fmt: skip
    """Yield batches with what `run` gives for them, in parts where a GPU's memory is short."""
    from tqdm.auto import tqdm

    from zfrepro.device import in_pieces

    current: _Batch | None = None

    def places() -> Iterator[Tensor]:
        nonlocal current
        for current in _batches(data, batch, seen):
            yield torch.arange(len(current.indices))

    def run_part(part: Tensor) -> tuple[_Batch, dict]:
        indices, images, labels = current
        images = images[part].to(device) if device else images[part]
        found = run(images)
        return _Batch(indices[part], images, None if labels is None else labels[part]), found

    total = _length(data)
    done = 0 if total is None else int(seen.sum())
    bar = tqdm(
        desc="searching", total=total, initial=done, unit="image", disable=not progress
    )
    with bar:
        for part, found in in_pieces(run_part, places()):
            yield part, found
            bar.update(len(part.indices))


def _fingerprint(model: Model, layers: Sequence[str | None], k: int, total: int | None) -> str:
    """Return what a search depends on, as a hash: weights, layers, k and the number of images."""
    digest = hashlib.sha256(json.dumps([list(layers), k, total]).encode())
    if isinstance(model, nn.Module):
        for name, value in model.state_dict().items():
            digest.update(name.encode())
            digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


@dataclass
class _Search:
    """Trackers by layer and class (None where classes are not told apart), and what was seen."""

    layers: Sequence[str | None]
    k: int
    seen: Tensor
    trackers: dict[tuple[str | None, int | None], TopTracker]
    per_class: bool = False

    def add(self, batch: _Batch, found: Mapping[str | None, Tensor]) -> None:
        """Take in the outputs of a batch."""
        groups: dict[int | None, Tensor | slice] = {None: slice(None)}
        if self.per_class:
            if batch.labels is None:
                raise ValueError("per_class: the data yield no labels; give (images, labels)")
            groups = {int(c): batch.labels == c for c in batch.labels.unique()}
        for (layer, output), (label, chosen) in itertools.product(found.items(), groups.items()):
            key = layer, label
            if key not in self.trackers:
                self.trackers[key] = TopTracker(layer, output.shape[1], self.k, output.device)
            tracker = self.trackers[key]
            tracker.image_size = tuple(batch.images.shape[-2:])
            tracker.add(output[chosen], batch.indices[chosen])
        if self.seen.dtype == torch.bool:
            self.seen[batch.indices] = True
        else:
            self.seen += len(batch.indices)

    def tops(self) -> dict:
        """Return the result: layer -> `Top`, or layer -> class -> `Top`."""
        if not self.trackers:
            raise _no_images()
        if not self.per_class:
            return {layer: self.trackers[layer, None].top() for layer in self.layers}
        classes = sorted({label for _, label in self.trackers})
        return {
            layer: {label: self.trackers[layer, label].top() for label in classes}
            for layer in self.layers
        }

    def save(self, file: Path, fingerprint: str) -> None:
        """Write the search so far under another name, then rename."""
        import safetensors.torch

        tensors, notes = {"seen": self.seen}, []
        for i, ((layer, label), tracker) in enumerate(self.trackers.items()):
            tensors |= {f"{i}.values": tracker.values.cpu(), f"{i}.where": tracker.where.cpu()}
            notes.append([layer, label, tracker.seen, tracker.flat, tracker.image_size])
        data = {"fingerprint": fingerprint, "trackers": json.dumps(notes)}
        _write(file, safetensors.torch.save(tensors, data))

    def load(self, file: Path, fingerprint: str, device: torch.device | None) -> None:
        """Continue from a file.

        Raises:
            ValueError: it is damaged or belongs to another search, with the remedy.
        """
        import safetensors

        try:
            with safetensors.safe_open(file, "pt", device=str(device or "cpu")) as stored:
                notes, tensors = stored.metadata(), {n: stored.get_tensor(n) for n in stored.keys()}  # noqa: SIM118
        except safetensors.SafetensorError as error:
            raise ValueError(f"{file}: not a search's state ({error}); delete it") from None
        if (notes or {}).get("fingerprint") != fingerprint:
            raise ValueError(f"{file}: of another model, layers, k or data; delete it or name another")
        self.seen = tensors["seen"].cpu()
        for i, (layer, label, seen, flat, size) in enumerate(json.loads(notes["trackers"])):
            tracker = TopTracker(layer, len(tensors[f"{i}.values"]), self.k)
            tracker.seen, tracker.flat, tracker.image_size = seen, flat, tuple(size)
            tracker.values, tracker.where = tensors[f"{i}.values"], tensors[f"{i}.where"]
            self.trackers[layer, label] = tracker


def _write(file: Path, data: bytes) -> None:
    """Write under another name in the same folder, then rename."""
    file.parent.mkdir(parents=True, exist_ok=True)
    handle, partial = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    try:
        with open(handle, "wb") as stream:
            stream.write(data)
        os.replace(partial, file)
    except OSError as error:
        Path(partial).unlink(missing_ok=True)
        raise OSError(f"{file}: cannot be written ({error.strerror}); free some space") from None


def _new_search(data: Data, layers: Sequence[str | None], k: int, per_class: bool) -> _Search:
    if k < 1:
        raise ValueError(f"k {k}: must be at least 1")
    if not layers:
        raise ValueError("no layers to search; name at least one")
    total = _length(data)
    seen = torch.zeros(1, dtype=torch.int64) if total is None else torch.zeros(total, dtype=torch.bool)
    return _Search(list(layers), k, seen, {}, per_class)


def top_units(
    model: Model,
    data: Data,
    layers: str | Sequence[str | None] | None = None,
    k: int = 9,
    *,
    per_class: bool = False,
    state: str | Path | None = None,
    save_every: float = 60.0,
    batch: int = 32,
    progress: bool = True,
) -> dict:
    """Find the strongest activations of every unit of some layers in one pass over a data set.

    Args:
        model: any torch module (or a function from images to an output); it is run in evaluation
            mode, without gradients, and left as it was.
        data: images as the model wants them, in a tensor (N, 3, H, W), a data set, or a loader or
            other iterable of batches; each may yield (images, labels). Of a loader with a map-style
            data set, shuffled or not, the indices are those in the data set, and an image drawn
            twice counts once; of any other iterable they count the images of the stream.
        layers: names as in `model.named_modules()`, None for the model's output. Default, all conv
            layers of this package's networks. Feature maps, FC units and classes alike.
        k: how many images a unit.
        per_class: keep the k strongest of each class of images.
        state: a file that keeps the search, written every `save_every` seconds and deleted at the
            end; if it exists, the search continues there.
        batch: images a pass, where `data` is a tensor or a data set.
    Returns:
        layer -> `Top`; with `per_class`, layer -> class -> `Top`.
    Raises:
        ValueError: a layer that does not exist or gives neither maps nor units, no images, no
            labels, activations that are not finite, or a state of another search.
    """
    layers = _layers(model, layers)
    search = _new_search(data, layers, k, per_class)
    device, file = _device_of(model), None if state is None else Path(state)
    mark = "" if file is None else _fingerprint(model, [*layers, per_class], k, _length(data))
    if file is not None and file.exists():
        search.load(file, mark, device)
    first = True

    def run(images: Tensor) -> dict[str | None, Tensor]:
        nonlocal first
        found = layer_outputs(model, images, layers, to_the_end=first)
        first = False
        return found

    saved = time.monotonic()
    with evaluating(model):
        for part, found in _stream(run, data, device, search.seen.clone(), batch, progress):
            search.add(part, found)
            if file is not None and time.monotonic() - saved >= save_every:
                search.save(file, mark)
                saved = time.monotonic()
    tops = search.tops()
    if file is not None:
        file.unlink(missing_ok=True)
    return tops


def _layers(model: Model, layers: str | Sequence[str | None] | None) -> list[str | None]:
    if isinstance(layers, str):
        return [layers]
    if layers is None and isinstance(model, Network):
        return list(model.convs)
    return [None] if layers is None else list(layers)


# --- projections and patches ----------------------------------------------------------------------


def fields_of(model: Model, layer: str | None, images: Tensor) -> Fields:
    """Return the receptive fields of a layer's units in images of this size.

    Computed for the conv layers of this package's networks; probed by gradients for any other.

    Args:
        images: (B, 3, H, W); one of them is enough.
    """
    size = tuple(images.shape[-2:])
    if isinstance(model, Network) and layer in model.convs:
        if size != (model.image_size,) * 2:
            raise ValueError(
                f"images are {size[0]} x {size[1]} px, this network sees {model.image_size}"
            )
        found = stage(model.architecture, model.image_size, layer)
        return Fields(found.field, found.field, size, (found.size, found.size), exact=True)
    device = _device_of(model)
    with evaluating(model):
        example = images[:1].to(device) if device else images[:1]
        return probe(lambda x: layer_outputs(model, x, [layer], to_the_end=False)[layer], example)


def _projector(model: Model, layer: str | None, fields: Fields) -> Callable:
    """Return a function from images, units and the image of each unit to crops (B, 3, h, w)."""
    if isinstance(model, Network) and not any(c.blur for c in model.architecture.convs):
        if layer in model.convs:
            return lambda x, units, of: deconvnet.project_crops(model, x, layer, units, of).pixels
        return lambda x, units, of: deconvnet.project(model, x[of], layer, units)
    probed, name = model, layer
    if isinstance(model, Network):
        probed, name = (lambda x: model.features(x, [layer])[layer]), None

    def project(images: Tensor, units: Units, of: Tensor) -> Tensor:
        pixels = rules.project(probed, images[of], units, name)
        return deconvnet.crop(pixels, *fields.windows(units.rows, units.columns, len(units)))

    return project


def projections(
    model: Model,
    images: Data | Fetch,
    top: Top,
    maps: Iterable[int],
    *,
    fields: Fields | None = None,
    batch: int = 16,
    progress: bool = False,
) -> Tensor:
    """Project the top units of some maps to pixels, cut to the receptive field.

    Args:
        images: as the model wants them: what was searched, or a function from image indices (B,)
            to images (B, 3, H, W).
        maps: which maps (or units) of the layer.
        fields: of the layer, from `fields_of`; default, found here.
        batch: units at once; those of one image share its forward pass.
    Returns:
        (len(maps), K, 3, h, w), signed; zero where a map has no positive activation.
    Raises:
        ValueError: maps that do not exist, or images of another size than those searched.
    """
    maps, fetch = list(maps), _fetcher(images)
    indices, units = top.of(maps)
    fields = fields or fields_of(model, top.layer, _example(fetch, top))
    project, device = _projector(model, top.layer, fields), _device_of(model)
    order = indices.argsort(stable=True)

    def project_part(places: Tensor) -> Tensor:
        distinct, of = indices[places].unique(return_inverse=True)
        x = _validate_size(fetch(distinct), top, fields)
        x = x.to(device) if device else x
        own = units[places]
        parts = (own.maps, own.rows, own.columns)
        own = Units(*(None if t is None else t.to(x.device) for t in parts))
        with evaluating(model):
            return project(x, own, of.to(x.device)).detach().cpu()

    from tqdm.auto import tqdm

    from zfrepro.device import in_pieces

    chunks = order.split(batch)
    bar = tqdm(chunks, desc=f"projecting {top.layer}", unit="batch", disable=not progress)
    filled = torch.zeros(len(indices), 3, *fields.window_size)
    start = 0
    for found in in_pieces(project_part, bar):
        filled[order[start : start + len(found)]] = found.float()
        start += len(found)
    return _in_places(filled, top, maps)


def patches(
    model: Model, images: Data | Fetch, top: Top, maps: Iterable[int], *,
    fields: Fields | None = None, fill: float | None = None,
) -> Tensor:  # fmt: skip
    """Cut out the image patches that the top units of some maps see.

    Args:
        images: to cut from, pixel by pixel what was searched, such as uint8 (N, 3, H, W), or a
            function from image indices (B,) to them.
        fields: of the layer, from `fields_of`; default, found here.
        fill: value outside the image; default mid-grey, 128 for uint8 and 0.5 for float.
    Returns:
        (len(maps), K, 3, h, w) of the images' type, in the same places as `projections`.
    Raises:
        ValueError: maps that do not exist, or images of another size than those searched.
    """
    maps, fetch = list(maps), _fetcher(images)
    indices, units = top.of(maps)
    example = _example(fetch, top)
    fields = fields or fields_of(model, top.layer, example.float())
    if fill is None:
        fill = 0.5 if example.is_floating_point() else 128
    windows = fields.windows(units.rows, units.columns, len(units))
    cut = [example.new_empty(0, example.shape[1], *fields.window_size)]
    for part in torch.arange(len(indices)).split(256):
        pictures = _validate_size(fetch(indices[part]), top, fields)
        tops, lefts, size = windows[0][part], windows[1][part], windows[2]
        cut.append(deconvnet.crop(pictures, tops, lefts, size, fill))
    return _in_places(torch.cat(cut), top, maps, fill)


def _example(fetch: Fetch, top: Top) -> Tensor:
    """Return one of the images searched, (1, 3, H, W)."""
    known = top.images[top.images >= 0]
    return fetch(known[:1] if len(known) else torch.zeros(1, dtype=torch.int64))


def _validate_size(images: Tensor, top: Top, fields: Fields) -> Tensor:
    size = tuple(images.shape[-2:])
    if size != fields.image_size or size != (top.image_size or size):
        wanted = top.image_size or fields.image_size
        raise ValueError(
            f"images are {size[0]} x {size[1]} px; {top.layer} was searched in images of "
            f"{wanted[0]} x {wanted[1]} px"
        )
    return images


def _in_places(filled: Tensor, top: Top, maps: list[int], empty: float = 0) -> Tensor:
    """Put what the units that respond gave into their places, (len(maps), K, ...)."""
    responds = top.responds(maps)
    out = filled.new_full((*responds.shape, *filled.shape[1:]), empty)
    out[responds] = filled
    return out


# --- Fig. 2 as one job ----------------------------------------------------------------------------


class Panel(NamedTuple):
    """Some maps of one layer of Fig. 2."""

    layer: str | None
    maps: Tensor  # (M,)
    top: Top  # of the whole layer
    projections: Tensor  # (M, K, 3, h, w), signed
    patches: Tensor  # (M, K, 3, h, w), of the pictures' type


class _SwitchCache:
    """Switch codes of the images in some top list, as long as they fit in memory."""

    def __init__(self, limit: int):
        self.limit, self.stored = limit, {}
        self.size = 0

    def add(self, indices: Tensor, codes: dict[str, Tensor], wanted: set[int]) -> None:
        """Keep the codes of the images that are wanted, and drop others if there is no room."""
        for place, index in enumerate(indices.tolist()):
            if index in wanted:
                self.stored[index] = {name: code[place].clone() for name, code in codes.items()}
                self.size += sum(code.numel() for code in self.stored[index].values())
        if self.size > self.limit:
            self._prune(wanted)

    def _prune(self, wanted: set[int]) -> None:
        kept = {index: codes for index, codes in self.stored.items() if index in wanted}
        each = {index: sum(c.numel() for c in codes.values()) for index, codes in kept.items()}
        self.size = sum(each.values())
        while self.size > self.limit:
            index, _ = kept.popitem()
            self.size -= each[index]
        self.stored = kept


def figure2(
    model: Model,
    data: Data,
    layers: str | Sequence[str | None] | None = None,
    k: int = 9,
    *,
    pictures: Data | Fetch | None = None,
    maps: int = 32,
    batch: int = 16,
    memory: int = 2**30,
    progress: bool = True,
) -> Iterator[Panel]:
    """Make all of Fig. 2: the top k of every map of some layers, their projections and patches.

    One search over the data; for this package's networks it also keeps the switches of the images
    that lead, so that a projection costs its way down only, on its receptive field.

    Args:
        data: a tensor (N, 3, H, W) or a map-style data set, as the model wants its images.
        layers: as for `top_units`.
        pictures: what the patches are cut from; default `data`.
        maps: a panel; bounds the memory of the pictures.
        batch: images, and units, at once.
        memory: bytes that kept switches may take; images beyond are run forward again.
    Yields:
        `Panel`, layer after layer, maps in order; those that never respond too, with zeros.
    """
    layers = _layers(model, layers)
    fetch = _fetcher(data)
    cached = isinstance(model, Network) and set(layers) <= set(model.convs)
    cached = cached and not any(c.blur for c in model.architecture.convs)
    if cached:
        tops, cache = _search_with_switches(model, data, layers, k, batch, memory, progress)
    else:
        tops, cache = top_units(model, data, layers, k, batch=batch, progress=progress), None
    from tqdm.auto import tqdm

    total = sum(len(top.values) for top in tops.values())
    with tqdm(desc="projecting", total=total, unit="map", disable=not progress) as bar:
        for layer, top in tops.items():
            fields = fields_of(model, layer, _example(fetch, top))
            for block in torch.arange(len(top.values)).split(maps):
                if cached and fields.rows.size < model.image_size:
                    pixels = _project_cached(model, fetch, top, block, cache, fields, batch)
                else:
                    pixels = projections(model, fetch, top, block.tolist(), fields=fields, batch=batch)
                source = fetch if pictures is None else pictures
                seen = patches(model, source, top, block.tolist(), fields=fields)
                yield Panel(layer, block, top, pixels, seen)
                bar.update(len(block))


def _search_with_switches(
    network: Network, data: Data, layers: Sequence[str], k: int, batch: int, memory: int,
    progress: bool,
) -> tuple[dict[str, Top], _SwitchCache]:  # fmt: skip
    search, cache = _new_search(data, layers, k, per_class=False), _SwitchCache(memory)
    deepest = max(layers, key=list(network.convs).index)

    def run(images: Tensor) -> dict:
        images = images.contiguous(memory_format=torch.channels_last)
        trace = deconvnet.forward(network, images, deepest, also=layers)
        return {"features": trace.features, "codes": deconvnet.switch_codes(trace.switches)}

    with evaluating(network):
        stream = _stream(run, data, _device_of(network), search.seen.clone(), batch, progress)
        for part, found in stream:
            search.add(part, {layer: found["features"][layer] for layer in layers})
            leading = torch.cat([t.where[:, :, 0].flatten() for t in search.trackers.values()])
            cache.add(part.indices, found["codes"], set(leading.unique().tolist()))
    return search.tops(), cache


def _project_cached(
    network: Network, fetch: Fetch, top: Top, maps: Tensor, cache: _SwitchCache, fields: Fields,
    batch: int,
) -> Tensor:  # fmt: skip
    """Project as `projections` does, from kept switches where there are any."""
    indices, units = top.of(maps.tolist())
    values = top.values[maps][top.responds(maps)]
    device = _device_of(network)
    known = torch.tensor([int(i) in cache.stored for i in indices], dtype=torch.bool)
    pixels = torch.zeros(len(indices), 3, *fields.window_size)
    for part in known.nonzero().flatten().split(batch):
        codes = [cache.stored[int(i)] for i in indices[part]]
        codes = {name: [own[name] for own in codes] for name in codes[0]}
        own = Units(*(t.to(device) for t in (units.maps[part], units.rows[part], units.columns[part])))
        found = deconvnet.project_codes(network, top.layer, own, values[part].to(device), codes)
        pixels[part] = found.pixels.cpu()
    rest = (~known).nonzero().flatten()
    for part in rest[indices[rest].argsort(stable=True)].split(batch):
        distinct, of = indices[part].unique(return_inverse=True)
        x = fetch(distinct).to(device)
        own = Units(*(t.to(device) for t in (units.maps[part], units.rows[part], units.columns[part])))
        found = deconvnet.project_crops(network, x, top.layer, own, of.to(device))
        pixels[part] = found.pixels.cpu()
    return _in_places(pixels, top, maps.tolist())


# --- a page ---------------------------------------------------------------------------------------


QUANTILES = (0.99, 0.9, 0.75, 0.5)


@dataclass(frozen=True)
class Example:
    """The image of a sample that stands at a quantile of a map's activations, and what it sees."""

    quantile: float
    activation: float
    image: int  # index in the data set
    patch: Tensor  # (3, h, w), 0 to 1


@dataclass(frozen=True)
class Feature:
    """One map (or unit) of a gallery."""

    number: int
    values: Tensor  # (K,) positive activations, strongest first
    images: Tensor  # (K,) index in the data set
    projections: Tensor  # (K, 3, h, w), signed
    patches: Tensor  # (K, 3, h, w), 0 to 1
    sample: Tensor  # (S,) its strongest activation in each image of a sample
    examples: tuple[Example, ...]


@dataclass(frozen=True)
class Gallery:
    """What some maps of a layer look for. `show` in a notebook, `save` as a page of its own."""

    model: str  # its class
    layer: str | None
    images: int  # searched
    fields: Fields
    top: Top
    features: tuple[Feature, ...]

    def html(self) -> str:
        """Return the page's body: styles, links, and a section with the id `unit-N` for each map."""
        field = "a receptive field of at most" if not self.fields.exact else "a receptive field of"
        height, width = self.fields.window_size
        name = "output" if self.layer is None else self.layer
        links = " ".join(f'<a href="#unit-{f.number}">{f.number}</a>' for f in self.features)
        sections = "".join(map(_section, self.features))
        return (
            f'{_STYLE}<div class="zf-gallery"><h1>{html.escape(self.model)}, {html.escape(name)}</h1>'
            f"<p>{len(self.features)} of {len(self.top.values)} maps over {self.images:,} images; "
            f"{field} {height} x {width} px. For each map the images that excite it most: the "
            "deconvnet's projections of the unit, and the patches that the unit sees. Projections "
            "of a map share one scale (its .99 quantile, exponent 0.7; zero is mid-grey).</p>"
            f"<nav>Maps: {links}</nav>{sections}</div>"
        )

    def show(self):
        """Return the gallery for a notebook."""
        from IPython.display import HTML

        return HTML(self.html())

    def save(self, file: str | Path) -> Path:
        """Write one page that needs no other file."""
        title = html.escape(f"{self.model}, {self.layer or 'output'}")
        head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{title}</title>'
        page = f'<!doctype html><html lang="en"><head>{head}</head><body>{self.html()}</body></html>'
        _write(Path(file), page.encode())
        return Path(file)


_STYLE = """<style>
.zf-gallery { font: 15px/1.5 system-ui, sans-serif; max-width: 1100px; margin: auto; padding: 1em; }
.zf-gallery section { margin: 2em 0; border-top: 1px solid #8888; }
.zf-gallery .row { display: flex; flex-wrap: wrap; gap: 16px; align-items: flex-start; }
.zf-gallery figure { margin: 0; } .zf-gallery figcaption { font-size: 13px; }
.zf-gallery img { display: block; max-width: 100%; }
.zf-gallery svg rect { fill: #4477aa; }
@media (prefers-color-scheme: dark) { body { background: #181818; color: #ddd; }
  .zf-gallery a { color: #8ab4f8; } .zf-gallery svg rect { fill: #88aadd; } }
</style>"""


def _image(pictures: Tensor, alt: str, columns: int) -> str:
    """Return pictures of 0 to 1, (N, 3, h, w), in rows as an HTML image."""
    from PIL import Image

    from zfrepro import plots

    sheet = plots.tiled(plots.enlarge(pictures), columns, gap=2)
    data = io.BytesIO()
    Image.fromarray((plots.array(sheet) * 255).round().astype("uint8")).save(data, "JPEG", quality=90)
    source = base64.b64encode(data.getvalue()).decode()
    size = f'width="{sheet.shape[2]}" height="{sheet.shape[1]}"'
    return f'<img alt="{html.escape(alt)}" {size} src="data:image/jpeg;base64,{source}">'


def _histogram(sample: Tensor, bins: int = 40) -> str:
    """Return the positive activations of a sample as a small SVG, counts on a logarithmic scale."""
    positive = sample[sample > 0]
    share = 100 * len(positive) / max(1, len(sample))
    high = float(positive.max()) if len(positive) else 1.0
    counts = torch.histc(positive, bins, 0, high) if len(positive) else torch.zeros(bins)
    heights = (80 * counts.log1p() / counts.log1p().max().clamp_min(1e-9)).tolist()
    bars = "".join(
        f'<rect x="{6 * i}" y="{80 - h:.1f}" width="5" height="{h:.1f}"/>' for i, h in enumerate(heights)
    )
    caption = (
        f"strongest activation an image, 0 to {high:.3g}, counts on a logarithmic scale; "
        f"above 0 in {share:.0f} % of {len(sample):,} images"
    )
    return (
        f'<figure><svg role="img" aria-label="{caption}" width="{6 * bins}" height="80">{bars}</svg>'
        f"<figcaption>{caption}</figcaption></figure>"
    )


def _section(feature: Feature) -> str:
    from zfrepro import plots

    number, side = feature.number, 3
    indices = ", ".join(map(str, feature.images.tolist()))
    drawn = _image(plots.display(feature.projections[None])[0], f"projections of map {number}", side)
    seen = _image(feature.patches, f"patches that excite map {number} most", side)
    lower = "".join(
        f"<figure>{_image(e.patch[None], f'patch at the {e.quantile} quantile', 1)}"
        f"<figcaption>quantile {e.quantile:g}: {e.activation:.3g}<br>image {e.image}</figcaption></figure>"
        for e in feature.examples
    )
    return (
        f'<section id="unit-{number}"><h2><a href="#unit-{number}">Map {number}</a></h2>'
        f"<p>strongest activation {float(feature.values[0]):.3g}; images {indices}</p>"
        f'<div class="row"><figure>{drawn}<figcaption>projections</figcaption></figure>'
        f"<figure>{seen}<figcaption>patches</figcaption></figure></div>"
        f'<div class="row">{_histogram(feature.sample)}{lower}</div></section>'
    )


def as_pictures(images: Tensor) -> Tensor:
    """Return images as colours of 0 to 1.

    uint8 is divided by 255; float within 0 to 1 stays; any other, such as what a network sees after
    its normalisation, is stretched, each image between its lowest and its highest value.
    """
    if images.dtype == torch.uint8:
        return images.float() / 255
    images = images.float()
    if images.numel() == 0 or (images.amin() >= 0 and images.amax() <= 1):
        return images
    low, high = images.amin((1, 2, 3), keepdim=True), images.amax((1, 2, 3), keepdim=True)
    return (images - low) / (high - low).clamp_min(1e-12)


def gallery(
    model: Model,
    data: Data,
    layer: str | None,
    *,
    maps: Iterable[int] | int = 12,
    k: int = 9,
    pictures: Data | Fetch | None = None,
    sample: int = 1000,
    batch: int = 32,
    progress: bool = True,
) -> Gallery:
    """Make Fig. 2 for one layer of any network on any images.

    Args:
        data: a tensor (N, 3, H, W), a map-style data set such as torchvision's `ImageFolder`, or a
            loader of one, as the model wants its images.
        layer: as in `model.named_modules()`, or None for the model's output.
        maps: which, or how many; then spread evenly over those that respond to k images.
        pictures: what the patches are cut from, of the same size as the images; default, the images
            themselves as `as_pictures` shows them.
        sample: so many images, spread evenly over the data, give histogram and lower examples.
    Returns:
        `Gallery`.
    Raises:
        ValueError: no map responds, or as `top_units` and `projections`.
    """
    fetch = _fetcher(data)
    shown = fetch if pictures is None else _fetcher(pictures)
    top = top_units(model, data, [layer], k, batch=batch, progress=progress)[layer]
    chosen = _choose(top, maps)
    fields = fields_of(model, layer, _example(fetch, top))
    drawn = projections(model, fetch, top, chosen, fields=fields, progress=progress)
    seen = patches(model, lambda i: as_pictures(shown(i)), top, chosen, fields=fields)
    total = _length(data)
    strongest, places = _sampled(model, fetch, layer, chosen, total, sample, batch)
    features = []
    for i, number in enumerate(chosen):
        fits = top.responds([number])[0]
        examples = _examples(strongest[:, i], places, model, fetch, shown, top, number, fields)
        features.append(
            Feature(
                number, top.values[number][fits], top.images[number][fits], drawn[i][fits],
                seen[i][fits], strongest[:, i], examples,
            )
        )  # fmt: skip
    name = type(model).__name__
    return Gallery(name, layer, total, fields, top, tuple(features))


def _choose(top: Top, maps: Iterable[int] | int) -> list[int]:
    """Return the given maps that respond, or so many spread evenly over those that respond to k images."""
    if not isinstance(maps, int):
        maps = list(maps)
        require_index(f"{top.layer}: map", torch.as_tensor(maps), len(top.values))
        chosen = [number for number in maps if top.responds([number]).any()]
    else:
        full = (top.values > 0).sum(1)
        able = (full == full.max()).nonzero().flatten() if full.max() > 0 else full[:0]
        spread = torch.linspace(0, max(0, len(able) - 1), min(maps, len(able))).round().long()
        chosen = able[spread].tolist()
    if not chosen:
        raise ValueError(f"{top.layer}: no map responds to any of these images")
    return chosen


@torch.no_grad()
def _sampled(
    model: Model, fetch: Fetch, layer: str | None, maps: list[int], total: int, sample: int, batch: int
) -> tuple[Tensor, Tensor]:
    """Return the strongest activation of some maps in a sample of images, (S, M), and the images."""
    places = torch.linspace(0, total - 1, min(total, sample)).round().long()
    device, found = _device_of(model), []
    with evaluating(model):
        for part in places.split(batch):
            images = fetch(part)
            images = images.to(device) if device else images
            output = layer_outputs(model, images, [layer], to_the_end=False)[layer][:, maps]
            found.append((output if output.ndim == 2 else output.amax((2, 3))).float().cpu())
    return torch.cat(found), places


@torch.no_grad()
def _examples(
    strongest: Tensor, places: Tensor, model: Model, fetch: Fetch, shown: Fetch, top: Top, number: int,
    fields: Fields,
) -> tuple[Example, ...]:  # fmt: skip
    """Return the images of the sample at some quantiles of a map's positive activations."""
    order = strongest.argsort(stable=True)
    order = order[strongest[order] > 0]
    found = []
    for quantile in QUANTILES if len(order) else ():
        at = int(order[round(quantile * (len(order) - 1))])
        image = places[at : at + 1]
        x = fetch(image)
        device = _device_of(model)
        x = x.to(device) if device else x
        with evaluating(model):
            output = layer_outputs(model, x, [top.layer], to_the_end=False)[top.layer]
        rows = columns = None
        if output.ndim == 4:
            position = int(output[0, number].argmax())
            rows = torch.tensor([position // output.shape[3]])
            columns = torch.tensor([position % output.shape[3]])
        picture = as_pictures(shown(image))
        patch = deconvnet.crop(picture, *fields.windows(rows, columns, 1), fill=0.5)[0]
        found.append(Example(quantile, float(strongest[at]), int(image), patch))
    return tuple(found)



# --- measures of the gallery chapter ----------------------------------------------------------------


def random_top(images: int, maps: int, *, k: int = 9, generator: torch.Generator | None = None) -> Top:
    """What `Top` would hold if nothing were learned: k different images at random for each map, for baselines."""
    chosen = torch.stack([torch.randperm(images, generator=generator)[:k] for _ in range(maps)])
    zeros = torch.zeros_like(chosen)
    return Top("random", torch.ones(chosen.shape), chosen, zeros, zeros)


def purity(top: Top, labels: Tensor) -> Tensor:
    """Share of a map's top images that belong to their most frequent class. labels: (N,) -> (C,), nan for dead maps."""
    classes = int(labels.max()) + 1
    there = (top.values > 0) & (top.images >= 0)
    votes = torch.nn.functional.one_hot(labels[top.images.clamp_min(0)], classes) * there[:, :, None]
    return votes.sum(1).amax(1) / there.sum(1)


def mean_pairwise_correlation(pictures: Tensor) -> Tensor:
    """Mean correlation over all pairs of a map's K pictures, as grey levels. (M, K, C, F, F) -> (M,).

    Places that are nan count as the picture's mean, so they make no two pictures more alike.
    """
    grey = torch.nn.functional.normalize(_centred(pictures).flatten(2), dim=2)
    k = grey.shape[1]
    pairs = grey @ grey.transpose(1, 2)
    return (pairs.sum((1, 2)) - pairs.diagonal(dim1=1, dim2=2).sum(1)) / (k * (k - 1))


def contrast(pictures: Tensor, places: int = 6) -> Tensor:
    """How much structure is where, at so few places a side that small shifts count little.

    Root mean square of the grey levels about the picture's mean. (M, K, C, F, F) -> (M, K, 1, places, places).
    """
    return torch.nn.functional.adaptive_avg_pool2d(_centred(pictures).square(), places).sqrt()[:, :, None]


SIMILARITIES = {"pixels": mean_pairwise_correlation, "contrast": lambda pictures: mean_pairwise_correlation(contrast(pictures))}


def _centred(pictures: Tensor) -> Tensor:
    """Grey levels less their mean, 0 where nan. (M, K, C, F, F) -> (M, K, F, F)."""
    grey = pictures.float().mean(2)
    return (grey - grey.flatten(2).nanmean(2)[:, :, None, None]).nan_to_num(0)


def centered_windows(pictures: Tensor, network: Network, layer: str, units: Units) -> Tensor:
    """What each unit's field holds of a picture, nan beyond the picture's border. (N, 3, S, S) -> (N, 3, F, F).

    Unlike `patches`, also where the field is larger than the image: the unit is always in the middle.
    """
    field = stage(network.architecture, network.image_size, layer).field
    tops, lefts = (place * field.jump + field.start for place in (units.rows, units.columns))
    return deconvnet.crop(pictures, tops, lefts, field.size, torch.nan)


@torch.no_grad()
def random_responding_units(network: Network, images: Tensor, layer: str, places: Units, generator: torch.Generator) -> Units:
    """In each image a map that responds at the given row and column, drawn at random among those that do."""
    maps = network.features(images, [layer])[layer]
    there = maps[torch.arange(len(images)), :, places.rows, places.columns] > 0
    chances = there + 1e-9  # where none responds, any: its projection is blank
    return Units(torch.multinomial(chances.cpu(), 1, generator=generator)[:, 0], places.rows, places.columns)


def centered_pairs(network: Network, images: Tensor, layer: str, units: Units) -> tuple[Tensor, Tensor]:
    """Projections of units and the patches they see, both with the unit in the middle. Twice (N, 3, F, F)."""
    patches = centered_windows(images, network, layer, units)
    projected = deconvnet.project_crops(network, images, layer, units).pixels
    if projected.shape == images.shape:  # the field is larger than the image
        projected = centered_windows(projected, network, layer, units)
    return projected.masked_fill(patches.isnan(), torch.nan).cpu(), patches.cpu()


def similarities(
    network: Network, fetch: Callable[[Tensor], Tensor], top: Top, maps: Iterable[int], images: int, *, seed: int = 0,
    batch: int = 16,
) -> dict[str, dict[str, Tensor]]:  # fmt: skip
    """How alike a map's projections and its patches are, and pictures that share nothing but their places.

    Args:
        fetch: from image indices (B,) to images as the network wants them, (B, 3, S, S).
        maps: maps that respond to K images.
        images: how many there are to draw others from.
    Returns:
        for each of `SIMILARITIES`, (len(maps),) each: `projections`, `patches`, and `random projections` and `random
        patches`, of other images at the same places, with a map that responds there.
    """
    generator, layer, maps = torch.Generator().manual_seed(seed), top.layer, list(maps)
    chosen, units = top.of(maps)
    others = torch.randint(images, chosen.shape, generator=generator)
    rows: dict[str, list[Tensor]] = {}
    for part in torch.arange(len(chosen)).split(batch):
        own, other, places = fetch(chosen[part]), fetch(others[part]), units[part]
        drawn = random_responding_units(network, other, layer, places, generator)
        for name, seen, whose in (("", own, places), ("random ", other, drawn)):
            for kind, found in zip(("projections", "patches"), centered_pairs(network, seen, layer, whose), strict=True):
                rows.setdefault(name + kind, []).append(found)
    pictures = {name: torch.cat(found).unflatten(0, (len(maps), -1)) for name, found in rows.items()}
    return {how: {name: like(own) for name, own in pictures.items()} for how, like in SIMILARITIES.items()}


def patches_vary_more(found: dict[str, Tensor]) -> Tensor:
    """By how much more alike projections are than patches, both less what chance pictures at their places are. (M,)."""
    return (found["projections"] - found["random projections"]) - (found["patches"] - found["random patches"])


def on_mask(top: Top, network: Network, mask: Tensor) -> Tensor:
    """Whether the middle of each top unit's receptive field lies on the object.

    Args:
        mask: (N, S, S) bool, the object in what the network sees; or float, its share at each place.
    Returns:
        (C, K) float, 1 on the object, 0 off it (or the share), nan in empty places and for units that do not respond.
    """
    field = stage(network.architecture, network.image_size, top.layer).field
    middles = [
        (place * field.jump + field.start + field.size // 2).clamp(0, network.image_size - 1)
        for place in (top.rows, top.columns)
    ]
    hit = mask[top.images.clamp_min(0), middles[0], middles[1]].float()
    return hit.masked_fill(~(top.values > 0), torch.nan)


def shares_on_mask(top: Top, network: Network, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Shares of a map's top units that lie on the object, in their own images and at their places in all images.

    Args:
        mask: (N, S, S) bool.
    Returns:
        (C,) each, nan for maps that never respond.
    """
    anywhere = mask.float().mean(0).expand(mask.shape)
    return on_mask(top, network, mask).nanmean(1), on_mask(top, network, anywhere).nanmean(1)
