"""Figures of the tokenizer experiments: what vocabularies make of texts, of files and of models."""

from collections.abc import Sequence

import altair as alt

from core.charts.style import GREY, PALETTE, SEEN_THROUGH, Rows, axis, colours, legend, text, unchecked

COSTS = {
    "model_flop": "training FLOP (non-causal)",
    "read_bytes": "bytes of text read",
    "elapsed_s": "training time (s)",
}
"""What the learning curves of different vocabularies may run against: column and axis title."""

_HEIGHT = 280
_STRONGEST = 0.75


def _sizes(title: str = "vocabulary size (tokens)") -> alt.X:
    """Powers of two."""
    scale = alt.Scale(type="log", base=2, nice=False)
    return alt.X("vocab_size:Q", title=title, axis=axis(format=",", tickCount=6), scale=scale)


def _data(rows: Rows) -> alt.Chart:
    return alt.Chart(alt.Data(values=list(rows)))


def _names(rows: Rows, field: str) -> list[str]:
    return list(dict.fromkeys(row[field] for row in rows))


def _corpora(rows: Rows, field: str) -> alt.Color:
    """A corpus has the same colour in every figure that shows the same corpora."""
    return alt.Color(f"{field}:N", scale=colours(sorted(_names(rows, field))), legend=legend(columns=3))


@unchecked
def vocabulary_chart(rows: Rows, mark: int) -> alt.LayerChart:
    """Bytes per token of one text against the size of vocabularies from several corpora.

    Args:
        rows: `trained_on`, `vocab_size`, `bytes_per_token`, `own` (whether the vocabulary is from the text's corpus).
        mark: A size to draw a rule at.
    """
    y = alt.Y("bytes_per_token:Q", title="bytes per token", axis=axis(format="~g"), scale=alt.Scale(zero=False))
    colour = _corpora(rows, "trained_on")
    width = alt.StrokeWidth("own:N", scale=alt.Scale(domain=[True, False], range=[3.5, 1.5]), legend=None)
    tooltip = [
        alt.Tooltip("trained_on:N", title="vocabulary of"),
        alt.Tooltip("vocab_size:Q", title="vocabulary size", format=","),
        alt.Tooltip("bytes_per_token:Q", title="bytes per token", format=".3f"),
    ]
    lines = _data(rows).mark_line().encode(_sizes(), y, colour, width)
    points = _data(rows).mark_point(filled=True, size=45, opacity=1).encode(_sizes(), y, colour, tooltip=tooltip)
    rule = _data([{"vocab_size": mark}]).mark_rule(color=GREY, strokeDash=[4, 4]).encode(_sizes())
    return alt.layer(rule, lines, points).properties(**SEEN_THROUGH, height=_HEIGHT)


@unchecked
def transfer_chart(rows: Rows) -> alt.LayerChart:
    """What every vocabulary loses or gains on every text, as a matrix; where nothing changes the page is seen.

    Args:
        rows: As `core.experiments.tokenizer_findings.transfer` gives them.
    """
    order = _names(rows, "trained_on")
    cells = [
        row | {"change": -row["loss"], "label": f"{-row['loss']:+.0%}" if abs(row["loss"]) >= 0.005 else "0%"}
        for row in rows
    ]
    x = alt.X("encoded:N", title="text", sort=order, axis=alt.Axis(labelAngle=-30, orient="top"))
    y = alt.Y("trained_on:N", title="vocabulary of", sort=order)
    most = max((abs(row["loss"]) for row in rows), default=0) or 1
    ends = [f"rgba(213,94,0,{_STRONGEST})", "rgba(136,136,136,0.06)", f"rgba(47,143,216,{_STRONGEST})"]
    told = legend(
        title=["bytes per token, against the text's own", "vocabulary: orange is lost, blue is gained"],
        **{
            "orient": "bottom",
            "format": "+.0%",
            "gradientLength": 200,
            "gradientThickness": 10,
            "tickCount": 5,
            "titleLimit": 400,
        },
    )
    colour = alt.Color("change:Q", scale=alt.Scale(domain=[-most, 0, most], range=ends), legend=told)
    tooltip = [
        alt.Tooltip("trained_on:N", title="vocabulary of"),
        alt.Tooltip("vocab_size:Q", title="its size", format=","),
        alt.Tooltip("encoded:N", title="text"),
        alt.Tooltip("bytes_per_token:Q", title="bytes per token", format=".3f"),
        alt.Tooltip("change:Q", title="against its own vocabulary", format="+.1%"),
    ]
    squares = _data(cells).mark_rect().encode(x, y, colour, tooltip=tooltip)
    labels = text(_data(cells), align="center", fontSize=12).encode(x, y, alt.Text("label:N"))
    return (squares + labels).properties(**SEEN_THROUGH, height=44 * max(len(order), 1))


