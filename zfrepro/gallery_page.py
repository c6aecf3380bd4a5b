"""A gallery of any network on any images: the paper's Fig. 2 as one page that needs no other file.

    gallery(model, images, "layer3").save("layer3.html")
"""

import html
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from zfrepro.gallery import (
    Data,
    Fetch,
    Model,
    Top,
    example_of,
    fetcher,
    fields_of,
    patches,
    projections,
    top_units,
)
from zfrepro.layers import Fields
from zfrepro.records import write_atomically

QUANTILES = (0.99, 0.9, 0.75, 0.5)  # of a map's positive activations; what stands there is shown


@dataclass(frozen=True)
class Gallery:
    """What M maps of a layer look for. `show` it in a notebook, `save` it as a page of its own."""

    model: str  # its class
    maps: tuple[int, ...]
    count: int  # images searched
    fields: Fields
    top: Top  # of the whole layer
    projections: Tensor  # (M, K, 3, h, w), signed
    patches: Tensor  # (M, K, 3, h, w), 0 to 1
    sample: Tensor  # (S, M) strongest activation in each image of a sample
    lower: Top  # of the M maps, what stands at `QUANTILES` of the sample
    lower_patches: Tensor  # (M, 4, 3, h, w), 0 to 1

    @property
    def title(self) -> str:
        """Return the model's class and the layer."""
        return f"{self.model}, {self.top.layer or 'output'}"

    def html(self) -> str:
        """Return the page's body: styles, links, and a section with the id `unit-N` a map."""
        height, width = self.fields.window_size
        bound = "" if self.fields.exact else "at most "
        links = " ".join(f'<a href="#unit-{number}">{number}</a>' for number in self.maps)
        sections = "".join(self._section(i) for i in range(len(self.maps)))
        return (
            f'{_STYLE}<div class="zf-gallery"><h2>{html.escape(self.title)}</h2>'
            f"<p>{len(self.maps)} of {len(self.top.values)} maps over {self.count:,} images, "
            f"receptive field {bound}{height} x {width} px. For each map the images that excite it "
            "most: the deconvnet's projections of the unit, and the patches that the unit sees. "
            "The projections of a map share one scale (its .99 quantile, exponent 0.7); zero is "
            f"mid-grey.</p><nav>Maps: {links}</nav>{sections}</div>"
        )

    def _section(self, i: int) -> str:
        from zfrepro import plots

        number = self.maps[i]
        responds = self.top.responds([number])[0]
        images = ", ".join(map(str, self.top.images[number][responds].tolist()))
        drawn = plots.display(self.projections[i][None])[0][responds]
        patches = self.patches[i][responds]
        examples = [
            _figure(
                self.lower_patches[i, j][None],
                f"a patch that excites map {number} less",
                f"quantile {quantile:g}: {float(self.lower.values[i, j]):.3g}"
                f"<br>image {int(self.lower.images[i, j])}",
            )
            for j, quantile in enumerate(QUANTILES)
            if self.lower.responds([i])[0, j]
        ]
        return (
            f'<section id="unit-{number}"><h3><a href="#unit-{number}">Map {number}</a></h3>'
            f"<p>strongest activation {float(self.top.values[number, 0]):.3g}; images {images}</p>"
            f'<div class="row">'
            f"{_figure(drawn, f'projections of map {number}', 'projections', columns=3)}"
            f"{_figure(patches, f'patches that excite map {number}', 'patches', columns=3)}</div>"
            f'<div class="row">{_histogram(self.sample[:, i])}{"".join(examples)}</div></section>'
        )

    def show(self):
        """Return the gallery for a notebook."""
        from IPython.display import HTML

        return HTML(self.html())

    def save(self, file: str | Path) -> Path:
        """Write one page that needs no other file."""
        page = (
            '<!doctype html><html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width">'
            f"<title>{html.escape(self.title)}</title></head><body>{self.html()}</body></html>"
        )
        write_atomically(Path(file), page.encode())
        return Path(file)


_STYLE = """<style>
.zf-gallery { font: 15px/1.5 system-ui, sans-serif; max-width: 1100px; margin: auto; }
.zf-gallery section { margin: 2em 0; border-top: 1px solid #8888; }
.zf-gallery .row { display: flex; flex-wrap: wrap; gap: 16px; margin-bottom: 16px; }
.zf-gallery figure { margin: 0; } .zf-gallery figcaption { font-size: 13px; }
.zf-gallery .histogram { width: 240px; } .zf-gallery rect { fill: #4477aa; }
@media (prefers-color-scheme: dark) { body { background: #181818; color: #ddd; }
  .zf-gallery a { color: #8ab4f8; } .zf-gallery rect { fill: #88aadd; } }
</style>"""


