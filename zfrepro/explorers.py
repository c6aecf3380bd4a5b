"""Explorers of a page, which need no kernel, and of a live notebook, which answer to any picture.

`frames` and `positions` return HTML that is complete by itself: a first picture, and a little JSON
that `book/_static/explorer.js` turns into sliders or a movable square. Where no script runs, the
first picture stays as it is. `LiveExplorer` is what the widgets of the chapters have in common.
"""

import base64
import contextlib
import html
import io
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

import ipywidgets as widgets
import matplotlib
import numpy as np
import torch
from IPython.display import HTML
from PIL import Image
from torch import Tensor

from zfrepro import page, plots
from zfrepro.data import DataError, Split
from zfrepro.data.photos import square
from zfrepro.stats import rounded, rounded_all
from zfrepro.weights import Trained

BUDGET = 400_000
"""Bytes of picture data, as base64 in the page, above which a coarser coding is taken."""

JPEG_QUALITY = 85
WIDTH = 480  # px on the page, about, of what a reader explores
UNLABELLED = "Your images come without labels: their class is what the network calls them."


# --- on a page -------------------------------------------------------------------------------


def frames(
    pictures: np.ndarray,
    axes: Mapping[str, Sequence[str]],
    notes: Sequence[str] | None = None,
    *,
    alt: str,
    jpeg: bool = False,
    start: int = 0,
) -> HTML:
    """Show one of many pictures, chosen by a slider for each axis.

    Args:
        pictures: uint8 (N, H, W, 3), N the product of the axes' lengths, the last axis fastest.
        axes: name of each slider, and what its positions are called.
        notes: a line below each picture, (N,).
        alt: what the pictures show, for those who do not see them.
        jpeg: code them as JPEG: smaller, for photographs that need no exact colours.
        start: the picture that is shown first.
    Returns:
        HTML with all pictures in one sheet, of which a window shows one.
    Raises:
        ValueError: pictures, axes and notes that do not fit each other.
    """
    count = math.prod(len(labels) for labels in axes.values())
    if not len(pictures) == count == len(pictures if notes is None else notes):
        told = "no" if notes is None else len(notes)
        raise ValueError(f"{len(pictures)} pictures and {told} notes for {count} positions")
    sheet, columns = _sheet(pictures)
    _, height, width, _ = pictures.shape
    high, wide, _ = sheet.shape
    content = {
        "axes": [{"name": name, "labels": list(map(str, labels))} for name, labels in axes.items()],
        "notes": list(notes or []),
        "columns": columns,
        "cell": [width + 2, height + 2],  # each picture has a rim of one pixel, see `_sheet`
        "sheet": [wide, high],
        "start": start,
    }
    left, top = 1 + start % columns * (width + 2), 1 + start // columns * (height + 2)
    # Sizes are relative, so that the window shrinks with the page.
    image = (
        f'<img class="dark-light" src="{data_uri(sheet, jpeg)}" alt="{html.escape(alt)}" '
        f'style="display:block;max-width:none;height:auto;margin:0;width:{100 * wide / width:.5f}%;'
        f'transform:translate({-100 * left / wide:.5f}%,{-100 * top / high:.5f}%)">'
    )
    window = f"aspect-ratio:{width}/{height};max-width:{_shown_width(width)}px"
    first = html.escape(notes[start]) if notes else ""
    body = (
        f'<div class="zf-window" style="overflow:hidden;width:100%;{window}">{image}</div>'
        f'<p class="zf-note">{first}</p>'
    )
    return page.explorer("frames", f"Explorer: {alt}", body, content)


