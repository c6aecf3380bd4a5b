"""The built book in headless Chromium, read from its folder with the network off. Run after the
book is built.

`make test` does; by itself: make book, then pytest tests/test_browser.py. `ZFREPRO_HTML` names
another folder. A page is loaded once on a phone and once for all else; what is wrong with it is
listed together."""

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
from PIL import Image

from tests.chromium import ROOT, USES

HTML = Path(os.environ.get("ZFREPRO_HTML") or ROOT / "_build" / "html").resolve()
NOTEBOOKS = [
    file.relative_to(ROOT / "book").with_suffix("").as_posix()
    for file in sorted((ROOT / "book").rglob("*.ipynb"))
]
PAGES = sorted(path.relative_to(HTML).as_posix() for path in (HTML / "book").rglob("*.html"))
HEAVIEST = 4.5e6  # bytes of a page with its pictures, which are what it is about
WIDE, PHONE = 1280, 390  # px
FIRST_SCREEN, TALLEST = 800, 9000  # px at 1280
LANDING = "book/index.html"  # three screens
MOST_WORDS, MOST_TABLES = 1250, 3  # that are not folded; words of the main text
PRINTED = 703  # px across A4 between margins of 12 mm
AXE = importlib.util.find_spec("axe_core_python")
AXE_OPTIONS = {"runOnly": ["wcag2a", "wcag2aa", "best-practice"], "resultTypes": ["violations"]}

if not PAGES:
    pytest.skip(
        "the book is not built, so its pages are not tested: make book", allow_module_level=True
    )

each_page = pytest.mark.parametrize("page", PAGES)


