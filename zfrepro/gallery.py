"""What excites each unit most (Fig. 2): its top images, their projections and patches.

`top_units` searches a data set in one pass, `projections` and `patches` show what it found, pixel
by pixel in the same places, and `figure2` does all of it for several layers. All take any torch
model; for this package's networks projections are computed on crops. `gallery_page` makes a page.
"""

import functools
import hashlib
import itertools
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
import torch.utils.data
from torch import Tensor, nn

from zfrepro import deconvnet, models, rules
from zfrepro.deconvnet import Units
from zfrepro.layers import require_index
from zfrepro.models import Layered, evaluating
from zfrepro.networks import Network
from zfrepro.receptive_field import Fields, probe, stage
from zfrepro.records import write_atomically

Model = Callable[[Tensor], Tensor]
Data = Tensor | torch.utils.data.Dataset | torch.utils.data.DataLoader | Iterable
Fetch = Callable[[Tensor], Tensor]  # from image indices (B,) to images (B, 3, H, W)


@dataclass(frozen=True)
class Top:
    """The strongest activations of every unit (feature map, FC unit or class) of a layer.

    Strongest first, all (U, K). At most one position an image and map is kept, so that nine patches
    show nine images; the paper does not say. Empty places, where there are fewer than K images,
    have value -inf and image -1. Ties go to the lower image index.
    """

    layer: str | None
    values: Tensor  # float
    images: Tensor  # int64, index in the data set
    rows: Tensor | None = None  # int64, position in the feature map; None for layers without maps
    columns: Tensor | None = None
    image_size: tuple[int, int] | None = None  # height and width of the images searched, in pixels

    def of(self, maps: Iterable[int], *, silent: bool = False) -> tuple[Tensor, Units]:
        """Return image indices and units of some maps, (B,), map after map, empty places left out.

        Args:
            silent: also units without a positive activation.
        Raises:
            ValueError: a map that does not exist.
        """
        chosen = torch.as_tensor(list(maps), dtype=torch.int64)
        responds = self.responds(chosen)
        wanted = self.images[chosen] >= 0 if silent else responds
        units = chosen[:, None].expand_as(wanted)[wanted]
        places = (self.rows, self.columns)
        places = (None if place is None else place[chosen][wanted] for place in places)
        return self.images[chosen][wanted], Units(units, *places)

    def responds(self, maps: Sequence[int] | Tensor) -> Tensor:
        """Return which places hold a positive activation. (len(maps), K) bool.

        Raises:
            ValueError: a map that does not exist.
        """
        chosen = torch.as_tensor(maps, dtype=torch.int64)
        require_index(f"{self.layer}: map", chosen, len(self.values))
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
                f"{self.layer}: activations are not finite; "
                "the images or the weights hold NaN or inf"
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
        try:
            return torch.tensor(indices), self.collate(list(items))
        except (TypeError, RuntimeError) as error:
            raise ValueError(
                f"images {indices[0]} to {indices[-1]} of the data set do not make a batch: it "
                f"needs a transform that gives tensors of one size ({error})"
            ) from error


class _Remaining:
    """The batches of a batch sampler without the images seen, now or in an earlier run."""

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


def length_of(data: Data) -> int | None:
    """Return how many images there are, or None for streams, which do not say."""
    if isinstance(data, torch.utils.data.DataLoader):
        return length_of(data.dataset) if data.batch_sampler is not None else None
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
    if length_of(data) is None:
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


def fetcher(images: Data | Fetch) -> Fetch:
    """Return a function from indices (B,) to images (B, 3, H, W)."""
    if isinstance(images, Tensor):

        def pick(chosen: Tensor) -> Tensor:
            require_index("image", chosen, len(images))
            return images[chosen]

        return pick
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
        require_index("image", chosen, len(images))
        items = (images[int(i)] for i in chosen)
        return torch.stack([item[0] if isinstance(item, (tuple, list)) else item for item in items])

    return fetch


# --- any model: the outputs of several layers -----------------------------------------------------


def layer_outputs(
    model: Model, images: Tensor, layers: Sequence[str | None]
) -> dict[str | None, Tensor]:
    """Run a model, no further than needed, and return the outputs of several layers.

    Args:
        images: (B, 3, H, W).
        layers: names as in `model.named_modules()`, or None for the model's own output; for this
            package's networks `conv1` to `fc8`, after their ReLU.
    Returns:
        layer -> (B, C, H, W) or (B, units).
    Raises:
        ValueError: a layer that does not exist, is run never or more than once, or whose output is
            neither.
    """
    if isinstance(model, Layered):
        return model.features(images, layers)
    named = {layer: models.uncompiled(model, layer) for layer in layers}
    model, _ = models.uncompiled(model, None)
    calls = {name: 0 for _, name in named.values()}
    for name in calls.keys() - {None}:
        if models.calls_of(model, images[:1], name) > 1:
            raise ValueError(f"{name} is run more than once in one pass; name another module")
    found = models.outputs_of(model, images, calls)
    for layer, output in found.items():
        _require_maps_or_units(layer, output, images)
    return {layer: found[name] for layer, (_, name) in named.items()}


