"""Figures of what a training step takes of a machine: memory from moment to moment, time by the roofline."""

import math
import textwrap
from itertools import groupby
from typing import Any

import altair as alt

from core.charts.style import (
    GREY,
    SEEN_THROUGH,
    Rows,
    axis,
    byte_unit,
    colours,
    exact,
    legend,
    short_bytes,
    si,
    text,
    unchecked,
)

MEMORY_PARTS = {
    "parameters": "#2F8FD8",
    "optimizer": "#8C7AE6",
    "gradients": "#E69F00",
    "saved": "#009E73",
    "temporary": "#D55E00",
}
"""What lives in memory, in the order of the stack from below, and its colour."""


@unchecked
def memory_walk_chart(rows: Rows, limit_bytes: int | None = None, limit_name: str = "") -> alt.LayerChart:
    """What lives in memory at each moment of a training step; the title names the moment at which most does.

    Args:
        rows: One a moment: `order`, `moment` (its name), `phase`, the bytes of each of `MEMORY_PARTS`, `total`.
        limit_bytes: A device's memory: a dashed line, or a line of the title where it lies far above.
        limit_name: The device's name.

    Raises:
        ValueError: If there are no moments.
    """
    if not rows:
        raise ValueError("rows is empty: there is no moment to draw")
    moments = sorted(rows, key=lambda row: row["order"])
    top = max(moments, key=lambda row: row["total"])
    drawn_limit = limit_bytes if limit_bytes is not None and limit_bytes <= 2.5 * top["total"] else None
    highest = max(top["total"], drawn_limit or 0)
    size, unit = byte_unit(highest)
    named = [
        {"start": row["order"] - 0.5, "end": row["order"] + 0.5, "total_shown": row["total"] / size, **row}
        | {f"{part}_exact": exact(row[part]) for part in (*MEMORY_PARTS, "total")}
        for row in moments
    ]
    peak = [{**row, "label": short_bytes(row["total"])} for row in named if row["order"] == top["order"]]

    across = alt.Scale(domain=[named[0]["start"], named[-1]["end"]], nice=False, zero=False)
    x_axis = alt.Axis(labels=False, ticks=False, grid=False)
    y_scale = alt.Scale(domain=[0, 1.22 * highest / size or 1], nice=False)  # headroom for the names of the phases

    def x(field: str) -> alt.X:
        return alt.X(field, title="moments of a training step, in their order", axis=x_axis, scale=across)

    def y(field: str) -> alt.Y:
        return alt.Y(field, title=f"memory ({unit})", axis=axis(format="~f"), scale=y_scale)

    bands = _bands(named)
    ground = (
        alt.Chart(alt.Data(values=tuple(bands)))
        .mark_rect(color=GREY)
        .encode(x=x("start:Q"), x2="end:Q", opacity=alt.Opacity("shade:Q", scale=None, legend=None))
    )
    areas = (
        alt.Chart(alt.Data(values=_stack(named, size)))
        .mark_area(interpolate="step", opacity=0.85)
        .encode(
            x=x("order:Q"),
            y=y("low:Q"),
            y2="high:Q",
            color=alt.Color("part:N", scale=colours(list(MEMORY_PARTS), MEMORY_PARTS), legend=legend(columns=3)),
        )
    )
    # Areas have one tooltip each: what a reader points at is a moment, so moments are laid over them, unseen.
    tooltip = ["moment:N", "phase:N"]
    tooltip += [alt.Tooltip(f"{part}_exact:N", title=f"{part} (bytes)") for part in (*MEMORY_PARTS, "total")]
    hover = (
        alt.Chart(alt.Data(values=tuple(named)))
        .mark_rect(color=GREY)
        .encode(x=x("start:Q"), x2="end:Q", opacity=alt.value(0), tooltip=tooltip)
    )
    at_peak = alt.Chart(alt.Data(values=tuple(peak))).encode(x=x("order:Q"), y=y("total_shown:Q"))
    late = top["order"] > (named[0]["start"] + named[-1]["end"]) / 2
    layers = [
        ground,
        areas,
        hover,
        at_peak.mark_rule(color=GREY, strokeWidth=1.5).encode(y2=alt.datum(0)),
        at_peak.mark_point(filled=True, size=60, opacity=1, color=GREY),
        text(at_peak, align="right" if late else "left", dx=-7 if late else 7, dy=-8, fontWeight="bold").encode(
            text="label:N"
        ),
    ]
    # The last phase is short: its name ends where the plot does.
    for some, align, place in ((bands[:-1], "center", "middle:Q"), (bands[-1:], "right", "end:Q")):
        if some:
            named_phase = text(
                alt.Chart(alt.Data(values=tuple(some))), align=align, baseline="top", dx=-4 * (align == "right")
            )
            layers.append(named_phase.encode(x=x(place), y=alt.value(5), text="phase:N"))
    lines = textwrap.wrap(f"Peak {short_bytes(top['total'])}: {top['moment']}", 48)
    if drawn_limit is not None:
        data = [{"limit": drawn_limit / size, "label": f"{limit_name} {short_bytes(drawn_limit)}".strip()}]
        limit = alt.Chart(alt.Data(values=tuple(data))).encode(y=y("limit:Q"))
        layers += [
            limit.mark_rule(color="#D55E00", strokeDash=[6, 4], strokeWidth=1.5),
            text(limit, baseline="bottom", dx=5, dy=-3).encode(x=alt.value(0), text="label:N"),
        ]
    elif limit_bytes is not None:
        lines += textwrap.wrap(f"far below {limit_name or 'the limit'}: {short_bytes(limit_bytes)}", 48)
    title = alt.TitleParams(lines[0], subtitle=lines[1:], anchor="start", fontSize=13, subtitleFontSize=12)
    return alt.layer(*layers).properties(**SEEN_THROUGH, height=300, title=title)


