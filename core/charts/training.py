"""Learning curves: what runs lost, step by step, and what else a step measures."""

import math
from typing import Any

import altair as alt

from core.charts.style import GREY, PALETTE, SEEN_THROUGH, Rows, axis, legend, text, unchecked
from core.curves import smooth, thin

X_AXES = {
    "step": "steps",
    "tokens": "tokens",
    "elapsed_s": "training time (s)",
    "model_flop": "training FLOP (non-causal)",
}
"""What a learning curve may run against: column and axis title."""

LOSSES = ("training and evaluation", "training", "evaluation")
"""Which losses a learning curve shows."""

LOSS_UNITS = ("nats per token", "bits per byte")
"""What losses may be told in."""

GRID = {"gridColor": GREY, "gridOpacity": 0.15}
"""Fainter than a pale curve, on light and on dark ground."""

MAX_POINTS = 3000
"""Of all runs of a chart together: more cannot be seen, and the browser slows down."""


@unchecked
def loss_chart(
    steps: Rows,
    runs: Rows,
    x: str = "step",
    half_width: float = 20,
    *,
    show: str = LOSSES[0],
    unit: str = LOSS_UNITS[0],
    log_loss: bool = True,
    log_x: bool = False,
) -> alt.LayerChart:
    """Training and evaluation loss of runs, with the floor of their corpus where it is known.

    A floor has the colour of its run; one that several runs share is drawn once, grey.

    Args:
        steps: Rows of table `steps`, of one run or several.
        runs: Their rows of table `runs` (`run_id`, `floor_loss_nats`; for bits per byte `eval_tokens`, `eval_bytes`).
        x: One of `X_AXES`.
        half_width: Of the smoothing of the training loss, in steps; the raw values stay visible behind.
        show: One of `LOSSES`.
        unit: One of `LOSS_UNITS`. Bytes per token are the evaluation set's, for the training loss, too; a run of
            which they are not known is left out.
        log_loss: Logarithmic vertical axis.
        log_x: Logarithmic horizontal axis; the untrained model has no place on it.
    """
    for what, value, choices in (("x", x, X_AXES), ("show", show, LOSSES), ("unit", unit, LOSS_UNITS)):
        _check(what, value, choices)
    factors = {row["run_id"]: _factor(row, unit) for row in runs}
    by_run = {
        run_id: rows
        for run_id, rows in by_run_in_order(steps).items()
        if unit == LOSS_UNITS[0] or factors.get(run_id) is not None
    }
    train, evaluation = [], []
    for run_id, rows in by_run.items():
        factor = factors.get(run_id) or 1.0
        smoothed = smooth([row["step"] for row in rows], [row["train_loss_nats"] for row in rows], half_width)
        merged = [
            {
                "run_id": run_id,
                x: row[x],
                "train_loss": _scaled(row["train_loss_nats"], factor),
                "smoothed_loss": _scaled(value, factor),
                "eval_loss": _scaled(row["eval_loss_nats"], factor),
            }
            for row, value in zip(rows, smoothed, strict=True)
            if row[x] > 0 or not log_x
        ]
        thinned = thin(merged, MAX_POINTS // len(by_run), always="eval_loss")
        train += [row for row in thinned if row["train_loss"] is not None] * (show != "evaluation")
        evaluation += [row for row in thinned if row["eval_loss"] is not None] * (show != "training")
    shown = {row["run_id"] for row in train + evaluation}
    floors = _floors([row for row in runs if row["run_id"] in shown], factors, list(by_run))

    y_scale = alt.Scale(type="log" if log_loss else "linear", zero=False, nice=False, padding=14)

    def y(field: str) -> alt.Y:
        return alt.Y(f"{field}:Q", title=f"loss ({unit})", axis=axis(format="~g", tickCount=8, **GRID), scale=y_scale)

    horizontal = x_axis(x, log_x)
    colour = run_colour(list(by_run))
    tooltip = ["run_id:N", alt.Tooltip(f"{x}:Q", title=X_AXES[x], format=".4~s")]
    # Inline data is hashed, so that layers share it, and not checked row by row; a tuple is not copied.
    trained, evaluated = (alt.Chart(alt.InlineData(values=tuple(rows))) for rows in (train, evaluation))
    layers = []
    if train:
        at_smoothed = trained.encode(x=horizontal, y=y("smoothed_loss"), color=colour)
        ghost = trained.mark_line(strokeWidth=1, opacity=0.6, clip=True)
        layers += [
            ghost.encode(x=horizontal, y=y("train_loss"), color=colour),
            at_smoothed.mark_line(strokeWidth=1.8, clip=True),
            # A line has one tooltip, that of its first point: what a reader points at are points, unseen.
            at_smoothed.mark_point(filled=True, size=90, opacity=0, clip=True).encode(
                tooltip=[
                    *tooltip,
                    alt.Tooltip("smoothed_loss:Q", title="training loss, smoothed", format=".4f"),
                    alt.Tooltip("train_loss:Q", title="of this batch", format=".4f"),
                ]
            ),
        ]
    if evaluation:
        at_evaluation = evaluated.encode(x=horizontal, y=y("eval_loss"), color=colour)
        layers += [at_evaluation.mark_line(strokeWidth=1.2, clip=True)] * (not train)
        layers.append(
            at_evaluation.mark_point(filled=True, size=55, opacity=1, clip=True).encode(
                tooltip=[*tooltip, alt.Tooltip("eval_loss:Q", title="evaluation loss", format=".4f")]
            )
        )
    if floors:
        rule = (
            alt.Chart(alt.InlineData(values=tuple(floors)))
            .mark_rule(strokeDash=[6, 4], strokeWidth=1.5)
            .encode(
                y=y("floor_loss"),
                stroke=alt.Stroke("colour:N", scale=None, legend=None),
                tooltip=[alt.Tooltip("runs:N"), alt.Tooltip("floor_loss:Q", title="entropy floor", format=".4f")],
            )
        )
        named = alt.Chart(alt.InlineData(values=tuple(floors[:1])))
        label = text(named, baseline="bottom", dx=6, dy=-4, fontSize=12)
        layers += [rule, label.encode(y=y("floor_loss"), x=alt.value(0), text="label:N")]
    if not layers:  # nothing measured yet: empty axes
        layers = [trained.mark_point().encode(x=horizontal, y=y("train_loss"))]
    return alt.layer(*layers).properties(**SEEN_THROUGH, height=360)


@unchecked
def step_chart(
    steps: Rows,
    column: str,
    title: str,
    x: str = "step",
    *,
    log: bool = False,
    log_x: bool = False,
    number_format: str = "~s",
) -> alt.Chart:
    """One measured column of runs against one of `X_AXES`.

    Args:
        steps: Rows of table `steps`.
        column: What is drawn; rows where it is null are left out.
        title: Axis title, with the unit.
        x: One of `X_AXES`.
        log: Logarithmic vertical axis.
        log_x: Logarithmic horizontal axis.
        number_format: Of the vertical axis, in d3's notation.
    """
    _check("x", x, X_AXES)
    rows = []
    by_run = by_run_in_order(steps)
    for run_id, group in by_run.items():
        measured = [{"run_id": run_id, x: row[x], column: row[column]} for row in group if row[column] is not None]
        rows += thin([row for row in measured if row[x] > 0 or not log_x], MAX_POINTS // len(by_run), always="")
    return (
        alt.Chart(alt.InlineData(values=tuple(rows)))
        .mark_line(strokeWidth=1.5)
        .encode(
            x=x_axis(x, log_x),
            y=alt.Y(
                f"{column}:Q",
                title=title,
                axis=axis(format=number_format, **GRID),
                scale=alt.Scale(type="log" if log else "linear", zero=not log),
            ),
            color=run_colour(list(by_run)),
        )
        .properties(**SEEN_THROUGH, height=240)
    )


def by_run_in_order(steps: Rows) -> dict[str, list[dict[str, Any]]]:
    """Rows by run, each group in the order of its steps; what is not finite becomes None, for JSON has no NaN."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in steps:
        finite = {name: None if isinstance(v, float) and not math.isfinite(v) else v for name, v in row.items()}
        groups.setdefault(row["run_id"], []).append(finite)
    return {run_id: sorted(rows, key=lambda row: row["step"]) for run_id, rows in groups.items()}


def run_colour(run_ids: list[str]) -> alt.Color:
    """The colours of runs, the same in every figure that is given them in the same order."""
    shown = [PALETTE[place % len(PALETTE)] for place in range(len(run_ids))]
    short = max(map(len, run_ids), default=0) < 18  # two beside each other, on a phone too
    return alt.Color(
        "run_id:N",
        title="run",
        scale=alt.Scale(domain=run_ids, range=shown),
        legend=legend(symbolType="stroke", symbolStrokeWidth=3, symbolOpacity=1, columns=2 if short else 1),
    )


def x_axis(x: str, log: bool) -> alt.X:
    """One of `X_AXES` as the horizontal axis of a figure."""
    # Padded, so that the frame cuts no point at either end in half.
    scale = alt.Scale(type="log" if log else "linear", nice=False, padding=8)
    return alt.X(f"{x}:Q", title=X_AXES[x], axis=axis(tickCount=7, **GRID), scale=scale)


def _floors(runs: Rows, factors: dict[str, float | None], run_ids: list[str]) -> list[dict[str, Any]]:
    """The different floors of runs, each with its runs and its colour."""
    sharing: dict[float, list[str]] = {}
    for row in runs:
        if row["floor_loss_nats"] is not None:
            sharing.setdefault(row["floor_loss_nats"] * factors[row["run_id"]], []).append(row["run_id"])
    return [
        {
            "runs": ", ".join(names),
            "floor_loss": floor,
            "colour": GREY if len(names) > 1 else PALETTE[run_ids.index(names[0]) % len(PALETTE)],
            "label": "entropy floor of the corpus",
        }
        for floor, names in sharing.items()
    ]


def _factor(run: dict[str, Any], unit: str) -> float | None:
    """What a loss in nats per token is multiplied by; None where the run's bytes are not known."""
    if unit == LOSS_UNITS[0]:
        return 1.0
    if not run.get("eval_tokens") or not run.get("eval_bytes"):
        return None
    return run["eval_tokens"] / run["eval_bytes"] / math.log(2)


def _scaled(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor


def _check(what: str, value: str, choices: Any) -> None:
    if value not in choices:
        raise ValueError(f"{what} is {value!r}: one of {', '.join(choices)}")
