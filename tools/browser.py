"""A headless Chromium, driven by Playwright, for looking at the built book and testing it.

The network is off.

    python tools/browser.py FOLDER [PAGE ...]      such as book/index book/gallery/gallery; default:
    all pages

takes pictures of whole pages into a folder, 1280 and 390 px wide, light and dark.
"""

import functools
import itertools
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
PLAYWRIGHT = Path.home() / ".cache" / "ms-playwright"  # where Playwright puts those it fetches
HTML = Path(__file__).resolve().parents[1] / "_build" / "html"
# no name is resolved; a server of this machine can be reached by its number
FLAGS = ("--no-sandbox", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1")


@functools.cache
def program() -> str | None:
    """Return the Chromium of this machine that can be run, or None."""
    fetched = map(str, sorted(PLAYWRIGHT.glob("chromium-*/chrome-linux*/chrome"), reverse=True))
    return next(filter(_runs, (*filter(None, map(shutil.which, PROGRAMS)), *fetched)), None)


def _runs(path: str) -> bool:
    return subprocess.run([path, "--version"], capture_output=True).returncode == 0


class Browser:
    """One page of a headless Chromium. `errors` and `requests` are those since the page was opened.

    Raises:
        RuntimeError: no Chromium.
    """

    def __init__(self) -> None:
        if program() is None:
            raise RuntimeError("no Chromium found: apt install chromium")
        self.playwright = sync_playwright().start()
        self.browser = self.playwright.chromium.launch(executable_path=program(), args=list(FLAGS))
        self.scripts = True  # whether pages may run theirs
        self.errors: list[str] = []
        self.requests: list[str] = []
        self.page = None

    def __enter__(self) -> "Browser":
        return self

    def __exit__(self, *_) -> None:
        self.browser.close()
        self.playwright.stop()

    def open(
        self, url: str, *, width: int = 1280, theme: str = "light", settle: float = 0.2
    ) -> None:
        """Load a page in a context of its own; wait `settle` seconds longer than its load event."""
        if self.page:
            self.page.context.close()
        context = self.browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=theme, has_touch=True,
            java_script_enabled=self.scripts,
        )  # fmt: skip
        self.page, self.errors, self.requests = context.new_page(), [], []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on(
            "console", lambda line: self.errors.append(line.text) if line.type == "error" else None
        )
        self.page.goto(url)
        self.page.wait_for_timeout(1000 * settle)

    def resize(
        self, width: int, *, media: str = "screen", theme: str = "light", settle: float = 0.2
    ) -> None:
        """Show the same page at another width, on paper (`media` "print") or in another theme."""
        self.page.set_viewport_size({"width": width, "height": 900})
        self.page.emulate_media(media=media, color_scheme=theme)
        self.page.wait_for_timeout(1000 * settle)

    def evaluate(self, script: str) -> Any:
        """Return the value of a JavaScript expression, awaited if it is a promise."""
        return self.page.evaluate(script)

    def place(self, element: str, x: float = 0.5, y: float = 0.5) -> tuple[float, float]:
        """Scroll an element (JavaScript) into view; return a point, by shares of its sides."""
        self.evaluate(f"({element}).scrollIntoView({{block: 'center', behavior: 'instant'}})")
        left, top, width, height = self.evaluate(
            f"(b => [b.left, b.top, b.width, b.height])(({element}).getBoundingClientRect())"
        )
        return left + x * width, top + y * height


def main(folder: str, *pages: str) -> int:
    """Take pictures of pages of the built book. Return 1 if the console of one shows errors."""
    output, failed = Path(folder), False
    output.mkdir(parents=True, exist_ok=True)
    files = [HTML / f"{page}.html" for page in pages] or sorted((HTML / "book").rglob("*.html"))
    with Browser() as browser:
        for file, width, theme in itertools.product(files, (1280, 390), ("light", "dark")):
            browser.open(file.as_uri(), width=width, theme=theme, settle=1.0)
            picture = output / f"{file.stem}-{width}-{theme}.png"
            picture.write_bytes(browser.page.screenshot(full_page=True))
            print(picture.name, *browser.errors, sep="\n    ")
            failed |= bool(browser.errors)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]) if sys.argv[1:] else __doc__)
