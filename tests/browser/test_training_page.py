"""The training notebook in a real browser."""

import time

import polars as pl
from tiny_run import TINY_FIELDS

from core.training.folder import RunFolder

TINY = " ".join([*TINY_FIELDS, "eval_every=10", "checkpoint_every=100000"])

GROUND_COLOUR = """() => {
  const context = document.createElement('canvas').getContext('2d');
  context.fillStyle = getComputedStyle(document.body).backgroundColor;
  context.fillRect(0, 0, 1, 1);
  return [...context.getImageData(0, 0, 1, 1).data].slice(0, 3);
}"""


def test_page_draws_its_figures_and_loads_nothing_foreign(committed_server, open_page):
    page = open_page(f"{committed_server}/?file=training.py", viewport={"width": 1200, "height": 3000})
    page.wait_for_selector("canvas, svg.marks", timeout=30_000)
    page.get_by_text("above the floor").first.wait_for()
    assert page.locator(".marimo-cell.has-error").count() == 0
    page.locator("canvas, svg.marks").nth(1).wait_for(timeout=30_000)
    assert page.foreign == []


def test_controls_are_in_the_address_and_survive_a_reload(committed_server, open_page):
    page = open_page(f"{committed_server}/?file=training.py&x=tokens&log=0", viewport={"width": 1200, "height": 3000})
    select = page.locator("select").first
    select.wait_for()
    assert select.evaluate("s => s.options[s.selectedIndex].text") == "tokens"
    select.select_option(label="training time (s)")
    page.wait_for_url("**x=elapsed_s**", timeout=20_000)
    page.reload()
    page.wait_for_selector("canvas, svg.marks", timeout=30_000)
    assert page.locator("select").first.evaluate("s => s.options[s.selectedIndex].text") == "training time (s)"
    assert "log=0" in page.url
    assert page.locator(".marimo-cell.has-error").count() == 0


def test_phone_in_the_dark(committed_server, open_page):
    page = open_page(
        f"{committed_server}/?file=training.py", viewport={"width": 390, "height": 844}, color_scheme="dark"
    )
    page.wait_for_selector("canvas, svg.marks", timeout=30_000)
    assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0
    ground = page.evaluate(GROUND_COLOUR)
    assert max(ground) < 80, ground


def test_empty_results_then_start_follow_and_stop(live_server, open_page):
    """The whole life of a run from the page: nothing there, started, followed, found again after a reload, stopped."""
    url, data, results = live_server
    page = open_page(f"{url}/?file=training.py", viewport={"width": 1200, "height": 2400})
    page.get_by_text("workbook quickstart").first.wait_for()
    page.get_by_text("Nothing has been started from here yet").wait_for()
    start(page, f"{TINY} num_steps=1000000")
    page.get_by_text("running").first.wait_for(timeout=60_000)
    (launched,) = (data / "runs").glob("*/launch.json")
    folder = RunFolder(launched.parent)
    wait_until(lambda: len(folder.rows()) > 20)
    page.reload()
    page.get_by_text(f"{folder.path.name}").first.wait_for(timeout=60_000)
    page.get_by_text("/ 1,000,000").wait_for(timeout=60_000)
    page.get_by_role("button", name="Stop", exact=True).click()
    wait_until(lambda: (results / "runs" / f"{folder.path.name}.parquet").exists())
    row = pl.read_parquet(results / "runs" / f"{folder.path.name}.parquet").row(0, named=True)
    assert row["status"] == "stopped"
    assert row["steps"] == folder.rows()[-1].step == folder.checkpoint_steps()[-1]
    page.get_by_text("above the floor").first.wait_for(timeout=60_000)  # its rows are read without a reload
    assert page.locator(".marimo-cell.has-error").count() == 0


def test_a_bad_field_is_answered_on_the_page(live_server, open_page):
    url, _, _ = live_server
    page = open_page(f"{url}/?file=training.py", viewport={"width": 1200, "height": 2400})
    start(page, "optimizer.lrr=1")
    page.get_by_text("did you mean optimizer.lr?").wait_for(timeout=60_000)


def start(page, overrides: str) -> None:
    """Type like a person, who gives the page the time to take what was typed."""
    field = page.locator("input[type=text]").last
    field.wait_for()
    page.wait_for_timeout(1000)
    field.fill(overrides)
    field.press("Enter")
    page.wait_for_timeout(500)
    page.get_by_role("button", name="Start", exact=True).click()


def wait_until(condition, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.2)
