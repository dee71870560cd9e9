"""The tokenizer experiments' notebook in a real browser, over the committed results."""

from test_training_page import GROUND_COLOUR

from core.experiments import tokenizer_findings as findings
from core.results import read_table

WIDE = {"width": 1280, "height": 7000}
FIGURES = 8  # vocabularies, matrix, use, ranks, growth, models, speeds, file sizes


def open_at_the_end(open_page, server, more="", **options):
    page = open_page(f"{server}/?file=tokenizer_experiments.py{more}", **options)
    page.get_by_text("Where the rows come from").wait_for(timeout=60_000)
    return page


def test_page_draws_its_figures_and_loads_nothing_foreign(committed_server, open_page):
    page = open_at_the_end(open_page, committed_server, viewport=WIDE)
    page.locator("canvas, svg.marks").nth(FIGURES - 1).wait_for(timeout=60_000)
    assert page.locator(".marimo-cell.has-error").count() == 0
    assert page.locator(".token-table").count() == 5  # longest tokens, models, speeds; two folded away
    assert page.foreign == []


def test_a_slider_changes_the_matrix_and_the_address(committed_server, open_page, pytestconfig):
    rows, _ = read_table(pytestconfig.rootpath / "results", "tokenizer_compression")
    study = next(iter(findings.studies(rows.to_dicts())))
    rows = [row for row in rows.to_dicts() if row["study_id"] == study]

    def worst(size):
        foreign = [row for row in findings.transfer(rows, size) if row["trained_on"] != row["encoded"]]
        return f"{sum(row['loss'] for row in foreign) / len(foreign):.0%} of the bytes per token"

    page = open_at_the_end(open_page, committed_server, "&size=1024", viewport=WIDE)
    page.get_by_text(f"A foreign vocabulary of 1,024 tokens costs {worst(1024)}").wait_for(timeout=30_000)
    page.locator("[role=slider]").first.focus()
    page.keyboard.press("ArrowRight")
    page.get_by_text(f"A foreign vocabulary of 2,048 tokens costs {worst(2048)}").wait_for(timeout=30_000)
    page.wait_for_url("**size=2048**", timeout=20_000)
    page.locator("select").filter(has_text="pre-tokens").select_option(label="pre-tokens")
    page.wait_for_url("**pieces=pre-tokens**", timeout=20_000)
    page.reload()
    page.get_by_text("A foreign vocabulary of 2,048 tokens").wait_for(timeout=60_000)
    assert page.locator(".marimo-cell.has-error").count() == 0


def test_the_work_decides_what_was_measured(committed_server, open_page):
    page = open_at_the_end(open_page, committed_server, viewport=WIDE)
    page.get_by_text("Encoding, cold: longtail-150mb.txt").wait_for(timeout=30_000)
    page.locator("select").filter(has_text="strings of 50 characters").select_option(label="strings of 50 characters")
    page.get_by_text("Strings of 50 characters: longtail-150mb.txt").wait_for(timeout=30_000)
    page.get_by_text("µs per call").first.wait_for()
    page.wait_for_url("**work=short_50**", timeout=20_000)
    assert page.locator(".marimo-cell.has-error").count() == 0


def test_nothing_measured_is_said_with_the_commands(live_server, open_page):
    url, _, _ = live_server
    page = open_page(f"{url}/?file=tokenizer_experiments.py", viewport=WIDE)
    for command in ("workbook tokenizer study", "workbook bench tokenizer"):
        page.get_by_text(command).first.wait_for(timeout=60_000)
    assert page.locator(".marimo-cell.has-error").count() == 0


def test_phone_in_the_dark(committed_server, open_page):
    page = open_at_the_end(open_page, committed_server, viewport={"width": 390, "height": 844}, color_scheme="dark")
    page.wait_for_selector("canvas, svg.marks", timeout=30_000)
    assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0
    assert max(page.evaluate(GROUND_COLOUR)) < 80
