"""Figures of what an architecture costs: its parts, how they grow, two models side by side."""

import math
from typing import Any, Literal

import altair as alt

from core.charts.style import GREY, PALETTE, SEEN_THROUGH, Rows, axis, colours, exact, legend, text, unchecked


@unchecked
def breakdown_chart(rows: Rows, title: str) -> alt.LayerChart:
    """What each operation has of a whole, in the order of the table.

    Args:
        rows: `name`, `group`, `value`; values of one name are added up.
        title: What the values are, with the unit.
    """
    total = sum(row["value"] for row in rows)
    sums: dict[str, dict[str, Any]] = {}
    for row in rows:
        held = sums.setdefault(row["name"], {"name": row["name"], "group": row["group"], "value": 0})
        held["value"] += row["value"]
    data = []
    for row in sums.values():
        share = row["value"] / total if total else 0.0
        data.append({**row, "exact": exact(row["value"]), "share": share, "label": f"{100 * share:.1f} %"})
    # Room for the label at the end of the longest bar.
    room = alt.Scale(domain=[0, 1.25 * max((row["value"] for row in data), default=0) or 1], nice=False)
    groups = list(dict.fromkeys(row["group"] for row in data))
    base = alt.Chart(alt.Data(values=tuple(data))).encode(
        y=_names("name:N"),
        x=alt.X("value:Q", title=title, axis=axis(), scale=room),
        tooltip=[
            alt.Tooltip("name:N"),
            alt.Tooltip("group:N"),
            alt.Tooltip("exact:N", title=title),
            alt.Tooltip("share:Q", format=".2%"),
        ],
    )
    bars = base.mark_bar(height=alt.RelativeBandSize(0.72), cornerRadiusEnd=2).encode(
        color=alt.Color("group:N", scale=colours(groups), legend=legend())
    )
    return alt.layer(bars, text(base, dx=4).encode(text="label:N")).properties(
        **SEEN_THROUGH, height=22 * max(len(data), 1)
    )


@unchecked
def growth_chart(
    rows: Rows,
    x_title: str,
    y_title: str,
    *,
    kind: Literal["lines", "stacked", "shares"] = "lines",
    log_x: bool = False,
    log_y: bool = False,
) -> alt.LayerChart:
    """How the components of a cost grow.

    Args:
        rows: `x`, `y`, `component`; an `x` that is text (the name of a size) stands at equal distances, as given.
        x_title: Of the horizontal axis, with the unit.
        y_title: Of the vertical axis, with the unit.
        kind: Lines, areas on top of each other, or areas as shares of their sum.
        log_x: Logarithmic horizontal axis.
        log_y: Logarithmic vertical axis, for lines: rows that are not positive are left out.

    Raises:
        ValueError: For another kind, or a logarithmic axis on which heights would be added up.
    """
    if kind not in ("lines", "stacked", "shares"):
        raise ValueError(f"kind is {kind!r}: it must be lines, stacked or shares")
    if log_y and kind != "lines":
        raise ValueError(f"log_y is True for kind {kind!r}: on a logarithmic axis heights do not add up")
    named = any(isinstance(row["x"], str) for row in rows)
    data = [{**row, "exact": exact(row["y"])} for row in rows if row["y"] > 0 or not log_y]
    across = "x:N" if named else "x:Q"
    x = (
        alt.X(across, title=x_title, sort=None, axis=alt.Axis(labelAngle=0, labelOverlap=True))
        if named
        else alt.X(
            across,
            title=x_title,
            axis=axis(grid=False),
            scale=_scale(log_x, zero=False, nice=False),
        )
    )
    components = list(dict.fromkeys(row["component"] for row in data))
    stack = {"lines": None, "stacked": "zero", "shares": "normalize"}[kind]
    chart = alt.Chart(alt.Data(values=tuple(data))).encode(
        x=x,
        y=alt.Y(
            "y:Q",
            title=y_title,
            stack=stack,
            axis=axis(format=".0%" if kind == "shares" else "~s"),
            scale=_scale(log_y, zero=True),
        ),
        color=alt.Color("component:N", scale=colours(components), sort=components, legend=legend()),
    )
    tooltip = [
        alt.Tooltip("component:N"),
        alt.Tooltip(across, title=x_title, **({} if named else {"format": ",~r"})),
        alt.Tooltip("exact:N", title=y_title),
    ]
    # A path has one tooltip, that of its first row: what a reader points at are its points.
    if kind == "lines":
        layers = [chart.mark_line(strokeWidth=2), chart.mark_point(filled=True, size=35, opacity=1)]
    elif named:
        layers = [chart.mark_bar()]
    else:
        layers = [chart.mark_area(opacity=0.85), chart.mark_point(filled=True, size=150, opacity=0)]
    layers[-1] = layers[-1].encode(tooltip=tooltip)
    return alt.layer(*layers).properties(**SEEN_THROUGH, height=280)


