"""A headless Chromium spoken to over its DevTools protocol, for looking at the built book and for testing it."""

import base64
import functools
import itertools
import json
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import websocket  # comes with jupyter_server

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
PLAYWRIGHT = Path.home() / ".cache" / "ms-playwright"  # where Playwright puts those it fetches
# No name is resolved: the network is off.
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --hide-scrollbars --remote-allow-origins=* --remote-debugging-port=0 "
    "--host-resolver-rules=MAP_*_~NOTFOUND"
).split()
FLAGS[-1] = FLAGS[-1].replace("_", " ")


@functools.cache
def program() -> str | None:
    """The Chromium of this machine that can be run, or None."""
    fetched = map(str, sorted(PLAYWRIGHT.glob("chromium-*/chrome-linux*/chrome"), reverse=True))
    return next(filter(_runs, (*filter(None, map(shutil.which, PROGRAMS)), *fetched)), None)


def _runs(path: str) -> bool:
    return subprocess.run([path, "--version"], capture_output=True).returncode == 0


class Browser:
    """One page of a headless Chromium. `errors` and `requests` are those since the page was opened.

    Raises:
        RuntimeError: no Chromium, or it does not start.
    """

    def __init__(self) -> None:
        if program() is None:
            raise RuntimeError("no Chromium found: apt install chromium")
        self.profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        command = [program(), *FLAGS, f"--user-data-dir={self.profile.name}", "about:blank"]
        self.process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        port_file = Path(self.profile.name) / "DevToolsActivePort"
        deadline = time.monotonic() + 60
        while not (port_file.is_file() and len(port_file.read_text().split()) == 2):
            if time.monotonic() > deadline:
                raise RuntimeError("Chromium did not start")
            time.sleep(0.1)
        port, path = port_file.read_text().split()
        self.socket = websocket.create_connection(f"ws://127.0.0.1:{port}{path}", timeout=60)
        self.numbers, self.session, self.loaded = itertools.count(1), None, False
        self.errors: list[str] = []
        self.requests: list[str] = []
        self.target: str | None = None
        self.scripts = True  # whether pages may run theirs
        self._new_tab()

    def _new_tab(self) -> None:
        self.session, old = None, self.target
        self.target = self.call("Target.createTarget", url="about:blank")["targetId"]
        if old:
            self.call("Target.closeTarget", targetId=old)
        self.session = self.call("Target.attachToTarget", targetId=self.target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.errors, self.requests, self.loaded = [], [], False

    def __enter__(self) -> "Browser":
        return self

    def __exit__(self, *_) -> None:
        self.socket.close()
        self.process.terminate()
        self.process.wait(20)
        self.profile.cleanup()

    def call(self, method: str, **params) -> dict:
        """A command of the protocol and its answer."""
        number = next(self.numbers)
        message = {"id": number, "method": method, "params": params}
        self.socket.send(json.dumps(message | ({"sessionId": self.session} if self.session else {})))
        while (reply := self._receive()).get("id") != number:
            pass
        if "error" in reply:
            raise RuntimeError(f"{method}: {reply['error']}")
        return reply["result"]

    def _receive(self) -> dict:
        message = json.loads(self.socket.recv())
        if message.get("sessionId") != self.session:
            return {}  # a word from a tab that is closed
        match message.get("method"):
            case "Page.loadEventFired":
                self.loaded = True
            case "Network.requestWillBeSent":
                self.requests.append(message["params"]["request"]["url"])
            case "Runtime.exceptionThrown":
                thrown = message["params"]["exceptionDetails"]
                self.errors.append(thrown.get("exception", {}).get("description", thrown["text"]))
            case "Runtime.consoleAPICalled" if message["params"]["type"] == "error":
                self.errors.append(" ".join(str(a.get("value")) for a in message["params"]["args"]))
            case "Log.entryAdded" if message["params"]["entry"]["level"] == "error":
                entry = message["params"]["entry"]
                self.errors.append(f"{entry['text']} {entry.get('url', '')}")
        return message

    def open(self, url: str, *, width: int = 1280, theme: str = "light", settle: float = 0.2) -> None:
        """Load a page in a tab of its own and wait `settle` seconds longer than its load event."""
        self._new_tab()
        self.resize(width)
        self.call("Emulation.setScriptExecutionDisabled", value=not self.scripts)
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": theme}])
        self.call("Page.navigate", url=url)
        while not self.loaded:
            self._receive()
        time.sleep(settle)

    def resize(self, width: int, height: int = 900) -> None:
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.call("Emulation.setDeviceMetricsOverride", **size)

    def evaluate(self, script: str) -> Any:
        """The value of a JavaScript expression, awaited if it is a promise."""
        found = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in found:
            raise RuntimeError(found["exceptionDetails"]["exception"].get("description", "an error in the page"))
        return found["result"].get("value")

    def key(self, name: str, code: int) -> None:
        """Press and release a key that types nothing: its name and Windows key code."""
        for kind in ("rawKeyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=name, code=name, windowsVirtualKeyCode=code)

    def type(self, text: str) -> None:
        self.call("Input.insertText", text=text)

    def place(self, element: str, x: float = 0.5, y: float = 0.5) -> tuple[float, float]:
        """Scroll an element, a JavaScript expression, into view; a point of it, by shares of its width and height."""
        self.evaluate(f"({element}).scrollIntoView({{block: 'center', behavior: 'instant'}})")
        left, top, width, height = self.evaluate(
            f"(b => [b.left, b.top, b.width, b.height])(({element}).getBoundingClientRect())"
        )
        return left + x * width, top + y * height

    def move(self, x: float, y: float) -> None:
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def click(self, x: float, y: float) -> None:
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def touch(self, x: float, y: float) -> None:
        """Put a finger down and lift it."""
        self.call("Input.dispatchTouchEvent", type="touchStart", touchPoints=[{"x": x, "y": y}])
        self.call("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])

    def screenshot(self) -> bytes:
        """PNG of what is in the window."""
        return base64.b64decode(self.call("Page.captureScreenshot")["data"])
