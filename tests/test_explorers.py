"""Explorers of the rendered page: what is in the HTML. How they answer is in test_browser.py."""

import base64
import io
import json
import re

import numpy as np
import pytest
from PIL import Image

from zfrepro import explorers, page


def data_of(shown) -> dict:
    return json.loads(
        re.search(r'<script type="application/json">(.*?)</script>', shown.data, re.S).group(1)
    )


def picture_of(shown, number: int = 0) -> np.ndarray:
    coded = re.findall(r'src="data:image/\w+;base64,([^"]+)"', shown.data)[number]
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(coded))).convert("RGB"))


def coloured(count: int, height: int = 4, width: int = 6) -> np.ndarray:
    """Plain pictures, the n-th of colour (10 n, 0, 255)."""
    pictures = np.zeros((count, height, width, 3), np.uint8)
    pictures[..., 2] = 255
    pictures[..., 0] = 10 * np.arange(count)[:, None, None]
    return pictures


def frames(count: int = 6, **changes):
    given = {
        "axes": {"layer": ["1", "2"], "map": ["a", "b", "c"]},
        "notes": [f"note {i}" for i in range(count)],
    }
    return explorers.frames(coloured(count), **(given | {"alt": "six colours"} | changes))


def test_every_frame_is_where_the_script_looks_for_it():
    shown = frames()
    data, sheet = data_of(shown), picture_of(shown)
    assert [axis["labels"] for axis in data["axes"]] == [["1", "2"], ["a", "b", "c"]]
    assert data["notes"][5] == "note 5" and 'alt="six colours"' in shown.data
    width, height = data["cell"]
    assert sheet.shape == (data["sheet"][1], data["sheet"][0], 3)
    for index in range(6):
        left, top = (index % data["columns"]) * width, (index // data["columns"]) * height
        cell = sheet[top : top + height, left : left + width]
        assert (cell == (10 * index, 0, 255)).all()  # the rim repeats the picture


def test_frames_open_on_the_picture_that_is_asked_for():
    shown = frames(start=4)
    data = data_of(shown)
    assert data["start"] == 4 and "note 4</p>" in shown.data
    row, column = divmod(4, data["columns"])
    (width, height), (wide, high) = data["cell"], data["sheet"]
    left, top = 1 + column * width, 1 + row * height
    assert f"translate({-100 * left / wide:.5f}%,{-100 * top / high:.5f}%)" in shown.data


def test_text_cannot_break_out_of_the_page():
    shown = frames(notes=["</script><b>"] * 6, alt='a "quoted" <alt>')
    assert shown.data.count("</script>") == 1 + page.script().count("</script>")
    assert "<b>" not in shown.data.removesuffix(page.script())
    assert data_of(shown)["notes"][0] == "</script><b>"
    assert 'alt="a &quot;quoted&quot; &lt;alt&gt;"' in shown.data


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"axes": {"map": ["a", "b"]}}, "6 pictures for the axes 2 map"),
        ({"axes": {}}, "6 pictures for the axes none"),
        ({"notes": ["one"]}, "1 notes for 6 pictures"),
        ({"alt": " "}, "description"),
        ({"start": 6}, "cannot come first"),
    ],
)
def test_frames_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        frames(**changes)


def test_few_colours_stay_exact_and_large_noise_keeps_to_the_budget():
    assert (picture_of(frames())[1:5, 1:7] == coloured(1)).all()
    noise = np.random.default_rng(0).integers(0, 255, (16, 128, 128, 3), np.uint8)
    smooth = noise // 64 * 64
    for pictures in (noise, smooth):
        shown = explorers.frames(pictures, {"picture": [str(i) for i in range(16)]}, alt="noise")
        assert len(shown.data) < 2.2 * explorers.BUDGET
    exact = explorers.frames(smooth[:2], {"picture": ["0", "1"]}, alt="64 colours")
    assert (picture_of(exact)[1:129, 1:129] == smooth[0]).all()


def positions(**changes):
    values = np.arange(6.0).reshape(2, 3)
    given = {"maps": {"p": values, "q": -values}, "notes": [f"at {i}" for i in range(6)]}
    given |= {"patch": 4, "stride": 3}
    return explorers.positions(coloured(1, 9, 12)[0], **(given | {"alt": "a dog"} | changes))


def test_positions_hold_every_value_and_the_squares_place():
    shown = positions()
    data = data_of(shown)
    told = [data[key] for key in ("rows", "columns", "patch", "stride", "size")]
    assert told == [2, 3, 4, 3, [12, 9]]
    assert data["maps"] == {"p": [0, 1, 2, 3, 4, 5], "q": [0, -1, -2, -3, -4, -5]}
    assert (picture_of(shown) == coloured(1, 9, 12)[0]).all()
    assert picture_of(shown, 1).shape == (2, 3, 3)
    assert picture_of(shown, 1)[0, 0].sum() < picture_of(shown, 1)[1, 2].sum()  # bright where large
    assert "p, from 0.0 (dark) to 5.0 (bright)" in shown.data and ">at 0</p>" in shown.data


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"maps": {}}, "at least one"),
        ({"maps": {"p": np.zeros((2, 3)), "q": np.zeros((3, 2))}}, "one shape"),
        ({"maps": {"p": np.full((2, 3), np.nan)}}, "finite"),
        ({"notes": ["one"]}, "1 notes for 2 x 3"),
        ({"stride": 9}, "leave a picture"),
        ({"alt": ""}, "description"),
    ],
)
def test_positions_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        positions(**changes)


def test_table_puts_numbers_to_the_right_and_escapes():
    rows = [{"net": "a<b", "error": 12.345678, "n": 1200}, {"net": "c", "error": None, "n": 3}]
    shown = page.table(rows, caption="errors & counts").data
    assert re.search(r'zf-number" *>12\.3<', shown) and re.search(r'zf-number" *>–<', shown)
    assert re.search(r'zf-number" *>1,200<', shown) and ">a&lt;b</td>" in shown
    assert "errors &amp; counts</span></caption>" in shown


@pytest.mark.parametrize(
    "rows, caption", [([], "none"), ([{"a": 1}, {"b": 1}], "two kinds"), ([{"a": 1}], " ")], ids=str
)
def test_tables_that_make_no_sense_are_refused(rows, caption):
    with pytest.raises(ValueError, match="table needs"):
        page.table(rows, caption=caption)


def test_versions_and_dates_are_no_numbers():
    row = dict(zip("abcd", ("2.14.1", "2026-11-24", "12.3 ± 0.4", "−0.3 (−1 to 1)"), strict=True))
    kinds = re.findall(r'class="[^"]*(zf-\w+)" *>[^<]*</td>', page.table([row], caption="x").data)
    assert kinds == ["zf-text", "zf-text", "zf-number", "zf-number"]


@pytest.mark.parametrize("shown", [frames, positions, lambda: page.table([{"a": 1}], caption="x")])
def test_a_notebook_brings_the_script_and_a_page_of_the_book_does_not(shown, monkeypatch):
    monkeypatch.delenv("ZFREPRO_PAGES", raising=False)
    assert "querySelectorAll" in shown().data and "<style>" in shown().data
    monkeypatch.setenv("ZFREPRO_PAGES", "1")
    assert "querySelectorAll" not in shown().data
