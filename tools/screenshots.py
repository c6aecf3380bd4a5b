"""Photograph the built book in headless Chromium, to look at every page before a release.

    python tools/screenshots.py OUTPUT_FOLDER [page ...]      e.g. book/index book/gallery; default: all pages

Each page is taken whole, 1280 and 390 pixels wide, light and dark, read from the folder with the network off. Printed
besides: errors in the console; tests/test_browser.py checks more. Needs a Chromium (apt install chromium).
"""

import argparse
import itertools
import sys
from pathlib import Path

from browser import Browser

HTML = Path(__file__).resolve().parents[1] / "_build" / "html"
WIDTHS, THEMES = (1280, 390), ("light", "dark")


def main() -> int:
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=formatter)
    parser.add_argument("output", type=Path)
    parser.add_argument("pages", nargs="*")
    parser.add_argument("--settle", type=float, default=1.0, help="seconds to wait after a page has loaded")
    parser.add_argument("--html", type=Path, default=HTML, help="the built book")
    options = parser.parse_args()
    built = (options.html / "book").rglob("*.html")
    pages = options.pages or sorted(str(p.relative_to(options.html).with_suffix("")) for p in built)
    if missing := [page for page in pages if not (options.html / f"{page}.html").is_file()]:
        parser.error(f"no page {', '.join(missing)} in {options.html}; name it as book/index, and build the book first")
    options.output.mkdir(parents=True, exist_ok=True)
    troubles = 0
    with Browser() as browser:
        for page, width, theme in itertools.product(pages, WIDTHS, THEMES):
            url = (options.html / f"{page}.html").resolve().as_uri()
            name = f"{Path(page).name}-{width}-{theme}.png"
            browser.open(url, width=width, theme=theme, settle=options.settle)
            (options.output / name).write_bytes(browser.screenshot(whole=True))
            troubles += bool(browser.errors)
            print(name, *(f"\n    {note}" for note in sorted(set(browser.errors))))
    return int(troubles > 0)


if __name__ == "__main__":
    sys.exit(main())
