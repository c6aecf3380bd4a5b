"""What excites each unit most (Fig. 2): its top images, their projections and patches.

`top_units` searches a data set in one pass; `projections` and `patches` show what it found, pixel
by pixel in the same places. All take any torch model; for this package's networks projections are
computed on crops. `gallery_page` makes a page.
"""

import functools
import io
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, StackDataset

from zfrepro import deconvnet, models, rules
from zfrepro.deconvnet import Units
from zfrepro.layers import Fields, require_index
from zfrepro.models import Layered, device_of, evaluating, in_proportion
from zfrepro.networks import Network
from zfrepro.receptive_field import probe
from zfrepro.records import write_atomically

Model = Callable[[Tensor], Tensor]
Data = Tensor | Dataset | DataLoader | Iterable
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
    searched: Tensor | None = None  # (N,) int64, all images searched, in order

    def of(self, maps: Iterable[int]) -> tuple[Tensor, Units]:
        """Return image indices and units of some maps, (B,), map after map, that respond.

        Raises:
            ValueError: a map that does not exist.
        """
        chosen = torch.as_tensor(list(maps), dtype=torch.int64)
        responds = self.responds(chosen)
        units = chosen[:, None].expand_as(responds)[responds]
        places = [] if self.rows is None else [self.rows, self.columns]
        return self.images[chosen][responds], Units(units, *(x[chosen][responds] for x in places))

    def responds(self, maps: Sequence[int] | Tensor) -> Tensor:
        """Return which places hold a positive activation. (len(maps), K) bool.

        Raises:
            ValueError: a map that does not exist.
        """
        chosen = torch.as_tensor(maps, dtype=torch.int64)
        require_index(f"{self.layer}: map", chosen, len(self.values))
        return self.values[chosen] > 0


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
        candidates = torch.cat([self.where[:, :, 0], images.expand(best.shape[1], count)], 1)
        values = torch.cat([self.values, best.T], 1)
        # by image, then by value with a stable sort: of equal activations the lower index stays
        order = candidates.argsort(dim=1, stable=True)
        values, ranks = values.gather(1, order).sort(dim=1, descending=True, stable=True)
        self.values, leading = values[:, :k].contiguous(), order.gather(1, ranks[:, :k])
        maps, places = (leading >= k).nonzero(as_tuple=True)
        new = leading[maps, places] - k
        # positions are looked up only for the few that enter, which costs less than for all
        position = activations[new, maps].flatten(1).argmax(1)
        width = activations.shape[3]
        self.where = self.where.gather(1, leading.clamp_max(k - 1)[:, :, None].expand(-1, -1, 3))
        entries = [images[new], position // width, position % width]
        self.where[maps, places] = torch.stack(entries, 1)
        self.seen += count

    def top(self) -> Top:
        """Return the result so far, on the CPU."""
        image, row, column = self.where.cpu().unbind(2)
        places = (None, None) if self.flat else (row, column)
        return Top(self.layer, self.values.cpu(), image, *places, self.image_size)


# --- any data: batches with the images' indices ---------------------------------------------------


@dataclass(frozen=True)
class _Batch:
    """Images and their indices in the data set."""

    indices: Tensor  # (B,)
    images: Tensor

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, part: slice) -> "_Batch":
        return _Batch(self.indices[part], self.images[part])


def _loader(data: Data, size: int = 1) -> DataLoader | None:
    """Return a loader of images that can be got by their index; None for a stream, which has none.

    size: images a batch, where `data` is no loader.
    """
    if isinstance(data, Tensor | Dataset) and not isinstance(data, IterableDataset):
        return DataLoader(data, size)
    if not isinstance(data, DataLoader) or isinstance(data.dataset, IterableDataset):
        return None
    # one that makes its batches in a way of its own is a stream
    plain = data.batch_sampler is not None and type(data).__iter__ is DataLoader.__iter__
    return data if plain else None


def _images_of(item: object, count: int | None = None) -> Tensor:
    """Return the images (B, 3, H, W) of what a loader yields, alone or with labels.

    count: how many images there must be, where that is known.
    """
    images = item[0] if isinstance(item, (tuple, list)) and item else item
    if not isinstance(images, Tensor) or images.ndim != 4:
        what = tuple(images.shape) if isinstance(images, Tensor) else type(images).__name__
        raise ValueError(f"the data yield {what}; wanted images (B, 3, H, W), or (images, labels)")
    if count not in (None, len(images)):
        raise ValueError(f"collate_fn makes {len(images)} images of {count} items: not one each")
    return images


