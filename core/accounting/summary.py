"""The answers of an account as plain values: what `workbook account --json` prints and the notebook downloads."""

from typing import Any

from core.accounting.account import Account
from core.accounting.budget import largest_batch_size, largest_seq
from core.accounting.generation import kv_cache_bytes_per_token
from core.accounting.hardware import Device
from core.accounting.memory import Moment, peak, textbook_memory_bytes
from core.accounting.operations import CELLS
from core.accounting.roofline import training_time
from core.config import to_dict


def summary(costs: Account, device: Device | None = None) -> dict[str, Any]:
    """Everything about a workload as one JSON object; exact integers, units in the names.

    Args:
        costs: The workload.
        device: Adds what it would take there, if its peak for the precision is known.

    Raises:
        ValueError: If the device has no known peak for the precision.
    """
    worst = peak(costs)
    answers = {
        "model": to_dict(costs.model),
        **workload(costs),
        "tokens": costs.tokens,
        "parameters": costs.parameters,
        "active_parameters": costs.active_parameters,
        "forward_flop": costs.forward_flop,
        "forward_flop_causal": costs.total("causal_forward_flop"),
        "backward_flop": costs.total("backward_flop"),
        "training_step_flop": costs.training_step_flop,
        "training_step_flop_causal": costs.training_step_flop_causal,
        "training_step_flop_hardware": costs.training_step_flop_hardware,
        "training_step_flop_6nd": costs.training_step_flop_6nd,
        "saved_bytes": costs.saved_bytes,
        "parameter_bytes": costs.parameter_bytes,
        "optimizer_bytes": costs.optimizer_bytes,
        "peak_bytes": worst.total,
        "peak_moment": str(worst),
        "peak_parts_bytes": {kind: getattr(worst, kind) for kind in Moment.KINDS},
        "textbook_memory_bytes": textbook_memory_bytes(costs.model, costs.batch_size, costs.seq),
        "kv_cache_bytes_per_token": kv_cache_bytes_per_token(costs.model, "bfloat16"),
        "operations": [
            {"name": row.name, "group": row.group, "times": row.times, **{cell: row.once(cell) for cell in CELLS[1:]}}
            for row in costs.rows
        ],
    }
    if device is not None:
        answers["device"] = on_device(costs, device)
    return answers


def workload(costs: Account) -> dict[str, Any]:
    """The arguments of `account` besides the model."""
    return {
        "batch_size": costs.batch_size,
        "seq": costs.seq,
        "precision": costs.precision,
        "optimizer": costs.optimizer,
        "checkpointing": costs.checkpointing,
        "loss_chunk": costs.loss_chunk,
        "accumulated": costs.accumulated,
    }


def on_device(costs: Account, device: Device) -> dict[str, Any]:
    """What a workload would take on a device at best, and what fits there.

    Raises:
        ValueError: If the device has no known peak for the precision.
    """
    time = training_time(costs, device)
    asked = workload(costs)
    return {
        "name": device.name,
        "memory_bytes": device.memory_bytes,
        "fits": peak(costs).total <= device.memory_bytes,
        "largest_batch_size": largest_batch_size(costs.model, device.memory_bytes, **_without(asked, "batch_size")),
        "largest_seq": largest_seq(costs.model, device.memory_bytes, **_without(asked, "seq")),
        "peak_flop_per_s": time.peak_flop_per_s,
        "step_arithmetic_s": time.arithmetic_s,
        "step_roofline_s": time.roofline_s,
        "tokens_per_s_roofline": costs.tokens / time.roofline_s,
        "mfu_noncausal_roofline": time.mfu_noncausal,
        "mfu_causal_roofline": costs.training_step_flop_causal / time.roofline_s / time.peak_flop_per_s,
    }


def _without(values: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key != name}
