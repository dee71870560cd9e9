"""The architecture notebook in a real browser."""

from test_training_page import GROUND_COLOUR

WIDE = {"width": 1280, "height": 6000}
FIGURES = 5  # breakdown (one of four tabs), memory, roofline, growth, comparison


def figures(page):
    page.locator("canvas, svg.marks").nth(FIGURES - 1).wait_for(timeout=30_000)


def test_page_draws_its_figures_and_loads_nothing_foreign(committed_server, open_page):
    page = open_page(f"{committed_server}/?file=architecture.py&model=gpt2", viewport=WIDE)
    figures(page)
    page.get_by_text("124,439,808").filter(visible=True).first.wait_for()
    assert page.locator(".marimo-cell.has-error").count() == 0
    assert page.get_by_role("link", name="q_proj").count() >= 1  # a box of the diagram
    assert page.foreign == []


def test_a_slider_changes_the_numbers_and_the_address(committed_server, open_page):
    page = open_page(f"{committed_server}/?file=architecture.py&model=tinystories", viewport=WIDE)
    page.get_by_text("22,696,448").filter(visible=True).first.wait_for()
    page.locator("[role=slider]").first.focus()
    page.keyboard.press("ArrowRight")  # 5 layers instead of 4: 3,113,984 weights more
    page.get_by_text("25,810,432").filter(visible=True).first.wait_for(timeout=20_000)
    page.wait_for_url("**num_layers=5**", timeout=20_000)
    page.reload()
    page.get_by_text("25,810,432").filter(visible=True).first.wait_for(timeout=30_000)


def test_another_model_starts_from_its_own_values(committed_server, open_page):
    page = open_page(f"{committed_server}/?file=architecture.py&model=tinystories&num_layers=5", viewport=WIDE)
    page.get_by_text("25,810,432").filter(visible=True).first.wait_for()
    page.get_by_test_id("marimo-plugin-searchable-dropdown").first.click()
    page.get_by_text("quickstart", exact=True).last.click()
    page.get_by_text("664,192").filter(visible=True).first.wait_for(timeout=20_000)
    page.wait_for_url("**model=quickstart**", timeout=20_000)
    assert "num_layers" not in page.url


def test_what_does_not_fit_or_go_together_is_said(committed_server, open_page):
    page = open_page(f"{committed_server}/?file=architecture.py&model=llama-3-405b&device=rtx-4090", viewport=WIDE)
    page.get_by_text("Does not fit").filter(visible=True).first.wait_for()
    page = open_page(f"{committed_server}/?file=architecture.py&model=tinystories&num_heads=7", viewport=WIDE)
    page.get_by_text("d_model 512 is not divisible by num_heads 7").filter(visible=True).first.wait_for()
    assert page.locator(".marimo-cell.has-error").count() == 0


def test_phone_in_the_dark(committed_server, open_page):
    page = open_page(
        f"{committed_server}/?file=architecture.py&model=mixtral-8x7b",
        viewport={"width": 390, "height": 844},
        color_scheme="dark",
    )
    page.wait_for_selector("canvas, svg.marks", timeout=30_000)
    assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0
    assert max(page.evaluate(GROUND_COLOUR)) < 80