def _collate(collate: Callable, rows: Sequence[tuple[int, object]]) -> tuple[Tensor, object]:
    """Collate the items of (index, item) pairs as the loader does, and their indices apart."""
    indices, items = zip(*rows, strict=True)
    try:
        return torch.tensor(indices), collate(list(items))
    except (TypeError, RuntimeError) as error:
        raise ValueError(
            f"images {indices[0]} to {indices[-1]} of the data set do not make a batch: it "
            f"needs a transform that gives tensors of one size ({error})"
        ) from error


def _unseen(batches: Iterable[list[int]], seen: Tensor) -> Iterator[list[int]]:
    """Yield batches of indices without those seen, now or before. seen: (N,) bool."""
    for batch in batches:
        # some samplers yield tensors
        if new := [index for index in dict.fromkeys(map(int, batch)) if not seen[index]]:
            seen[new] = True
            yield new


def _batches(data: Data, size: int, done: Tensor) -> Iterator[_Batch]:
    """Yield the images that are not yet done.

    Args:
        done: (M,) indices in the data set, or in the stream, whose first images they are.
    """
    loader = _loader(data, size)
    if loader is None:
        start = 0
        for item in data:
            images = _images_of(item)
            indices = torch.arange(start, start + len(images))
            # the batches may have been others before
            if len(rest := _Batch(indices, images)[max(0, len(done) - start) :]):
                yield rest
            start += len(images)
        return
    seen = torch.zeros(len(loader.dataset), dtype=torch.bool)
    seen[done] = True
    numbered = DataLoader(
        StackDataset(range(len(seen)), loader.dataset),
        batch_sampler=_unseen(loader.batch_sampler, seen), num_workers=loader.num_workers,
        collate_fn=functools.partial(_collate, loader.collate_fn), pin_memory=loader.pin_memory,
        worker_init_fn=loader.worker_init_fn,
    )  # fmt: skip
    for indices, item in numbered:
        yield _Batch(indices, _images_of(item, len(indices)))


def fetcher(images: Data | Fetch) -> Fetch:
    """Return a function from indices (B,) to images (B, 3, H, W), as a loader would yield them."""
    loader = _loader(images)
    if loader is None:
        if callable(images) and not isinstance(images, nn.Module):
            return images
        raise ValueError(
            f"{type(images).__name__}: a stream has no images to go back to; give a tensor, a data "
            "set, or a function from indices to images"
        )

    def fetch(chosen: Tensor) -> Tensor:
        require_index("image", chosen, len(loader.dataset))
        _, item = _collate(loader.collate_fn, [(i, loader.dataset[i]) for i in chosen.tolist()])
        return _images_of(item, len(chosen))

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
    names = {layer: models.uncompiled(model, layer)[1] for layer in layers}
    model, _ = models.uncompiled(model, None)
    calls = dict.fromkeys(names.values(), 0)
    for name in calls.keys() - {None}:
        if models.calls_of(model, images[:1], name) > 1:
            raise ValueError(f"{name} is run more than once in one pass; name another module")
    outputs = models.outputs_of(model, images, calls)
    size = tuple(images.shape[-2:])
    for name, output in outputs.items():
        shape = tuple(output.shape)
        channels_last = (
            len(shape) == 4
            and in_proportion(*shape[1:3], size)
            and not in_proportion(*shape[2:], size)
        )
        if len(shape) not in (2, 4) or shape[0] != len(images) or channels_last:
            raise ValueError(
                f"{name or 'output'} gives {shape}; wanted feature maps ({len(images)}, C, H, W) "
                f"or units ({len(images)}, C)"
            )
    return {layer: outputs[name] for layer, name in names.items()}


# --- the search -----------------------------------------------------------------------------------

SWITCH_MEMORY = 2**30  # bytes; 333 kB an image of ZFNet at 224 px


