"""Explorers for the rendered page, which needs no kernel and no script from elsewhere.

Each function returns an object that a notebook shows as HTML: a picture or a table that is complete by itself, and a
little JSON that `book/_static/explorer.js` turns into sliders, a movable square, or sorting and filtering. Where that
script does not run (scripts off, or a notebook in an editor) the picture and the table stay as they are.
"""

import base64
import html
import io
import json
import math
import re
from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from IPython.display import HTML
from PIL import Image

BUDGET = 400_000
"""Bytes of picture data, as base64 in the page, above which a coarser coding is taken."""

JPEG_QUALITY = 85
NUMBER = re.compile(r"–|[+\-−]?\d[\d,]*(\.\d+)?([eE][+\-]?\d+)?( ?[±%(].*)?")  # 12.3 ± 0.4, but not 2.14.1
LONG = 30  # characters from which a column is made wide


def frames(
    pictures: np.ndarray,
    axes: Mapping[str, Sequence[str]],
    notes: Sequence[str] | None = None,
    *,
    alt: str,
    jpeg: bool = False,
    start: int = 0,
) -> HTML:
    """One of many pictures, chosen by a slider for each axis: a flip book in as many directions as there are axes.

    Args:
        pictures: uint8 (N, H, W, 3), N the product of the axes' lengths, the last axis running fastest.
        axes: name of each slider, and what its positions are called.
        notes: a line below each picture, (N,).
        alt: what the pictures show, for those who do not see them.
        jpeg: code them as JPEG: smaller, for drawn scenes and photographs that need no exact colours.
        start: the picture that is shown first.
    Returns:
        HTML with all pictures in one sheet, of which a window shows one.
    Raises:
        ValueError: pictures, axes and notes that do not fit each other, or no description.
    """
    pictures = _pictures(pictures, 4, "(N, H, W, 3)")
    count = math.prod(len(labels) for labels in axes.values())
    if not axes or count != len(pictures):
        sizes = " x ".join(f"{len(labels)} {name}" for name, labels in axes.items()) or "none"
        raise ValueError(f"{len(pictures)} pictures for the axes {sizes}: their product must be the number of pictures")
    if notes is not None and len(notes) != count:
        raise ValueError(f"{len(notes)} notes for {count} pictures")
    if not 0 <= start < count:
        raise ValueError(f"picture {start} cannot come first: there are {count}")
    sheet, columns = _sheet(pictures)
    _, height, width, _ = pictures.shape
    rows = math.ceil(count / columns)
    # Sizes are relative, so the window shrinks with the page. Each frame has a rim of one pixel, see `_sheet`.
    wide, high = columns * (width + 2), rows * (height + 2)
    spelled = {
        "axes": [{"name": name, "labels": [str(label) for label in labels]} for name, labels in axes.items()],
        "notes": list(notes or []),
        "columns": columns,
        "cell": [width + 2, height + 2],
        "sheet": [wide, high],
        "start": start,
    }
    left, top = 1 + start % columns * (width + 2), 1 + start // columns * (height + 2)
    image = (
        f'<img class="dark-light" src="{_data_uri(sheet, jpeg)}" alt="{html.escape(alt)}" '
        f'style="display:block;max-width:none;height:auto;margin:0;width:{100 * wide / width:.5f}%;'
        f'transform:translate({-100 * left / wide:.5f}%,{-100 * top / high:.5f}%)">'
    )
    window = f"overflow:hidden;aspect-ratio:{width}/{height};width:100%;max-width:{_shown_width(width)}px"
    first = html.escape(notes[start]) if notes else ""
    return _explorer(
        "frames",
        alt,
        f'<div class="zf-window" style="{window}">{image}</div><p class="zf-note">{first}</p>',
        spelled,
    )


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
    """A grey square that the reader moves over a picture, what happens there in words, and heat maps of it.

    Position (i, j) of the square has its corner at row i * stride and column j * stride of the picture.

    Args:
        picture: uint8 (H, W, 3).
        maps: heat maps by name, each (rows, columns), with a value for each position of the square.
        notes: a line for each position, (rows * columns,), row after row.
        patch: side of the square in pixels.
        stride: pixels between neighbouring positions.
        alt: what the picture shows.
        jpeg: code the picture as JPEG.
    Returns:
        HTML with the picture, the square in the first position, and the heat maps.
    Raises:
        ValueError: maps of different shapes, or not finite, notes or squares that do not fit, or no description.
    """
    picture = _pictures(picture, 3, "(H, W, 3)")
    if not maps:
        raise ValueError("positions needs at least one heat map")
    values = {name: np.asarray(values, dtype=float) for name, values in maps.items()}
    shapes = {found.shape for found in values.values()}
    if len(shapes) != 1 or len(next(iter(shapes))) != 2 or 0 in next(iter(shapes)):
        raise ValueError(f"heat maps of one shape (rows, columns) wanted, got {sorted(shapes)}")
    if not all(np.isfinite(found).all() for found in values.values()):
        raise ValueError("heat maps must be finite")
    rows, columns = shapes.pop()
    if len(notes) != rows * columns:
        raise ValueError(f"{len(notes)} notes for {rows} x {columns} positions")
    height, width, _ = picture.shape
    if patch < 1 or stride < 1 or (rows - 1) * stride >= height or (columns - 1) * stride >= width:
        raise ValueError(
            f"{rows} x {columns} squares of {patch} px, {stride} px apart, leave a picture of {height} x {width}"
        )
    square = f"left:0;top:0;width:{100 * patch / width:.4f}%;height:{100 * patch / height:.4f}%"
    stage = (
        f'<div class="zf-stage" style="position:relative;overflow:hidden;width:100%;max-width:{_shown_width(width)}px">'
        f'<img class="dark-light" src="{_data_uri(picture, jpeg)}" alt="{html.escape(alt)}" '
        f'style="display:block;width:100%;margin:0"><div class="zf-square" '
        f'style="position:absolute;background:#808080;{square}"></div></div>'
    )
    panels = "".join(_heat(name, found) for name, found in values.items())
    spelled = {
        "rows": rows,
        "columns": columns,
        "patch": patch,
        "stride": stride,
        "size": [width, height],
        "notes": list(notes),
        "maps": {name: [_rounded(value) for value in found.flatten()] for name, found in values.items()},
    }
    body = f'<div class="zf-panels">{stage}{panels}</div><p class="zf-note">{html.escape(notes[0])}</p>'
    return _explorer("positions", alt, body, spelled)


