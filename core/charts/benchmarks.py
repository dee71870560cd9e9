"""Figures of benchmark grids: what machines deliver, how it scales, which is faster."""

import altair as alt

from core.charts.style import GREY, PALETTE, SEEN_THROUGH, Rows, axis, colours, legend, unchecked

GAINS = {
    "tokens_per_s": "tokens per second",
    "tokens_per_s_per_gib": "tokens per second and GiB",
    "flop_per_s": "FLOP/s of matrix products (non-causal)",
}
"""What more is better of: column and axis title."""

SCALED = {
    "tokens_per_s": "tokens per second",
    "median_s": "seconds",
    "flop_per_s": "FLOP/s of matrix products (non-causal)",
    "used_bytes": "memory at the peak (bytes)",
}
"""What may be drawn along an axis."""

_RED = "#D55E00"


def data(rows: Rows) -> alt.Chart:
    """A chart of rows; inline data is hashed, so that layers share it. Lists (every round's time) are not drawn."""
    drawn = tuple({name: value for name, value in row.items() if not isinstance(value, list)} for row in rows)
    return alt.Chart(alt.InlineData(values=drawn))


def logarithmic(field: str, title: str, channel: type[alt.X] | type[alt.Y], **options: object) -> alt.X | alt.Y:
    """A field on a logarithmic axis."""
    scale = alt.Scale(type="log", nice=False, padding=14)
    return channel(f"{field}:Q", title=title, axis=axis(**{"gridOpacity": 0.15} | options), scale=scale)


def _machines(rows: Rows) -> alt.Color:
    """A machine has the same colour in every figure that shows the same machines."""
    names = sorted({row["machine"] for row in rows})
    return alt.Color("machine:N", scale=colours(names), legend=legend(columns=1, labelLimit=320))


def _about(*more: alt.Tooltip) -> list[str | alt.Tooltip]:
    seconds = alt.Tooltip("median_s:Q", title="median (s)", format=".4~g")
    return ["label:N", "machine:N", "source:N", *more, seconds]


@unchecked
def pareto_chart(rows: Rows, frontier: Rows, gain: str = "tokens_per_s", picked: Rows = ()) -> alt.LayerChart:
    """Throughput against memory, and the frontier: the points that none of the same machine beats in both.

    Args:
        rows: With `label`, `machine`, `source`, `median_s`, `used_bytes`, `used` and the gain.
        frontier: Those of them that `core.benchmarks.pareto` found.
        gain: One of `GAINS`.
        picked: Rows to ring.

    A rectangle can be drawn over the points: the selection `brush`.

    Raises:
        ValueError: For another gain.
    """
    if gain not in GAINS:
        raise ValueError(f"gain is {gain!r}: one of {', '.join(GAINS)}")
    x = logarithmic("used_bytes", "memory at the peak (bytes)", alt.X)
    y = logarithmic(gain, GAINS[gain], alt.Y)
    colour = _machines(rows)
    tooltip = _about(
        alt.Tooltip("used_bytes:Q", title="memory at the peak (bytes)", format=".3~s"),
        alt.Tooltip("used:N", title="memory is"),
        alt.Tooltip(f"{gain}:Q", title=GAINS[gain], format=".4~s"),
    )
    layers = [
        data(rows)
        .mark_point(filled=True, size=40, opacity=0.65)
        .encode(x, y, colour, tooltip=tooltip)
        .add_params(alt.selection_interval(name="brush")),
        # The best for up to so much memory stays the best until the next point.
        data(frontier).mark_line(interpolate="step-after", strokeWidth=1.5).encode(x, y, colour),
        data(frontier)
        .mark_point(filled=True, size=85, opacity=1, stroke=GREY, strokeWidth=1)
        .encode(x, y, colour, tooltip=tooltip),
    ]
    if picked:
        ring = data(picked).mark_point(filled=False, size=230, strokeWidth=2, stroke=_RED, opacity=1)
        layers.append(ring.encode(x, y, tooltip=tooltip))
    return alt.layer(*layers).properties(**SEEN_THROUGH, height=340)


