"""The tokenizer notebook in a real browser."""

from urllib.parse import quote

from test_training_page import GROUND_COLOUR

from core.tokenizer.anatomy import train_on_text
from core.tokenizer.samples import TALE

WIDE = {"width": 1280, "height": 2400}


def wait_for_tokens(page, name, count):
    """Until the panel of this name counts so many tokens."""
    page.wait_for_function(
        """([name, count]) => [...document.querySelectorAll('.token-panel')].some(
             panel => panel.querySelector('.head b').innerText === name
                   && panel.querySelector('.counts b').innerText === count)""",
        arg=[name, f"{count:,}"],
        timeout=20_000,
    )


def test_page_draws_its_figures_and_tokens_tell_about_themselves(committed_server, open_page):
    page = open_page(f"{committed_server}/?file=tokenizer.py&text=The%20lamp", viewport=WIDE)
    page.wait_for_selector("canvas, svg.marks", timeout=30_000)
    page.wait_for_selector(".token-panel .chip")
    assert page.locator(".token-panel").count() == 3
    assert page.locator(".token-table").count() >= 8
    told = "getComputedStyle(document.querySelectorAll('.token-panel .chip')[1], '::after').content"
    assert page.evaluate(told) == "none"
    page.locator(".token-panel .chip").nth(1).hover()
    assert "bytes 3–7: 20 6C 61 6D 70" in page.evaluate(told)
    assert page.locator(".marimo-cell.has-error").count() == 0
    assert page.foreign == []


def test_typing_changes_the_tokens_and_the_address(committed_server, open_page):
    page = open_page(f"{committed_server}/?file=tokenizer.py&text=ab", viewport=WIDE)
    wait_for_tokens(page, "Bytes", 2)
    area = page.locator("textarea").first
    area.fill("né <b>漢</b>\n")
    wait_for_tokens(page, "Bytes", len("né <b>漢</b>\n".encode()))
    page.wait_for_url(f"**text={quote('né', safe='')}+%3Cb%3E**", timeout=20_000)
    page.reload()
    wait_for_tokens(page, "Bytes", len("né <b>漢</b>\n".encode()))
    page.locator("textarea").first.fill("")
    wait_for_tokens(page, "Bytes", 0)
    page.get_by_text("There is no text to judge").wait_for()
    assert page.locator(".marimo-cell.has-error").count() == 0


def test_a_vocabulary_is_trained_to_size(committed_server, open_page):
    text = "The keeper climbed the stairs."
    page = open_page(f"{committed_server}/?file=tokenizer.py&a_size=320&text={quote(text)}", viewport=WIDE)
    special = ["<|endoftext|>"]
    wait_for_tokens(page, "A", len(train_on_text(TALE, 320, special).encode(text)))
    page.locator("[role=slider]").first.focus()
    page.keyboard.press("ArrowRight")
    wait_for_tokens(page, "A", len(train_on_text(TALE, 352, special).encode(text)))
    page.wait_for_url("**a_size=352**", timeout=20_000)


def test_what_is_typed_is_not_markup(committed_server, open_page):
    text = "<img src=x onerror=window.hit=1> **b** <script>window.hit=2</script>"
    fields = "&".join(f"{name}={quote(text)}" for name in ("text", "own", "short", "word", "torn", "ids", "seen"))
    page = open_page(f"{committed_server}/?file=tokenizer.py&a_text={quote('your own text')}&{fields}", viewport=WIDE)
    wait_for_tokens(page, "Bytes", len(text))
    assert page.evaluate("window.hit === undefined && document.querySelector('img[src=x]') === null")
    assert page.locator(".marimo-cell.has-error").count() == 0


def test_a_tokenizer_can_be_uploaded(committed_server, open_page, tmp_path):
    tokenizer = train_on_text("abab abab abc", 262)
    tokenizer.save(tmp_path)
    page = open_page(f"{committed_server}/?file=tokenizer.py&text=abab%20abc", viewport=WIDE)
    page.get_by_text("C, a tokenizer from files").click()
    page.locator("input[type=file]").set_input_files([tmp_path / "vocab.json", tmp_path / "merges.txt"])
    wait_for_tokens(page, "C", len(tokenizer.encode("abab abc")))
    page.get_by_text(f"vocab.json, merges.txt, gpt2: {len(tokenizer.vocab)} tokens").wait_for()
    tops = "[...document.querySelectorAll('.token-panel')].map(panel => panel.getBoundingClientRect().top)"
    assert len(set(page.evaluate(tops))) == 1  # four beside each other
    page.locator("input[type=file]").set_input_files([tmp_path / "special_tokens.json"])
    page.get_by_text("files are special_tokens.json: vocab.json and merges.txt are missing").wait_for()
    assert page.locator(".token-panel").count() == 3
    assert page.locator(".marimo-cell.has-error").count() == 0


def test_phone_in_the_dark(committed_server, open_page):
    page = open_page(
        f"{committed_server}/?file=tokenizer.py", viewport={"width": 390, "height": 844}, color_scheme="dark"
    )
    page.wait_for_selector(".token-panel .chip", timeout=30_000)
    page.wait_for_selector("canvas, svg.marks", timeout=30_000)
    assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0
    assert max(page.evaluate(GROUND_COLOUR)) < 80
    widest = page.evaluate("Math.max(...[...document.querySelectorAll('.token-panel')].map(p => p.clientWidth))")
    assert 300 < widest < 390
