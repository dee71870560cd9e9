"""A `marimo run notebooks` server over results of our own, and Debian's Chromium; skipped where either is missing."""

import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from core.training import launch

ROOT = Path(__file__).parents[2]
CHROMIUM = shutil.which("chromium")

IDLE = """() => {
  const cells = [...document.querySelectorAll('.marimo-cell')];
  return cells.length > 0 && document.title.length > 0
      && !document.querySelector('[data-testid="large-spinner"], [data-status="running"], [data-status="queued"]');
}"""


def serve(*arguments: str):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "marimo", "-q", "run", "notebooks", "--headless", "--no-token"]
    # Without --show-tracebacks a cell that fails leaves the page, and a test would pass on a broken one.
    command += ["--port", str(port), "--show-tracebacks", *arguments]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    for _ in range(300):
        if process.poll() is not None:
            raise RuntimeError(f"marimo ended with {process.returncode}")
        try:
            urllib.request.urlopen(f"{url}/health", timeout=1).close()
            break
        except OSError:
            time.sleep(0.1)
    return process, url


@pytest.fixture(scope="session")
def committed_server():
    """The notebooks as they are committed, over the committed results."""
    process, url = serve()
    yield url
    process.terminate()
    process.wait(10)


@pytest.fixture(scope="session")
def live_server(stories_folder, tmp_path_factory):
    """The notebooks over an empty results folder and a small data set; yields address, data and results folder."""
    folder = tmp_path_factory.mktemp("live")
    shutil.copytree(stories_folder, folder / "data")
    process, url = serve("--", "--data", str(folder / "data"), "--results", str(folder / "results"))
    yield url, folder / "data", folder / "results"
    for run in launch.running(folder / "data"):  # a test that failed may have left one
        launch.stop(run)
    process.terminate()
    process.wait(10)


@pytest.fixture(scope="session")
def browser():
    playwright = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("no chromium on this machine")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser):
    """Open an address and wait until every cell has run; all that is not from this machine is noted in `foreign`."""
    contexts = []

    def open_(url: str, **options):
        context = browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.foreign = []
        page.on(
            "request",
            lambda request: (
                None
                if request.url.startswith(("http://127.0.0.1", "ws://127.0.0.1", "data:", "blob:"))
                else page.foreign.append(request.url)
            ),
        )
        page.goto(url)
        page.wait_for_selector("h1", timeout=60_000)
        page.wait_for_function(IDLE, timeout=60_000)
        return page

    yield open_
    for context in contexts:
        context.close()
