"""book/_static/explorer.js in headless Chromium, on a page of three explorers and nothing else.

As in JupyterLab, each explorer brings the script itself.
"""

import io

import numpy as np
import pytest
from PIL import Image

from tests.chromium import USES
from zfrepro import explorers
from zfrepro.page import table

PAGE = """<!doctype html><html lang="en" data-theme="light"><head><meta charset="utf-8">
<title>explorers</title>
<meta name="viewport" content="width=device-width">
</head>
<body><main class="bd-article"><h1>Explorers</h1>{body}</main></body></html>"""
COLOURS = np.array(
    [(250, 20, 20), (20, 250, 20), (20, 20, 250), (250, 250, 20), (20, 250, 250), (250, 20, 250)]
)


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> str:
    """A page with a flip book of plain colours, a picture with 2 x 3 positions, and a table."""
    plain = np.broadcast_to(COLOURS[:, None, None].astype(np.uint8), (6, 30, 40, 3))
    axes, notes = {"layer": ["1", "2"], "map": ["a", "b", "c"]}, list("uvwxyz")
    field, heat = np.full((60, 90, 3), 200, np.uint8), np.arange(6.0).reshape(2, 3)
    rows = [{"net": name, "error": error} for name, error in (("b", 9.5), ("a", 10.5), ("c", None))]
    rows += [{"net": f"d{i}", "error": 20.5 + i} for i in range(9)]
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("ZFREPRO_PAGES", raising=False)  # which says that the page has the script
        parts = [
            explorers.frames(plain, axes, notes, alt="plain colours"),
            explorers.positions(field, {"p": heat}, notes, patch=30, stride=30, alt="a grey field"),
            table(rows, caption="x"),
        ]
    file = tmp_path_factory.mktemp("page") / "page.html"
    file.write_text(PAGE.format(body="".join(shown.data for shown in parts)))
    return file.as_uri()


def picture_of(browser) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(browser.page.screenshot())).convert("RGB")).astype(int)


def colour_at(browser, element: str, x: float, y: float) -> np.ndarray:
    """The colour at a point of an element (JavaScript), by shares of its sides."""
    left, top = browser.place(element, x, y)
    return picture_of(browser)[round(top), round(left)]


def note_of(browser, number: int = 0) -> str:
    return browser.evaluate(f"document.querySelectorAll('.zf-note')[{number}].textContent")


@pytest.mark.parametrize("kind", USES)
def test_explorers_answer_to_mouse_keyboard_and_touch(kind, browser, page):
    browser.open(page)
    USES[kind](browser, f"document.querySelector('[data-kind={kind}]')")
    assert not browser.errors


@pytest.mark.parametrize("width", [1280, 390])
def test_every_frame_is_shown_where_it_should_be(width, browser, page):
    browser.open(page, width=width)
    for layer, number in np.ndindex(2, 3):
        browser.evaluate(
            f"[...document.querySelectorAll('input[type=range]')].forEach((slider, i) => {{ "
            f"slider.value = [{layer}, {number}][i]; slider.dispatchEvent(new Event('input')) }})"
        )
        for share in (0.01, 0.5, 0.99):
            colour = colour_at(browser, "document.querySelector('.zf-window')", share, share)
            assert np.abs(colour - COLOURS[3 * layer + number]).max() < 12
        assert note_of(browser) == "uvwxyz"[3 * layer + number]
    assert browser.evaluate("document.documentElement.scrollWidth") <= width


def test_without_scripts_the_first_picture_stands(browser, page):
    browser.scripts = False
    try:
        browser.open(page)
        picture = picture_of(browser)
    finally:
        browser.scripts = True
    close = [(np.abs(picture - colour).max(2) < 12).sum() for colour in COLOURS]
    assert close[0] > 1000 and not any(close[1:])


def test_the_square_covers_the_place_it_names_and_the_mark_lies_on_it(browser, page):
    browser.open(page)
    stage = "document.querySelector('.zf-stage')"
    browser.evaluate(f"{stage}.focus()")
    for key in ("ArrowRight", "ArrowDown"):
        browser.page.keyboard.press(key)
    assert note_of(browser, 1) == "y"  # row 1, column 1 of 2 x 3
    assert (colour_at(browser, stage, 0.5, 0.75) == 128).all()  # under the square
    assert (colour_at(browser, stage, 0.2, 0.75) == 200).all()  # beside it
    spoken = browser.evaluate(f"{stage}.getAttribute('aria-valuetext')")
    assert spoken == "row 2, column 2: y; p: 4"
    browser.page.add_style_tag(content="figure { padding: 8px }")  # as a theme may have it
    browser.page.keyboard.press("End")
    assert note_of(browser, 1) == "z"
    image, mark = (
        browser.evaluate(
            f"(b => [b.right, b.bottom])(document.querySelector('{name}').getBoundingClientRect())"
        )
        for name in (".zf-map img", ".zf-mark")
    )
    assert np.abs(np.subtract(image, mark)).max() < 1


def test_numbers_are_sorted_as_numbers_and_dashes_come_last(browser, page):
    browser.open(page)
    errors = "[...document.querySelectorAll('tbody tr')].map(r => r.cells[1].textContent)"
    button = "document.querySelectorAll('thead button')[1]"
    browser.evaluate(f"{button}.click()")
    others = [f"{20.5 + i}" for i in range(9)]
    assert browser.evaluate(errors) == ["9.5", "10.5", *others, "–"]
    browser.evaluate(f"{button}.click()")
    assert browser.evaluate(errors) == [*others[::-1], "10.5", "9.5", "–"]


def test_a_view_has_a_link_that_opens_it(browser, page):
    browser.open(page)
    sliders = "[...document.querySelectorAll('input[type=range]')]"
    browser.evaluate(
        f"{sliders}.forEach(s => {{ s.value = 1; s.dispatchEvent(new Event('input')) }})"
    )
    link = browser.evaluate("document.querySelector('.zf-link').getAttribute('href')")
    assert link == "#explorer-1?layer=2&map=b"
    browser.open(page + link)
    assert note_of(browser) == "y"
    browser.evaluate("location.hash = '#explorer-2?row=2&column=3'")
    browser.page.wait_for_timeout(100)
    assert note_of(browser, 1) == "z"
    browser.open(page + "#explorer-1?layer=9&map=c")  # what does not exist is passed over
    assert note_of(browser) == "w"
    assert not browser.errors


def test_a_swipe_along_the_page_scrolls_it(browser, page):
    browser.open(page, width=390)
    for name in (".zf-stage", ".zf-map"):
        style = browser.evaluate(f"getComputedStyle(document.querySelector('{name}')).touchAction")
        assert "pan-y" in style
