import marimo

__generated_with = "0.25.2"
app = marimo.App(width="medium", app_title="Tokenizer experiments")

with app.setup:
    import json
    from pathlib import Path

    import marimo as mo
    import polars as pl

    from core import charts, results
    from core.accounting.text import bytes_text, count, duration
    from core.charts.chips import plain
    from core.experiments import tokenizer_findings as findings

    STUDY = "workbook tokenizer study NAME=PATH NAME=PATH ..."
    WORKS = {
        **{"encode_cold": "encoding, cold", "encode_warm": "encoding, warm", "train": "training"},
        **{"decode": "decoding to text", "decode_bytes": "decoding to bytes"},
        **{f"short_{length}": f"strings of {length:,} characters" for length in (50, 200, 1000)},
    }
    PIECES = {"tokens": "tokens of its own vocabulary", "pre-tokens": "pre-tokens"}
    RUNS = (
        "workbook data stories --name tok-512 --vocab-size 512 && "
        "workbook train quickstart name=tok-512 data.dataset=tok-512 model.vocab_size=512"
    )

    def section(heading, *parts):
        """A heading and what stands under it."""
        return mo.vstack([mo.md(f"## {heading}"), *parts])

    def missing(what, command):
        """What is shown in the place of a figure whose rows are not there yet."""
        return mo.callout(mo.md(f"No {what} yet. This makes it: `{command}`"), kind="warn")

    def table(rows, **formats):
        """Rows with their formats, at most as wide as the page."""
        lines = [[formats.get(name, str)(value) for name, value in row.items()] for row in rows]
        return mo.Html(charts.token_table(list(rows[0]), lines))

    def said(*lines):
        """Short statements, one a line; empty ones are left out."""
        return mo.md("\n".join(f"- {line}" for line in lines if line))

    def choice(name, titles, default, label):
        """A choice of keys by their titles, or of names; the address holds the key."""
        titles = titles if isinstance(titles, dict) else {key: key for key in titles}
        asked = mo.query_params().to_dict().get(name)
        shown = titles.get(asked if asked in titles else default)
        options = {title: key for key, title in titles.items()}
        return mo.ui.dropdown(options, value=shown, label=label, full_width=name == "bench")


@app.cell(hide_code=True)
def title():
    mo.md("""
    # What does a vocabulary buy, and where?

    Byte-pair encoding makes a text shorter by making the model's dictionary larger. How much shorter depends on what the
    vocabulary was learnt from. Choose a text and a size: everything below is computed from the rows in `results/`, and
    compression is always that of text which no vocabulary has seen.
    """)
    return


@app.cell(hide_code=True)
def inputs_results():
    # `marimo run notebooks -- --results DIR` looks elsewhere
    results_dir = Path(mo.cli_args().get("results") or mo.notebook_dir().parent / "results")
    return (results_dir,)


@app.cell(hide_code=True)
def load(results_dir):
    _names = ("tokenizer_compression", "tokenizer_frequency", "tokenizer_growth", "tokenizer_speed", "runs", "steps")
    _read = [results.read_table(results_dir, name) for name in _names]
    compression, frequency, growth, speed, _runs, _steps = (rows for rows, _ in _read)
    _named = pl.col("name").str.starts_with(findings.RUN_PREFIX) & pl.col("eval_bits_per_byte").is_finite()
    runs = _runs.filter(_named).to_dicts()
    curves = findings.learning_rows(
        runs, _steps.filter(pl.col("run_id").is_in([run["run_id"] for run in runs])).to_dicts()
    )
    _problems = "\n".join(f"- `{line}`" for _, lines in _read for line in lines)
    mo.callout(mo.md(f"Some result files could not be read:\n\n{_problems}"), kind="danger") if _problems else None
    return compression, curves, frequency, growth, runs, speed


