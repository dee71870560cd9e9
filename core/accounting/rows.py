"""The answers of an account as rows (lists of dictionaries): what figures and tables are made of."""

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from core.accounting.account import Account, Row
from core.accounting.budget import largest_that_fits, peak_bytes
from core.accounting.generation import kv_cache_bytes_per_token
from core.accounting.growth import QUANTITIES, growth
from core.accounting.hardware import Device
from core.accounting.memory import by_layer, peak
from core.accounting.parallel import SCHEMES, shard
from core.accounting.roofline import StepTime
from core.accounting.text import bytes_text, count
from core.config import ModelConfig

BREAKDOWNS = {
    "parameters": ("parameters",),
    "FLOP": ("forward_flop", "backward_flop"),
    "saved bytes": ("saved_bytes",),
    "memory traffic": ("forward_eager_bytes", "backward_eager_bytes"),
}
"""What can be broken down by operation, and the cells that it is the sum of."""

TABLE_CELLS = {
    "parameters": "parameters",
    "forward_flop": "forward FLOP",
    "backward_flop": "backward FLOP",
    "forward_ideal_bytes": "forward bytes, ideal",
    "forward_eager_bytes": "forward bytes, eager",
    "backward_ideal_bytes": "backward bytes, ideal",
    "backward_eager_bytes": "backward bytes, eager",
    "saved_bytes": "saved bytes",
}
"""The cells of the operation table that are shown, and their titles."""


def diagram_rows(costs: Account, href: Callable[[str], str]) -> list[dict[str, Any]]:
    """The operations of the forward pass, one occurrence each, for `charts.diagram`; `href` by their name."""
    return [
        {
            "name": row.name,
            "group": row.group,
            "times": row.times,
            "symbols": row.operation.shape.replace("*", "·"),
            "shape": " × ".join(f"{size:,}" for size in costs.shape(row)),
            "parameters": row.once("parameters"),
            "flop": row.once("forward_flop"),
            "bytes": row.once("saved_bytes"),
            "href": href(row.name),
        }
        for row in costs.rows
        if row.group != "update"
    ]


def breakdown_rows(costs: Account, what: str) -> list[dict[str, Any]]:
    """One of `BREAKDOWNS` by operation, all occurrences together; what is zero is left out.

    With checkpointing the operations of blocks save nothing, but each block its input, which is a row of its own.
    """

    def value(row: Row) -> int:
        return sum(row.total(cell) for cell in BREAKDOWNS[what])

    checkpointed = what == "saved bytes" and costs.checkpointing
    rows = [
        {"name": row.name, "group": row.group, "value": value(row)}
        for row in costs.rows
        if row.group != "update" and value(row) and not (checkpointed and row.operation.in_block)
    ]
    if checkpointed:
        start = sum(row["group"] == "embedding" for row in rows)
        inputs = costs.model.num_layers * costs.block_input_bytes
        rows.insert(start, {"name": "block inputs", "group": "attention", "value": inputs})
    return rows


def memory_rows(costs: Account) -> list[dict[str, Any]]:
    """What lives over a step, for `charts.memory_walk_chart`."""
    return [
        {
            "order": place,
            "moment": str(moment),
            "phase": moment.phase,
            "total": moment.total,
            **{kind: getattr(moment, kind) for kind in moment.KINDS},
        }
        for place, moment in enumerate(by_layer(costs))
    ]


def roofline_points(time: StepTime) -> list[dict[str, Any]]:
    """The operations of a step, for `charts.roofline_chart`."""
    return [
        {
            "name": bound.name,
            "group": bound.group,
            "phase": bound.phase,
            "intensity": bound.intensity,
            "flop_per_s": (bound.flop + bound.elementwise_flop) / bound.seconds,
            "flop": bound.flop + bound.elementwise_flop,
            "bytes": bound.bytes,
            "seconds": bound.seconds,
            "share": bound.seconds / time.roofline_s,
        }
        for bound in time.operations
        if bound.intensity > 0
    ]


def growth_rows(model: ModelConfig, axis: str, **workload) -> list[dict[str, Any]]:
    """Factors of all costs over factors of one size, for `charts.growth_chart`."""
    rows = growth(model, axis, **workload)
    once = {row["quantity"]: row["value"] for row in rows if row["factor"] == 1}
    return [
        {"x": row["factor"], "y": row["value"] / once[row["quantity"]], "component": QUANTITIES[row["quantity"]]}
        for row in rows
    ]


