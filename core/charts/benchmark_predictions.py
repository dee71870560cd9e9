"""Figures of what was predicted of benchmarks: against the measurement, against the roofline, term by term."""

import math

import altair as alt

from core.charts.benchmarks import data, logarithmic
from core.charts.style import GREY, SEEN_THROUGH, Rows, axis, colours, legend, text, unchecked

REGIME_COLOURS = {"compute": "#2F8FD8", "bandwidth": "#E69F00", "launches": "#CC79A7", "unknown": "#999999"}
"""What limits a configuration looks the same in every figure."""


def _regimes(rows: Rows, field: str = "regime") -> alt.Color:
    there = {row[field] for row in rows}
    names = [name for name in REGIME_COLOURS if name in there]
    return alt.Color(f"{field}:N", scale=colours(names, REGIME_COLOURS), legend=legend(columns=4))


def _shown(predicted: str) -> list[str | alt.Tooltip]:
    return [
        *("label:N", "phase:N", "machine:N", "regime:N"),
        alt.Tooltip("median_s:Q", title="measured (s)", format=".4~g"),
        alt.Tooltip("predicted:Q", title=f"{predicted} (s)", format=".4~g"),
        alt.Tooltip("error:Q", title="(predicted - measured) / measured", format="+.1%"),
    ]


@unchecked
def diagonal_chart(rows: Rows, predicted: str) -> alt.LayerChart:
    """Predicted against measured time; on the line they are equal.

    Args:
        rows: `median_s`, `predicted`, `error`, `regime`, `low_s` and `high_s` (the interval, or None), `label`,
            `phase`, `machine`.
        predicted: What the prediction is.
    """
    x, y = logarithmic("median_s", "measured (s)", alt.X), logarithmic("predicted", f"{predicted} (s)", alt.Y)
    times = [row[name] for row in rows for name in ("median_s", "predicted")]
    ends = [{"median_s": end, "predicted": end} for end in (min(times), max(times))]
    colour = _regimes(rows)
    layers = [data(ends).mark_line(color=GREY, strokeDash=[5, 4]).encode(x, y)]
    if intervals := [row for row in rows if row["low_s"] is not None and row["low_s"] > 0]:
        rule = data(intervals).mark_rule(opacity=0.45)
        layers.append(rule.encode(x, alt.Y("low_s:Q", title=f"{predicted} (s)"), alt.Y2("high_s:Q"), colour))
    points = data(rows).mark_point(filled=True, size=45, opacity=0.8)
    layers.append(points.encode(x, y, colour, tooltip=_shown(predicted)))
    return alt.layer(*layers).properties(**SEEN_THROUGH, height=340)


@unchecked
def residual_chart(rows: Rows, predicted: str) -> alt.LayerChart:
    """How far the prediction is from the measurement, in parts of it, against the measurement.

    Args:
        rows: As for `diagonal_chart`.
        predicted: What the prediction is.
    """
    x = logarithmic("median_s", "measured (s)", alt.X)
    y = alt.Y("error:Q", title="(predicted - measured) / measured", axis=axis(format="+.0%"))
    zero = data([{"error": 0}]).mark_rule(color=GREY, strokeDash=[5, 4]).encode(y)
    points = data(rows).mark_point(filled=True, size=45, opacity=0.8)
    points = points.encode(x, y, _regimes(rows), tooltip=_shown(predicted))
    return alt.layer(zero, points).properties(**SEEN_THROUGH, height=220)


@unchecked
def mfu_chart(rows: Rows, *, flop_per_s: float, bytes_per_s: float, device: str) -> alt.LayerChart:
    """The used share of a device's arithmetic against arithmetic intensity, under the roofline.

        roof = min(1, intensity * bandwidth / peak)

    Args:
        rows: `intensity` (FLOP per ideal byte), `mfu_noncausal`, `regime`, `label`, `phase`, `median_s`, `machine`.
        flop_per_s: The device's peak.
        bytes_per_s: Of its memory.
        device: Its name.

    Reference:
        Williams, Waterman & Patterson (2009), doi:10.1145/1498765.1498785.
    """
    ridge = flop_per_s / bytes_per_s
    low = min([ridge / 4, *(row["intensity"] / 1.5 for row in rows)])
    high = max([ridge * 4, *(1.5 * row["intensity"] for row in rows)])
    floor = min([low / ridge, *(row["mfu_noncausal"] / 1.5 for row in rows)])
    top = max([1.5, *(1.2 * row["mfu_noncausal"] for row in rows)])
    x = alt.X(
        "intensity:Q",
        title="arithmetic intensity (FLOP per ideal byte)",
        axis=axis(format=",.3~r", grid=False),
        scale=alt.Scale(type="log", domain=[low, high], nice=False),
    )
    y = alt.Y(
        "mfu_noncausal:Q",
        title="MFU (non-causal)",
        axis=axis(format="~%"),
        scale=alt.Scale(type="log", domain=[floor, top], nice=False),
    )
    corners = [(low, low / ridge), (ridge, 1), (high, 1)]
    roof = data([{"intensity": at, "mfu_noncausal": share} for at, share in corners])
    name = data([{"intensity": math.sqrt(ridge * high), "mfu_noncausal": 1, "label": "what it can do at most"}])
    tooltip = [
        *("label:N", "phase:N", "machine:N", "regime:N"),
        alt.Tooltip("intensity:Q", title="FLOP per ideal byte", format=".3~g"),
        alt.Tooltip("mfu_noncausal:Q", title="MFU (non-causal)", format=".1%"),
        alt.Tooltip("median_s:Q", title="measured (s)", format=".4~g"),
    ]
    layers = [
        roof.mark_line(color=GREY, strokeWidth=2).encode(x, y),
        text(name, align="center", baseline="bottom", dy=-4).encode(x, y, alt.Text("label:N")),
        data(rows).mark_point(filled=True, size=45, opacity=0.8).encode(x, y, _regimes(rows), tooltip=tooltip),
    ]
    title = alt.TitleParams(device, anchor="start", fontSize=13)
    return alt.layer(*layers).properties(**SEEN_THROUGH, height=320, title=title)


@unchecked
def limits_chart(rows: Rows) -> alt.Chart:
    """What the time of each configuration consists of, those with the most arithmetic first.

    Args:
        rows: `order`, `part` (one of `REGIME_COLOURS`), `share` (0 to 1), `label`, `phase`, `machine`, `median_s`.
    """
    order = list(REGIME_COLOURS)
    placed = [row | {"place": order.index(row["part"])} for row in rows]
    x = alt.X("order:O", title="configurations, by the share of compute", axis=alt.Axis(labels=False, ticks=False))
    whole = alt.Scale(domain=[0, 1])
    y = alt.Y("share:Q", title="share of the fitted time", axis=axis(format=".0%"), scale=whole, stack="zero")
    tooltip = [
        *("label:N", "phase:N", "machine:N", "part:N"),
        alt.Tooltip("share:Q", title="share of the fitted time", format=".1%"),
        alt.Tooltip("median_s:Q", title="measured (s)", format=".4~g"),
    ]
    bars = data(placed).mark_bar(binSpacing=0)
    bars = bars.encode(x, y, _regimes(rows, "part"), order=alt.Order("place:Q"), tooltip=tooltip)
    return bars.properties(**SEEN_THROUGH, height=240)
