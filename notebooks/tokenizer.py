import marimo

__generated_with = "0.25.2"
app = marimo.App(width="medium", app_title="Tokenizers side by side")

with app.setup:
    import functools
    import unicodedata
    from collections import Counter
    from pathlib import Path

    import marimo as mo

    from core import charts
    from core.tokenizer import Tokenizer, anatomy, pitfalls, samples, steps
    from core.tokenizer.pretokenize import END_OF_TEXT, PATTERNS, pre_token_pattern
    from core.tokenizer.uploads import read_uploaded

    SAMPLES = samples.sample_texts()
    OWN = "your own text"
    SIZES = [257, 264, 272, 288, 304, 320, 352, 384, 448, 512, 576, 640, 704, 768, 896, 1024, 1280, 1536, 1792, 2048]
    DEFAULTS = {
        "text": "The keeper climbed the stairs and lit the lamp.\nDas Meer ist groß; 大海很大, море большое 🌊\n"
        "if height == 12345:\n    return  None",
        **{"under": "id", "a_text": "a tale", "a_pattern": "gpt2", "a_size": 640, "own": ""},
        **{"b_text": "many languages", "b_pattern": "cl100k", "b_size": 1536, "folder": None},
        "short": "she sells sea shells; the shells she sells are sea shells",
        **{"merges": 4, "word": " understanding the lighthouse", "by": "A"},
        **{"torn": "naïve 漢字 🙂", "ids": "104 105 195 40 226 130 33 255", "seen": "ée\u0301👩‍👩‍👧🇫🇷क्षिﬁ漢"},
    }
    LIMITS = {"text": 20_000, "own": 100_000, "short": 300, "word": 60, "torn": 60, "ids": 200, "seen": 60}
    LONGEST_IN_ADDRESS = 1500

    def asked(name, allowed=None):
        """What the address says of a control, else its default."""
        value = mo.query_params().to_dict().get(name, DEFAULTS[name])
        if isinstance(DEFAULTS[name], int):
            value = int(value) if str(value).isdecimal() and len(str(value)) < 7 else DEFAULTS[name]
        if name in LIMITS:
            value = str(value)[: LIMITS[name]]
        return value if allowed is None or value in allowed else DEFAULTS[name]

    def line(name, label):
        """A field for a short text."""
        label = f"{label} (up to {LIMITS[name]} characters)"  # max_length would count over the end of the text
        return mo.ui.text(value=asked(name), label=label, debounce=150, full_width=True)

    def typed(name, control):
        """What counts of a field."""
        return pitfalls.well_formed(control.value)[: LIMITS[name]]

    @functools.lru_cache(maxsize=16)
    def trained(text, pattern):
        """With as many merges as may be asked for; those of a smaller vocabulary are the first of them."""
        return anatomy.train_on_text(text, SIZES[-1], [END_OF_TEXT], pattern=pattern)

    @functools.lru_cache(maxsize=64)
    def rates(tokenizer, text, sizes):
        """Kept, since few of the texts change at a time."""
        return anatomy.rates(tokenizer, text, sizes)

    def drawn(entry, text):
        """A text in a cell of a table."""
        return entry.rows(text), entry.starts(text)

    def table(titles, lines):
        """A table of texts, numbers and tokens."""
        return mo.Html(charts.token_table(titles, lines))


@app.cell(hide_code=True)
def title():
    mo.md("""
    # What does a model see of a text?

    Neither letters nor words: numbers, each of which stands for some bytes that often stood together in another text.
    Type, and see what several tokenizers make of it. Two of them, A and B, are trained in this page, on a text that
    you choose.
    """)
    return


@app.cell(hide_code=True)
def inputs_data():
    # `marimo run notebooks -- --data DIR` looks elsewhere; a published page has no folders
    data_dir = Path(mo.cli_args().get("data") or mo.notebook_dir().parent / "data")
    return (data_dir,)