class Reader(html.parser.HTMLParser):
    """Links, files, anchors and Open Graph tags of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.preview: dict[str, str] = {}
        self.links: list[str] = []
        self.files: list[str] = []
        self.anchors: set[str] = set()

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.anchors |= {given.get("id") or "", given.get("name") or ""} - {""}
        if tag == "meta" and (given.get("property") or "").startswith("og:"):
            self.preview[given["property"]] = given.get("content") or ""
        if tag == "a" and given.get("href"):
            self.links.append(given["href"])
        file = given.get("href") if tag == "link" else given.get("src")
        if file and given.get("rel") not in ("canonical", "search", "next", "prev", "index"):
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
    file = (HTML / page).parent.joinpath(path).resolve() if path else HTML / page
    return file, urllib.parse.unquote(parts.fragment)


def local(links: list[str]) -> list[str]:
    return [link for link in links if not urllib.parse.urlsplit(link).scheme]


def is_chapter(page: str) -> bool:
    """Whether a page lies in a folder of its own: book/gallery/gallery.html."""
    return Path(page).parent.name == Path(page).stem


@each_page
def test_every_link_within_the_book_leads_somewhere(page):
    broken = []
    for link in local(read(HTML / page).links):
        file, anchor = below(page, link)
        anchored = not anchor or file.suffix != ".html" or anchor in read(file).anchors
        if not file.exists() or not anchored:
            broken.append(link)
    assert not broken


@each_page
def test_a_page_and_its_pictures_weigh_little(page):
    files = {below(page, file)[0] for file in local(read(HTML / page).files)}
    shown_only_here = [f for f in files if f.is_file() and "_static" not in f.parts]
    assert sum(file.stat().st_size for file in [HTML / page, *shown_only_here]) < HEAVIEST


@each_page
def test_a_link_to_a_page_is_shown_with_its_words_and_a_picture(page):
    preview = read(HTML / page).preview
    config = yaml.safe_load((ROOT / "_config.yml").read_text())
    site = config["sphinx"]["config"]["ogp_site_url"]
    assert preview["og:url"] == site + page and preview["og:site_name"] == config["title"]
    assert preview["og:title"] and preview["og:image:alt"] and len(preview["og:description"]) > 40
    answer = re.search(r'<div class="zf-answer"><p>(.*?)</p>', (HTML / page).read_text(), re.DOTALL)
    if answer:
        words = html.unescape(re.sub("<[^>]+>", "", answer[1]))
        assert preview["og:description"] == words
    with Image.open(HTML / preview["og:image"].removeprefix(site)) as picture:
        assert picture.width >= 600 and picture.width > picture.height  # as readers of links ask


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_can_be_launched_and_downloaded(name):
    config = yaml.safe_load((ROOT / "_config.yml").read_text())
    repository, buttons = config["repository"], config["launch_buttons"]
    owned = repository["url"].removeprefix("https://github.com/")
    links, branch = read(HTML / "book" / f"{name}.html").links, repository["branch"]
    assert f"{buttons['colab_url']}/github/{owned}/blob/{branch}/book/{name}.ipynb" in links
    binder = f"{buttons['binderhub_url']}/v2/gh/{owned}/{branch}"
    assert any(link.startswith(binder) for link in links)
    (notebook,) = [link for link in local(links) if link.endswith(f"{Path(name).name}.ipynb")]
    cells = json.loads(below(f"book/{name}.html", notebook)[0].read_text())["cells"]
    assert "git" in "".join(cells[0]["source"])  # the cell that installs, see test_tools.py


def accessibility(browser) -> list[str]:
    """What axe-core finds."""
    if AXE is None:
        return ["axe-core is not installed: pip install axe-core-python"]
    browser.evaluate((Path(AXE.origin).parent / "axe.min.js").read_text() + ";0")
    return browser.evaluate(
        f"axe.run({{include: [['.bd-article']]}}, {json.dumps(AXE_OPTIONS)}).then(r => "
        "r.violations.flatMap(v => v.nodes.slice(0, 3).map(n => `${v.id}: ${n.html.slice(0, 120)} "
        "${n.any.map(a => a.message).join(' ').slice(0, 200)}`)))"
    )


def shown(browser) -> tuple[int, int]:
    """Return the words of the main text and the tables that a reader sees without opening any."""
    return tuple(
        browser.evaluate(
            """(() => {
            const article = document.querySelector(".bd-article");
            const aside = "table, pre, figcaption, script, style, math, .zf-explorer, .zf-listed, "
                + ".exercise, .solution, .toggle-details, .toggle-hidden";
            const texts = document.createTreeWalker(article, NodeFilter.SHOW_TEXT);
            let words = 0;
            while (texts.nextNode()) {
                const within = texts.currentNode.parentElement;
                if (!within.closest(aside) && within.checkVisibility())
                    words += texts.currentNode.data.split(/\\s+/).filter(Boolean).length;
            }
            const tables = [...article.querySelectorAll("table")].filter(
                t => t.checkVisibility() && !t.closest(".toggle-hidden"));
            return [words, tables.length];
            })()"""
        )
    )


def first_screen(browser) -> list[str]:
    """Return what the first screen lacks: the whole answer and the upper half of the hero."""
    bottoms = browser.evaluate(
        "['.zf-answer', 'img, svg, .zf-explorer'].map(s => [...document.querySelectorAll("
        "`.bd-article :is(${s})`)].map(e => e.getBoundingClientRect()).filter(b => b.height > 90 "
        "|| "
        "s === '.zf-answer').map(b => scrollY + "
        "(s === '.zf-answer' ? b.bottom : (b.top + b.bottom) / 2))[0] ?? null)"
    )
    pairs = zip(("answer", "middle of the hero"), bottoms, strict=True)
    return [f"{what} at {end} px" for what, end in pairs if end is None or end > FIRST_SCREEN]


def on_a_desktop(browser, page: str) -> list[str]:
    outside = ("file:", "data:", "blob:")
    faults = [url for url in browser.requests if not url.startswith(outside)]
    pictures = "[...document.querySelectorAll('.bd-article img')]"
    for alt in browser.evaluate(f"{pictures}.map(i => i.alt.trim())"):
        if not alt or re.search(r"\b[0-9a-f]{32,}\b|\.(png|svg|jpe?g)$", alt):
            faults.append(f"a picture described as {alt!r}")
    levels = browser.evaluate(
        "[...document.querySelectorAll('.bd-article :is(h1, h2, h3, h4, h5, h6)')].map(h => "
        "Number(h.tagName[1]))"
    )
    steps = zip(levels, levels[1:], strict=False)
    if levels[0] != 1 or levels.count(1) != 1 or any(b > a + 1 for a, b in steps):
        faults.append(f"headings of levels {levels}")
    height = browser.evaluate(
        "document.querySelector('.bd-article').getBoundingClientRect().height"
    )
    if height > (3 * FIRST_SCREEN if page == LANDING else TALLEST):
        faults.append(f"{height:.0f} px high")
    words, tables = shown(browser)
    if is_chapter(page) or page == LANDING:
        faults += first_screen(browser)
        faults += [f"{words} words"] * (words > MOST_WORDS)
        faults += [f"{tables} tables"] * (tables > MOST_TABLES)
    return faults + accessibility(browser)


def on_a_phone(browser, page: str) -> list[str]:
    """What makes the page scroll sideways, and outcomes of claims beside the screen."""
    browser.open((HTML / page).as_uri(), width=PHONE)
    wide = browser.evaluate("document.documentElement.scrollWidth")
    if wide <= PHONE:
        beside = browser.evaluate(
            "[...document.querySelectorAll('.zf-claims td > .zf-outcome')].filter(e => "
            f"e.getBoundingClientRect().right > {PHONE}).map(e => e.textContent)"
        )
        return beside + browser.errors
    culprits = browser.evaluate(
        "[...document.querySelectorAll('.bd-article *')].filter(e => "
        f"e.getBoundingClientRect().right > {PHONE} && "
        "!e.closest('.zf-scroll, .cell_output, .pst-scrollable-table-container, pre, .zf-window, "
        "math'))"
        ".slice(0, 3).map(e => e.outerHTML.slice(0, 80))"
    )
    return [f"{wide} px wide", *culprits, *browser.errors]


def on_paper(browser) -> list[str]:
    """Buttons that are printed, and what is cut."""
    browser.resize(PRINTED, media="print")
    buttons = (
        ".zf-controls, .zf-hint, .zf-link, .zf-buttons, .copybtn, .bd-sidebar, .bd-header-article"
    )
    visible = "filter(e => e.checkVisibility())"
    faults = browser.evaluate(
        f"[...document.querySelectorAll('{buttons}')].{visible}.map(e => e.className)"
    )
    return faults + browser.evaluate(
        f"[...document.querySelectorAll('.bd-article :is(pre, table, img)')].{visible}.filter(e => "
        "!e.closest('.zf-window') && (e.getBoundingClientRect().right > innerWidth + 1 || "
        "(e.tagName === 'PRE' && e.scrollWidth > e.clientWidth + 1)))"
        ".map(e => e.outerHTML.slice(0, 80))"
    )


def in_the_dark(browser) -> list[str]:
    """Pictures of features that the theme changes, and what axe-core finds."""
    browser.resize(WIDE, theme="dark")
    browser.page.wait_for_function("document.documentElement.dataset.theme === 'dark'")
    browser.page.wait_for_timeout(500)  # for colours that fade
    faults = browser.evaluate(
        "[...document.querySelectorAll('.bd-article img.dark-light')].filter(i => "
        "{ const s = getComputedStyle(i);"
        "return s.filter !== 'none' || s.opacity !== '1' || s.mixBlendMode !== 'normal' "
        "}).map(i => i.alt)"
    )
    return faults + accessibility(browser)


@each_page
def test_a_page_reads_well_on_screens_and_on_paper(page, browser):
    phone = on_a_phone(browser, page)
    browser.open((HTML / page).as_uri(), width=WIDE, settle=0.5)
    faults = {
        "phone": phone,
        "desktop": on_a_desktop(browser, page),
        "paper": on_paper(browser),
        "dark": in_the_dark(browser),
        "console": browser.errors,
    }
    listed = [f"{where}: {fault}" for where, found in faults.items() for fault in found]
    assert not listed, "\n".join(listed)
    # explorers answer to mouse and keyboard
    browser.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    kinds = browser.evaluate(
        "[...document.querySelectorAll('.zf-explorer')].map(e => e.dataset.kind)"
    )
    for number, kind in enumerate(kinds):
        root = f"document.querySelectorAll('.zf-explorer')[{number}]"
        assert not browser.evaluate(f"{root}.offsetParent === null"), f"explorer {number}, {kind}"
        USES[kind](browser, root)
    assert not browser.errors