@unchecked
def rank_chart(rows: Rows, slopes: Rows) -> alt.LayerChart:
    """How often pieces occur, by rank, on two logarithmic scales.

    Args:
        rows: `corpus`, `rank`, `relative` (count divided by that of the first rank), `piece` (as text).
        slopes: A line to compare with: `rank`, `relative`.
    """
    x = alt.X("rank:Q", title="rank", axis=axis(), scale=alt.Scale(type="log", nice=False))
    y = alt.Y(
        "relative:Q",
        title="count / count of the most frequent",
        axis=axis(format="~g"),
        scale=alt.Scale(type="log", nice=False),
    )
    colour = _corpora(rows, "corpus")
    tooltip = ["corpus:N", "piece:N", alt.Tooltip("rank:Q", format=","), alt.Tooltip("relative:Q", format=".2e")]
    line = _data(slopes).mark_line(color=GREY, strokeDash=[5, 4]).encode(x, y)
    curves = _data(rows).mark_line(strokeWidth=1.5).encode(x, y, colour)
    points = _data(rows).mark_point(filled=True, size=22, opacity=1).encode(x, y, colour, tooltip=tooltip)
    return alt.layer(line, curves, points).properties(**SEEN_THROUGH, height=_HEIGHT)


@unchecked
def growth_of_vocabulary_chart(rows: Rows) -> alt.LayerChart:
    """Distinct pre-tokens against bytes read, on two logarithmic scales.

    Args:
        rows: `corpus`, `read_bytes`, `distinct_pre_tokens`.
    """
    x = alt.X("read_bytes:Q", title="bytes of text read", axis=axis(), scale=alt.Scale(type="log", nice=False))
    y = alt.Y("distinct_pre_tokens:Q", title="distinct pre-tokens", axis=axis(), scale=alt.Scale(type="log"))
    colour = _corpora(rows, "corpus")
    tooltip = [
        "corpus:N",
        alt.Tooltip("read_bytes:Q", title="bytes read", format=","),
        alt.Tooltip("distinct_pre_tokens:Q", title="distinct pre-tokens", format=","),
    ]
    lines = _data(rows).mark_line(strokeWidth=1.5).encode(x, y, colour)
    points = _data(rows).mark_point(filled=True, size=22, opacity=1).encode(x, y, colour, tooltip=tooltip)
    return (lines + points).properties(**SEEN_THROUGH, height=_HEIGHT)


@unchecked
def used_chart(rows: Rows) -> alt.LayerChart:
    """Share of a vocabulary that occurs in a text.

    Args:
        rows: `text`, `kind` (a kind of line each), `vocab_size`, `used_share`.
    """
    y = alt.Y("used_share:Q", title="share of the vocabulary that occurs", axis=axis(format="%"))
    colour = _corpora(rows, "text")
    kinds = _names(rows, "kind")
    dash = alt.StrokeDash(
        "kind:N",
        scale=alt.Scale(domain=kinds, range=[[1, 0], [5, 4]][: len(kinds)]),
        legend=legend(symbolStrokeColor=GREY, orient="bottom"),
    )
    tooltip = [
        "text:N",
        alt.Tooltip("kind:N", title="part"),
        alt.Tooltip("vocab_size:Q", title="vocabulary size", format=","),
        alt.Tooltip("used_share:Q", title="of it occurs", format=".1%"),
    ]
    lines = _data(rows).mark_line(strokeWidth=1.5).encode(_sizes(), y, colour, dash)
    points = _data(rows).mark_point(filled=True, size=30, opacity=1).encode(_sizes(), y, colour, tooltip=tooltip)
    return (lines + points).properties(**SEEN_THROUGH, height=_HEIGHT)