@app.cell(hide_code=True)
def text_controls():
    _label = f"Your text (up to {LIMITS['text']:,} characters)"
    text_area = mo.ui.text_area(value=asked("text"), label=_label, debounce=60, rows=6, full_width=True)
    text_area
    return (text_area,)


@app.cell(hide_code=True)
def inputs_text(text_area):
    text = typed("text", text_area)
    return (text,)


@app.cell(hide_code=True)
def tokenizer_controls(data_dir):
    def _controls(letter):
        def _choice(name, options, label):
            return mo.ui.dropdown(options, value=asked(f"{letter}_{name}", options), label=label)

        _size = asked(f"{letter}_size", SIZES)
        return {
            "text": _choice("text", [*SAMPLES, OWN], "learns from"),
            "pattern": _choice("pattern", list(PATTERNS), "pattern"),
            "size": mo.ui.slider(steps=SIZES, value=_size, label="vocabulary", show_value=True),
        }

    a, b = mo.ui.dictionary(_controls("a")), mo.ui.dictionary(_controls("b"))
    own = mo.ui.text_area(
        value=asked("own"),
        label=f"Choose “{OWN}” above to train on it. Training starts when you leave the field.",
        rows=6,
        full_width=True,
    )
    _folders = sorted(path.parts[-3] for path in data_dir.glob("datasets/*/tokenizer/vocab.json"))
    folder = mo.ui.dropdown(_folders, value=asked("folder", _folders), label="or that of a data set here")
    _label = "tokenizer.json, or vocab.json and merges.txt together"
    upload = mo.ui.file(filetypes=[".json", ".txt", ".bpe"], multiple=True, label=_label)
    _files = mo.hstack([upload, *([folder] if _folders else [])], wrap=True, justify="start", align="end", gap=1.5)
    _more = mo.accordion({"A training text of your own": own, "C, a tokenizer from files": _files})
    _rows = [mo.Html(charts.control_row(*of)) for of in (("A", a.elements.values()), ("B", b.elements.values()))]
    mo.vstack([*_rows, _more])
    return a, b, folder, own, upload


@app.cell(hide_code=True)
def inputs_other(data_dir, folder, upload):
    other, _problem = None, None
    try:
        if upload.value:
            _found = read_uploaded({file.name: file.contents for file in upload.value})
        elif folder.value:
            _found = Tokenizer.load(data_dir / "datasets" / folder.value / "tokenizer")
        if upload.value or folder.value:
            _from = ", ".join(file.name for file in upload.value) or f"data set {folder.value}"
            other = anatomy.Anatomy(_found, f"{_from}, {_found.pattern}: {len(_found.vocab):,} tokens")
    except (ValueError, OSError) as _error:
        _problem = str(_error)
    mo.callout(mo.plain_text(_problem), kind="danger") if _problem else None
    return (other,)


@app.cell(hide_code=True)
def training(a, b, own):
    learnt = {}
    for _letter, _controls in {"A": a.value, "B": b.value}.items():
        _own = _controls["text"] == OWN
        _text = pitfalls.well_formed(own.value) if _own else SAMPLES[_controls["text"]]
        learnt[_letter] = {**_controls, "source": _text, "most": trained(_text, _controls["pattern"])}
    return (learnt,)


@app.cell(hide_code=True)
def tokenizers(learnt, other):
    entries = {}
    for _letter, _of in learnt.items():
        _tokenizer = anatomy.with_vocab_size(_of["most"], _of["size"])
        _size = _tokenizer.vocab_size
        _short = "" if _size == _of["size"] else f" (not {_of['size']:,}: no pair is left in its text)"
        _about = f"{_of['text']}, {_of['pattern']}: {_size:,} tokens{_short}"
        entries[_letter] = anatomy.Anatomy(_tokenizer, _about)
    if other:
        entries["C"] = other
    entries["Bytes"] = anatomy.Anatomy(anatomy.train_on_text("", 256), "no merges: 256 tokens")
    return (entries,)


