"""JupyterLab on a free port with settings of its own, and what a reader does in it."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TOKEN = "ui-tests"
RUN_SECONDS = 400
READY = """async () => {
    const widget = window.jupyterapp?.shell?.currentWidget;
    if (!widget?.context) return false;
    await widget.context.ready;
    await widget.sessionContext.ready;
    await widget.sessionContext.session.kernel.info;
    return true;
}"""
# From the cells themselves: a cell whose source is hidden has no prompt in the page.
PROMPTS = """() => window.jupyterapp.shell.currentWidget.content.widgets
    .filter(one => one.model.type === 'code').map(one => `[${one.prompt}]:`)"""
# From the key press to the new picture, on the page's own clock.
WATCH_PICTURE = """(box) => {
    const state = window.pressed = {};
    document.addEventListener('keydown', () => {
        state.down = performance.now(); state.up = undefined;
    }, true);
    new MutationObserver(() => { if (state.down && !state.up) state.up = performance.now(); })
        .observe(box.querySelector('.widget-html-content:has(img)'),
                 {childList: true, subtree: true, attributes: true});
}"""


class Lab:
    """A running server; `url(notebook)` opens one document."""

    def __init__(self, folder: Path):
        self.root = folder / "root"
        self.root.mkdir()
        config, settings = (
            folder / "config",
            folder / "settings" / "@jupyterlab" / "notebook-extension",
        )
        (config / "labconfig").mkdir(parents=True)
        settings.mkdir(parents=True)
        news = {"disabledExtensions": {"@jupyterlab/apputils-extension:announcements": True}}
        (config / "labconfig" / "page_config.json").write_text(json.dumps(news))
        (settings / "tracker.jupyterlab-settings").write_text(
            json.dumps({"windowingMode": "none"})
        )  # every cell is in the page
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        places = {
            name: str(folder / name.lower())
            for name in ("JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")
        }
        environment = (
            os.environ
            | places
            | {"JUPYTER_CONFIG_DIR": str(config), "DIFFUSION_COURSE_PROGRESS": "off"}
        )
        command = [
            sys.executable,
            "-m",
            "jupyterlab",
            "--no-browser",
            "--allow-root",
            "--ip=127.0.0.1",
            f"--port={self.port}",
            "--ServerApp.port_retries=0",
            f"--IdentityProvider.token={TOKEN}",
            f"--ServerApp.root_dir={self.root}",
            f"--LabApp.workspaces_dir={folder / 'workspaces'}",
            f"--LabApp.user_settings_dir={folder / 'settings'}",
            "--LabApp.expose_app_in_browser=True",
        ]
        self.log = (folder / "lab.log").open("w")
        self.process = subprocess.Popen(
            command, env=environment, cwd=self.root, stdout=self.log, stderr=self.log
        )
        self._wait()

    def _wait(self):
        for _ in range(120):
            try:
                self._call("GET", "api/status")
                return
            except OSError:
                time.sleep(0.5)
        raise RuntimeError(f"JupyterLab did not start; see {self.log.name}")

    def _call(self, method, path):
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/{path}", method=method)
        request.add_header("Authorization", f"token {TOKEN}")
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.read()

    def lesson(self, name):
        """Copy a lesson into the server's folder and return its address."""
        shutil.copy(ROOT / "notebooks" / f"{name}.ipynb", self.root)
        return f"http://127.0.0.1:{self.port}/doc/tree/{name}.ipynb?token={TOKEN}"

    def end_kernels(self):
        """Kernels outlive their page."""
        for session in json.loads(self._call("GET", "api/sessions")):
            self._call("DELETE", f"api/sessions/{session['id']}")

    def close(self):
        """End the server."""
        self.process.terminate()
        self.process.wait(30)
        self.log.close()


def wait_until(condition, seconds, what, pause=0.25):
    """Wait for `condition()` to be true and return its value."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(pause)
    raise AssertionError(f"not within {seconds} s: {what}")


def run_all(page):
    """Run the notebook from top to bottom and wait for the last cell."""
    wait_until(lambda: page.evaluate(READY), 60, "the notebook and its kernel are ready")
    page.evaluate(
        "() => { window.jupyterapp.commands.execute('notebook:run-all-cells').catch(() => {}); }"
    )
    wait_until(
        lambda: page.evaluate(PROMPTS).count("[*]:") > 0, 60, "the first cell runs", pause=0.05
    )
    done = re.compile(r"\[\d+\]:")
    wait_until(
        lambda: all(map(done.fullmatch, page.evaluate(PROMPTS))),
        RUN_SECONDS,
        "every cell has run",
        pause=1,
    )


def explorers(page):
    """The live explorers of the page, as locators of their boxes."""
    boxes = page.locator(".jp-OutputArea-output .widget-vbox:has([role=status])")
    return [boxes.nth(index) for index in range(boxes.count())]


def picture_of(box):
    """(source, alt text, state in words) of an explorer."""
    image = box.locator("img")
    return (
        image.get_attribute("src"),
        image.get_attribute("alt"),
        box.locator("[role=status]").inner_text(),
    )


def press(page, box, control):
    """Move one control by keyboard; returns milliseconds from the key to the new picture, on the
    page's clock.
    """
    before = picture_of(box)
    slider = "noUi-handle" in (control.get_attribute("class") or "")
    # JupyterLab takes arrow keys from a closed list, so a list is opened by Space and closed by
    # Enter.
    ways = (
        (["ArrowRight"], ["ArrowLeft"])
        if slider
        else (["Space", "ArrowDown", "Enter"], ["Space", "ArrowUp", "Enter"])
    )
    for keys in ways:
        control.focus()
        for key in keys:
            page.keyboard.press(key)
        end = time.monotonic() + 5
        while time.monotonic() < end:
            after = picture_of(box)
            if after[0] != before[0]:
                assert after[1] != before[1], f"the alt text did not follow the picture: {after[1]}"
                assert after[2] != before[2], f"the state in words did not change: {after[2]}"
                return page.evaluate("() => window.pressed.up - window.pressed.down")
            page.wait_for_timeout(20)
    raise AssertionError(f"no key moved the control; the state is {before[2]}")


def answer(page, exercise_id, source):
    """Type `source` into the exercise's cell, run it, and return what the check printed."""
    cell = (
        page.locator(".jp-CodeCell")
        .filter(has_text=re.compile(rf'check\("{re.escape(exercise_id)}"'))
        .first
    )
    index = cell.evaluate("node => [...document.querySelectorAll('.jp-Cell')].indexOf(node)")
    cell = page.locator(".jp-Cell").nth(index)
    cell.locator(".cm-content").click()
    page.keyboard.press("Control+a")
    page.keyboard.insert_text(source)
    before = cell.locator(".jp-InputPrompt").inner_text()
    page.keyboard.press("Control+Enter")
    done = re.compile(r"\[\d+\]:")

    def finished():
        prompt = cell.locator(".jp-InputPrompt").inner_text()
        return prompt != before and done.fullmatch(prompt)

    wait_until(finished, 60, f"{exercise_id} has run")
    return cell.locator(".jp-OutputArea").inner_text()