def _require_maps_or_units(layer: str | None, output: Tensor, images: Tensor) -> None:
    shape = tuple(output.shape)
    square = images.shape[-1] == images.shape[-2]
    channels_last = len(shape) == 4 and square and shape[1] == shape[2] != shape[3]
    if len(shape) not in (2, 4) or shape[0] != len(images) or channels_last:
        raise ValueError(
            f"{layer or 'output'} gives {shape}; wanted feature maps ({len(images)}, C, H, W) "
            f"or units ({len(images)}, C)"
        )


def device_of(model: Model) -> torch.device | None:
    parameters = model.parameters() if isinstance(model, nn.Module) else iter(())
    return next((p.device for p in parameters), None)


# --- the search -----------------------------------------------------------------------------------


@torch.no_grad()
def _stream(
    run: Callable[[Tensor], dict], data: Data, device: torch.device | None, seen: Tensor,
    batch: int, progress: bool,
) -> Iterator[tuple[_Batch, dict]]:  # fmt: skip
    """Yield batches with what `run` gives for them, in parts where a GPU's memory is short."""
    from tqdm.auto import tqdm

    from zfrepro.device import with_oom_backoff

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

    total = length_of(data)
    done = 0 if total is None else int(seen.sum())
    bar = tqdm(desc="searching", total=total, initial=done, unit="image", disable=not progress)
    with bar:
        for part, found in with_oom_backoff(run_part, places()):
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
            size = tuple(batch.images.shape[-2:])
            if (tracker.image_size or size) != size:
                raise ValueError(f"images of {tracker.image_size} and {size} px; give one size")
            tracker.image_size = size
            tracker.add(output[chosen], batch.indices[chosen])
        if self.seen.dtype == torch.bool:
            self.seen[batch.indices] = True
        else:
            self.seen += len(batch.indices)

    def tops(self) -> dict:
        """Return the result: layer -> `Top`, or layer -> class -> `Top`."""
        if not self.trackers:
            raise ValueError("no images to search; give at least one batch")
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
            for name in ("values", "where"):
                tensors[f"{i}.{name}"] = getattr(tracker, name).cpu().contiguous()
            notes.append([layer, label, tracker.seen, tracker.flat, tracker.image_size])
        data = {"fingerprint": fingerprint, "trackers": json.dumps(notes)}
        write_atomically(file, safetensors.torch.save(tensors, data))

    def load(self, file: Path, fingerprint: str, device: torch.device | None) -> None:
        """Continue from a file.

        Raises:
            ValueError: it is damaged or belongs to another search, with the remedy.
        """
        import safetensors

        try:
            with safetensors.safe_open(file, "pt", device=str(device or "cpu")) as stored:
                notes = stored.metadata()
                tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
        except safetensors.SafetensorError as error:
            raise ValueError(f"{file}: not a search's state ({error}); delete it") from None
        if (notes or {}).get("fingerprint") != fingerprint:
            raise ValueError(f"{file}: another model, layers, k or data; delete it or name another")
        self.seen = tensors["seen"].cpu()
        for i, (layer, label, seen, flat, size) in enumerate(json.loads(notes["trackers"])):
            tracker = TopTracker(layer, len(tensors[f"{i}.values"]), self.k)
            tracker.seen, tracker.flat, tracker.image_size = seen, flat, tuple(size)
            tracker.values, tracker.where = tensors[f"{i}.values"], tensors[f"{i}.where"]
            self.trackers[layer, label] = tracker


def _new_search(data: Data, layers: Sequence[str | None], k: int, per_class: bool) -> _Search:
    if k < 1:
        raise ValueError(f"k {k}: must be at least 1")
    if not layers:
        raise ValueError("no layers to search; name at least one")
    total = length_of(data)
    seen = (
        torch.zeros(1, dtype=torch.int64) if total is None else torch.zeros(total, dtype=torch.bool)
    )
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
    device, file = device_of(model), None if state is None else Path(state)
    mark = "" if file is None else _fingerprint(model, [*layers, per_class], k, length_of(data))
    if file is not None and file.exists():
        search.load(file, mark, device)
    saved = time.monotonic()
    with evaluating(model):
        run = functools.partial(layer_outputs, model, layers=layers)
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
    device = device_of(model)
    with evaluating(model):
        example = images[:1].to(device) if device else images[:1]
        return probe(lambda x: layer_outputs(model, x, [layer])[layer], example)


