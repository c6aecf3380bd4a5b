"""Photograph the built book in headless Chromium, to look at every page before a release.

    python tools/screenshots.py OUTPUT_FOLDER [page ...]      e.g. book/index book/gallery; default: all pages

Each page is taken whole, 1280 and 390 pixels wide, light and dark. Printed besides: pages that scroll
sideways, images without alt text, and errors in the console. Needs a Chromium (apt install chromium).
"""

import argparse
import base64
import functools
import http.server
import itertools
import json
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import websocket  # comes with jupyter_server

HTML = Path(__file__).resolve().parents[1] / "_build" / "html"
WIDTHS, THEMES = (1280, 390), ("light", "dark")
FLAGS = ("--headless --no-sandbox --disable-gpu --disable-quic --no-first-run "
         "--disable-background-networking --disable-component-update --disable-sync --hide-scrollbars "
         "--remote-allow-origins=* --remote-debugging-port=0").split()
CHECKS = """JSON.stringify({
  wide: document.documentElement.scrollWidth - document.documentElement.clientWidth,
  height: document.documentElement.scrollHeight,
  noalt: [...document.querySelectorAll('.bd-article img')].filter(i => !i.alt).length})"""


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


class Browser:
    """A headless Chromium spoken to over its DevTools protocol."""

    def __init__(self, profile: str):
        names = ("chromium", "chromium-browser", "google-chrome")
        program = next(filter(None, map(shutil.which, names)), None)
        if program is None:
            sys.exit("No Chromium found: apt install chromium")
        self.process = subprocess.Popen([program, *FLAGS, f"--user-data-dir={profile}", "about:blank"],
                                        stderr=subprocess.DEVNULL)
        port_file = Path(profile) / "DevToolsActivePort"
        deadline = time.monotonic() + 60
        while not (port_file.is_file() and len(port_file.read_text().split()) == 2):
            if time.monotonic() > deadline:
                sys.exit("Chromium did not start")
            time.sleep(0.1)
        port, path = port_file.read_text().split()
        self.socket = websocket.create_connection(f"ws://127.0.0.1:{port}{path}", timeout=60)
        self.numbers, self.session, self.errors, self.loaded = itertools.count(1), None, [], False
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params) -> dict:
        number = next(self.numbers)
        message = {"id": number, "method": method, "params": params}
        self.socket.send(json.dumps(message | ({"sessionId": self.session} if self.session else {})))
        while (reply := self.receive()).get("id") != number:
            pass
        if "error" in reply:
            raise RuntimeError(f"{method}: {reply['error']}")
        return reply["result"]

    def receive(self) -> dict:
        message = json.loads(self.socket.recv())
        match message.get("method"):
            case "Page.loadEventFired":
                self.loaded = True
            case "Runtime.exceptionThrown":
                thrown = message["params"]["exceptionDetails"]
                self.errors.append(thrown.get("exception", {}).get("description", thrown["text"]))
            case "Log.entryAdded" if message["params"]["entry"]["level"] == "error":
                entry = message["params"]["entry"]
                self.errors.append(f"{entry['text']} {entry.get('url', '')}")
        return message

    def photograph(self, url: str, width: int, theme: str, settle: float) -> tuple[bytes, dict]:
        self.errors, self.loaded = [], False
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": theme}])
        self.call("Page.navigate", url=url)
        while not self.loaded:
            self.receive()
        time.sleep(settle)  # mathematics and widgets draw after the load event
        report = json.loads(self.call("Runtime.evaluate", expression=CHECKS)["result"]["value"])
        self.call("Emulation.setDeviceMetricsOverride", **size | {"height": report["height"]})
        time.sleep(0.5)  # the side bar slides into place
        picture = self.call("Page.captureScreenshot")["data"]
        return base64.b64decode(picture), report | {"errors": sorted(set(self.errors))}

    def close(self) -> None:
        self.socket.close()
        self.process.terminate()
        self.process.wait(20)


def main() -> int:
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=formatter)
    parser.add_argument("output", type=Path)
    parser.add_argument("pages", nargs="*")
    parser.add_argument("--settle", type=float, default=1.0, help="seconds to wait after a page has loaded")
    options = parser.parse_args()
    pages = options.pages or sorted(f"book/{p.stem}" for p in (HTML / "book").glob("*.html"))
    options.output.mkdir(parents=True, exist_ok=True)
    handler = functools.partial(Quiet, directory=str(HTML))
    troubles = 0
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server, \
            tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        browser = Browser(profile)
        try:
            for page, width, theme in itertools.product(pages, WIDTHS, THEMES):
                url = f"http://127.0.0.1:{server.server_port}/{page}.html"
                picture, report = browser.photograph(url, width, theme, options.settle)
                name = f"{Path(page).name}-{width}-{theme}.png"
                (options.output / name).write_bytes(picture)
                notes = [f"scrolls sideways by {report['wide']} px"] if report["wide"] > 0 else []
                notes += [f"{report['noalt']} images without alt text"] if report["noalt"] else []
                notes += report["errors"]
                troubles += bool(notes)
                print(f"{name}: {report['height']} px high", *(f"\n    {note}" for note in notes))
        finally:
            browser.close()
            server.shutdown()
    return int(troubles > 0)


if __name__ == "__main__":
    sys.exit(main())