@app.cell(hide_code=True)
def under_control():
    _names = charts.UNDER_TOKENS
    under = mo.ui.dropdown(_names, value=asked("under", _names), label="Written under each token:")
    mo.hstack([under], justify="end")
    return (under,)


@app.cell(hide_code=True)
def panels_view(entries, text, under):
    panels = [
        {"name": _name, "about": _entry.about, "rows": _entry.rows(text), "starts": _entry.starts(text)}
        | {"num_bytes": len(text.encode()), "num_characters": len(text)}
        for _name, _entry in entries.items()
    ]
    _key = mo.md(
        "The line under a token has a segment for each of its bytes; single bytes are paler than learnt tokens. A gap is "
        "where the pattern cuts: no merge crosses it. "
        "Hatched tokens hold only part of a character, which stands below them."
    )
    mo.vstack([mo.Html(charts.token_panels(panels, under.value)), _key])
    return (panels,)


@app.cell(hide_code=True)
def compression(entries, learnt, text):
    mo.stop(not text)
    _drawn, _ended = {"your text": ([], []), "the text that each learnt from": ([], [])}, []
    for _letter, _of in learnt.items():
        _most, _now = _of["most"], entries[_letter].tokenizer.vocab_size
        for (_curve, _marks), _encoded in zip(_drawn.values(), (text, _of["source"]), strict=True):
            _rates = rates(_most, _encoded, anatomy.spread_sizes(257, _most.vocab_size, _now))
            _curve += [{"tokenizer": _letter} | rate for rate in _rates]
            _marks += [{"tokenizer": _letter} | rate for rate in _rates if rate["vocab_size"] == _now]
        if _most.vocab_size < SIZES[-1]:
            _ended.append(
                f"{_letter}'s lines end at {_most.vocab_size:,} tokens: no pair is left in its training text."
            )
    compression_chart, training_chart = (charts.compression_chart(*of, title) for title, of in _drawn.items())
    _text = mo.md(
        "Every merge shortens the text that taught it. It shortens yours only where the two are alike: mind the scales. "
        f"The points are the vocabularies chosen above. {' '.join(_ended)}"
    )
    _both = mo.Html(charts.side_by_side(mo.as_html(chart).text for chart in (compression_chart, training_chart)))
    mo.vstack([mo.md("## What a larger vocabulary buys"), _both, _text])
    return compression_chart, training_chart


@app.cell(hide_code=True)
def history_controls():
    short = line("short", "a short text")
    _text = mo.md(
        "## How merges are learnt\n\nCount every pair of neighbours inside the words, make the most frequent pair a token, "
        "count again."
    )
    mo.vstack([_text, short])
    return (short,)


@app.cell(hide_code=True)
def history_steps(short):
    _words = pre_token_pattern("gpt2").findall(typed("short", short))
    history = steps.training_steps(Counter(_words), 300)
    _last = len(history) - 1
    merges_made = mo.ui.slider(
        0, max(_last, 1), value=min(asked("merges"), _last), label="merges made", include_input=True, full_width=True
    )
    merges_made
    return history, merges_made


@app.cell(hide_code=True)
def history_view(history, merges_made):
    _at = min(int(merges_made.value or 0), len(history) - 1)
    _now = history[_at]
    _ranks = anatomy.token_ranks([_step.pairs[0][0] for _step in history[:_at]])
    _told = "No pair is left: every word is one token."
    if _now.pairs:
        (_left, _right), _count = _now.pairs[0]
        _told = (
            f"Merge {_at + 1} of {len(history) - 1}: <b>{charts.visible_bytes(_left)}</b> and "
            f"<b>{charts.visible_bytes(_right)}</b> stand side by side {_count:,} times and become token {256 + _at}."
        )
        if _now.tied > 1:
            _told += f" {_now.tied} pairs occur as often: of these the greatest wins, compared byte by byte, its left token first."
    _made = []
    for _row in steps.made_rows(history[:_at])[::-1][:10]:
        _token, _of = (
            [{**part, "colour": _ranks.get(part["token"])} for part in _row[cell]] for cell in ("token", "pair")
        )
        _made.append([_row["number"], _token, _of, _row["count"]])
    _tables = [
        *([mo.Html(charts.pair_table(steps.pair_rows(_now, 10), _ranks))] if _now.pairs else []),
        *([table(["merge", "token", "of", "occurred"], _made)] if _made else []),
    ]
    _words = mo.Html(charts.word_pieces(steps.word_rows(_now), _ranks))
    mo.vstack(
        [_words, mo.Html(f"<p>{_told}</p>"), mo.hstack(_tables, wrap=True, justify="start", align="start", gap=3)]
    )
    return


