"""Figures of training runs: learning curves and what else a step measures."""

import math
from typing import Any

import altair as alt

from core.charts.style import GREY, PALETTE, Rows, legend, unchecked
from core.curves import smooth, thin

X_AXES = {
    "step": "steps",
    "tokens": "tokens",
    "elapsed_s": "training time (s)",
    "model_flop": "training FLOP (non-causal)",
}
"""What a learning curve may run against: column and axis title."""

MAX_POINTS = 3000
"""Of all runs of a chart together: more cannot be seen, and the browser slows down."""


@unchecked
def loss_chart(
    steps: Rows, runs: Rows, x: str = "step", half_life: float = 20, log_loss: bool = True
) -> alt.LayerChart:
    """Training and evaluation loss of runs, with the floor of their corpus where it is known.

    Args:
        steps: Rows of table `steps`, of one run or several.
        runs: Their rows of table `runs` (`run_id`, `floor_loss_nats`).
        x: One of `X_AXES`.
        half_life: Of the smoothing of the training loss, in steps; the raw values stay visible behind.
        log_loss: Logarithmic vertical axis.
    """
    _check_x(x)
    train, evaluation = [], []
    by_run = _by_run(steps)
    for run_id, rows in by_run.items():
        smoothed = smooth([row["train_loss_nats"] for row in rows], half_life)
        merged = [
            {
                "run_id": run_id,
                x: row[x],
                "train_loss_nats": row["train_loss_nats"],
                "smoothed_loss_nats": value,
                "eval_loss_nats": row["eval_loss_nats"],
            }
            for row, value in zip(rows, smoothed, strict=True)
        ]
        thinned = thin(merged, MAX_POINTS // len(by_run), always="eval_loss_nats")
        train += [row for row in thinned if row["train_loss_nats"] is not None]
        evaluation += [row for row in thinned if row["eval_loss_nats"] is not None]
    shown = {row["run_id"] for row in train + evaluation}
    floors = [
        {"run_id": row["run_id"], "floor_loss_nats": row["floor_loss_nats"], "label": "entropy floor of the corpus"}
        for row in runs
        if row["floor_loss_nats"] is not None and row["run_id"] in shown
    ]

    y_scale = alt.Scale(type="log" if log_loss else "linear", zero=False, nice=False, padding=14)

    def y(field: str) -> alt.Y:
        return alt.Y(f"{field}:Q", title="loss (nats per token)", scale=y_scale)

    horizontal = alt.X(f"{x}:Q", title=X_AXES[x], axis=alt.Axis(format="~s"))
    colour = alt.Color("run_id:N", title="run", scale=alt.Scale(range=PALETTE), legend=legend())
    tooltip = ["run_id:N", alt.Tooltip(f"{x}:Q", format=".4~s")]

    ghost = (
        alt.Chart(alt.Data(values=tuple(train)))
        .mark_line(strokeWidth=1, opacity=0.25, clip=True)
        .encode(x=horizontal, y=y("train_loss_nats"), color=colour)
    )
    line = (
        alt.Chart(alt.Data(values=tuple(train)))
        .mark_line(strokeWidth=1.8, clip=True)
        .encode(
            x=horizontal,
            y=y("smoothed_loss_nats"),
            color=colour,
            tooltip=[*tooltip, alt.Tooltip("smoothed_loss_nats:Q", title="training loss, smoothed", format=".4f")],
        )
    )
    points = (
        alt.Chart(alt.Data(values=tuple(evaluation)))
        .mark_point(filled=True, size=55, opacity=1, clip=True)
        .encode(
            x=horizontal,
            y=y("eval_loss_nats"),
            color=colour,
            tooltip=[*tooltip, alt.Tooltip("eval_loss_nats:Q", title="evaluation loss", format=".4f")],
        )
    )
    layers = [ghost, line, points]
    if floors:
        rule = (
            alt.Chart(alt.Data(values=tuple(floors)))
            .mark_rule(strokeDash=[6, 4], strokeWidth=1.5)
            .encode(
                y=y("floor_loss_nats"),
                color=colour,
                tooltip=["run_id:N", alt.Tooltip("floor_loss_nats:Q", title="entropy floor", format=".4f")],
            )
        )
        label = (
            alt.Chart(alt.Data(values=floors[:1]))
            .mark_text(align="left", baseline="bottom", dx=6, dy=-4, fontSize=12, color=GREY)
            .encode(y=y("floor_loss_nats"), x=alt.value(0), text="label:N")
        )
        layers += [rule, label]
    return alt.layer(*layers).properties(width="container", height=360)


@unchecked
def step_chart(
    steps: Rows, column: str, title: str, x: str = "step", log: bool = False, number_format: str = "~s"
) -> alt.Chart:
    """One measured column of runs against one of `X_AXES`.

    Args:
        steps: Rows of table `steps`.
        column: What is drawn; rows where it is null are left out.
        title: Axis title, with the unit.
        x: One of `X_AXES`.
        log: Logarithmic vertical axis.
        number_format: Of the vertical axis, in d3's notation.
    """
    _check_x(x)
    rows = []
    by_run = _by_run(steps)
    for run_id, group in by_run.items():
        measured = [{"run_id": run_id, x: row[x], column: row[column]} for row in group if row[column] is not None]
        rows += thin(measured, MAX_POINTS // len(by_run), always="")
    return (
        alt.Chart(alt.Data(values=tuple(rows)))
        .mark_line(strokeWidth=1.5)
        .encode(
            x=alt.X(f"{x}:Q", title=X_AXES[x], axis=alt.Axis(format="~s")),
            y=alt.Y(
                f"{column}:Q",
                title=title,
                axis=alt.Axis(format=number_format),
                scale=alt.Scale(type="log" if log else "linear", zero=not log),
            ),
            color=alt.Color("run_id:N", title="run", scale=alt.Scale(range=PALETTE), legend=legend()),
            tooltip=["run_id:N", alt.Tooltip(f"{x}:Q", format=".4~s"), alt.Tooltip(f"{column}:Q", format=".4~g")],
        )
        .properties(width="container", height=240)
    )


def _by_run(steps: Rows) -> dict[str, list[dict[str, Any]]]:
    """Rows by run, each group in the order of its steps; what is not finite becomes None, for JSON has no NaN."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in steps:
        finite = {name: None if isinstance(v, float) and not math.isfinite(v) else v for name, v in row.items()}
        groups.setdefault(row["run_id"], []).append(finite)
    return {run_id: sorted(rows, key=lambda row: row["step"]) for run_id, rows in groups.items()}


def _check_x(x: str) -> None:
    if x not in X_AXES:
        raise ValueError(f"x is {x!r}: one of {', '.join(X_AXES)}")