@unchecked
def scaling_chart(rows: Rows, title: str, quantity: str = "tokens_per_s") -> alt.LayerChart:
    """A quantity along one axis; a line joins configurations that are equal in all else.

    Args:
        rows: As `core.benchmarks.scaling_groups` gives them: `x`, `group`, `machine`, and for the bars `median_s` with
            `iqr_s`, and `low_tokens_per_s` with `high_tokens_per_s`; rows without a spread have no bar.
        title: Of the axis.
        quantity: One of `SCALED`.

    Raises:
        ValueError: For another quantity.
    """
    if quantity not in SCALED:
        raise ValueError(f"quantity is {quantity!r}: one of {', '.join(SCALED)}")
    x = logarithmic("x", title, alt.X, format="~s")
    y = logarithmic(quantity, SCALED[quantity], alt.Y)
    colour = _machines(rows)
    tooltip = [
        alt.Tooltip("x:Q", title=title, format=","),
        alt.Tooltip(f"{quantity}:Q", title=SCALED[quantity], format=".4~s"),
        alt.Tooltip("group:N", title="in common"),
        "source:N",
    ]
    lines = data(rows).mark_line(strokeWidth=1.2, opacity=0.6)
    layers = [lines.encode(x, y, colour, detail=["group:N", "source:N"])]
    if bars := _bars(rows, quantity):
        rule = data(bars).mark_rule(strokeWidth=2, opacity=0.8)
        layers.append(rule.encode(x, alt.Y("low:Q", title=SCALED[quantity]), alt.Y2("high:Q"), colour))
    points = data(rows).mark_point(filled=True, size=45, opacity=0.9)
    layers.append(points.encode(x, y, colour, tooltip=tooltip))
    return alt.layer(*layers).properties(**SEEN_THROUGH, height=320)


@unchecked
def pairs_chart(rows: Rows, one: str, other: str) -> alt.LayerChart:
    """The same configurations in two ways; above the diagonal the second is slower.

    Args:
        rows: As `core.benchmarks.compare` gives them.
        one: What the first way is called.
        other: The second.
    """
    x = logarithmic("one_s", f"{one} (s)", alt.X)
    y = logarithmic("other_s", f"{other} (s)", alt.Y)
    times = [row[name] for row in rows for name in ("one_s", "other_s")]
    ends = (min(times), max(times))
    line = data([{"one_s": end, "other_s": end} for end in ends]).mark_line(color=GREY, strokeDash=[5, 4])
    points = data(rows).mark_point(filled=True, size=55, opacity=0.75, color=PALETTE[0])
    tooltip = [
        "label:N",
        "phase:N",
        alt.Tooltip("one_s:Q", title=f"{one} (s)", format=".4~g"),
        alt.Tooltip("other_s:Q", title=f"{other} (s)", format=".4~g"),
        alt.Tooltip("times:Q", title="first / second", format=".3~g"),
    ]
    return alt.layer(line.encode(x, y), points.encode(x, y, tooltip=tooltip)).properties(**SEEN_THROUGH, height=320)


def _bars(rows: Rows, quantity: str) -> Rows:
    """The interquartile range about each median, where one was measured."""
    spread = [row for row in rows if row["iqr_s"] is not None]
    if quantity == "tokens_per_s":
        ends = [(row["low_tokens_per_s"], row["high_tokens_per_s"]) for row in spread]
    elif quantity == "median_s":
        ends = [(row["median_s"] - row["iqr_s"] / 2, row["median_s"] + row["iqr_s"] / 2) for row in spread]
    else:
        return []
    return [
        {"x": row["x"], "machine": row["machine"], "low": low, "high": high}
        for row, (low, high) in zip(spread, ends, strict=True)
        if low > 0
    ]