class SwitchCache:
    """Switch codes of the images in some top list, as long as they fit in `limit` bytes."""

    def __init__(self, limit: int = SWITCH_MEMORY):
        self.limit = limit
        self.stored: dict[int, dict[str, Tensor]] = {}  # image -> conv name -> uint8 (C, h, w)

    def add(self, indices: Tensor, codes: Mapping[str, Tensor], wanted: set[int]) -> None:
        """Drop what is not wanted, and keep the codes of those images, (B,), that are."""
        self.stored = {index: code for index, code in self.stored.items() if index in wanted}
        each = sum(code[0].nbytes for code in codes.values())
        for place, index in enumerate(indices.tolist()):
            if index in wanted and (len(self.stored) + 1) * each <= self.limit:
                self.stored[index] = {name: code[place].clone() for name, code in codes.items()}


@dataclass
class _Search:
    """What is known after some of the images."""

    fingerprint: str  # of what the search depends on
    trackers: dict[str | None, TopTracker] = field(default_factory=dict)  # by layer
    done: list[Tensor] = field(default_factory=list)  # indices of each batch, (B,)

    def add(self, part: _Batch, outputs: Mapping[str | None, Tensor], k: int) -> None:
        """Take in the outputs for some images."""
        size = tuple(part.images.shape[-2:])
        for layer, output in outputs.items():
            if layer not in self.trackers:
                self.trackers[layer] = TopTracker(layer, output.shape[1], k, output.device)
            tracker = self.trackers[layer]
            if tracker.image_size not in (None, size):
                raise ValueError(f"images of {tracker.image_size} and {size} px; give one size")
            tracker.image_size = size
            tracker.add(output, part.indices)
        self.done.append(part.indices)

    def save(self, file: Path) -> None:
        """Write the search so far under another name, then rename."""
        trackers = {key: vars(tracker) for key, tracker in self.trackers.items()}
        content = {"mark": self.fingerprint, "trackers": trackers, "done": torch.cat(self.done)}
        buffer = io.BytesIO()
        torch.save(content, buffer)
        write_atomically(file, buffer.getvalue())

    def load(self, file: Path, device: torch.device | None) -> None:
        """Continue from a file.

        Raises:
            ValueError: it is damaged or belongs to another search, with the remedy.
        """
        try:
            content = torch.load(file, map_location=device, weights_only=True)
            trackers, mark, done = content["trackers"], content["mark"], content["done"]
        except Exception as error:  # damage shows as errors of many kinds
            kind = type(error).__name__
            raise ValueError(f"{file}: not a search's state ({kind}); delete it") from error
        if mark != self.fingerprint:
            raise ValueError(f"{file}: another model, layers, k or data; delete it or name another")
        self.done = [done.cpu()]
        for layer, state in trackers.items():
            self.trackers[layer] = TopTracker(layer, 0)
            vars(self.trackers[layer]).update(state)


