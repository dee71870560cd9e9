"""Text that tokenizers disagree on: white space of all kinds, contractions, scripts, marks, specials cut short."""

import random
import unicodedata

ATOMS = [
    *("'s", "'S", "'ll", "'LL", "'re", "'Ve", "'ſ", "don't", "I'll've", "'", "''t"),
    *(" ", "  ", "   ", "\n", "\n\n", "\r\n", "\r", "\t", " \n ", "\u00a0", "\u3000", "\u2028", "\x85", "\x1c", "\x0b"),
    *("a", "Hello", " world", "_x", "é", "e\u0301", "ﬁ", "İ", "ß", "漢字", "العربية", "हिन्दी", "ไทย"),
    *(
        "1",
        "12",
        "12345",
        "½",
        "٣٤",
        "Ⅷ",
        "...",
        "!!",
        "¿",
        "👍🏽",
        "👩\u200d👩\u200d👧",
        "🇩",
        "\u200b",
        "\ufeff",
        "\x00",
    ),
    *("<|endoftext|>", " <|endoftext|> ", "<|endof", "text|>", "<|endoftext|><|endoftext|>"),
]


def awkward_texts(count, seed=0, atoms=ATOMS):
    """Random rows of atoms, and now and then a character that Unicode knows since 2002, as every library does."""
    source = random.Random(seed)
    for _ in range(count):
        yield "".join(
            source.choice(atoms) if source.random() < 0.85 else old_character(source)
            for _ in range(source.randint(0, 20))
        )


def old_character(source):
    while True:
        character = chr(source.randrange(0x20, 0x30000))
        if unicodedata.ucd_3_2_0.category(character) not in ("Cn", "Cs"):
            return character
