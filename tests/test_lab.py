"""A walk through the book in JupyterLab: run all, move each widget, bring pictures, try values.

It runs a copy of the book; kernels draw few images of the diorama and cover each at fewer places,
which keeps cells short."""

import io
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from shutil import copytree, ignore_patterns

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page

from tests.chromium import ROOT
from tests.test_try_this import CHANGES, QUICK, SMALL, with_parameters

PATIENCE = 300  # seconds for all cells of a notebook
OFTEN = 50  # ms between two looks at a page: one a frame would draw it all the time
FEW = f"""from book.occlusion import measure
from zfrepro import data, occlusion
data.DIORAMA_SPLITS = {SMALL | {"val": (64, 1)}}
occlusion.PAPER_POSITIONS, measure.SCANNED = 15, 16
del data, measure, occlusion
"""
SETTINGS = {
    "notebook-extension/tracker": {"windowingMode": "none"},  # all cells are in the page
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
}


@pytest.fixture(scope="module")
def lab(tmp_path_factory) -> Iterator[str]:
    """The address of a JupyterLab that serves a copy of the book, with settings of its own."""
    home = tmp_path_factory.mktemp("lab")
    copytree(ROOT / "book", home / "book", ignore=ignore_patterns(".ipynb_checkpoints"))
    startup = home / "ipython" / "profile_default" / "startup" / "few.py"
    texts = {startup: FEW} | {
        home / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings": json.dumps(values)
        for name, values in SETTINGS.items()
    }
    for file, text in texts.items():
        file.parent.mkdir(parents=True)
        file.write_text(text)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}"
    folders = {"JUPYTER_CONFIG_DIR": "config", "JUPYTER_DATA_DIR": "data", "IPYTHONDIR": "ipython",
               "JUPYTER_RUNTIME_DIR": "runtime", "JUPYTERLAB_SETTINGS_DIR": "settings",
               "JUPYTERLAB_WORKSPACES_DIR": "workspaces", "ZFREPRO_CACHE": "cache"}  # fmt: skip
    chosen = {name for name in os.environ if name.startswith("ZFREPRO_")}
    environment = {k: v for k, v in os.environ.items() if k not in chosen}
    environment |= {name: str(home / folder) for name, folder in folders.items()}
    environment |= {"JUPYTER_PREFER_ENV_PATH": "1", "PYTHONPATH": str(ROOT)}
    options = ["--no-browser", "--allow-root", "--expose-app-in-browser", f"--port={address[17:]}",
               "--ServerApp.port_retries=0", "--IdentityProvider.token=",
               f"--ServerApp.root_dir={home}"]  # fmt: skip
    log = home / "log.txt"
    with open(log, "w") as stream:
        command = [sys.executable, "-m", "jupyterlab", *options]
        server = subprocess.Popen(command, cwd=home, env=environment, stdout=stream, stderr=stream)
    try:
        end = time.monotonic() + PATIENCE
        while True:
            try:
                urllib.request.urlopen(f"{address}/api", timeout=5).close()
                break
            except OSError:
                assert server.poll() is None and time.monotonic() < end, log.read_text()
                time.sleep(0.1)
        yield address
    finally:
        server.terminate()  # and its kernels with it
        server.wait()


@pytest.fixture(scope="module")
def page(browser, lab) -> Iterator[Page]:
    """JupyterLab in a browser, in which one notebook after the other is opened."""
    context = browser.browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.set_default_timeout(1000 * PATIENCE)
    page.goto(f"{lab}/lab")
    page.wait_for_function("window.jupyterapp", polling=OFTEN)
    page.evaluate("jupyterapp.restored")
    yield page
    context.close()


class Notebook:
    """A notebook that was run in JupyterLab from top to bottom."""

    def __init__(self, page: Page, name: str):
        self.page = page
        path = f"book/{name}/{name}.ipynb"
        page.evaluate(
            "file => void jupyterapp.commands.execute('docmanager:open', file)", {"path": path}
        )
        panel = "jupyterapp.shell.currentWidget"
        idle = f"{panel}?.sessionContext?.session?.kernel?.status === 'idle'"
        page.wait_for_function(f"{panel}?.context?.path === '{path}' && {idle}", polling=OFTEN)
        page.evaluate("jupyterapp.commands.execute('notebook:run-all-cells')")
        page.wait_for_function(idle, polling=OFTEN)

    def close(self) -> None:
        """Close it; its kernel ends meanwhile."""
        self.page.evaluate(
            """() => { const panel = jupyterapp.shell.currentWidget;
            void panel.sessionContext.shutdown(); panel.dispose() }"""
        )

    def faults(self) -> list[str]:
        """Errors and what was written to standard error, which JupyterLab shows red."""
        kinds = [f"[data-mime-type='application/vnd.jupyter.{k}']" for k in ("error", "stderr")]
        return self.page.locator(", ".join(kinds)).all_inner_texts()

    def count(self, selector: str) -> int:
        return self.page.locator(selector).locator("visible=true").count()

    def rerun(self, change: Callable[[str], str]) -> tuple[str, str]:
        """What the cell to try shows before and after its source is changed."""
        find = """const cells = jupyterapp.shell.currentWidget.content;
            const tags = cell => cell.model.getMetadata('tags') || [];
            const index = cells.widgets.findIndex(cell => tags(cell).includes('try-this'));
            const cell = cells.widgets[index];
            const shown = () => JSON.stringify(
                cell.model.outputs.toJSON().map(output => output.data || output.text));"""
        source, before = self.page.evaluate(
            f"() => {{ {find} return [cell.model.sharedModel.getSource(), shown()] }}"
        )
        after = self.page.evaluate(
            f"""async source => {{ {find} cell.model.sharedModel.setSource(source);
            cells.activeCellIndex = index;
            await jupyterapp.commands.execute('notebook:run-cell'); return shown() }}""",
            change(source),
        )
        return before, after