def _projector(model: Model, layer: str | None, fields: Fields) -> Callable:
    """Return a function from images, units and the image of each unit to crops (B, 3, h, w)."""
    if isinstance(model, Network) and not any(c.blur for c in model.architecture.convs):
        if layer in model.convs:
            return lambda x, units, of: deconvnet.project_crops(model, x, layer, units, of).pixels
        return lambda x, units, of: deconvnet.project(model, x[of], layer, units)
    probed, name = (model.output(layer), None) if isinstance(model, Layered) else (model, layer)

    def project(images: Tensor, units: Units, of: Tensor) -> Tensor:
        pixels = rules.project(probed, images, units, name, of=of)
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
    maps, fetch = list(maps), fetcher(images)
    indices, units = top.of(maps)
    fields = fields or fields_of(model, top.layer, example_of(fetch, top))
    found = _project(model, fetch, top, indices, units, fields, batch, progress)
    return _in_places(found, top, maps)


def _project(
    model: Model, fetch: Fetch, top: Top, indices: Tensor, units: Units, fields: Fields,
    batch: int, progress: bool = False,
) -> Tensor:  # fmt: skip
    """Project units of some images, (B,), in the order of the images. -> (B, 3, h, w)."""
    from tqdm.auto import tqdm

    from zfrepro.device import with_oom_backoff

    project, device = _projector(model, top.layer, fields), device_of(model)

    def project_part(places: Tensor) -> Tensor:
        distinct, of = indices[places].unique(return_inverse=True)
        x = _validate_size(fetch(distinct), top, fields)
        x = x.to(device) if device else x
        with evaluating(model):
            return project(x, units[places].to(x.device), of.to(x.device)).detach().cpu()

    order = indices.argsort(stable=True)
    bar = tqdm(
        list(_chunks(order, batch)), desc=f"projecting {top.layer}", unit="batch",
        disable=not progress,
    )  # fmt: skip
    found = [part.float() for part in with_oom_backoff(project_part, bar)]
    if not found:
        return torch.zeros(0, 3, *fields.window_size)
    return torch.cat(found)[order.argsort()]


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
    maps, fetch = list(maps), fetcher(images)
    indices, units = top.of(maps)
    example = example_of(fetch, top)
    fields = fields or fields_of(model, top.layer, example.float())
    if fill is None:
        fill = 0.5 if example.is_floating_point() else 128
    windows = fields.windows(units.rows, units.columns, len(units))
    cut = [example.new_empty(0, example.shape[1], *fields.window_size)]
    for part in _chunks(torch.arange(len(indices)), 256):
        pictures = _validate_size(fetch(indices[part]), top, fields)
        tops, lefts, size = windows[0][part], windows[1][part], windows[2]
        cut.append(deconvnet.crop(pictures, tops, lefts, size, fill))
    return _in_places(torch.cat(cut), top, maps, fill)


def _chunks(places: Tensor, size: int) -> Iterator[Tensor]:
    """Yield the places in parts of `size`; nothing where there are none."""
    return (places[start : start + size] for start in range(0, len(places), size))


def example_of(fetch: Fetch, top: Top) -> Tensor:
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


SWITCH_MEMORY = 2**30  # bytes; 333 kB an image of ZFNet at 224 px


class SwitchCache:
    """Switch codes of the images in some top list, as long as they fit in memory."""

    def __init__(self, limit: int = SWITCH_MEMORY):
        self.limit, self.size = limit, 0
        self.stored: dict[int, dict[str, Tensor]] = {}  # image -> conv name -> uint8 (C, h, w)

    def add(self, indices: Tensor, codes: Mapping[str, Tensor], wanted: set[int]) -> None:
        """Keep the codes of those images, (B,), that are wanted; make room if they are too many."""
        for place, index in enumerate(indices.tolist()):
            if index in wanted:
                self.stored[index] = {name: code[place].clone() for name, code in codes.items()}
                self.size += sum(code.nbytes for code in self.stored[index].values())
        if self.size > self.limit:
            for index in [index for index in self.stored if index not in wanted]:
                self._drop(index)
        while self.size > self.limit:
            self._drop(next(reversed(self.stored)))

    def _drop(self, index: int) -> None:
        self.size -= sum(code.nbytes for code in self.stored.pop(index).values())