def _figure(pictures: Tensor, alt: str, caption: str, columns: int = 1) -> str:
    """Return pictures of 0 to 1, (N, 3, h, w), in rows as an HTML figure."""
    from zfrepro import plots

    sheet = plots.tiled(plots.enlarge(pictures), columns, gap=2)
    return (
        f'<figure><img alt="{html.escape(alt)}" width="{sheet.shape[2]}" height="{sheet.shape[1]}" '
        f'src="data:image/jpeg;base64,{plots.as_jpeg(sheet)}"><figcaption>{caption}</figcaption></figure>'
    )


def _histogram(sample: Tensor, bins: int = 40) -> str:
    """Return the positive activations of a sample, (S,), as an SVG, counts in logarithms."""
    positive = sample[sample > 0]
    high = float(positive.amax()) if len(positive) else 1.0
    counts = torch.histc(positive, bins, 0, high).log1p()
    heights = (80 * counts / counts.max().clamp_min(1e-9)).tolist()
    bars = "".join(
        f'<rect x="{6 * i}" y="{80 - height:.1f}" width="5" height="{height:.1f}"/>'
        for i, height in enumerate(heights)
    )
    caption = (
        f"strongest activation an image, 0 to {high:.3g}, counts on a logarithmic scale; "
        f"above 0 in {100 * len(positive) / len(sample):.0f} % of {len(sample):,} images"
    )
    return (
        f'<figure class="histogram"><svg role="img" aria-label="{caption}" width="{6 * bins}" '
        f'height="80">{bars}</svg><figcaption>{caption}</figcaption></figure>'
    )


def as_pictures(images: Tensor) -> Tensor:
    """Return images as colours of 0 to 1.

    uint8 is divided by 255; float within 0 to 1 stays; any other, such as what a network sees after
    its normalisation, is stretched, each image between its lowest and its highest value.
    """
    if images.dtype == torch.uint8:
        return images.float() / 255
    images = images.float()
    low, high = images.amin((1, 2, 3), keepdim=True), images.amax((1, 2, 3), keepdim=True)
    stretched = (images - low) / (high - low).clamp_min(1e-12)
    return torch.where((low >= 0) & (high <= 1), images, stretched)


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
        maps: which, or how many; then spread evenly over those that respond to most images.
        pictures: what the patches are cut from, of the same size as the images; default, the images
            themselves as `as_pictures` shows them.
        sample: so many images, spread evenly over the data, give histogram and lower examples.
    Returns:
        `Gallery`.
    Raises:
        ValueError: no map responds, or as `top_units` and `projections`.
    """
    fetch = fetcher(data)
    shown = fetch if pictures is None else fetcher(pictures)
    channels = fetch(torch.zeros(1, dtype=torch.int64)).shape[1]
    if channels not in (1, 3):
        raise ValueError(
            f"images of {channels} channels cannot be drawn; top_units and projections take them"
        )
    top = top_units(model, data, layer, k, batch=batch, progress=progress)[layer]
    chosen, count = _choose(top, maps), len(top.searched)
    fields = fields_of(model, layer, example_of(fetch, top))
    cut_from = {"images": lambda indices: as_pictures(shown(indices)), "fields": fields}
    drawn = projections(model, fetch, top, chosen, fields=fields, progress=progress)
    places = top.searched[torch.linspace(0, count - 1, min(count, sample)).round().long()]
    sampled = (fetch(part) for part in places.split(batch))
    every = top_units(model, sampled, layer, len(places), progress=False)[layer]
    by_image = torch.empty(len(chosen), len(places))
    by_image.scatter_(1, every.images[chosen], every.values[chosen])
    lower = _at_quantiles(every, chosen, places)
    return Gallery(
        type(model).__name__, tuple(chosen), count, fields, top, drawn,
        patches(model, top=top, maps=chosen, **cut_from), by_image.T, lower,
        patches(model, top=lower, maps=range(len(chosen)), **cut_from),
    )  # fmt: skip


def _choose(top: Top, maps: Iterable[int] | int) -> list[int]:
    """Return those of the given maps that respond, or so many of those that respond most often."""
    if isinstance(maps, int):
        responses = (top.values > 0).sum(1)
        active = ((responses == responses.max()) & (responses > 0)).nonzero().flatten()
        places = torch.linspace(0, len(active) - 1, min(maps, len(active))).round().long()
        chosen = active[places].tolist()
    else:
        chosen = [number for number in maps if top.responds([number]).any()]
    if not chosen:
        raise ValueError(f"{top.layer}: no map responds to any of these images")
    return chosen


def _at_quantiles(every: Top, maps: list[int], images: Tensor) -> Top:
    """Return what stands at `QUANTILES` of some maps' positive activations; empty where none is.

    Args:
        every: the strongest unit of each of `images`, (S,), so K = S.
    """
    positive = (every.values[maps] > 0).sum(1)
    ranks = [((1 - q) * (positive - 1)).round().long().clamp_min(0) for q in QUANTILES]
    parts = (every.values, images[every.images], every.rows, every.columns)
    parts = [None if x is None else x[maps].gather(1, torch.stack(ranks, 1)) for x in parts]
    return Top(every.layer, *parts, every.image_size)
