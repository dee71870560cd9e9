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


def test_two_runs_side_by_side(committed_server, open_page):
    """The selection in the address drives every section."""
    runs = "quickstart-2core-epyc,tok-384-seed0"
    address = f"{committed_server}/?file=training.py&runs={runs}&unit=bits%20per%20byte"
    page = open_page(address, viewport={"width": 1200, "height": 5200})
    page.locator("canvas, svg.marks").nth(3).wait_for(timeout=30_000)  # loss, throughput, memory, learning rate
    page.get_by_text("2 selected").wait_for()
    page.get_by_text("data.dataset").first.wait_for()  # a field in which the two differ
    page.get_by_text("not recorded").first.wait_for()  # rows of a time without these columns
    page.get_by_role("tab", name="MFU").click()
    page.get_by_text("fields that not all of them recorded").click()
    page.get_by_text("model.norm_placement").wait_for()
    assert page.locator(".marimo-cell.has-error").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0


def test_the_form_tells_what_a_run_costs_before_it_starts(committed_server, open_page):
    page = open_page(f"{committed_server}/?file=training.py", viewport={"width": 1200, "height": 5200})
    page.get_by_text("workbook train quickstart num_steps=300 eval_every=50").wait_for()
    page.locator("select").last.select_option(label="8")
    page.get_by_text("batch_size 4 is not a multiple of micro_batch_size 8").wait_for(timeout=30_000)
    page.locator("select").last.select_option(label="2")
    page.get_by_text("workbook train quickstart micro_batch_size=2 num_steps=300").wait_for(timeout=30_000)


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
    assert page.get_by_role("button", name="Stop", exact=True).count() == 0
    start(page, f"{TINY} num_steps=1000000")
    page.get_by_text("running").first.wait_for(timeout=60_000)
    (launched,) = (data / "runs").glob("*/launch.json")
    folder = RunFolder(launched.parent)
    wait_until(lambda: len(folder.rows()) > 20)
    page.reload()
    page.get_by_text(f"{folder.path.name}").first.wait_for(timeout=60_000)
    page.get_by_text("/ 1,000,000").wait_for(timeout=60_000)
    page.get_by_text("training time left").wait_for()
    page.get_by_text("workbook device measure").first.wait_for()  # no device is measured in this results folder
    page.get_by_role("button", name="Stop", exact=True).click()
    wait_until(lambda: (results / "runs" / f"{folder.path.name}.parquet").exists())
    row = pl.read_parquet(results / "runs" / f"{folder.path.name}.parquet").row(0, named=True)
    assert row["status"] == "stopped"
    assert row["steps"] == folder.rows()[-1].step == folder.checkpoint_steps()[-1]
    page.get_by_text("above the floor").first.wait_for(timeout=60_000)  # its rows are read without a reload
    page.get_by_text(f"{folder.path.name}: stopped", exact=True).wait_for(timeout=60_000)
    assert page.get_by_role("button", name="Stop", exact=True).count() == 0
    assert page.locator(".marimo-cell.has-error").count() == 0


def test_a_bad_field_is_answered_on_the_page(live_server, open_page):
    url, _, _ = live_server
    page = open_page(f"{url}/?file=training.py", viewport={"width": 1200, "height": 2400})
    start(page, "optimizer.lrr=1", "did you mean optimizer.lr?")
    page.get_by_text("not started: there is no field 'optimizer.lrr'").wait_for(timeout=60_000)


def start(page, overrides: str, answer: str = "") -> None:
    """Type, see the page answer, press Start."""
    field = page.locator("input[type=text]").last
    field.wait_for()

    def is_answered() -> bool:  # a busy machine's page may lose what is typed before it is ready
        field.fill(overrides)
        field.press("Enter")
        page.wait_for_timeout(1000)
        return page.get_by_text(answer or f"workbook train quickstart {overrides}").count() > 0

    wait_until(is_answered)
    page.get_by_role("button", name="Start", exact=True).click()


def wait_until(condition, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.2)
