"""The built book in headless Chromium, read from its folder with the network off. Run after the book is built.

`make test` does; by itself: make book, then pytest tests/test_browser.py. `ZFREPRO_HTML` names another folder.
"""

import functools
import html.parser
import importlib.util
import json
import os
import re
import urllib.parse
from pathlib import Path

import pytest
import yaml

from tests.chromium import ROOT, USES, browser  # noqa: F401

HTML = Path(os.environ.get("ZFREPRO_HTML") or ROOT / "_build" / "html").resolve()
NOTEBOOKS = [
    str(path.relative_to(ROOT / "book").with_suffix("")) for path in sorted((ROOT / "book").rglob("*.ipynb"))
]
PAGES = sorted(path.relative_to(HTML).as_posix() for path in (HTML / "book").rglob("*.html"))
HEAVIEST = 3e6  # bytes of a page with its pictures
PHONE = 390  # px
AXE_RULES = ["wcag2a", "wcag2aa", "best-practice"]

if not PAGES:
    pytest.skip("the book is not built, so its pages are not tested: make book", allow_module_level=True)

each_page = pytest.mark.parametrize("page", PAGES)


class Reader(html.parser.HTMLParser):
    """Links, files and anchors of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.files: list[str] = []
        self.anchors: set[str] = set()

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.anchors |= {found.get("id") or "", found.get("name") or ""} - {""}
        if tag == "a" and found.get("href"):
            self.links.append(found["href"])
        file = found.get("href") if tag == "link" else found.get("src")
        if file and found.get("rel") not in ("canonical", "search", "next", "prev", "index"):
            self.files.append(file)


@functools.cache
def read(path: Path) -> Reader:
    reader = Reader()
    reader.feed(path.read_text(encoding="utf-8"))
    return reader


def below(page: str, link: str) -> tuple[Path, str]:
    """The file of the built folder that a link means, and the anchor in it."""
    parts = urllib.parse.urlsplit(link)
    path = urllib.parse.unquote(parts.path)
    return (HTML / page).parent.joinpath(path).resolve() if path else HTML / page, urllib.parse.unquote(parts.fragment)


def opened(browser, page: str, **options) -> None:  # noqa: F811
    browser.open((HTML / page).as_uri(), **options)


@each_page
def test_every_link_within_the_book_leads_somewhere(page):
    broken = []
    for link in read(HTML / page).links:
        if urllib.parse.urlsplit(link).scheme:
            continue
        file, anchor = below(page, link)
        if not file.exists() or (anchor and file.suffix == ".html" and anchor not in read(file).anchors):
            broken.append(link)
    assert not broken


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_can_be_launched_and_downloaded(name):
    config = yaml.safe_load((ROOT / "_config.yml").read_text())
    repository, buttons = config["repository"], config["launch_buttons"]
    owned = repository["url"].removeprefix("https://github.com/")
    links = read(HTML / "book" / f"{name}.html").links
    assert f"{buttons['colab_url']}/github/{owned}/blob/{repository['branch']}/book/{name}.ipynb" in links
    assert any(link.startswith(f"{buttons['binderhub_url']}/v2/gh/{owned}/{repository['branch']}") for link in links)
    (notebook,) = [link for link in links if link.endswith(f"{name}.ipynb") and not urllib.parse.urlsplit(link).scheme]
    cells = json.loads(below(f"book/{name}.html", notebook)[0].read_text())["cells"]
    assert "git" in "".join(cells[0]["source"])  # the cell that installs, see test_launch.py


@each_page
def test_a_page_and_its_pictures_weigh_little(page):
    files = {below(page, file)[0] for file in read(HTML / page).files if not urllib.parse.urlsplit(file).scheme}
    own = [file for file in files if file.is_file() and "_static" not in file.parts]
    assert (HTML / page).stat().st_size + sum(file.stat().st_size for file in own) < HEAVIEST


@each_page
def test_a_page_loads_offline_without_errors(page, browser):  # noqa: F811
    opened(browser, page, settle=0.5)
    assert not browser.errors
    assert not [url for url in browser.requests if not url.startswith(("file:", "data:", "blob:"))]


@each_page
def test_pictures_are_described(page, browser):  # noqa: F811
    opened(browser, page)
    silent = browser.evaluate(
        "[...document.querySelectorAll('.bd-article img')].filter(i => !i.alt.trim()).map(i => i.src.slice(-60))"
    )
    assert not silent
    hashes = browser.evaluate("[...document.querySelectorAll('.bd-article img')].map(i => i.alt)")
    assert not [alt for alt in hashes if re.search(r"\b[0-9a-f]{32,}\b|\.(png|svg|jpe?g)$", alt)]


@each_page
def test_headings_descend_one_step_at_a_time(page, browser):  # noqa: F811
    opened(browser, page)
    levels = browser.evaluate(
        "[...document.querySelectorAll('.bd-article :is(h1, h2, h3, h4, h5, h6)')].map(h => Number(h.tagName[1]))"
    )
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in zip(levels, levels[1:], strict=False))


@each_page
def test_no_page_scrolls_sideways_on_a_phone(page, browser):  # noqa: F811
    opened(browser, page, width=PHONE)
    wide = browser.evaluate("document.documentElement.scrollWidth")
    culprits = browser.evaluate(
        f"[...document.querySelectorAll('.bd-article *')].filter(e => e.getBoundingClientRect().right > {PHONE} && "
        "!e.closest('.zf-scroll, .cell_output, .pst-scrollable-table-container, pre, .zf-window, math'))"
        ".slice(0, 3).map(e => e.outerHTML.slice(0, 80))"
    )
    assert wide <= PHONE, culprits


@each_page
def test_dark_mode_leaves_pictures_of_features_alone(page, browser):  # noqa: F811
    opened(browser, page, theme="dark")
    assert browser.evaluate("document.documentElement.dataset.theme") == "dark"
    altered = browser.evaluate(
        "[...document.querySelectorAll('.bd-article img.dark-light')].filter(i => { const s = getComputedStyle(i);"
        "return s.filter !== 'none' || s.opacity !== '1' || s.mixBlendMode !== 'normal' }).map(i => i.alt)"
    )
    assert not altered


@pytest.mark.parametrize("theme", ["light", "dark"])
@each_page
def test_axe_finds_nothing(page, theme, browser):  # noqa: F811
    package = importlib.util.find_spec("axe_core_python")
    if package is None:
        pytest.skip("axe-core is not installed: pip install axe-core-python")
    opened(browser, page, theme=theme, settle=0.5)
    browser.evaluate((Path(package.origin).parent / "axe.min.js").read_text() + ";0")
    options = json.dumps({"runOnly": AXE_RULES, "resultTypes": ["violations"]})
    found = browser.evaluate(
        f"axe.run({{include: [['.bd-article']]}}, {options}).then(r => r.violations.flatMap(v => "
        "v.nodes.slice(0, 3).map(n => `${v.id}: ${n.html.slice(0, 120)} "
        "${n.any.map(a => a.message).join(' ').slice(0, 200)}`)))"
    )
    assert not found, "\n".join(found)


@each_page
def test_explorers_answer_to_mouse_and_keyboard(page, browser):  # noqa: F811
    opened(browser, page)
    kinds = browser.evaluate("[...document.querySelectorAll('.zf-explorer')].map(e => e.dataset.kind)")
    if not kinds:
        pytest.skip("no explorer on this page")
    for number, kind in enumerate(kinds):
        root = f"document.querySelectorAll('.zf-explorer')[{number}]"
        hidden = browser.evaluate(f"{root}.offsetParent === null")
        assert not hidden, f"explorer {number}, {kind}, cannot be seen"
        USES[kind](browser, root)
    assert not browser.errors