def positions(
    picture: np.ndarray,
    maps: Mapping[str, np.ndarray],
    notes: Sequence[str],
    *,
    patch: int,
    stride: int,
    alt: str,
    jpeg: bool = False,
) -> HTML:
    """Show a grey square that the reader moves over a picture, and what happens there.

    Position (i, j) of the square has its corner at row i * stride and column j * stride.

    Args:
        picture: uint8 (H, W, 3).
        maps: heat maps by name, each (rows, columns), with a value for each position.
        notes: a line for each position, (rows * columns,), row after row.
        patch: side of the square in pixels.
        stride: pixels between neighbouring positions.
        alt: what the picture shows.
        jpeg: code the picture as JPEG.
    Returns:
        HTML with the picture, the square in the first position, and the heat maps.
    Raises:
        ValueError: maps of different shapes, or notes that are not one a position.
    """
    heat = {name: np.asarray(values, dtype=float) for name, values in maps.items()}
    rows, columns = np.stack(list(heat.values())).shape[1:]
    if len(notes) != rows * columns:
        raise ValueError(f"{len(notes)} notes for {rows} x {columns} positions")
    height, width, _ = picture.shape
    grey = f"background:#808080;width:{100 * patch / width:.4f}%;height:{100 * patch / height:.4f}%"
    stage = (
        '<div class="zf-stage" style="position:relative;overflow:hidden;width:100%;'
        f'max-width:{_shown_width(width)}px">'
        f'<img class="dark-light" src="{data_uri(picture, jpeg)}" alt="{html.escape(alt)}" '
        'style="display:block;width:100%;margin:0">'
        f'<div class="zf-square" style="position:absolute;left:0;top:0;{grey}"></div></div>'
    )
    content = {
        "rows": rows,
        "columns": columns,
        "patch": patch,
        "stride": stride,
        "size": [width, height],
        "notes": list(notes),
        "maps": {name: rounded_all(values.flatten(), 3) for name, values in heat.items()},
    }
    panels = stage + "".join(_heat(name, values) for name, values in heat.items())
    # Above the picture: a finger that moves the square does not cover it.
    note = f'<p class="zf-note">{html.escape(notes[0])}</p>'
    body = f'{note}<div class="zf-panels">{panels}</div>'
    return page.explorer("positions", f"Explorer: {alt}", body, content)


