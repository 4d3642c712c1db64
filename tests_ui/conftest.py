"""A headless Chromium without a network, and a page that remembers what went wrong on it."""

import os
import shutil

import pytest

from tools.test_ui import ARTEFACTS

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
# Chromium's own traffic is switched off; every host but this machine is unknown to it.
FLAGS = [
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--disable-quic",
    "--disable-gpu",
]


@pytest.fixture(scope="session")
def artefacts():
    """The folder that keeps screenshots and measurements."""
    ARTEFACTS.mkdir(parents=True, exist_ok=True)
    return ARTEFACTS


@pytest.fixture(scope="session")
def browser():
    """One Chromium for the whole run, Debian's or one that CHROMIUM names."""
    from playwright.sync_api import sync_playwright

    path = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        pytest.fail(
            "no Chromium found: install it (on Debian: apt install chromium) or name it in CHROMIUM"
        )
    with sync_playwright() as playwright:
        made = playwright.chromium.launch(
            executable_path=path, args=FLAGS, chromium_sandbox=os.geteuid() != 0
        )
        yield made
        made.close()


class Watch:
    """What a page did: console errors, uncaught exceptions, requests that leave this machine,
    answers of 400 and more.
    """

    def __init__(self, page):
        self.errors, self.outside, self.refused = [], [], []
        page.on(
            "console",
            lambda message: self.errors.append(message.text) if message.type == "error" else None,
        )
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("request", self._request)
        page.on(
            "response",
            lambda answer: self.refused.append(answer.url) if answer.status >= 400 else None,
        )

    def _request(self, request):
        if not request.url.startswith(
            ("http://127.0.0.1", "ws://127.0.0.1", "file:", "data:", "blob:")
        ):
            self.outside.append(request.url)


@pytest.fixture
def open_page(browser):
    """`open_page(width=1200, height=900, **context)` gives a new page and its Watch; all are closed
    after the test.
    """
    contexts = []

    def opened(width=1200, height=900, **options):
        context = browser.new_context(viewport={"width": width, "height": height}, **options)
        contexts.append(context)
        page = context.new_page()
        return page, Watch(page)

    yield opened
    for context in contexts:
        context.close()
