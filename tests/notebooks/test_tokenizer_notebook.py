"""`notebooks/tokenizer.py` driven with texts of our own: what it shows is what the tokenizers say."""

import re
from html import unescape
from pathlib import Path

import pytest
from test_notebooks import load

from core.tokenizer import Tokenizer, train_bpe
from core.tokenizer.anatomy import Anatomy, train_on_text
from core.tokenizer.pretokenize import END_OF_TEXT
from core.tokenizer.samples import TALE, TONGUES

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "tokenizer.py"


@pytest.fixture(scope="module")
def notebook():
    return load(NOTEBOOK)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A and B as they are at first, by the trainer that reads files."""
    folder = tmp_path_factory.mktemp("text")
    tokenizers = []
    for text, size, pattern in ((TALE, 640, "gpt2"), (TONGUES, 1536, "cl100k")):
        (folder / "text.txt").write_bytes(text.encode())
        vocab, merges = train_bpe(folder / "text.txt", size, [END_OF_TEXT], pattern=pattern)
        tokenizers.append(Tokenizer(vocab, merges, [END_OF_TEXT], pattern=pattern))
    return tokenizers


def shown(notebook, **defs):
    outputs, definitions = notebook.app.run(defs=defs)
    return [getattr(output, "text", "") for output in outputs], definitions


def section(texts, heading):
    """The output that holds these words."""
    (found,) = [text for text in texts if heading in text]
    return found


def words(html):
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", re.sub(r"<style>.*?</style>", "", html, flags=re.S))).split())


def test_the_panels_are_what_the_tokenizers_say(notebook, trained):
    text = f"The keeper's 12345 lamps: 海 and ñ{END_OF_TEXT}\n\tdone  "
    texts, definitions = shown(notebook, text=text)
    panels = {panel["name"]: [row["id"] for row in panel["rows"]] for panel in definitions["panels"]}
    assert panels == {
        "A": trained[0].encode(text),
        "B": trained[1].encode(text),
        "Bytes": list(text.encode()),
    }
    told = words(section(texts, '"tokens token-panels"'))
    num_bytes = len(text.encode())
    for ids in panels.values():
        assert f"{len(ids)} tokens {num_bytes / len(ids):.2f} bytes/token {len(text) / len(ids):.2f} char" in told


def test_the_verdict_is_computed(notebook, trained):
    text = "The keeper climbed the stairs. Cafe\u0301, é."
    texts, _ = shown(notebook, text=text)
    verdict = words(section(texts, ">Verdict<"))
    counts = [len(tokenizer.encode(text)) for tokenizer in trained]
    num_bytes = len(text.encode())
    assert counts[0] < counts[1]
    assert f"{len(text)} characters are {num_bytes} bytes; in tokens: A {counts[0]}, B {counts[1]}, Bytes" in verdict
    assert f"A needs the fewest, {num_bytes / counts[0]:.2f} bytes each" in verdict
    home = len(TALE.encode()) / len(trained[0].encode(TALE))
    here = num_bytes / counts[0]
    assert f"A packs {home:.2f} bytes of its own training text into a token, and {here:.2f} of yours" in verdict
    assert f"{1 - here / home:.0%} less" in verdict
    assert "4 of 42 with Bytes" in verdict  # two bytes each of the combining accent and of the é
    assert "composed" in verdict


def test_ascii_is_never_cut(notebook):
    texts, _ = shown(notebook, text="plain")
    assert "No token cuts a character of yours." in words(section(texts, ">Verdict<"))


def test_the_curve_goes_through_the_tokenizers_of_every_size(notebook):
    text = "The girl counted to seven. Море большое."
    texts, definitions = shown(notebook, text=text)
    for name, own in (("compression_chart", False), ("training_chart", True)):
        lines, points = (layer.data.values for layer in definitions[name].layer)
        for row in [*lines[::9], *points]:
            source, pattern = {"A": (TALE, "gpt2"), "B": (TONGUES, "cl100k")}[row["tokenizer"]]
            tokenizer = train_on_text(source, row["vocab_size"], [END_OF_TEXT], pattern=pattern)
            encoded = source if own else text
            assert row["bytes_per_token"] == len(encoded.encode()) / len(tokenizer.encode(encoded))
        assert [(row["tokenizer"], row["vocab_size"]) for row in points] == [("A", 640), ("B", 1536)]
        assert max(row["vocab_size"] for row in lines) == 2048
    ended = max(row["vocab_size"] for row in lines if row["tokenizer"] == "A")
    assert f"A's lines end at {ended:,} tokens" in words(section(texts, "What a larger vocabulary buys"))


def test_an_empty_text_is_no_error(notebook):
    texts, definitions = shown(notebook, text="")
    assert "There is no text to judge" in words(section(texts, ">Verdict<"))
    assert "compression_chart" not in definitions
    assert [panel["rows"] for panel in definitions["panels"]] == [[], [], []]


def test_what_is_typed_is_not_markup(notebook):
    text = "<img src=x onerror=alert(1)> **bold** `code` <script>"
    texts, _ = shown(notebook, text=text, other=None)
    assert not any("<img src=x" in html or "<script>" in html for html in texts)


def test_an_uploaded_tokenizer_stands_beside_them(notebook):
    other = train_on_text("abab abab abc", 260, ["<b>"])
    texts, definitions = shown(notebook, text="abab<b>abc", other=Anatomy(other, "a.json"))
    panels = {panel["name"]: [row["id"] for row in panel["rows"]] for panel in definitions["panels"]}
    assert list(panels) == ["A", "B", "C", "Bytes"]
    assert panels["C"] == other.encode("abab<b>abc")
    assert "C a.json" in words(section(texts, '"tokens token-panels"'))


def test_data_sets_of_this_machine_are_offered(notebook, tmp_path):
    train_on_text("abab", 258).save(tmp_path / "datasets" / "mine" / "tokenizer")
    _, definitions = shown(notebook, data_dir=tmp_path)
    assert list(definitions["folder"].options) == ["mine"]


def test_the_pitfalls_are_measured(notebook, trained):
    texts, _ = shown(notebook)
    ids = trained[0].encode("naïve 漢字 🙂")
    lost = sum("\ufffd" in trained[0].decode([token_id]) for token_id in ids)
    assert f"{lost} of {len(ids)} tokens" in words(section(texts, "become U+FFFD"))
    assert "na\ufffd\ufffdve" in words(section(texts, "become U+FFFD"))
    again = trained[0].encode(trained[0].decode([104, 105, 195, 40, 226, 130, 33, 255]))
    assert f"Other ids come back , {len(again)} for 8" in words(section(texts, "Other ids come back"))
    white = words(section(texts, "White space, or not"))
    assert re.search(r"U\+001C file separator .* no yes U\+200B", white)
    prompt = words(section(texts, "A space at the end of a prompt"))
    assert "tokens are a space with letters behind it" in prompt


def test_merges_are_told_step_by_step(notebook):
    texts, definitions = shown(notebook)
    vocab, merges = definitions["history"], [step.pairs[0][0] for step in definitions["history"][:-1]]
    assert len(vocab) == 16
    assert merges[:5] == [(b" ", b"s"), (b"h", b"e"), (b"l", b"s"), (b"l", b"ls"), (b" s", b"he")]
    told = words(section(texts, "stand side by side"))
    assert "Merge 5 of 15: · s and he stand side by side 4 times and become token 260. 2 pairs occur as often" in told