def figure2(
    model: Model,
    data: Data,
    layers: str | Sequence[str | None] | None = None,
    k: int = 9,
    *,
    pictures: Data | Fetch | None = None,
    maps: int = 32,
    batch: int = 16,
    memory: int = SWITCH_MEMORY,
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
    from tqdm.auto import tqdm

    layers, fetch = _layers(model, layers), fetcher(data)
    shown = fetch if pictures is None else fetcher(pictures)
    cache = SwitchCache(memory)
    if _has_crops(model, layers):
        tops, cache = search_with_switches(
            model, data, layers, k, batch=batch, memory=memory, progress=progress
        )
    else:
        tops = top_units(model, data, layers, k, batch=batch, progress=progress)
    total = sum(len(top.values) for top in tops.values())
    with tqdm(desc="projecting", total=total, unit="map", disable=not progress) as bar:
        for layer, top in tops.items():
            fields = fields_of(model, layer, example_of(fetch, top))
            for block in torch.arange(len(top.values)).split(maps):
                yield show_cached(
                    model, fetch, shown, top, block.tolist(), cache, fields, batch=batch
                )
                bar.update(len(block))


def _has_crops(model: Model, layers: Iterable[str | None]) -> bool:
    """Whether `deconvnet.project_crops` projects units of all these layers."""
    if not isinstance(model, Network) or any(c.blur for c in model.architecture.convs):
        return False
    return set(layers) <= set(model.convs)


def search_with_switches(
    network: Network, data: Data, layers: Sequence[str], k: int = 9, *, batch: int = 16,
    memory: int = SWITCH_MEMORY, progress: bool = True,
) -> tuple[dict[str, Top], SwitchCache]:  # fmt: skip
    """Search conv layers as `top_units` does, and keep the switches of the images that lead."""
    search, cache = _new_search(data, layers, k, per_class=False), SwitchCache(memory)
    deepest = max(layers, key=list(network.convs).index)

    def run(images: Tensor) -> dict:
        images = images.contiguous(memory_format=torch.channels_last)
        trace = deconvnet.forward(network, images, deepest, also=layers)
        return {"features": trace.features, "codes": deconvnet.switch_codes(trace.switches)}

    with evaluating(network):
        stream = _stream(run, data, device_of(network), search.seen.clone(), batch, progress)
        for part, found in stream:
            search.add(part, {layer: found["features"][layer] for layer in layers})
            leading = torch.cat([t.where[:, :, 0].flatten() for t in search.trackers.values()])
            cache.add(part.indices, found["codes"], set(leading.unique().tolist()))
    return search.tops(), cache


def show_cached(
    model: Model, images: Data | Fetch, pictures: Data | Fetch, top: Top, maps: list[int],
    cache: SwitchCache, fields: Fields, *, batch: int = 16,
) -> Panel:  # fmt: skip
    """Return projections and patches of some maps, the former from kept switches where possible."""
    fetch = fetcher(images)
    indices, units = top.of(maps)
    known = torch.tensor([int(i) in cache.stored for i in indices], dtype=torch.bool)
    if fields.rows.size >= fields.image_size[0]:
        known[:] = False
    pixels = torch.zeros(len(indices), 3, *fields.window_size)
    values, device = top.values[maps][top.responds(maps)], device_of(model)
    for part in _chunks(known.nonzero().flatten(), batch):
        stored = [cache.stored[int(i)] for i in indices[part]]
        codes = {name: [own[name] for own in stored] for name in stored[0]}
        found = deconvnet.project_codes(
            model, top.layer, units[part].to(device), values[part].to(device), codes
        )
        pixels[part] = found.pixels.cpu()
    rest = (~known).nonzero().flatten()
    if len(rest):
        pixels[rest] = _project(model, fetch, top, indices[rest], units[rest], fields, batch)
    seen = patches(model, pictures, top, maps, fields=fields)
    return Panel(top.layer, torch.tensor(maps), top, _in_places(pixels, top, maps), seen)


# --- how alike pictures are ----------------------------------------------------------------------


def centered_grey(pictures: Tensor) -> Tensor:
    """Return grey levels less their mean, 0 where nan. (M, K, C, F, F) -> (M, K, F, F)."""
    grey = pictures.float().mean(2)
    return (grey - grey.flatten(2).nanmean(2)[:, :, None, None]).nan_to_num(0)


def mean_pairwise_correlation(pictures: Tensor) -> Tensor:
    """Return the mean correlation over all pairs of a map's K pictures, as grey levels.

    (M, K, C, F, F) -> (M,).

    Places that are nan count as the picture's mean, so they make no two pictures more alike.
    """
    grey = torch.nn.functional.normalize(centered_grey(pictures).flatten(2), dim=2)
    k = grey.shape[1]
    pairs = grey @ grey.transpose(1, 2)
    return (pairs.sum((1, 2)) - pairs.diagonal(dim1=1, dim2=2).sum(1)) / (k * (k - 1))
