import xml.etree.ElementTree as ElementTree
from types import SimpleNamespace

import pytest
from drawn import check, layers, marked

from core import charts
from core.charts.chips import chip, hexadecimal, plain, visible
from core.charts.tokens import MOST_TOKENS, token_strip


def parsed(html):
    """The elements of HTML that is XML too, without the style before it."""
    body = html[html.index("</style>") + len("</style>") :] if "</style>" in html else html
    return ElementTree.fromstring(f"<body>{body.replace('<br>', '<br/>')}</body>")


def of_class(tree, name):
    return [element for element in tree.iter() if name in element.get("class", "").split()]


def words(element):
    return "".join(element.itertext())


def row(token, start=0, **more):
    plain_row = {"id": token[0], "token": token, "start": start, "special": False, "rank": None, "pair": None}
    return plain_row | more


@pytest.mark.parametrize(
    ("text", "html", "alone"),
    [
        (" a", "<i>·</i>a", "·a"),
        ("\t\r\n", "<i>→</i><i>␍</i><i>↵</i>", "→␍↵"),
        ("<&>\"'", "&lt;&amp;&gt;&quot;&#x27;", "<&>\"'"),
        ("\u00a0", '<span class="label">NBSP</span>', "[NBSP]"),
        ("\u3000", '<span class="label">U+3000</span>', "[U+3000]"),
        ("\x1c", '<span class="label">U+001C</span>', "[U+001C]"),
        ("a\u200db", 'a<span class="label">ZWJ</span>b', "a[ZWJ]b"),
        ("\u202e", '<span class="label">U+202E</span>', "[U+202E]"),  # would turn the rest of the line around
        ("\u0301", "◌\u0301", "\u0301"),
        ("e\u0301", "e\u0301", "e\u0301"),
        ("漢🙂", "漢🙂", "漢🙂"),
    ],
)
def test_nothing_is_invisible(text, html, alone):
    assert visible(text) == html
    assert plain(text) == alone


def test_a_chip_tells_its_bytes():
    (element,) = parsed(chip(b" the", 8, under="259", about='"<x>"', classes=["first"]))
    assert element.get("class").split() == ["chip", "first", "c3"]
    assert element.get("style") == "--n:4"
    assert element.get("data-about") == '"<x>"'
    assert [words(part) for part in element] == ["·the", "259"]


def test_bytes_that_are_no_text_are_digits():
    (element,) = parsed(chip(b"\xe6\xbc"))
    assert element.get("class").split() == ["chip", "part"]
    assert words(element) == "E6 BC"
    assert [charts.is_part(token) for token in (b"\xe6\xbc", b"\xe6\xbc\xa2", b"a", b"\x80")] == [
        True,
        False,
        False,
        True,
    ]
    assert charts.visible_bytes(b"\xe6\xbc") == hexadecimal(b"\xe6\xbc") == "E6 BC"
    assert charts.visible_bytes(b"<b") == "&lt;b"


def test_what_may_stand_under_a_token():
    rows = [row(b"ab", id=300), row(b"c", 2)]
    shown = {
        under: [words(small) for small in parsed(token_strip(rows, under)).iter("small")]
        for under in charts.UNDER_TOKENS
    }
    assert shown == {"id": ["300", "99"], "bytes": ["61 62", "63"], "position": ["0–1", "2–2"], "nothing": []}
    with pytest.raises(ValueError, match="under is 'rank': it must be one of id, bytes, position, nothing"):
        token_strip(rows, "rank")


def test_tokens_of_one_character_are_held_together_by_it():
    # b | é in two | 漢 in a token that begins in the é's second half would be no UTF-8; here: é é | 漢 in three
    tokens = [b"b", b"\xc3", b"\xa9", b"a\xe6", b"\xbc\xa2\n", b"c"]
    starts = [0, 1, 2, 3, 5, 8]
    tree = parsed(token_strip([row(token, start) for token, start in zip(tokens, starts, strict=True)]))
    groups = of_class(tree, "torn")
    assert [[words(part.find("bdi")) for part in of_class(group, "chip")] for group in groups] == [
        ["C3", "A9"],
        ["61 E6", "BC A2 0A"],
    ]
    assert [words(whole) for whole in of_class(tree, "whole")] == ["é", "a漢↵"]
    assert [child.tag for child in tree] == ["span", "span", "span", "br", "span"]


