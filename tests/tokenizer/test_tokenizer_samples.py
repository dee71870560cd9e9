import unicodedata

from core.tokenizer.samples import TALE, TONGUES, code, sample_texts


def scripts(text):
    """By the first word of each letter's name; Japanese writes kana and Han."""
    return {unicodedata.name(letter).split()[0] for letter in text if unicodedata.category(letter) in ("Ll", "Lo")}


def test_the_tongues_are_sixteen_in_nine_scripts():
    assert len(TONGUES.strip().split("\n\n")) == 16
    assert scripts(TONGUES) - {"FEMININE", "MASCULINE"} == {
        *("LATIN", "GREEK", "CYRILLIC", "ARABIC", "HEBREW", "DEVANAGARI", "CJK", "HIRAGANA", "HANGUL"),
    }


def test_the_tale_is_english_and_repeats_its_words():
    assert TALE.isascii()
    assert TALE.count("one hundred and twelve") == 3
    assert TALE.endswith(".\n")


def test_the_texts_have_names():
    assert sample_texts() == {"a tale": TALE, "Python code": code(), "many languages": TONGUES}
    compile(code(), "samples", "exec")