def table(rows: Sequence[Mapping[str, object]], *, caption: str) -> HTML:
    """A table that the reader sorts by a click on a heading and filters by a word.

    Args:
        rows: of the same keys, which are the headings; None is shown as a dash, numbers to the right.
        caption: what the table shows.
    Raises:
        ValueError: no rows, or rows of different keys, or no caption.
    """
    if not rows or any(list(row) != list(rows[0]) for row in rows):
        raise ValueError("a table needs rows, all with the same keys")
    if not caption.strip():
        raise ValueError("a table needs a caption")
    numeric = {key for key in rows[0] if all(NUMBER.fullmatch(_text(row[key])) for row in rows)}
    long = {key for key in rows[0] if any(len(_text(row[key])) > LONG for row in rows)} - numeric

    def cell(tag: str, key: str, text: str) -> str:
        scope = ' scope="col"' if tag == "th" else ""
        side = ' class="zf-number"' if key in numeric else ' class="zf-long"' if key in long else ""
        return f"<{tag}{scope}{side}>{html.escape(text)}</{tag}>"

    head = "".join(cell("th", key, key) for key in rows[0])
    body = "".join("<tr>" + "".join(cell("td", key, _text(row[key])) for key in row) + "</tr>" for row in rows)
    inner = (
        f'<div class="zf-scroll" tabindex="0" role="group" aria-label="{html.escape(caption)}"><table class="table">'
        f"<caption><span>{html.escape(caption)}</span></caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )
    return _explorer("table", caption, inner, {})


def _explorer(kind: str, alt: str, body: str, spelled: dict) -> HTML:
    if not alt.strip():
        raise ValueError("an explorer needs a description (alt)")
    # "</script>" inside a note would end the block early, so no "<" stays as it is.
    data = json.dumps(spelled, separators=(",", ":"), ensure_ascii=False).replace("<", "\\u003c")
    return HTML(
        f'<div class="zf-explorer" data-kind="{kind}" role="group" aria-label="Explorer: {html.escape(alt)}">{body}'
        f'<script type="application/json">{data}</script></div>'
    )


def _pictures(found: np.ndarray, dimensions: int, shape: str) -> np.ndarray:
    found = np.asarray(found)
    if found.dtype != np.uint8 or found.ndim != dimensions or found.shape[-1] != 3 or not found.size:
        raise ValueError(f"uint8 {shape} wanted, got {found.dtype} {found.shape}")
    return found


def _sheet(pictures: np.ndarray) -> tuple[np.ndarray, int]:
    """All pictures in one, about square, and how many stand in a row.

    Every picture is repeated by one pixel at its rim: a browser that scales the sheet mixes neighbouring pixels.
    """
    pictures = np.pad(pictures, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
    count, height, width, _ = pictures.shape
    columns = min(count, max(1, round(math.sqrt(count * height / width))))
    rows = math.ceil(count / columns)
    sheet = np.full((rows * columns, height, width, 3), 128, np.uint8)
    sheet[:count] = pictures
    return sheet.reshape(rows, columns, height, width, 3).swapaxes(1, 2).reshape(
        rows * height, columns * width, 3
    ), columns


def _data_uri(picture: np.ndarray, jpeg: bool = False) -> str:
    """PNG, exact while that is small, else of 256 colours, else JPEG; as a data URI."""
    image = Image.fromarray(picture)
    if jpeg:
        return _uri("jpeg", _coded(image, "JPEG"))
    exact = image.quantize(256) if len(image.getcolors(256) or ()) else image  # a palette loses nothing here
    for candidate in (exact, image.quantize(256, dither=Image.Dither.FLOYDSTEINBERG)):
        found = _uri("png", _coded(candidate, "PNG"))
        if len(found) <= BUDGET:
            return found
    return _uri("jpeg", _coded(image, "JPEG"))


def _coded(image: Image.Image, kind: str) -> bytes:
    buffer = io.BytesIO()
    options = {"quality": JPEG_QUALITY, "optimize": True} if kind == "JPEG" else {"optimize": True}
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _uri(kind: str, data: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def _shown_width(width: int) -> int:
    """Small pictures are shown larger, in whole multiples, about two thirds as wide as the page."""
    return width * max(1, round(480 / width))


def _heat(name: str, values: np.ndarray) -> str:
    low, high = values.min(), values.max()
    scaled = (values - low) / (high - low) if high > low else np.zeros_like(values)
    colours = (255 * matplotlib.colormaps["viridis"](scaled)[..., :3]).round().astype(np.uint8)
    span = f"{name}, from {_rounded(low)} (dark) to {_rounded(high)} (bright)"
    return (
        f'<figure class="zf-heat" data-map="{html.escape(name)}" style="position:relative;margin:0">'
        f'<img class="dark-light pixels" src="{_data_uri(colours)}" alt="Heat map: {html.escape(span)}" '
        f'style="display:block;width:100%;image-rendering:pixelated;margin:0">'
        f"<figcaption>{html.escape(span)}</figcaption></figure>"
    )


def _rounded(value: float) -> float:
    return float(f"{value:.3g}")


def _text(value: object) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool | str):
        return str(value)
    if isinstance(value, int | np.integer):
        return f"{value:,}"
    if isinstance(value, float | np.floating):
        return f"{value:.4g}" if math.isfinite(value) else "–"
    return str(value)
