"""Explorers of the rendered page: what their HTML holds and what they refuse.

How they answer is in test_explorer_script.py."""

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


def frames(**changes):
    axes = {"layer": ["1", "2"], "map": ["a", "b", "c"]}
    given = {"axes": axes, "notes": [f"note {i}" for i in range(6)], "alt": "six colours"}
    return explorers.frames(coloured(6), **(given | changes))


def test_text_cannot_break_out_of_the_page():
    shown = frames(notes=["</script><b>"] * 6, alt='a "quoted" <alt>')
    assert shown.data.count("</script>") == 1 + page.script().count("</script>")
    assert "<b>" not in shown.data.removesuffix(page.script())
    assert data_of(shown)["notes"][0] == "</script><b>"
    assert 'alt="a &quot;quoted&quot; &lt;alt&gt;"' in shown.data


def test_few_colours_stay_exact_and_large_noise_keeps_to_the_budget():
    assert (picture_of(frames())[1:5, 1:7] == coloured(1)).all()
    noise = np.random.default_rng(0).integers(0, 255, (16, 128, 128, 3), np.uint8)
    shown = explorers.frames(noise, {"picture": [str(i) for i in range(16)]}, alt="noise")
    assert len(shown.data) < 2.2 * explorers.BUDGET


def positions(**changes):
    values = np.arange(6.0).reshape(2, 3)
    given = {"maps": {"p": values, "q": -values}, "notes": [f"at {i}" for i in range(6)]}
    given |= {"patch": 4, "stride": 3}
    return explorers.positions(coloured(1, 9, 12)[0], **(given | {"alt": "a dog"} | changes))


@pytest.mark.parametrize(
    "explorer, changes, message",
    [
        (frames, {"axes": {"map": ["a", "b"]}}, "6 pictures and 6 notes for 2 positions"),
        (frames, {"notes": ["one"]}, "6 pictures and 1 notes for 6 positions"),
        (positions, {"maps": {"p": np.zeros((2, 3)), "q": np.zeros((3, 2))}}, "shape"),
        (positions, {"notes": ["one"]}, "1 notes for 2 x 3"),
    ],
)
def test_what_does_not_fit_is_refused(explorer, changes, message):
    with pytest.raises(ValueError, match=message):
        explorer(**changes)


def test_table_puts_numbers_to_the_right_and_escapes():
    rows = [{"net": "a<b", "error": 12.345678, "n": 1200}, {"net": "c", "error": None, "n": 3}]
    shown = page.table(rows, caption="errors & counts").data
    assert re.search(r'zf-number" *>12\.3<', shown) and re.search(r'zf-number" *>–<', shown)
    assert re.search(r'zf-number" *>1,200<', shown) and ">a&lt;b</td>" in shown
    assert "errors &amp; counts</span></caption>" in shown
    with pytest.raises(ValueError, match="table needs"):
        page.table([{"a": 1}, {"b": 1}], caption="two kinds")


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