def comparison_rows(this: Account, other: Account) -> list[dict[str, Any]]:
    """Two accounts side by side: `quantity, this, other` as numbers, `this_text, other_text`, `ratio` other / this."""
    pairs = (
        ("parameters", "", this.parameters, other.parameters),
        ("active parameters", "", this.active_parameters, other.active_parameters),
        ("forward FLOP per token", "FLOP", this.forward_flop / this.tokens, other.forward_flop / other.tokens),
        ("FLOP of a training step", "FLOP", this.training_step_flop, other.training_step_flop),
        ("saved bytes per token", "B", this.saved_bytes / this.tokens, other.saved_bytes / other.tokens),
        ("bytes at the peak", "B", peak(this).total, peak(other).total),
        ("cache bytes per token", "B", kv_cache_bytes_per_token(this.model), kv_cache_bytes_per_token(other.model)),
    )
    return [
        {
            "quantity": name,
            "this": here,
            "other": there,
            "this_text": bytes_text(here) if unit == "B" else count(here, unit),
            "other_text": bytes_text(there) if unit == "B" else count(there, unit),
            "ratio": there / here,
        }
        for name, unit, here, there in pairs
    ]


def budget_rows(model: ModelConfig, devices: Iterable[Device], workload: Mapping[str, Any]) -> list[dict[str, str]]:
    """For each device the largest batch and the longest sequence of which a training step fits."""
    # Remembered: the search tries much the same sizes on every device.
    by_batch_size = functools.cache(lambda size: peak_bytes(model, **{**workload, "batch_size": size}))
    by_seq = functools.cache(lambda size: peak_bytes(model, **{**workload, "seq": size}))

    def largest(cost: Callable[[int], int], device: Device) -> str:
        size = largest_that_fits(cost, device.memory_bytes)
        return f"{size:,}" if size else "does not fit"

    return [
        {
            "device": device.name,
            "memory": bytes_text(device.memory_bytes),
            "largest batch": largest(by_batch_size, device),
            "longest sequence": largest(by_seq, device),
        }
        for device in devices
    ]


def shard_rows(costs: Account, degree: int, device: Device) -> list[dict[str, str]]:
    """For each way of spreading a step over devices, what one of them holds."""
    rows = []
    for scheme in SCHEMES:
        try:
            part = shard(costs, scheme, degree)
        except ValueError as error:
            rows.append({"scheme": scheme, "on each": str(error)})
            continue
        kinds = ("parameters", "gradients", "optimizer", "gathered", "activations")
        row = {"scheme": scheme, "on each": bytes_text(part.total)}
        row[device.name] = "fits" if part.total <= device.memory_bytes else "does not fit"
        rows.append(row | {kind: bytes_text(getattr(part, kind)) for kind in kinds})
    return rows


def convention_rows(costs: Account) -> list[dict[str, str]]:
    """The conventions by which a step's operations are counted."""
    conventions = (
        (
            "model, non-causal",
            costs.training_step_flop,
            "every pair of query and key, backward twice the forward (PaLM)",
        ),
        ("model, causal", costs.training_step_flop_causal, "only pairs that the causal mask leaves (Megatron)"),
        ("hardware", costs.training_step_flop_hardware, "non-causal, and all that is computed twice"),
        ("6ND", costs.training_step_flop_6nd, "six for each active weight and token: no attention, embeddings counted"),
    )
    return [
        {
            "convention": name,
            "FLOP of a step": f"{flop:,}",
            "of the first": f"{flop / costs.training_step_flop:.4f}",
            "what counts": what,
        }
        for name, flop, what in conventions
    ]


def operation_rows(costs: Account) -> list[dict[str, Any]]:
    """The operation table, evaluated for one occurrence of each."""
    return [
        {"operation": row.name, "times": row.times, **{title: row.once(cell) for cell, title in TABLE_CELLS.items()}}
        for row in costs.rows
    ]


def formula_markdown(row: Row) -> str:
    """A row's formulas as a Markdown table of LaTeX."""
    operation = row.operation
    cells = [(cell, getattr(operation, cell)) for cell in TABLE_CELLS]
    lines = [
        f"| {TABLE_CELLS[cell]} | ${formula.latex()}$ | {row.once(cell):,} |"
        for cell, formula in cells
        if not formula.is_zero
    ]
    axes = ", ".join(axis.latex() for axis in operation.axes)
    often = "once" if operation.times.text == "1" else f"${operation.times.latex()}$ = {row.times} times"
    words = [f"Occurs {often}."]
    words += [f"Its result has the axes ${axes}$."] if axes else []
    words += [f"{operation.note[:1].upper()}{operation.note[1:]}."] if operation.note else []
    return " ".join(words) + "\n\n| cell | formula | once |\n|---|---|---|\n" + "\n".join(lines)
