"""The benchmarks' notebook in a real browser, over the committed rows, over none, and over those just measured."""

from urllib.parse import quote

import polars as pl
import pytest
from test_training_page import GROUND_COLOUR

from core.benchmarks import load_benchmarks, pareto

WIDE = {"width": 1280, "height": 7000}
FIGURES = 6  # frontier, scaling, diagonal, roofline, limits, two ways
FOREIGN = {"batch_size": [3, 5, 2], "seq_len": [11, 7, 7], "d_model": [30, 20, 20], "num_heads": [3, 2, 2]}
FOREIGN |= {"num_layers": [2, 1, 1], "d_ff": [70, 50, 50], "median_s": [0.25, 4.0, 2.0]}


def open_at_the_end(open_page, server, more="", **options):
    page = open_page(f"{server}/?file=benchmarks.py{more}", **options)
    page.get_by_text("Where the rows come from").wait_for(timeout=90_000)
    return page


def test_page_draws_its_figures_and_loads_nothing_foreign(committed_server, open_page, pytestconfig):
    rows, problems = load_benchmarks(pytestconfig.rootpath / "results")
    assert problems == []
    steps = rows.filter(pl.col("median_s") > 0, subject="model", phase="step")
    page = open_at_the_end(open_page, committed_server, viewport=WIDE)
    page.get_by_text(f"{pareto(steps).height} of {steps.height} are on the frontier").wait_for(timeout=30_000)
    page.locator("canvas, svg.marks").nth(FIGURES - 1).wait_for(timeout=60_000)
    assert page.locator(".marimo-cell.has-error").count() == 0
    assert page.foreign == []


def test_nothing_measured_is_said_with_the_command(live_server, open_page):
    page = open_page(f"{live_server[0]}/?file=benchmarks.py", viewport=WIDE)
    page.get_by_text("workbook bench grid cpu").first.wait_for(timeout=60_000)
    assert page.locator(".marimo-cell.has-error").count() == 0


def test_a_path_a_filter_and_a_choice_are_in_the_address(live_server, open_page, tmp_path):
    pl.DataFrame(FOREIGN).write_parquet(tmp_path / "loom.parquet")
    place = f"&path={quote(str(tmp_path))}"
    page = open_at_the_end(open_page, live_server[0], f"{place}&machine=loom", viewport=WIDE)
    page.get_by_text("3 measured").wait_for(timeout=30_000)
    page.get_by_text("1 lines through 2 configurations").wait_for(timeout=30_000)  # B 5 and 2 of the same shape
    page.locator("select").filter(has_text="memory at the peak").select_option(label="seconds")
    page.wait_for_url("**quantity=median_s**", timeout=20_000)
    page.reload()
    page.get_by_text("3 measured").wait_for(timeout=60_000)
    page = open_at_the_end(open_page, live_server[0], f"{place}&batch_size=5%7C2", viewport=WIDE)
    page.get_by_text("2 measured").wait_for(timeout=30_000)
    assert page.locator(".marimo-cell.has-error").count() == 0


@pytest.mark.slow
def test_a_configuration_measured_here_adds_its_point(live_server, open_page):
    url, _, results = live_server
    page = open_page(f"{url}/?file=benchmarks.py", viewport=WIDE)
    page.get_by_role("button", name="Measure").click()
    page.get_by_text("measuring", exact=True).wait_for(timeout=30_000)
    page.get_by_text("1 measured on").wait_for(timeout=300_000)
    rows, _ = load_benchmarks(results)
    (step,) = rows.filter(phase="step").to_dicts()
    page.get_by_text("1 of 1 are on the frontier").wait_for(timeout=30_000)
    assert (step["batch_size"], step["d_model"], step["status"]) == (4, 128, "ok")
    assert page.locator(".marimo-cell.has-error").count() == 0


def test_phone_in_the_dark(committed_server, open_page):
    page = open_at_the_end(open_page, committed_server, viewport={"width": 390, "height": 844}, color_scheme="dark")
    page.wait_for_selector("canvas, svg.marks", timeout=30_000)
    assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0
    assert max(page.evaluate(GROUND_COLOUR)) < 80