@torch.no_grad()
def top_units(
    model: Model,
    data: Data,
    layers: str | Sequence[str | None] | None = None,
    k: int = 9,
    *,
    state: str | Path | None = None,
    save_every: float = 60.0,
    switches: SwitchCache | None = None,
    batch: int = 32,
    progress: bool = True,
) -> dict[str | None, Top]:
    """Find the strongest activations of every unit of some layers in one pass over a data set.

    Args:
        model: any torch module (or a function from images to an output); it is run in evaluation
            mode, without gradients, and left as it was.
        data: images as the model wants them, in a tensor (N, 3, H, W), a data set, or a loader or
            other iterable of batches; each may yield (images, label). Of a loader with a map-style
            data set, shuffled or not, the indices are those in the data set, and an image drawn
            twice counts once; of any other iterable they count the images of the stream.
        layers: names as in `model.named_modules()`, None for the model's output. Default, all conv
            layers of this package's networks. Feature maps, FC units and classes alike.
        k: how many images a unit.
        state: a file that keeps the search, written every `save_every` seconds and deleted at the
            end; if it exists, the search continues there. Needs a module.
        switches: gets those of the images that lead, which saves `projections` the forward pass;
            stays empty where the layers are not conv layers of this package's networks.
        batch: images a pass, where `data` is a tensor or a data set.
    Returns:
        layer -> `Top`.
    Raises:
        ValueError: a layer that does not exist or gives neither maps nor units, no images,
            activations that are not finite, or a state of another search.
    """
    from tqdm.auto import tqdm

    from zfrepro.device import with_oom_backoff

    layers = _layers(model, layers)
    if k < 1:
        raise ValueError(f"k {k}: must be at least 1")
    if not layers:
        raise ValueError("no layers to search; name at least one")
    device, loader = device_of(model), _loader(data)
    total = None if loader is None else len(loader.dataset)
    file, search = state and Path(state), _Search("")
    if file:
        if not isinstance(model, nn.Module):
            raise ValueError("state: weights inside a function cannot be compared; give a module")
        ends = fetcher(data)(torch.tensor([0, total - 1])) if total else None
        search.fingerprint = models.fingerprint(model, layers, k, total, ends)
        if file.exists():
            search.load(file, device)
    keeps_switches = switches is not None and deconvnet.has_crops(model, *layers)
    if switches is not None:
        switches.stored.clear()  # of another search

    def run(part: _Batch) -> tuple[_Batch, dict, dict]:
        images = part.images.to(device)
        if not keeps_switches:
            return part, layer_outputs(model, images, layers), {}
        images = images.contiguous(memory_format=torch.channels_last)
        deepest = max(layers, key=list(model.convs).index)
        trace = deconvnet.forward(model, images, deepest, also=layers)
        outputs = {layer: trace.features[layer] for layer in layers}
        return part, outputs, deconvnet.switch_codes(trace.switches)

    done = torch.cat([torch.zeros(0, dtype=torch.int64), *search.done])
    options = {"desc": "searching", "unit": "image", "disable": not progress}
    saved = time.monotonic()
    with evaluating(model), tqdm(total=total, initial=len(done), **options) as bar:
        for part, outputs, codes in with_oom_backoff(run, _batches(data, batch, done)):
            search.add(part, outputs, k)
            if keeps_switches:
                leading = [t.where[:, :, 0].flatten() for t in search.trackers.values()]
                switches.add(part.indices, codes, set(torch.cat(leading).unique().tolist()))
            if file and time.monotonic() - saved >= save_every:
                search.save(file)
                saved = time.monotonic()
            bar.update(len(part))
    if not search.trackers:
        raise ValueError("no images to search; give at least one batch")
    if file:
        file.unlink(missing_ok=True)
    searched = torch.cat(search.done).sort().values
    return {layer: replace(search.trackers[layer].top(), searched=searched) for layer in layers}


def _layers(model: Model, layers: str | Sequence[str | None] | None) -> list[str | None]:
    if isinstance(layers, str):
        return [layers]
    if layers is None and isinstance(model, Network):
        return list(model.convs)
    return [None] if layers is None else list(layers)


# --- projections and patches ----------------------------------------------------------------------


def fields_of(model: Model, layer: str | None, images: Tensor) -> Fields:
    """Return the receptive fields of a layer's units in images of this size.

    A network of named layers knows them; those of any other are probed by gradients.

    Args:
        images: (B, 3, H, W), of any type; one of them is enough.
    """
    height, width = images.shape[-2:]
    if isinstance(model, Layered):
        if (height, width) != (model.image_size,) * 2:
            raise ValueError(
                f"images are {height} x {width} px, this network sees {model.image_size}"
            )
        return model.fields(layer)
    with evaluating(model):
        example = images[:1].to(device=device_of(model), dtype=models.dtype_of(model))
        return probe(lambda x: layer_outputs(model, x, [layer])[layer], example)