def test_single_bytes_are_paler_than_what_was_learnt():
    rows = [row(b"a"), row(b"ab", 1), row(b"x", 3, special=True)]
    chips = of_class(parsed(token_strip(rows)), "chip")
    assert ["byte" in each.get("class").split() for each in chips] == [True, False, False]


def test_controls_stand_beside_their_letter():
    controls = [SimpleNamespace(text=f"<i>{name}</i>") for name in ("text", "size")]
    tree = parsed(charts.control_row("<A>", controls))
    (row_of_a,) = of_class(tree, "token-controls")
    assert words(row_of_a.find("b")) == "<A>"
    assert [words(cell) for cell in row_of_a.find("div")] == ["text", "size"]
    (columns,) = of_class(parsed(charts.side_by_side(["<p>one</p>", "<p>two</p>"])), "token-columns")
    assert [[part.tag for part in column] for column in columns] == [["p"], ["p"]]


def test_a_gap_is_left_where_a_pre_token_begins():
    rows = [row(b"a"), row(b"b", 1), row(b"\xc3", 2), row(b"\xa9", 3)]
    tree = parsed(token_strip(rows, starts=[0, 2]))
    assert [words(part.find("bdi")) for part in of_class(tree, "chip") if "first" in part.get("class")] == ["a", "C3"]
    assert len([group for group in of_class(tree, "torn") if "first" in group.get("class").split()]) == 1


def test_a_token_tells_about_itself():
    rows = [
        row(b" he", 0, id=260, rank=3, pair=(b" h", b"e")),
        row(b"\xc3\xa9\xe6", 3, id=261, rank=1233, pair=(b"\xc3\xa9", b"\xe6")),
        row(b"<|x|>", 6, id=256, special=True),
        row(b"q", 11),
        row(b"z" * 40, 12, id=1300, rank=9, pair=(b"z" * 39, b"z")),
    ]
    told = [element.get("data-about") for element in of_class(parsed(token_strip(rows, about=True)), "chip")]
    assert told[:4] == [
        "“·he”\nid 260, bytes 0–2: 20 68 65\nmerge 4: “·h” + “e”",
        "“é\ufffd”, no UTF-8 by itself\nid 261, bytes 3–5: C3 A9 E6\nmerge 1,234: “é” + E6",
        "“<|x|>”\nid 256, bytes 6–10: 3C 7C 78 7C 3E\na special token: no merge makes it",
        "“q”\nid 113, byte 11: 71\na single byte: in every vocabulary",
    ]
    assert f"bytes 12–51: {' '.join(['7A'] * 16)} …" in told[4]
    assert all("data-about" not in element.attrib for element in parsed(token_strip(rows)).iter())


def test_a_long_text_is_counted_but_not_drawn():
    rows = [row(b"a", start) for start in range(MOST_TOKENS + 1234)]
    tree = parsed(token_strip(rows))
    assert len(of_class(tree, "chip")) == MOST_TOKENS
    assert words(tree).endswith("… and 1,234 more tokens, counted but not drawn")


def panel(name, tokens, text):
    rows = [row(token, start) for start, token in enumerate(tokens)]
    counts = {"num_bytes": len(text.encode()), "num_characters": len(text)}
    return {"name": name, "about": f"<{name}>", "rows": rows, "starts": {0}} | counts