@unchecked
def roofline_chart(points: Rows, *, peak_flop_per_s: float, bytes_per_s: float, device: str) -> alt.LayerChart:
    """What memory and arithmetic of a device allow at each arithmetic intensity, and where operations stand.

        attainable FLOP/s = min(peak, intensity * bandwidth)

    Args:
        points: `name`, `group`, `phase`, `intensity` (FLOP per byte), `flop_per_s` (attainable), `flop`, `bytes`,
            `seconds`, `share` (of the time, 0 to 1). Those without FLOP have no place on a logarithmic axis.
        peak_flop_per_s: Of the device's arithmetic.
        bytes_per_s: Of its memory.
        device: Its name.

    Reference:
        Williams, Waterman & Patterson (2009), doi:10.1145/1498765.1498785.
    """
    data = [
        {**point, "flop_exact": exact(point["flop"]), "bytes_exact": exact(point["bytes"])}
        for point in points
        if point["intensity"] > 0 and point["flop_per_s"] > 0
    ]
    ridge = peak_flop_per_s / bytes_per_s
    low = min([0.1, *(point["intensity"] / 2 for point in data)])
    high = max([8 * ridge, *(2 * point["intensity"] for point in data)])
    floor = min([low * bytes_per_s, *(point["flop_per_s"] / 2 for point in data)])
    across = alt.Scale(type="log", domain=[low, high], nice=False)
    up = alt.Scale(type="log", domain=[floor, 3 * peak_flop_per_s], nice=False)

    def encoded(rows: Rows) -> alt.Chart:
        return alt.Chart(alt.Data(values=tuple(rows))).encode(
            x=alt.X(
                "intensity:Q",
                title="arithmetic intensity (FLOP per byte)",
                axis=axis(format=",.3~r", grid=False),
                scale=across,
            ),
            y=alt.Y(
                "flop_per_s:Q",
                title="attainable FLOP/s",
                axis=axis(grid=False),
                scale=up,
            ),
        )

    roof = [(low, low * bytes_per_s), (ridge, peak_flop_per_s), (high, peak_flop_per_s)]
    line = encoded([{"intensity": x, "flop_per_s": y} for x, y in roof]).mark_line(color=GREY, strokeWidth=2)
    at_ridge = encoded([{"intensity": ridge, "flop_per_s": peak_flop_per_s, "label": f"ridge {ridge:.3g} FLOP/B"}])
    groups = list(dict.fromkeys(point["group"] for point in data))
    phases = list(dict.fromkeys(point["phase"] for point in data))
    layers = [
        line,
        at_ridge.mark_rule(color=GREY, strokeDash=[4, 4]).encode(y2=alt.datum(floor)),
        text(at_ridge, align="center", baseline="bottom", dy=-6).encode(text="label:N"),
    ]
    if data:
        shapes = alt.Scale(domain=phases, range=["circle", "square", "triangle-up", "diamond"])
        layers.append(
            encoded(data)
            .mark_point(filled=True, opacity=0.65, stroke=GREY, strokeWidth=0.5)
            .encode(
                color=alt.Color("group:N", scale=colours(groups), legend=legend()),
                shape=alt.Shape("phase:N", scale=shapes, legend=legend(orient="bottom") if len(phases) > 1 else None),
                size=alt.Size("share:Q", scale=alt.Scale(domain=[0, 1], range=[30, 1600]), legend=None),
                tooltip=[
                    *("name:N", "group:N", "phase:N"),
                    alt.Tooltip("intensity:Q", title="FLOP per byte", format=".3~s"),
                    alt.Tooltip("flop_per_s:Q", title="attainable FLOP/s", format=".3~s"),
                    alt.Tooltip("flop_exact:N", title="FLOP"),
                    alt.Tooltip("bytes_exact:N", title="bytes"),
                    alt.Tooltip("seconds:Q", title="seconds", format=".3~s"),
                    alt.Tooltip("share:Q", title="share of the time", format=".1%"),
                ],
            )
        )
        labelled = _apart(data, math.log10(high / low), math.log10(3 * peak_flop_per_s / floor))
        middle = math.sqrt(low * high)
        # Names stand where the plot is empty: right below the slope, left above it, or below the flat roof.
        for place, options in (
            ("low", {"dx": 10, "dy": 12}),
            ("high", {"align": "right", "dx": -12, "dy": -5}),
            ("flat", {"align": "center", "dy": 16}),
        ):
            some = [point for point in labelled if _place(point["intensity"], middle, ridge) == place]
            if some:
                layers.append(text(encoded(some), **options).encode(text="name:N"))
    limits = f"{si(peak_flop_per_s, 'FLOP/s')}, {si(bytes_per_s, 'B/s')}"
    title = alt.TitleParams(device, subtitle=limits, anchor="start", fontSize=13, subtitleFontSize=12)
    return alt.layer(*layers).properties(**SEEN_THROUGH, height=320, title=title)