@app.cell(hide_code=True)
def encoding_controls(other):
    _names = ["A", "B", *(["C"] if other else []), "Bytes"]
    by = mo.ui.dropdown(_names, value=asked("by", _names), label="tokenizer, here and below")
    word = line("word", "a word or two")
    _text = mo.md(
        "## How they are applied\n\nNot the longest token first, but the merge that was learnt first, wherever it stands, "
        "until none applies. Framed is what merges next; merges are numbered as they were learnt, and those that could be "
        "made too must wait."
    )
    mo.vstack([_text, by, word])
    return by, word


@app.cell(hide_code=True)
def encoding(by, entries, word):
    _entry = entries[by.value]
    _ranks = steps.pair_ranks(_entry.tokenizer.merges)
    _words = pre_token_pattern(_entry.tokenizer.pattern).findall(typed("word", word))
    _lines = [steps.encoding_rows(steps.encoding_steps(_word.encode(), _ranks)) for _word in _words]
    _stairs = [mo.Html(charts.word_pieces(_rows, _entry.ranks, stacked=True)) for _rows in _lines]
    mo.hstack(_stairs, wrap=True, justify="start", align="start", gap=2.5)
    return


@app.cell(hide_code=True)
def decoding_controls():
    torn = line("torn", "a text")
    mo.vstack([mo.md("## Where it goes wrong\n\n### Decoding one token at a time"), torn])
    return (torn,)


@app.cell(hide_code=True)
def decoding(by, entries, torn):
    _rows = entries[by.value].rows(typed("torn", torn))
    _texts = pitfalls.decodings([row["token"] for row in _rows])
    _lost = sum(charts.is_part(row["token"]) for row in _rows)
    _lines = [
        ["the tokens", _rows],
        ["each decoded, then joined", "".join(_texts["alone"])],
        ["joined, then decoded", _texts["whole"]],
        ["a stream that holds back unfinished characters", " | ".join(_texts["held"]).rstrip(" |")],
    ]
    _told = (
        f"**{_lost} of {len(_rows)} tokens** become U+FFFD, the sign for what is no text, when each is decoded alone."
    )
    mo.vstack([table([], _lines), mo.md(_told)])
    return


@app.cell(hide_code=True)
def ids_controls():
    ids = line("ids", "ids")
    mo.vstack([mo.md("### Ids that no text gives"), ids])
    return (ids,)


@app.cell(hide_code=True)
def any_ids(by, entries, ids):
    _entry = entries[by.value]
    try:
        _ids = [int(part) for part in ids.value.replace(",", " ").split()]
        _rows = _entry.rows(_ids)
    except ValueError as _error:
        mo.stop(True, mo.callout(mo.plain_text(str(_error)), kind="warn"))
    _text = _entry.tokenizer.decode(_ids)
    _again = _entry.rows(_text)
    _told = f"**Other ids come back**, {len(_again)} for {len(_ids)}: "
    if [row["id"] for row in _again] == _ids:
        _told = "The same ids come back."
    elif "\ufffd" in _text:
        _told += (
            "a model may write what no text encodes to, and bytes that are no UTF-8 are lost once they are decoded."
        )
    else:
        _told += "the text has many spellings in tokens, and encoding knows one of them."
    _lines = [["these ids", _rows], ["decoded", charts.plain(_text)], ["encoded again", _again]]
    mo.vstack([table([], _lines), mo.md(_told)])
    return