@unchecked
def comparison_chart(rows: Rows) -> alt.LayerChart:
    """Two models side by side: by which factor B is above or below A, quantity by quantity.

    Args:
        rows: Two a quantity, `side` "A" and "B": `quantity`, `side`, `value`, `ratio` (B / A; None where A is 0).
    """
    values = {(row["quantity"], row["side"]): row["value"] for row in rows}
    data = []
    for quantity, ratio in {row["quantity"]: row["ratio"] for row in rows}.items():
        a, b = values[quantity, "A"], values[quantity, "B"]
        drawn = ratio if ratio is not None and ratio > 0 and math.isfinite(ratio) else None
        data.append(
            {
                "quantity": quantity,
                "ratio": drawn,
                "one": 1,
                "end": max(drawn or 1, 1),
                "label": f"× {drawn:.3g}" if drawn else _without_factor(a, b),
                "change": "equal" if drawn in (None, 1) else "more in B" if drawn > 1 else "less in B",
                "a": exact(a),
                "b": exact(b),
            }
        )
    ratios = [1.0, *(row["ratio"] for row in data if row["ratio"])]
    # Half an octave around 1 at least: else a difference of a thousandth would fill the plot.
    low, high = min(*ratios, 0.7), max(*ratios, 1.4)
    across = alt.Scale(type="log", base=2, domain=[low / 1.05, high * (high / low) ** 0.35], nice=False)

    def x(field: str) -> alt.X:
        return alt.X(field, title="B relative to A", axis=axis(format=".3~g"), scale=across)

    chart = alt.Chart(alt.Data(values=tuple(data)))
    tooltip = [alt.Tooltip("quantity:N"), alt.Tooltip("a:N", title="A"), alt.Tooltip("b:N", title="B"), "label:N"]
    directions = {"less in B": PALETTE[0], "more in B": PALETTE[1], "equal": GREY}
    changes = {row["change"] for row in data}
    bars = chart.mark_bar(height=alt.RelativeBandSize(0.6)).encode(
        y=_names("quantity:N"),
        x=x("one:Q"),
        x2="ratio:Q",
        color=alt.Color(
            "change:N", scale=colours([name for name in directions if name in changes], directions), legend=legend()
        ),
        tooltip=tooltip,
    )
    rule = alt.Chart(alt.Data(values=[{"one": 1}])).mark_rule(color=GREY, strokeWidth=1.5).encode(x=x("one:Q"))
    label = text(chart, dx=6).encode(y=_names("quantity:N"), x=x("end:Q"), text="label:N", tooltip=tooltip)
    return alt.layer(bars, rule, label).properties(**SEEN_THROUGH, height=26 * max(len(data), 1))


def _without_factor(a: float, b: float) -> str:
    """What stands where no factor can."""
    if a == b == 0:
        return "0 in both"
    return "0 in B" if b == 0 else "0 in A"


def _scale(log: bool, *, zero: bool, **options: Any) -> alt.Scale:
    return alt.Scale(type="log", **options) if log else alt.Scale(type="linear", zero=zero, **options)


def _names(field: str) -> alt.Y:
    """Names on the left in their order, cut off before they eat a phone's plot."""
    axis = alt.Axis(labelLimit=130, ticks=False, domain=False, labelPadding=5)
    return alt.Y(field, sort=None, title=None, axis=axis)
