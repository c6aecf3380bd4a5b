"""How tests use the explorers of a page in a browser."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tools"))

from browser import Browser, program  # noqa: E402, F401


def use_frames(browser: Browser, root: str) -> None:
    """Move the first slider of a flip book, a JavaScript expression, by keyboard, mouse and finger.
    """
    slider = f"{root}.querySelector('input[type=range]')"
    index = f"Number({root}.dataset.index)"
    moved = f"{root}.querySelector('.zf-window img').style.transform"
    browser.place(slider)
    browser.evaluate(f"{slider}.focus()")
    browser.page.keyboard.press("Home")
    first, at = browser.evaluate(index), browser.evaluate(moved)
    browser.page.keyboard.press("ArrowRight")
    assert browser.evaluate(index) > first
    assert browser.evaluate(moved) != at
    browser.page.mouse.click(*browser.place(slider, 0.98))
    assert browser.evaluate(f"{slider}.value === {slider}.max")
    assert browser.evaluate(f"{root}.querySelector('output').textContent") != ""
    browser.page.touchscreen.tap(*browser.place(slider, 0.02))
    assert browser.evaluate(f"{slider}.value === {slider}.min")


def use_positions(browser: Browser, root: str) -> None:
    """Move the square by mouse, finger and keyboard."""
    stage, index = f"{root}.querySelector('.zf-stage')", f"Number({root}.dataset.index)"
    last = browser.evaluate(f"Number({stage}.getAttribute('aria-valuemax'))")
    browser.page.mouse.move(*browser.place(stage, 0.99, 0.99))
    assert browser.evaluate(index) == last
    browser.page.touchscreen.tap(*browser.place(stage, 0.01, 0.01))
    assert browser.evaluate(index) == 0
    browser.evaluate(f"{stage}.focus()")
    browser.page.keyboard.press("ArrowRight")
    assert browser.evaluate(index) == 1
    before = browser.evaluate(f"{root}.querySelector('.zf-square').style.top")
    browser.page.keyboard.press("ArrowDown")
    assert browser.evaluate(f"{root}.querySelector('.zf-square').style.top") != before
    heat = f"{root}.querySelector('.zf-heat img')"
    browser.page.mouse.move(*browser.place(heat, 0.999, 0.999))
    assert browser.evaluate(index) == last


def use_table(browser: Browser, root: str) -> None:
    """Sort by the first column, by mouse, keyboard and finger, and filter."""
    button, heading = f"{root}.querySelector('thead button')", f"{root}.querySelector('thead th')"
    rows = f"[...{root}.querySelectorAll('tbody tr')]"
    column = f"{rows}.filter(r => !r.hidden).map(r => r.cells[0].textContent)"
    browser.page.mouse.click(*browser.place(button, 0.1))
    assert browser.evaluate(f"{heading}.getAttribute('aria-sort')") == "ascending"
    rows = browser.evaluate(column)
    browser.evaluate(f"{button}.focus()")
    browser.page.keyboard.press("Enter")
    assert browser.evaluate(f"{heading}.getAttribute('aria-sort')") == "descending"
    assert sorted(browser.evaluate(column)) == sorted(rows)
    browser.page.touchscreen.tap(*browser.place(button, 0.1))
    assert browser.evaluate(f"{heading}.getAttribute('aria-sort')") == "ascending"
    if browser.evaluate(f"{root}.querySelectorAll('tbody tr').length") <= 10:
        assert browser.evaluate(f"{root}.querySelector('input[type=search]')") is None
        return
    browser.evaluate(f"{root}.querySelector('input[type=search]').focus()")
    browser.page.keyboard.insert_text("no such thing anywhere")
    assert browser.evaluate(column) == []
    browser.evaluate(f"{root}.querySelector('input[type=search]').select()")
    browser.page.keyboard.insert_text(rows[0])
    assert rows[0] in browser.evaluate(column)


USES = {"frames": use_frames, "positions": use_positions, "table": use_table}