def _apart(points: Rows, decades_x: float, decades_y: float) -> Rows:
    """Of the points with the largest shares those whose names do not lie upon each other."""
    chosen: list[dict[str, Any]] = []
    for point in sorted(points, key=lambda point: -point["share"])[:6]:
        distances = [
            (
                abs(math.log10(point["intensity"] / other["intensity"])) / decades_x,
                abs(math.log10(point["flop_per_s"] / other["flop_per_s"])) / decades_y,
            )
            for other in chosen
        ]
        if all(x > 0.5 or y > 0.07 for x, y in distances):
            chosen.append(point)
    return chosen


def _place(intensity: float, middle: float, ridge: float) -> str:
    """On which part of the roof a point is."""
    if intensity >= ridge:
        return "flat"
    return "high" if intensity > middle else "low"


def _bands(moments: Rows) -> list[dict[str, Any]]:
    """The phases of a step, each with its extent; recomputing alternates with the backward and belongs to it."""
    bands = []
    for phase, group in groupby(moments, lambda row: "backward" if row["phase"] == "recompute" else row["phase"]):
        held = list(group)
        bands.append({"phase": phase, "start": held[0]["start"], "end": held[-1]["end"]})
    return [
        {**band, "middle": (band["start"] + band["end"]) / 2, "shade": 0.05 + 0.1 * (place % 2)}
        for place, band in enumerate(bands)
    ]


def _stack(moments: Rows, size: int) -> list[dict[str, Any]]:
    """The parts of every moment on top of each other, in a unit of `size` bytes, up to the outer edges."""
    stacked = []
    for part in MEMORY_PARTS:
        below = list(MEMORY_PARTS)[: list(MEMORY_PARTS).index(part)]
        rows = []
        for row in moments:
            low = sum(row[name] for name in below)
            rows.append({"order": row["order"], "part": part, "bytes": row[part]})
            rows[-1] |= {"low": low / size, "high": (low + row[part]) / size}
        stacked += [{**rows[0], "order": moments[0]["start"]}, *rows, {**rows[-1], "order": moments[-1]["end"]}]
    return stacked