@app.cell(hide_code=True)
def seen_controls():
    seen = line("seen", "characters")
    mo.vstack([mo.md("### One character to the eye"), seen])
    return (seen,)


@app.cell(hide_code=True)
def one_character(by, entries, seen):
    _entry, _text = entries[by.value], typed("seen", seen)
    _lines = [
        [sign, pitfalls.code_points(sign), len(sign.encode()), _entry.rows(sign)]
        for sign in pitfalls.visible_characters(_text)[:12]
    ]
    _composed, _apart = (_entry.tokenizer.encode(unicodedata.normalize(form, _text)) for form in ("NFC", "NFD"))
    _told = (
        "Composed and decomposed (NFC, NFD) these are the same ids."
        if _composed == _apart
        else f"Composed (NFC) these are **{len(_composed)} tokens**, decomposed (NFD) **{len(_apart)}**. They look the same, "
        "and nothing in a tokenizer of bytes makes them so."
    )
    mo.vstack([table(["seen", "code points", "bytes", "tokens"], _lines), mo.md(_told)])
    return


@app.cell(hide_code=True)
def spaces_and_spellings(by, entries):
    _yes = {True: "yes", False: "no"}
    _spaces = [
        [row["name"], drawn(entries[by.value], f"the{row['sign']}lamp"), _yes[row["pattern"]], _yes[row["python"]]]
        for row in pitfalls.space_rows()
    ]
    _learnt = {_name: _entry for _name, _entry in entries.items() if _name != "Bytes"}
    _texts = [*pitfalls.SPELLINGS, END_OF_TEXT]
    _spelt = [[charts.plain(_s), *(drawn(_entry, _s) for _entry in _learnt.values())] for _s in _texts]
    _about_spaces = mo.md(
        "### White space, or not\n\nPatterns cut at what the regular expression's `\\s` takes for white space, whatever "
        "Python's `str.isspace` or the eye take for it."
    )
    _about_spellings = mo.md(
        "### The same to us, not to the model\n\nThe space before a word belongs to its token, so the same word at the start "
        "of a line is another one. Numbers are cut as the pattern says. Text that spells a special token becomes it."
    )
    _white = _about_spaces.text + charts.token_table(["between the and lamp", "tokens", r"\s", "isspace"], _spaces)
    mo.Html(charts.side_by_side([_white, _about_spellings.text + charts.token_table(["", *_learnt], _spelt)]))
    return


@app.cell(hide_code=True)
def trailing_space(by, entries, learnt):
    _entry = entries[by.value]
    _lines = [
        [charts.plain(prompt), charts.plain(rest), _entry.rows(apart), _entry.rows(prompt + rest)]
        for prompt, rest in (("The girl", " asked"), ("The girl ", "asked"))
        for apart in [[*_entry.tokenizer.encode(prompt), *_entry.tokenizer.encode(rest)]]
    ]
    _told = ""
    if by.value in learnt:
        _source = _entry.tokenizer.encode(learnt[by.value]["source"])
        _joined, _lone = pitfalls.spaces_before_letters(_entry.tokenizer.vocab[token] for token in _source)
        _told = (
            f"In the text that {by.value} learnt from, {_joined:,} tokens are a space with letters behind it, and "
            f"{_lone:,} lone spaces stand before letters. A prompt that ends in a space asks for the rarer thing."
            if _lone < _joined
            else f"{by.value} has hardly learnt words yet: in its text {_lone:,} lone spaces stand before letters, and only "
            f"{_joined:,} tokens are a space with letters behind it."
        )
    _table = table(["prompt", "answer", "encoded apart", "encoded as one text"], _lines)
    mo.vstack([mo.md("### A space at the end of a prompt"), _table, mo.md(_told)])
    return