@app.cell(hide_code=True)
def controls(compression, speed):
    studies = findings.studies(compression.to_dicts())
    _works = {work: shown for work, shown in WORKS.items() if work in set(speed["work"])}
    options = mo.ui.dictionary(
        {
            "study": choice("study", list(studies), next(iter(studies), None), "study"),
            "pieces": choice("pieces", PIECES, "tokens", "count"),
            "cost": choice("cost", charts.COSTS, "model_flop", "against"),
            "work": choice("work", _works, next(iter(_works), None), "work"),
        }
    )
    return options, studies


@app.cell(hide_code=True)
def study_controls(compression, options, studies):
    # in a cell of their own: another study has other texts and sizes
    _study = options.value["study"]
    _texts = studies.get(_study, [])
    _of = compression.filter(pl.col("study_id") == (_study or ""))
    _sizes = sorted(size for size in set(_of["vocab_size"]) if size.bit_count() == 1) or [256]
    _asked = str(mo.query_params().to_dict().get("size", ""))
    _size = int(_asked) if _asked.isdecimal() else 4096
    _size = _size if _size in _sizes else _sizes[len(_sizes) // 2]
    _first = "english" if "english" in _texts else next(iter(_texts), None)
    of_study = mo.ui.dictionary(
        {
            "text": choice("text", _texts, _first, "text"),
            "size": mo.ui.slider(steps=_sizes, value=_size, label="vocabulary size", show_value=True),
        }
    )
    mo.hstack([options["study"], *of_study.elements.values()], wrap=True, justify="start", gap=2)
    return (of_study,)


@app.cell(hide_code=True)
def work_controls(options, speed):
    measured = findings.measurements(speed.to_dicts(), options.value["work"])
    bench = choice("bench", list(measured), next(iter(measured), None), "measurement")
    return bench, measured


@app.cell(hide_code=True)
def chosen(bench, compression, of_study, options):
    text, size = of_study.value["text"], of_study.value["size"]
    in_study = pl.col("study_id") == (options.value["study"] or "")
    rows = findings.bytes_per_token(compression.filter(in_study).sort("vocab_size").to_dicts())
    held_out = [row for row in rows if row["part"] == "held-out"]
    _url = mo.query_params()
    for _name, _value in (options.value | of_study.value | {"bench": bench.value}).items():
        if _value is not None and _url.get(_name) != str(_value):
            _url.set(_name, str(_value))
    return held_out, in_study, rows, size, text


@app.cell(hide_code=True)
def compression_figure(held_out, rows, size, text):
    _lines = [row | {"own": row["trained_on"] == text} for row in held_out if row["encoded"] == text]
    mo.stop(not _lines, section("Bytes per token", missing("measurement of compression", STUDY)))
    vocabulary_chart = charts.vocabulary_chart(_lines, size)
    _at = {row["trained_on"]: row for row in _lines if row["vocab_size"] <= size}
    _best = max(_at.values(), key=lambda row: row["bytes_per_token"])
    _told = [
        f"The thick line is the vocabulary learnt from *{text}* itself." if text in _at else "",
        f"At {size:,} tokens the vocabulary of **{_best['trained_on']}** is best: **{_best['bytes_per_token']:.2f} bytes** of "
        f"*{text}* in a token.",
    ]
    _seen = [row for row in rows if row["part"] == "training" and row["encoded"] == text and row["vocab_size"] <= size]
    if text in _at and _seen:
        _here, _there = _at[text]["bytes_per_token"], _seen[-1]["bytes_per_token"]
        _told.append(
            f"Its own vocabulary was learnt from {count(_at[text]['train_bytes'], 'B')}, and packs {_there:.2f} bytes of that text "
            f"into a token. Of text it has not seen: {_here:.2f}. "
            + ("The difference is flattery." if _there > _here else "So it does as well on unseen text.")
        )
    _own = [row for row in _lines if row["own"] and row["vocab_size"].bit_count() == 1]
    if len(_own) > 2:
        _first, _doubled = (b["bytes_per_token"] / a["bytes_per_token"] - 1 for a, b in (_own[:2], _own[-2:]))
        _told.append(
            f"Its own tokens grow {_first:.1%} longer from {_own[0]['vocab_size']:,} to {_own[1]['vocab_size']:,}, and "
            f"{_doubled:.1%} from {_own[-2]['vocab_size']:,} to {_own[-1]['vocab_size']:,}."
        )
    _last = {row["trained_on"]: row["vocab_size"] for row in _lines}
    _ended = [f"*{name}* at {last:,}" for name, last in _last.items() if last.bit_count() != 1]
    if _ended:
        _told.append(f"Lines that end early had no pair left, every word being one token: {', '.join(_ended)}.")
    section("Bytes per token", vocabulary_chart, said(*_told))
    return (vocabulary_chart,)


@app.cell(hide_code=True)
def transfer_figure(held_out, size):
    losses = findings.transfer(held_out, size)
    _foreign = [row for row in losses if row["trained_on"] != row["encoded"]]
    mo.stop(not _foreign)
    transfer_chart = charts.transfer_chart(losses)
    _worst, _least = (pick(_foreign, key=lambda row: row["loss"]) for pick in (max, min))
    _told = (
        f"A foreign vocabulary of {size:,} tokens costs {sum(row['loss'] for row in _foreign) / len(_foreign):.0%} of the "
        f"bytes per token in the mean of {len(_foreign)} pairs; the worst is *{_worst['trained_on']}* on "
        f"*{_worst['encoded']}*, {_worst['loss']:.0%}, the best *{_least['trained_on']}* on *{_least['encoded']}*, "
        f"{_least['loss']:.0%}. "
    )
    if _least["loss"] < 0:
        _told += (
            "It even **gains**: a foreign vocabulary learnt from much text can beat the own one learnt from little. "
        )
    _taught = {row["trained_on"]: row["train_bytes"] for row in held_out}
    if max(_taught.values()) > 2 * min(_taught.values()):
        _told += (
            f"The corpora differ in size ({', '.join(f'{name} ' + count(taught, 'B') for name, taught in _taught.items())}): "
            "choose a study with equal sizes, where there is one, to see content alone."
        )
    _about = mo.md("How the bytes per token change when a text is cut by the vocabulary of another corpus.")
    section("In its domain and out of it", _about, transfer_chart, mo.md(_told))
    return losses, transfer_chart


@app.cell(hide_code=True)
def longest_tokens(frequency, in_study, size):
    _of = findings.own_size(frequency.filter(in_study, pl.col("kind") == "longest").to_dicts(), size)
    mo.stop(not _of)
    _lines = [
        [f"{name}, {rows[0]['vocab_size']:,}", [{"id": f"{row['count']:,}", "token": row["piece"]} for row in rows]]
        for name, rows in _of.items()
    ]
    _all = [row["count"] for rows in _of.values() for row in rows]
    _unused = f"{_all.count(0)} never occur: they only led to longer ones" if 0 in _all else "all occur"
    section(
        "The longest tokens",
        mo.Html(charts.token_table(["vocabulary", "its longest tokens, and how often each occurs"], _lines)),
        mo.md(f"Long tokens tell what a corpus is made of. Of these {len(_all)}, in their own corpus, {_unused}."),
    )
    return


@app.cell(hide_code=True)
def used_figure(rows):
    _own = [
        row | {"text": row["encoded"], "kind": f"{row['part']} text"}
        for row in rows
        if row["trained_on"] == row["encoded"]
    ]
    mo.stop(not _own)
    used_chart = charts.used_chart(_own)
    _last = {(row["part"], row["text"]): row for row in _own}.values()
    _least, _seen = (
        min((row for row in _last if row["part"] == part), key=lambda row: row["used_share"])
        for part in ("held-out", "training")
    )
    section(
        "Tokens that never occur",
        used_chart,
        mo.md(
            "Each row of an embedding table is paid for, used or not. A short text cannot use a large vocabulary: the held-out "
            f"{count(_least['text_bytes'], 'B')} of *{_least['text']}* use {_least['used_share']:.0%} of its "
            f"{_least['vocab_size']:,} tokens. The text that taught a vocabulary leaves some unused too: *{_seen['text']}* uses "
            f"{_seen['used_share']:.0%} of {_seen['vocab_size']:,}. The rest are bytes that never come up, and tokens that "
            "only led to longer ones."
        ),
    )
    return (used_chart,)


@app.cell(hide_code=True)
def zipf_figure(frequency, in_study, options, size):
    _size = None if options.value["pieces"] == "pre-tokens" else size
    _ranks = frequency.filter(in_study, pl.col("kind") == "rank").to_dicts()
    _of = findings.own_size(_ranks, _size)
    mo.stop(not _of)
    _points = [
        {"corpus": name, "rank": row["rank"], "relative": row["count"] / rows[0]["count"]}
        | {"piece": plain(row["piece"].decode(errors="replace"))}
        for name, rows in _of.items()
        for row in rows
    ]
    _end = max(row["rank"] for row in _points)
    zipf_chart = charts.rank_chart(_points, [{"rank": rank, "relative": 1 / rank} for rank in (1, _end)])
    _slopes = [
        {name: findings.zipf_exponent(rows) for name, rows in findings.own_size(_ranks, which).items()}
        for which in (size, None)
    ]
    _both = {name: (slope, _slopes[1].get(name)) for name, slope in _slopes[0].items()}
    _both = {name: pair for name, pair in _both.items() if None not in pair}
    _flatter = [name for name, (tokens, words) in _both.items() if tokens > words]
    section(
        "Few pieces do most of the work",
        options["pieces"],
        zipf_chart,
        mo.md(
            "Counted over each whole corpus. Dashed: Zipf's law, a slope of -1. Slopes from rank 10 to 1,000, of tokens and "
            f"of pre-tokens: {', '.join(f'*{name}* {a:.2f} and {b:.2f}' for name, (a, b) in _both.items())}. Merging takes "
            f"from the commonest pieces: tokens fall less steeply in {', '.join(_flatter) or 'none of these'}. The cliff at "
            "the end of the tokens is those that only led to longer ones."
        ),
    )
    return (zipf_chart,)


@app.cell(hide_code=True)
def heaps_figure(growth, in_study):
    _rows = growth.filter(in_study).sort("read_bytes").to_dicts()
    mo.stop(not _rows)
    heaps_chart = charts.growth_of_vocabulary_chart(_rows)
    _told = []
    for _name in dict.fromkeys(row["corpus"] for row in _rows):
        _of = [row for row in _rows if row["corpus"] == _name]
        _exponent = findings.heaps_exponent(_of)
        if _exponent is not None:
            _told.append(
                f"*{_name}* {_exponent:.2f} ({_of[-1]['distinct_pre_tokens']:,} in {count(_of[-1]['read_bytes'], 'B')})"
            )
    section(
        "New words keep coming",
        heaps_chart,
        mo.md(
            "Heaps' law: distinct pre-tokens grow as a power of the text. Exponents over the last factor of 16: "
            f"{', '.join(_told)}. Near 0 a corpus has shown all its words and a tokenizer's cache holds them; the larger "
            "the exponent, the more of the work was never done before."
        ),
    )
    return (heaps_chart,)


@app.cell(hide_code=True)
def models_figure(curves, options, runs):
    _heading = "Bytes or tokens for the same model"
    mo.stop(not curves, section(_heading, missing(f"run whose name begins with `{findings.RUN_PREFIX}`", RUNS)))
    models = findings.model_rows(runs, curves)
    floor = findings.floor_bits_per_byte(runs)
    bits_chart = charts.bits_chart(curves, options.value["cost"], floor, [row["model"] for row in models])
    _bytes = {run["eval_bytes"] for run in runs}
    _rates = sorted({json.loads(run["config_json"])["optimizer"]["lr"] for run in runs})
    _flop = [row["model_flop"] for row in models]
    _spread = max(_flop) / min(_flop) - 1
    _about = (
        f"{len(runs)} runs of one architecture on the built-in stories. Only embedding and output grow with the vocabulary. "
        + (
            f"All got **the same training FLOP**, within {_spread:.1%}. "
            if _spread < 0.02
            else "**Their FLOP differ.** "
        )
        + (
            "All are judged "
            + (f"on the same {_bytes.pop():,} bytes. " if len(_bytes) == 1 else "**on different texts**. ")
        )
        + "Lines of one colour are the same model with different seeds. "
        f"Peak learning rate: {', '.join(f'{rate:g}' for rate in _rates)}, tuned for none of them."
    )
    _listed = [
        {
            "model": row["model"],
            "bits/byte": f"{row['mean']:.4f}",
            "seeds": f"{row['least']:.4f}–{row['most']:.4f} (n = {row['runs']})",
            "text read": count(row["read_bytes"], "B"),
            "parameters": f"{row['parameters']:,}",
        }
        for row in models
    ]
    section(_heading, mo.md(_about), options["cost"], bits_chart, table(_listed))
    return bits_chart, floor, models


@app.cell(hide_code=True)
def models_verdict(curves, floor, models):
    _best, _bytes = models[0], next((row for row in models if row["model"].startswith("bytes")), models[0])
    _above = f", {_best['mean'] - floor:.4f} above the floor of {floor:.4f}" if floor is not None else ""
    _told = [f"**{_best['model']}** is best at this budget: {_best['mean']:.4f} bits per byte{_above}."]
    if _bytes is not _best:
        _told.append(
            f"*{_bytes['model']}* ends at {_bytes['mean']:.4f}, {_bytes['mean'] / _best['mean']:.1f} times as many. "
            + ("The seeds do not overlap." if _best["most"] < _bytes["least"] else "**But the seeds overlap.**")
        )
        _there = findings.bits_at(curves, _best["model"], _bytes["read_bytes"])
        if _there is not None:
            _told.append(
                f"Is it only that bytes take longer to read? *{_bytes['model']}* read {count(_bytes['read_bytes'], 'B')}. After as "
                f"much text the best stood at {_there:.4f}, early in its training. "
                + ("So tokens do more than save computing." if _there < _bytes["mean"] else "So it is that, here.")
            )
    for _row in models:
        if _row["model"].startswith("bytes") and _row is not _bytes:
            _there = findings.bits_at(curves, _bytes["model"], _row["read_bytes"])
            _after = f" After as much, *{_bytes['model']}* stood at {_there:.4f}." if _there is not None else ""
            _told.append(
                f"*{_row['model']}* ends at {_row['mean']:.4f}. With its budget it read {count(_row['read_bytes'], 'B')}.{_after}"
            )
    _seeds = " or ".join(str(seeds) for seeds in sorted({row["runs"] for row in models}))
    _told.append(
        f"{_seeds} seed{'s' * (_seeds != '1')} each: enough for wide gaps, not for small ones. The stories have few words, so a "
        "small vocabulary holds them whole. Real text may judge otherwise."
    )
    mo.vstack([mo.md("### Verdict"), said(*_told)])
    return


@app.cell(hide_code=True)
def speed_figure(bench, measured, options):
    _heading = "How fast, and how long for the Pile"
    mo.stop(not measured, section(_heading, missing("measurement of speed", "workbook bench tokenizer")))
    _case = measured[bench.value][-1]
    engines = findings.speeds(measured[bench.value])
    _short, _pile = (_case["work"].startswith(kind) for kind in ("short", ("encode", "train")))
    speed_chart = charts.speed_chart(engines, per_call=_short)
    _told = [
        f"{WORKS[_case['work']].capitalize()}: {_case['corpus']} ({count(_case['corpus_bytes'], 'B')}), {_case['vocab_size']:,} "
        f"tokens, {_case['num_threads']} threads on {_case['device_name']}."
    ]
    if len(engines) > 1:
        _told.append(
            "Points are medians, bars the range of the repeats. Ratios are of repeats that followed each other."
        )
    for _row in engines if _pile else []:
        if _row["engine"] == "ours":
            _told.append(
                f"At our rate the Pile (825 GB) takes **{duration(_row['pile_s'])}** on one such machine; "
                f"{findings.machines_for_a_day(_row['pile_s'])} would do it within a day."
            )
    if _pile and findings.is_short(_case):
        _told.append(
            "**This text is short**: starting up takes its share of the time, which the Pile would not notice."
        )
    _table = table(findings.speed_table(engines, per_call=_short, pile=_pile))
    section(_heading, options["work"], bench, speed_chart, _table, said(*_told))
    return engines, speed_chart


@app.cell(hide_code=True)
def dtype_figure(held_out, text):
    _files = findings.file_sizes([row for row in held_out if row["trained_on"] == row["encoded"] == text])
    mo.stop(not _files)
    file_size_chart = charts.file_size_chart(_files)
    _short, _long, _packed = (
        min((row for row in _files if row["dtype"] == dtype), key=lambda row: row["file_share"])
        for dtype in ("uint16", "uint32", "fewest bits")
    )
    _disc = [bytes_text(row["file_share"] * findings.PILE_BYTES) for row in (_short, _long)]
    section(
        "Why uint16",
        file_size_chart,
        mo.md(
            f"Two bytes hold {1 << 16:,} ids. The end marker takes one, so {(1 << 16) - 1:,} bytes and merges are the most "
            f"that fit (dashed); beyond, every id takes four bytes. On *{text}* uint16 is smallest at "
            f"{_short['vocab_size']:,} tokens, {_short['file_share']:.0%} of the text; uint32 gets no lower than "
            f"{_long['file_share']:.0%}, at {_long['vocab_size']:,}. Did the Pile compress alike, it would take {_disc[0]} "
            f"against {_disc[1]} on disc. Packing each id into as few bits as it needs gets to {_packed['file_share']:.0%} "
            f"({_packed['bits']} bits, {_packed['vocab_size']:,} tokens), but is no array to map into memory."
        ),
    )
    return (file_size_chart,)


@app.cell(hide_code=True)
def details(compression, held_out, in_study, losses, runs, speed):
    mo.stop(not held_out)
    _made = [
        *((f"study {row['study_id']}", row, "exact counts") for row in compression.filter(in_study).to_dicts()[:1]),
        *((run["run_id"], run, f"{run['device_name']}, `{findings.overrides(run['config_json'])}`") for run in runs),
        *((row["bench_id"], row, row["device_name"]) for row in speed.unique("bench_id").to_dicts()),
    ]
    _own = compression.filter(in_study, pl.col("trained_on") == pl.col("encoded")).unique(["encoded", "part"])
    _texts = _own.sort("encoded", "part").select("encoded", "part", "text_bytes", "text_sha256").to_dicts()
    mo.accordion(
        {
            "What is measured, and how": mo.md(
                r"""
    - bytes per token: $\sum_w n_w\,|w| \,/\, \sum_w n_w\,t_w$ over the distinct pre-tokens $w$ of GPT-2's pattern, which occur
      $n_w$ times, are $|w|$ bytes long and become $t_w$ tokens; document markers are left out on both sides;
    - vocabulary size: the 256 bytes and the merges, without the marker;
    - held-out text: a tenth of each corpus, every tenth document, or the end of the text where there are few;
    - smaller vocabularies: the first merges of the largest one, which is what training for the smaller size gives;
    - bits per byte: the loss in nats per token, times tokens, over bytes and $\ln 2$: comparable across vocabularies;
    - training FLOP: three times the forward matrix products, all $T \times T$ attention scores counted (non-causal).
    """
            ),
            "The matrix in numbers": table(losses, bytes_per_token="{:.3f}".format, loss="{:.2%}".format),
            "The texts": table(_texts, text_bytes="{:,}".format),
            "Where the rows come from": mo.md(
                "\n".join(f"- {name}: `{row['git_commit']}`, {row['utc']}, {where}" for name, row, where in _made)
            ),
        }
    )
    return


if __name__ == "__main__":
    app.run()