def projections(
    model: Model,
    images: Data | Fetch,
    top: Top,
    maps: Iterable[int],
    *,
    fields: Fields | None = None,
    switches: SwitchCache | None = None,
    batch: int = 16,
    progress: bool = False,
) -> Tensor:
    """Project the top units of some maps to pixels, cut to the receptive field.

    Args:
        images: as the model wants them: what was searched, or a function from image indices (B,)
            to images (B, 3, H, W).
        maps: which maps (or units) of the layer.
        fields: of the layer, from `fields_of`; default, found here.
        switches: as `top_units` left them; images among them are not run again.
        batch: units at once; those of one image share its forward pass.
    Returns:
        (len(maps), K, 3, h, w), signed; zero where a map has no positive activation.
    Raises:
        ValueError: maps that do not exist, or images other than those searched, which shows in
            their size and in what the units respond.
    """
    from tqdm.auto import tqdm

    from zfrepro.device import with_oom_backoff

    maps, fetch = list(maps), fetcher(images)
    indices, units = top.of(maps)
    example = example_of(fetch, top)
    fields = fields or fields_of(model, top.layer, example)
    responds, device = top.responds(maps), device_of(model)
    values = top.values[maps][responds]
    stored = switches.stored if switches else {}

    def run(part: Tensor) -> tuple[Tensor, Tensor]:
        if int(indices[part[0]]) in stored:
            codes = [stored[int(i)] for i in indices[part]]
            codes = {name: [code[name] for code in codes] for name in codes[0]}
            probed, activations = units[part].to(device), values[part].to(device)
            projected = deconvnet.project_codes(model, top.layer, probed, activations, codes)
            return part, projected.pixels
        distinct, of = indices[part].unique(return_inverse=True)
        x = _validate_size(fetch(distinct), top, fields).to(device)
        projected = rules.project_to_fields(model, x, top.layer, units[part], of, fields)
        found, wanted = projected.activations, values[part]
        if found is None:  # then the strongest stands for all, in a pass of its own
            first = wanted.argmax()[None]
            with evaluating(model), torch.no_grad():
                output = layer_outputs(model, x[of[first]], [top.layer])[top.layer]
            found, wanted = output[(0, *units[part[first]].places)], wanted[first]
        _validate_activations(top, found.cpu(), wanted)
        return part, projected.pixels

    order = indices.argsort(stable=True)
    cached = torch.isin(indices[order], torch.tensor(list(stored), dtype=torch.int64))
    parts = [*order[cached].split(batch), *order[~cached].split(batch)]
    bar = tqdm(parts, desc=f"projecting {top.layer}", unit="batch", disable=not progress)
    pixels = torch.zeros(len(indices), example.shape[1], *fields.window_size)
    for part, projected in with_oom_backoff(run, bar):
        pixels[part] = projected.detach().float().cpu()
    return _in_places(pixels, responds)


def patches(
    model: Model, images: Data | Fetch, top: Top, maps: Iterable[int], *,
    fields: Fields | None = None,
) -> Tensor:  # fmt: skip
    """Cut out the image patches that the top units of some maps see, mid-grey outside the image.

    Args:
        images: to cut from, pixel by pixel what was searched, such as uint8 (N, 3, H, W), or a
            function from image indices (B,) to them.
        fields: of the layer, from `fields_of`; default, found here.
    Returns:
        (len(maps), K, 3, h, w) of the images' type, in the same places as `projections`.
    Raises:
        ValueError: maps that do not exist, or images of another size than those searched.
    """
    maps, fetch = list(maps), fetcher(images)
    indices, units = top.of(maps)
    example = example_of(fetch, top)
    fields = fields or fields_of(model, top.layer, example)
    grey = 0.5 if example.is_floating_point() else 128
    tops, lefts, size = fields.windows(units.rows, units.columns, len(units))
    cut = example.new_empty(len(indices), example.shape[1], *size)
    for part in torch.arange(len(indices)).split(256):
        if len(part):
            pictures = _validate_size(fetch(indices[part]), top, fields)
            cut[part] = deconvnet.crop(pictures, tops[part], lefts[part], size, grey)
    return _in_places(cut, top.responds(maps), grey)


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


def _validate_activations(top: Top, found: Tensor, wanted: Tensor) -> None:
    """Refuse images that do not excite units, (B,), as in the search; rounding to bf16 is less."""
    worst = (found - wanted).abs().argmax()
    if (found - wanted)[worst].abs() > 0.05 * top.values.max():
        raise ValueError(
            f"{top.layer}: an image excites a unit by {found[worst]:.3g}, in the search it was "
            f"{wanted[worst]:.3g}; give the same model and images, without random transforms"
        )


def _in_places(filled: Tensor, responds: Tensor, empty: float = 0) -> Tensor:
    """Put what the units that respond, (M, K) bool, gave into their places, (M, K, ...)."""
    out = filled.new_full((*responds.shape, *filled.shape[1:]), empty)
    out[responds] = filled
    return out


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