def _sheet(pictures: np.ndarray) -> tuple[np.ndarray, int]:
    """Return all pictures in one, about square, and how many stand in a row.

    Every picture is repeated by one pixel at its rim: a browser that scales the sheet mixes
    neighbouring pixels.
    """
    pictures = np.pad(pictures, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
    count, height, width, _ = pictures.shape
    columns = min(count, max(1, round(math.sqrt(count * height / width))))
    rows = math.ceil(count / columns)
    sheet = np.full((rows * columns, height, width, 3), 128, np.uint8)
    sheet[:count] = pictures
    sheet = sheet.reshape(rows, columns, height, width, 3).swapaxes(1, 2)
    return sheet.reshape(rows * height, columns * width, 3), columns


def data_uri(picture: np.ndarray, jpeg: bool = False) -> str:
    """Return a picture as a data URI: exact while that is small, else 256 colours, else JPEG.

    picture: uint8 (H, W, 3).
    """
    image = Image.fromarray(picture)
    if not jpeg:
        for candidate in (image, image.quantize(256)):
            if len(uri := _encode(candidate, "PNG")) <= BUDGET:
                return uri
    return _encode(image, "JPEG", quality=JPEG_QUALITY)


def _encode(image: Image.Image, kind: str, **options: int) -> str:
    buffer = io.BytesIO()
    image.save(buffer, kind, optimize=True, **options)
    return _coded(buffer.getvalue(), kind.lower())


def _coded(data: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def _shown_width(width: int) -> int:
    """Return the width on the page: small pictures are shown larger, in whole multiples."""
    return width * max(1, round(WIDTH / width))


def _heat(name: str, values: np.ndarray) -> str:
    low, high = values.min(), values.max()
    scaled = (values - low) / (high - low) if high > low else np.zeros_like(values)
    colours = (255 * matplotlib.colormaps["viridis"](scaled)[..., :3]).round().astype(np.uint8)
    span = html.escape(f"{name}, from {rounded(low, 3)} (dark) to {rounded(high, 3)} (bright)")
    return (
        '<figure class="zf-heat" style="margin:0"><div class="zf-map" style="position:relative">'
        f'<img class="dark-light pixels" src="{data_uri(colours)}" alt="Heat map: {span}" '
        'style="display:block;width:100%;image-rendering:pixelated;margin:0"></div>'
        f"<figcaption>{span}</figcaption></figure>"
    )


# --- in a live notebook ----------------------------------------------------------------------


def load_user_images(
    trained: Trained,
    files: Sequence[str | Path | tuple[str, BinaryIO]],
    refused: list[str] | None = None,
) -> Split:
    """Load pictures as the network's stored images: cut square, turned as the camera says.

    Nobody has labelled them: each has the label that the network finds most probable.

    Args:
        files: paths, or names and open files.
        refused: where given, gets a line for each file that cannot be read, and the others are
            loaded.
    Raises:
        DataError: no picture, or one that cannot be read, with its name and the remedy.
    """
    pictures, size = [], trained.mean.shape[-1]
    for item in files:
        name, file = item if isinstance(item, tuple) else (str(item), item)
        try:
            with Image.open(file) as image:
                pictures.append(torch.tensor(square(image, size)))
        except Exception as error:  # Pillow's decoders raise almost anything, see `photos.decode`
            reason = re.sub(r" <.*?>", "", " ".join(str(error).split())) or type(error).__name__
            line = f"{name}: cannot be read ({reason}); save it as JPEG or PNG"
            if refused is None:
                raise DataError(line) from error
            refused.append(line)
    if not pictures:
        raise DataError("; ".join(refused or ["no pictures: name at least one file"]))
    images = torch.stack(pictures).permute(0, 3, 1, 2)
    return Split(images, trained.predict_proba(images).argmax(1).cpu())


class LiveExplorer(widgets.VBox):
    """Controls, an answer in words and a picture; the reader may bring images of their own.

    While an answer is computed the controls are disabled and the note says so. A subclass makes
    its controls, calls this, and has `draw`.

    Args:
        trained: the network.
        split: the book's images.
        rows: of controls; a change of any draws anew.
    """

    def __init__(self, trained: Trained, split: Split, *rows: Sequence[widgets.Widget]):
        self.trained, self.split, self.book_split = trained, split, split
        self.busy = False
        self.upload = widgets.FileUpload(accept="image/*", multiple=True, description="your images")
        self.told = widgets.HTML()  # on the images that were brought
        self.back = widgets.Button(description="the book's images", disabled=True)
        self.controls = [control for row in rows for control in row]
        self.note, self.view = widgets.HTML(), widgets.HTML()
        boxes = [widgets.HBox(row, layout={"flex_flow": "row wrap"}) for row in rows]
        bring = widgets.HBox([widgets.VBox([self.upload, self.told]), self.back])
        super().__init__([*boxes, bring, self.note, self.view])
        for control in self.controls:
            control.observe(lambda _: self.show(), "value")
        self.upload.observe(self._upload, "value")
        self.back.on_click(lambda _: self.use(self.book_split))

    @property
    def labelled(self) -> bool:
        """Whether the labels are those of a data set, not the network's own answers."""
        return self.split is self.book_split

    def _upload(self, change: dict) -> None:
        files = [(file["name"], io.BytesIO(file["content"])) for file in change["new"]]
        refused: list[str] = []
        try:
            split = load_user_images(self.trained, files, refused)
        except DataError as error:
            self.told.value = html.escape(str(error))
            return
        self.told.value = html.escape(" ".join([UNLABELLED, *refused]))
        self.use(split)

    def use(self, split: Split) -> None:
        """Explore other images, such as `load_user_images(trained, ["my.jpg"])`."""
        self.split = split
        with self.computing():
            self.prepare()
        self.show()

    def prepare(self) -> None:
        """Fit what depends on the images, such as the range of a control."""

    def draw(self) -> tuple[str, str]:
        """Return the answer and the picture, as HTML; no picture if it is empty."""
        raise NotImplementedError

    def show(self) -> None:
        """Compute and show what the controls ask for."""
        if not self.busy:
            with self.computing():
                self.note.value, self.view.value = self.draw()

    @contextlib.contextmanager
    def computing(self) -> Iterator[None]:
        """Disable the controls, and do not answer to their changes, while the body runs."""
        inputs = [*self.controls, self.upload, self.back]
        self.busy, self.note.value = True, "computing …"
        for control in inputs:
            control.disabled = True
        try:
            yield
        finally:
            for control in inputs:
                control.disabled = False
            self.back.disabled = self.labelled
            self.busy = False


def image_html(image: Tensor, alt: str) -> str:
    """Return a picture as HTML, its pixels enlarged. image: (3, S, S), 0 to 255."""
    picture = plots.array(image.clamp(0, 255).byte().cpu())
    style = "width:288px;image-rendering:pixelated"
    return f'<img alt="{html.escape(alt)}" style="{style}" src="{data_uri(picture)}">'


def figure_html(data: bytes, alt: str) -> str:
    """Return a figure as HTML. data: of `plots.png`."""
    return f'<img alt="{html.escape(alt)}" style="max-width:100%" src="{_coded(data, "png")}">'