@app.cell(hide_code=True)
def verdict(entries, learnt, panels, text):
    mo.stop(not text, mo.md("## Verdict\n\nThere is no text to judge: type one above."))
    _counts = {panel["name"]: len(panel["rows"]) for panel in panels}
    _bytes, _best = len(text.encode()), min(_counts, key=_counts.get)
    _each = ", ".join(f"{name} {count:,}" for name, count in _counts.items())
    _lines = [
        f"- Your {len(text):,} characters are {_bytes:,} bytes; in tokens: {_each}. **{_best}** needs the fewest, "
        f"{_bytes / _counts[_best]:.2f} bytes each: a context of 1,024 tokens holds "
        f"{1024 * len(text) / _counts[_best]:,.0f} such characters with it, {1024 * len(text) / _bytes:,.0f} as bytes."
    ]
    for _letter, _of in learnt.items():
        if _of["source"]:
            (_home,) = rates(_of["most"], _of["source"], (entries[_letter].tokenizer.vocab_size,))
            _rate, _here = _home["bytes_per_token"], _bytes / _counts[_letter]
            _lines.append(
                f"- {_letter} packs {_rate:.2f} bytes of its own training text into a token, and {_here:.2f} of yours: "
                f"{abs(1 - _here / _rate):.0%} {'less' if _here < _rate else 'more'}."
            )
    _parts = {panel["name"]: sum(charts.is_part(row["token"]) for row in panel["rows"]) for panel in panels}
    if any(_parts.values()):
        _torn = ", ".join(f"{count:,} of {_counts[name]:,} with {name}" for name, count in _parts.items())
        _lines.append(f"- Tokens that are only part of a character, and would be lost if decoded alone: {_torn}.")
    else:
        _lines.append("- No token cuts a character of yours.")
    _forms = [unicodedata.normalize(form, text) for form in ("NFC", "NFD")]
    if _forms[0] != _forms[1]:
        _composed, _apart = (len(entries[_best].tokenizer.encode(form)) for form in _forms)
        _lines.append(
            f"- With {_best} your text is {_composed:,} tokens composed, {_apart:,} decomposed: it looks the same."
        )
    mo.md("## Verdict\n\n" + "\n".join(_lines))
    return


@app.cell(hide_code=True)
def address(a, b, by, folder, ids, merges_made, own, seen, short, text_area, torn, under, word):
    # The address carries what differs from the defaults, so that a link shows the same page; long texts stay out.
    _values = {"text": text_area, "under": under, "own": own, "short": short, "merges": merges_made, "word": word}
    _values |= {"folder": folder, "by": by, "torn": torn, "ids": ids, "seen": seen}
    _values |= {f"{letter}_{name}": group[name] for letter, group in (("a", a), ("b", b)) for name in group.elements}
    _url = mo.query_params()
    for _name, _control in _values.items():
        _value = str(_control.value)
        if _control.value == DEFAULTS[_name] or len(_value) > LONGEST_IN_ADDRESS:
            if _name in _url.to_dict():
                _url.remove(_name)
        elif _url.get(_name) != _value:
            _url.set(_name, _value)
    return


@app.cell(hide_code=True)
def details(learnt):
    _patterns = "\n".join(f"- {name}: `` {pattern} ``" for name, pattern in PATTERNS.items())
    _rules = (
        "Training: of the pairs that occur most often the greatest by (left bytes, right bytes) is merged. Ids 0 to 255 are "
        f"the bytes, then comes `{END_OF_TEXT}`, then a token a merge. Encoding: of the merges that apply the one learnt "
        "first is made, the leftmost first. `core/tokenizer/` does both, here in plain Python."
    )
    _more = {
        "The rules": mo.md(_rules),
        "The patterns": mo.md(
            f"What may stand in one pre-token; the first alternative that fits is taken.\n\n{_patterns}"
        ),
        **{f"What {letter} learns from": mo.plain_text(of["source"][:30_000]) for letter, of in learnt.items()},
    }
    mo.vstack([mo.md("## Details"), mo.accordion(_more)])
    return


if __name__ == "__main__":
    app.run()