def test_panels_count_what_they_show():
    tree = parsed(charts.token_panels([panel("A", [b"a", b"b"], "abcdé"), panel("B", [b"a"], "abcdé")], "nothing"))
    panels = of_class(tree, "token-panel")
    assert [words(element.find("div")) for element in panels] == ["A<A>", "B<B>"]
    assert [[words(part) for part in of_class(element, "counts")[0]] for element in panels] == [
        ["2 tokens", "3.00 bytes/token", "2.50 characters/token"],
        ["1 token", "6.00 bytes/token", "5.00 characters/token"],
    ]
    assert [of_class(element, "share")[0].get("style") for element in panels] == ["--share:100.0%", "--share:50.0%"]


def test_pointing_is_explained_once():
    tree = parsed(charts.token_panels([panel(name, [b"a"], "a") for name in "AB"]))
    assert [words(hint) for hint in of_class(tree, "hint")] == ["Point at a token, or tap it.", ""]


def test_a_panel_without_text_has_no_rates():
    tree = parsed(charts.token_panels([panel("A", [], "")]))
    assert [words(part) for part in of_class(tree, "counts")[0]] == ["0 tokens"]


def test_cells_are_text_numbers_and_tokens():
    rows = [row(b"a\n"), row(b"b", 2)]
    tree = parsed(charts.token_table(["<h>", ""], [["<x>", 12345], [rows, (rows, {2})]]))
    cells = list(tree.iter("td"))
    assert [words(cell) for cell in tree.iter("th")] == ["<h>", ""]
    assert [words(cell) for cell in cells] == ["<x>", "12,345", "a↵97b98", "a↵97b98"]
    assert [len(of_class(cell, "first")) for cell in cells] == [0, 0, 0, 1]
    assert list(tree.iter("br")) == []


def test_pairs_are_measured_by_the_most_frequent():
    pairs = [
        {"pair": (b"\xc3", b"<"), "count": 1200, "next": True, "note": "<next>"},
        {"pair": (b"ab", b"c"), "count": 300, "next": False, "note": ""},
    ]
    tree = parsed(charts.pair_table(pairs, {b"ab": 7}))
    lines = list(tree.iter("tr"))[1:]
    assert [[words(cell) for cell in line] for line in lines] == [
        ["C3<", "1,200", "C3 | 3C", "<next>"],
        ["abc", "300", "61 62 | 63", ""],
    ]
    assert [line.get("class") for line in lines] == ["next", None]
    assert [bar.get("style") for bar in of_class(tree, "bar")] == ["--share:1.000", "--share:0.250"]
    assert [element.get("class") for element in of_class(lines[1], "chip")] == ["chip c2", "chip"]


def test_pieces_that_merge_next_are_framed():
    shown = [
        {"pieces": (b"s", b"he", b"<"), "places": [0, 1], "told": "× 2"},
        {"pieces": (b"a",), "places": [], "told": "<done>"},
    ]
    for stacked in (False, True):
        tree = parsed(charts.word_pieces(shown, {b"he": 0}, stacked=stacked))
        assert [element.get("class") for element in of_class(tree, "chip")] == [
            *("chip next", "chip next c0", "chip", "chip"),
        ]
        assert [words(element) for element in of_class(tree, "told")] == ["× 2", "<done>"]
        assert bool(of_class(tree, "stacked")) == stacked


def test_compression_is_drawn_against_the_size():
    rows = [
        {"tokenizer": name, "vocab_size": size, "bytes_per_token": size / 257}
        for name in "AB"
        for size in (257, 500, 900)
    ]
    chart = charts.compression_chart(rows, rows[:1], "your text")
    check(chart)
    assert marked(chart, "line") == [rows]
    assert marked(chart, "point") == [rows[:1]]
    encoding = layers(chart)[0][0]
    assert encoding["color"]["scale"]["domain"] == ["A", "B"]
    assert (chart.title, chart.background) == ("your text", "transparent")
    assert encoding["x"]["scale"]["type"] == "log"
    assert (encoding["x"]["title"], encoding["y"]["title"]) == ("vocabulary size (tokens)", "bytes per token")
    check(charts.compression_chart(rows[:3], rows[:1], ""))