@unchecked
def bits_chart(rows: Rows, x: str, floor: float | None, models: Sequence[str]) -> alt.LayerChart:
    """Learning curves in bits per byte, a line for each run, a colour for each vocabulary.

    Args:
        rows: As `core.experiments.tokenizer_findings.learning_rows` gives them.
        x: One of `COSTS`.
        floor: Of the corpus, in bits per byte; no line if None.
        models: Their names in the order of the legend.

    Raises:
        ValueError: If `x` is none of these.
    """
    if x not in COSTS:
        raise ValueError(f"x is {x!r}: one of {', '.join(COSTS)}")
    across = alt.X(f"{x}:Q", title=COSTS[x], axis=axis())
    y = alt.Y(
        "bits_per_byte:Q",
        title="evaluation loss (bits per byte)",
        axis=axis(format="~g", tickCount=8),
        scale=alt.Scale(type="log", nice=False, padding=12),
    )
    colour = alt.Color("model:N", scale=colours(models), legend=legend(labelLimit=260, columns=1))
    tooltip = [
        "run_id:N",
        "model:N",
        alt.Tooltip("step:Q", format=","),
        alt.Tooltip(f"{x}:Q", title=COSTS[x], format=".4~s"),
        alt.Tooltip("bits_per_byte:Q", title="bits per byte", format=".4f"),
    ]
    lines = _data(rows).mark_line(strokeWidth=1.6).encode(across, y, colour, alt.Detail("run_id:N"))
    points = _data(rows).mark_point(filled=True, size=35, opacity=1).encode(across, y, colour, tooltip=tooltip)
    layers = [lines, points]
    if floor is not None:
        bottom = [{"bits_per_byte": floor, "label": "entropy floor of the corpus"}]
        layers.append(_data(bottom).mark_rule(color=GREY, strokeDash=[6, 4]).encode(y))
        layers.append(
            text(_data(bottom), baseline="bottom", dx=6, dy=-4).encode(y, alt.Text("label:N"), x=alt.value(0))
        )
    return alt.layer(*layers).properties(**SEEN_THROUGH, height=320)


@unchecked
def speed_chart(rows: Rows, per_call: bool = False) -> alt.LayerChart:
    """Bytes per second of several engines, or the time of a call: the median, and the range of the repeats.

    Args:
        rows: As `core.experiments.tokenizer_findings.speeds` gives them.
        per_call: Time per call, as for short strings.
    """
    order = _names(rows, "engine")
    kind, title, unit = (
        ("us", "microseconds per call", "µs") if per_call else ("rate", "bytes of text per second", "B/s")
    )
    shown = axis(format="~g") if per_call else axis()
    across = {"title": title, "axis": shown, "scale": alt.Scale(type="log", nice=True)}
    y = alt.Y("engine:N", title=None, sort=order)
    chosen = colours(order, {"ours": PALETTE[0], "ours-reference": PALETTE[6]})
    colour = alt.Color("engine:N", scale=chosen, legend=None)
    tooltip = [
        "engine:N",
        *(
            alt.Tooltip(f"{of}_{kind}:Q", title=f"{of}, {unit}", format=".3~s")
            for of in ("median", "lowest", "highest")
        ),
        alt.Tooltip("repeats:Q", title="repeats"),
    ]
    ranges = (
        _data(rows)
        .mark_bar(height=10, opacity=0.45, cornerRadius=3)
        .encode(alt.X(f"lowest_{kind}:Q", **across), y, colour, x2=f"highest_{kind}:Q")
    )
    median = alt.X(f"median_{kind}:Q", **across)
    points = _data(rows).mark_point(filled=True, size=90, opacity=1).encode(median, y, colour, tooltip=tooltip)
    return (ranges + points).properties(**SEEN_THROUGH, height=36 * max(len(order), 1) + 20)


@unchecked
def file_size_chart(rows: Rows, largest: int = 1 << 16) -> alt.LayerChart:
    """The size of a token file, as a share of its text's, by the type of its integers.

    Args:
        rows: As `core.experiments.tokenizer_findings.file_sizes` gives them.
        largest: The most ids that the smaller type has: a rule is drawn there.
    """
    names = _names(rows, "dtype")
    y = alt.Y(
        "file_share:Q",
        title="size of the token file / of the text",
        axis=axis(format=".0%"),
        scale=alt.Scale(type="log", base=2, nice=False, padding=8),
    )
    chosen = colours(names, {"uint16": PALETTE[0], "uint32": PALETTE[4], "fewest bits": PALETTE[6]})
    colour = alt.Color("dtype:N", scale=chosen, legend=legend(columns=3))
    tooltip = [
        "dtype:N",
        alt.Tooltip("bits:Q", title="bits an id"),
        alt.Tooltip("vocab_size:Q", title="vocabulary size", format=","),
        alt.Tooltip("file_share:Q", title="of the text's size", format=".1%"),
    ]
    rule = _data([{"vocab_size": largest}]).mark_rule(color=GREY, strokeDash=[4, 4]).encode(_sizes())
    lines = _data(rows).mark_line(strokeWidth=2).encode(_sizes(), y, colour)
    points = _data(rows).mark_point(filled=True, size=45, opacity=1).encode(_sizes(), y, colour, tooltip=tooltip)
    return alt.layer(rule, lines, points).properties(**SEEN_THROUGH, height=_HEIGHT)