ANSWER = """[...document.querySelectorAll('.widget-html')].slice(-2)
    .map(part => part.querySelector('.widget-html-content')?.innerHTML).join(' ')"""
"""The words and the picture of an explorer, its last two widgets."""

SETTLED = f"""before => {{
    const now = {ANSWER}, busy = document.querySelector('.widget-upload').disabled;
    return !busy && now !== before && !now.includes('computing') && now;
}}"""
"""The answer, once it is another and the controls are free again, which comes last."""


def moved(page: Page, move: Callable[[], None]) -> str:
    """Do something to an explorer; its answer must change, which is returned."""
    before = page.evaluate(ANSWER)
    move()
    return page.wait_for_function(SETTLED, arg=before, polling=OFTEN).json_value()


def move_all(page: Page) -> None:
    """Move each control of an explorer once: sliders, numbers, then every button."""
    page.locator(".widget-html img").first.wait_for()
    for handle in page.locator(".noUi-handle").all():
        at, last = (float(handle.get_attribute(f"aria-value{k}")) for k in ("now", "max"))
        moved(page, lambda h=handle, key="Left" if at == last else "Right": h.press(f"Arrow{key}"))
    for number in page.locator(".jupyter-widgets input[type=number]").all():

        def enter(box=number):
            box.fill(str(int(box.input_value()) + 1))
            box.press("Enter")

        moved(page, enter)
    for group in reversed(page.locator(".widget-toggle-buttons").all()):
        for button in group.locator("button:not(.mod-active)").all():
            moved(page, button.click)


def upload(page: Page, name: str, content: bytes) -> None:
    with page.expect_file_chooser() as chooser:
        page.locator(".widget-upload").click()
    file = {"name": name, "mimeType": "application/octet-stream", "buffer": content}
    chooser.value.set_files([file])


def bring_pictures(page: Page) -> None:
    """Upload a picture and go back; what cannot be read is named, with the remedy."""
    pixels = np.random.default_rng(0).integers(0, 255, (90, 120, 4), np.uint8)
    Image.fromarray(pixels).save(stream := io.BytesIO(), "PNG")
    moved(page, lambda: upload(page, "clear.png", stream.getvalue()))
    page.get_by_text("Your images come without labels").wait_for()
    moved(page, page.get_by_role("button", name="the book's images").click)
    before = page.evaluate(ANSWER)
    upload(page, "phone.heic", b"\0\0\0\x18ftypheic" + bytes(64))
    page.get_by_text("phone.heic: cannot be read").wait_for()
    assert "save it as JPEG or PNG" in page.get_by_text("phone.heic").inner_text()
    assert page.evaluate(ANSWER) == before


EXPLORERS = ("gallery", "invariance", "occlusion")
WALK = (*EXPLORERS, "ablation", "training")
"""Those with explorers, and others whose cells are short."""


@pytest.mark.parametrize("name", WALK)
def test_a_notebook_lives_in_jupyterlab(name, page):
    notebook = Notebook(page, name)
    try:
        assert not notebook.faults()
        text = "\n".join(page.locator(".jp-MarkdownCell").all_inner_texts())
        assert len(text) > 1000 and ":::" not in text and "```" not in text
        cells = json.loads((ROOT / "book" / name / f"{name}.ipynb").read_text())["cells"]
        code = [cell["metadata"] for cell in cells if cell["cell_type"] == "code"]
        assert notebook.count(".jp-CodeCell .cm-content") == sum("jupyter" not in c for c in code)
        before, after = notebook.rerun(
            lambda source: with_parameters(source, QUICK.get(name, {}) | CHANGES[name][0])
        )
        assert before != after
        if name in EXPLORERS:
            move_all(page)
            bring_pictures(page)
        assert not notebook.faults()
    finally:
        notebook.close()
