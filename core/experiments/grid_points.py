"""From a benchmark grid to its points: every combination that a model can have and the constraints admit."""

import dataclasses
import functools
import math
import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from core.accounting import OPTIMIZERS, Account, account, peak
from core.accounting.hardware import Device
from core.accounting.micro import MicroCost, micro_bound_s, micro_cost, micro_live_bytes
from core.accounting.phases import phase_bound_s, phase_cost
from core.accounting.policies import choose
from core.config import ModelConfig, config_id
from core.config.checks import did_you_mean, require
from core.config.grid import SIZES, SUBJECTS, GridConfig, GridPart

MAX_COMBINATIONS = 5_000_000
"""Of one part's axes; more is a slip of the pen."""
LONGEST_REASON = 100
"""Letters of what the parser says of a constraint."""
_CHUNK = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class GridPoint:
    """What is measured together: one model at one batch size in one way of computing, or one operation."""

    subject: str
    phases: tuple[str, ...]
    batch_size: int | None = None
    context_length: int | None = None
    d_model: int | None = None
    num_heads: int | None = None
    d_head: int | None = None
    num_layers: int | None = None
    d_ff: int | None = None
    vocab_size: int | None = None
    precision: str = "float32"
    attention: str | None = None
    compiled: bool = False
    optimizer: str | None = None

    @property
    def point_id(self) -> str:
        """A hash of what is measured, the phases left out."""
        return config_id(dataclasses.replace(self, phases=()))

    @property
    def sizes(self) -> dict[str, int]:
        """The sizes that the subject has."""
        return {name: size for name in SIZES if (size := getattr(self, name)) is not None}

    @property
    def model(self) -> ModelConfig | None:
        """The architecture; None of a single operation."""
        if self.subject != "model":
            return None
        names = ("context_length", "d_model", "num_heads", "num_layers", "d_ff", "vocab_size", "attention")
        return ModelConfig(**{name: getattr(self, name) for name in names})

    def account(self) -> Account:
        """What the model costs."""
        assert self.model is not None, self
        return account(
            self.model, batch_size=self.batch_size, precision=self.precision, optimizer=self.optimizer or "adamw"
        )

    def micro_cost(self, phase: str) -> MicroCost:
        """What the operation costs."""
        how = {"precision": self.precision, "attention": self.attention, "optimizer": self.optimizer}
        return micro_cost(self.subject, phase, self.sizes, **how)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What accounting says of a point."""

    peak_bytes: int
    """Of a model exact; of an operation about what its forward and backward hold."""
    flop: dict[str, int]
    """By phase: matrix products, non-causal model convention."""
    ideal_bytes: dict[str, int]
    """By phase."""
    seconds: dict[str, float] | None
    """By phase, the least; None where the device has not been measured in this precision."""


def predict(point: GridPoint, device: Device | None = None, cache_bytes: int | None = None) -> Prediction:
    """What a point asks for, and the least that a device needs for it."""
    seconds: dict[str, float] | None = {}
    try:
        if point.subject == "model":
            costs = point.account()
            each = {phase: phase_cost(costs, phase) for phase in point.phases}
            peak_bytes = peak(costs).total
            if device is not None:
                seconds = {phase: phase_bound_s(costs, phase, device, cache_bytes) for phase in point.phases}
        else:
            each = {phase: point.micro_cost(phase) for phase in point.phases}
            how = {"precision": point.precision, "attention": point.attention}
            peak_bytes = micro_live_bytes(point.subject, point.sizes, **how)
            if device is not None:
                seconds = {
                    phase: micro_bound_s(cost, point.precision, device, cache_bytes) for phase, cost in each.items()
                }
    except ValueError:  # no peak of this precision
        if device is None:
            raise
        return predict(point)
    return Prediction(
        peak_bytes=peak_bytes,
        flop={phase: cost.flop for phase, cost in each.items()},
        ideal_bytes={phase: cost.ideal_bytes for phase, cost in each.items()},
        seconds=seconds if device is not None else None,
    )


@dataclass(slots=True)
class Expansion:
    """The points of a grid in the order in which they are measured, and what was left out of it."""

    points: list[GridPoint]
    refused: int
    """Combinations that no model can have."""
    reason: str
    """Of the first of them."""


def expand(grid: GridConfig) -> Expansion:
    """All points of a grid, each once, in an order shuffled by its seed.

    Raises:
        ValueError: For a constraint that is no condition on the axes, an optimizer that does not exist, or a part
            without a feasible point; the message says which constraint removed how many.
    """
    points: dict[str, GridPoint] = {}
    refused, reason = 0, ""
    for number, part in enumerate(grid.parts):
        where = f"grid {grid.name}" + (f", part {number + 1}" if len(grid.parts) > 1 else "")
        chooser = random.Random(f"{grid.seed} {number}")
        found, dropped, why = _part_points(part, chooser, where)
        refused, reason = refused + dropped, reason or why
        for point in found:
            known = points.setdefault(point.point_id, point)
            if set(point.phases) - set(known.phases):
                both = {*known.phases, *point.phases}
                phases = tuple(phase for phase in SUBJECTS[point.subject].phases if phase in both)
                points[point.point_id] = dataclasses.replace(known, phases=phases)
    ordered = list(points.values())
    random.Random(grid.seed).shuffle(ordered)
    return Expansion(ordered, refused, reason)


def _part_points(part: GridPart, chooser: random.Random, where: str) -> tuple[list[GridPoint], int, str]:
    """The points of one part, how many combinations no model can have, and why the first of these."""
    frame = _combinations(part, where)
    num_all = frame.height
    frame, reason = _with_heads(frame) if part.subject == "model" else (frame, "")
    refused = num_all - frame.height
    removed = {f"no model ({reason})": refused} if refused else {}
    expressions = {text: _parsed(text) for text in part.constraints}
    late = _derived_names(part.subject)
    for text, expression in expressions.items():
        _check_columns(text, expression, late.union(frame.columns))
    needs = {text: bool({*expression.meta.root_names()} & late) for text, expression in expressions.items()}
    for text in (text for text in expressions if not needs[text]):
        before = frame.height
        frame = frame.filter(_holds(frame, text, expressions[text]))
        removed[text] = before - frame.height
    order = list(range(frame.height))
    chooser.shuffle(order)
    wanted = part.sample or frame.height
    points: list[GridPoint] = []
    # A chunk at a time: what a sample does not need is not predicted.
    for start in range(0, frame.height, _CHUNK):
        chunk = frame[order[start : start + _CHUNK]]
        candidates = [_point(part, row) for row in chunk.iter_rows(named=True)]
        if any(needs.values()):
            chunk = chunk.with_columns(**_derived(candidates))
        kept = pl.Series([True] * chunk.height)
        for text in (text for text in expressions if needs[text]):
            holds = _holds(chunk, text, expressions[text])
            removed[text] = removed.get(text, 0) + int((kept & ~holds).sum())
            kept &= holds
        points += [point for point, good in zip(candidates, kept, strict=True) if good]
        if len(points) >= wanted:
            break
    if not points:
        said = "; ".join(f"{text!r} removed {count:,}" for text, count in removed.items() if count)
        raise ValueError(f"{where}: none of {num_all:,} combinations is feasible: {said}")
    return points[:wanted], refused, reason


def _combinations(part: GridPart, where: str) -> pl.DataFrame:
    """The product of all axes, those that are not given at their defaults."""
    subject = SUBJECTS[part.subject]
    derived = ("num_heads", "d_head") if part.subject == "model" else ()
    axes = {axis: part.axes.get(axis) or (subject.default(axis),) for axis in subject.axes if axis not in derived}
    axes |= {axis: part.axes[axis] for axis in derived if axis in part.axes}
    count = math.prod(len(values) for values in axes.values())
    require(count <= MAX_COMBINATIONS, f"{where}: {count:,} combinations; more than {MAX_COMBINATIONS:,} are refused")
    for name in axes.get("optimizer", ()):
        choose("optimizer", name, OPTIMIZERS)
    frames = [pl.DataFrame({axis: list(values)}) for axis, values in axes.items()]
    return functools.reduce(lambda left, right: left.join(right, how="cross", maintain_order="left_right"), frames)


def _with_heads(frame: pl.DataFrame) -> tuple[pl.DataFrame, str]:
    """The combinations that a model can have, with both `num_heads` and `d_head`; why the first other one cannot."""
    given = "num_heads" if "num_heads" in frame.columns else "d_head"
    rows, reason = [], ""
    for d_model, value in frame.select("d_model", given).unique(maintain_order=True).iter_rows():
        heads = value if given == "num_heads" else d_model // value
        try:
            require(given == "num_heads" or d_model % value == 0, f"d_model {d_model} is no multiple of d_head {value}")
            rest = {"vocab_size": 1, "context_length": 1, "num_layers": 1, "d_ff": 1}
            model = ModelConfig(d_model=d_model, num_heads=heads, **rest)
        except ValueError as error:
            reason = reason or str(error)
            continue
        rows.append({"d_model": d_model, "num_heads": heads, "d_head": model.d_head})
    possible = pl.DataFrame(rows, schema=dict.fromkeys(("d_model", "num_heads", "d_head"), pl.Int64))
    return frame.join(possible, on=["d_model", given], how="inner", maintain_order="left"), reason


def _point(part: GridPart, row: Mapping[str, Any]) -> GridPoint:
    fields = {("compiled" if name == "compile" else name): value for name, value in row.items()}
    return GridPoint(subject=part.subject, phases=part.phases or SUBJECTS[part.subject].phases, **fields)


def _derived_names(subject: str) -> set[str]:
    return {"step_flop", "peak_bytes"} | ({"parameters"} if subject == "model" else set())


def _derived(points: list[GridPoint]) -> dict[str, pl.Series]:
    """The columns that constraints may use besides the axes; `step_flop` of an operation is that of all its phases."""
    columns: dict[str, list[int]] = {name: [] for name in sorted(_derived_names(points[0].subject))}
    for point in points:
        if point.subject == "model":
            costs = point.account()
            columns["parameters"].append(costs.parameters)
            columns["step_flop"].append(phase_cost(costs, "step").flop)
            columns["peak_bytes"].append(peak(costs).total)
        else:
            predicted = predict(point)
            columns["step_flop"].append(sum(predicted.flop.values()))
            columns["peak_bytes"].append(predicted.peak_bytes)
    return {name: pl.Series(values, dtype=pl.Float64) for name, values in columns.items()}


def _parsed(text: str) -> pl.Expr:
    try:
        expression = pl.sql_expr(text)
    except pl.exceptions.PolarsError as error:
        said = _first_line(error)
        said = said if len(said) <= LONGEST_REASON else f"{said[:LONGEST_REASON]} ..."
        raise ValueError(f"constraint {text!r} is no SQL expression ({said})") from None
    # `d_ff < 600 foo` would name its result foo, and `peak_bytes < 2 GiB` compare with 2.
    bare = expression.meta.undo_aliases()
    require(bare.meta.eq(expression), f"constraint {text!r}: more follows after the condition, which would be ignored")
    return expression


def _check_columns(text: str, expression: pl.Expr, known: Iterable[str]) -> None:
    """Raise ValueError if a constraint names what a point does not have."""
    known = sorted(known)
    hint = " (words stand in single quotes)" if '"' in text else ""
    for name in expression.meta.root_names():
        said = f"constraint {text!r}: there is no {name!r} (there is {', '.join(known)})"
        require(name in known, f"{said}{did_you_mean(name, known)}{hint}")


def _holds(frame: pl.DataFrame, text: str, expression: pl.Expr) -> pl.Series:
    """Whether a constraint holds, row by row."""
    try:
        series = frame.select(expression).to_series()
    except pl.exceptions.PolarsError as error:
        hint = " (words stand in single quotes)" if '"' in text else ""
        raise ValueError(f"constraint {text!r}: {_first_line(error)}{hint}") from None
    fits = series.dtype == pl.Boolean and len(series) == frame.height
    require(fits, f"constraint {text!r} is no condition on a point: compare something, as in d_model <= 512")
    return series.fill_null(False)


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "")
