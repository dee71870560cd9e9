"""Figures of what runs cost: how fast their steps went, what their memory was full of."""

from collections.abc import Mapping

import altair as alt

from core.charts.machine import MEMORY_PARTS
from core.charts.style import GREY, SEEN_THROUGH, Rows, axis, byte_unit, colours, exact, legend, unchecked
from core.charts.training import GRID, X_AXES, by_run_in_order, run_colour, x_axis
from core.curves import spread

BINS = 60
"""Stretches into which a run's speed is gathered: single steps are noise."""


@unchecked
def throughput_chart(
    steps: Rows,
    x: str = "step",
    *,
    log_x: bool = False,
    factors: Mapping[str, float] | None = None,
    title: str = "tokens per second",
    number_format: str = "~s",
) -> alt.LayerChart:
    """How fast runs went: the median step of each stretch, in a band from its first to its third quartile.

    Where a run was resumed, its line breaks and a dotted rule stands.

    Args:
        steps: Rows of table `steps`.
        x: One of `X_AXES`.
        log_x: Logarithmic horizontal axis.
        factors: What each run's tokens per second are multiplied by, such as FLOP per token over a peak; other runs are
            left out. All runs as they are if None.
        title: Axis title, with the unit.
        number_format: Of the vertical axis, in d3's notation.

    Raises:
        ValueError: For another x.
    """
    if x not in X_AXES:
        raise ValueError(f"x is {x!r}: one of {', '.join(X_AXES)}")
    by_run = by_run_in_order(steps)
    data, resumes = [], []
    for run_id, rows in by_run.items():
        if factors is not None and run_id not in factors:
            continue
        factor = 1.0 if factors is None else factors[run_id]
        timed = [row for row in rows if row["tokens_per_s"] and row[x] > 0]
        segments = list(dict.fromkeys(row["segment"] for row in timed))
        for segment in segments:
            part = [row for row in timed if row["segment"] == segment]
            bins = max(1, round(BINS * len(part) / len(timed)))
            data += [
                {
                    "run_id": run_id,
                    "segment": segment,
                    x: bin_.position,
                    "median": bin_.median,
                    "low": bin_.low,
                    "high": bin_.high,
                    "steps": bin_.count,
                }
                for bin_ in spread([row[x] for row in part], [factor * row["tokens_per_s"] for row in part], bins)
            ]
            if segment != segments[0]:
                resumes.append({"run_id": run_id, x: part[0][x], "resumed": f"resumed before step {part[0]['step']:,}"})
    horizontal = x_axis(x, log_x)

    def y(field: str) -> alt.Y:
        return alt.Y(f"{field}:Q", title=title, axis=axis(format=number_format, **GRID), scale=alt.Scale(zero=True))

    base = alt.Chart(alt.InlineData(values=tuple(data))).encode(
        x=horizontal, color=run_colour(list(by_run)), detail="segment:O"
    )
    tooltip = [
        "run_id:N",
        alt.Tooltip(f"{x}:Q", title=X_AXES[x], format=".4~s"),
        *(
            alt.Tooltip(f"{field}:Q", title=name, format=",.4~g")
            for field, name in (("median", title), ("low", "first quartile"), ("high", "third quartile"))
        ),
        alt.Tooltip("steps:Q", title="of so many steps"),
    ]
    layers = [
        base.mark_area(opacity=0.22).encode(y=y("low"), y2="high:Q"),
        base.mark_line(strokeWidth=1.8).encode(y=y("median")),
        base.mark_point(filled=True, size=110, opacity=0).encode(y=y("median"), tooltip=tooltip),
    ]
    if resumes:
        rules = alt.Chart(alt.InlineData(values=tuple(resumes))).mark_rule(strokeDash=[2, 3], strokeWidth=1.5)
        layers.append(
            rules.encode(x=horizontal, color=run_colour(list(by_run)), tooltip=["run_id:N", alt.Tooltip("resumed:N")])
        )
    return alt.layer(*layers).properties(**SEEN_THROUGH, height=240)


@unchecked
def run_memory_chart(rows: Rows) -> alt.LayerChart:
    """What memory is full of at the peak of a step, a bar a run, and a tick where it was measured.

    Args:
        rows: `run_id`, the predicted bytes of each of `MEMORY_PARTS`, `measured` (bytes, or None).

    Raises:
        ValueError: If there are no rows.
    """
    if not rows:
        raise ValueError("rows is empty: there is no memory to draw")
    # At the fullest moment there may be no gradients, say: what no run holds is not in the legend either.
    parts = [part for part in MEMORY_PARTS if any(row[part] for row in rows)]
    totals = [sum(row[part] for part in MEMORY_PARTS) for row in rows]
    size, unit = byte_unit(max([*totals, *(row["measured"] or 0 for row in rows)]))
    data = [
        {
            "run_id": row["run_id"],
            "part": part,
            "order": place,
            "value": row[part] / size,
            "exact": exact(row[part]),
            "share": row[part] / total,
        }
        for row, total in zip(rows, totals, strict=True)
        for place, part in enumerate(parts)
    ]
    measured = [
        {"run_id": row["run_id"], "value": row["measured"] / size, "exact": exact(row["measured"])}
        for row in rows
        if row["measured"] is not None
    ]
    names = alt.Y("run_id:N", sort=None, title=None, axis=alt.Axis(labelLimit=130, ticks=False, domain=False))

    def x(field: str = "value:Q") -> alt.X:
        return alt.X(field, title=f"memory at the peak ({unit})", axis=axis(format="~f", **GRID))

    bars = (
        alt.Chart(alt.InlineData(values=tuple(data)))
        .mark_bar(height=alt.RelativeBandSize(0.66))
        .encode(
            y=names,
            x=x(),
            color=alt.Color(
                "part:N",
                scale=colours(parts, MEMORY_PARTS),
                sort=parts,
                legend=legend(columns=2),
            ),
            order="order:Q",
            tooltip=[
                "run_id:N",
                "part:N",
                alt.Tooltip("exact:N", title="bytes"),
                alt.Tooltip("share:Q", title="of the peak", format=".1%"),
            ],
        )
    )
    layers = [bars]
    if measured:
        ticks = alt.Chart(alt.InlineData(values=tuple(measured))).mark_tick(color=GREY, thickness=3)
        tooltip = ["run_id:N", alt.Tooltip("exact:N", title="measured (bytes)")]
        layers.append(ticks.encode(y=names, x=x(), tooltip=tooltip))
    return alt.layer(*layers).properties(**SEEN_THROUGH, height=max(46, 34 * len(rows)))
