"""The phases of a training step as a benchmark times them: what each computes and moves, and its least time."""

from collections.abc import Iterator
from dataclasses import dataclass

from core.accounting.account import Account
from core.accounting.hardware import Device
from core.accounting.policies import choose
from core.accounting.roofline import training_time

PHASES: dict[str, tuple[str, ...]] = {
    "forward": ("forward",),
    "forward_loss": ("forward", "loss"),
    "backward": ("recompute", "backward"),
    "optimizer": ("update",),
    "step": ("forward", "loss", "recompute", "backward", "update"),
}
"""Each phase and its parts. `forward` ends at the logits. `loss` holds the gradients of the head, too: our loss forms
them along with its value (`core.model.linear_cross_entropy`). `recompute` is what checkpointing computes again,
`update` clipping and optimizer."""
_WITH_THE_LOSS = {("loss", "forward"), ("loss", "backward"), ("lm_head", "backward"), ("lm_head (tied)", "backward")}


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseCost:
    """What one phase of a step asks for."""

    flop: int
    """Of matrix products, the non-causal model convention: nothing that is computed twice, nor the optimizer's."""
    ideal_bytes: int
    """Read and written if each operation is one kernel."""


def phase_cost(costs: Account, phase: str) -> PhaseCost:
    """What a phase asks for; forward_loss, backward and optimizer add up to the step.

    >>> from core.config import ModelConfig
    >>> from core.accounting import account
    >>> costs = account(ModelConfig(vocab_size=7, context_length=5, d_model=6, num_layers=2, num_heads=3, d_ff=11))
    >>> phase_cost(costs, "step").flop == costs.training_step_flop
    True

    Raises:
        ValueError: For a phase that does not exist.
    """
    parts = choose("phase", phase, PHASES)
    cells = list(_cells(costs, parts))
    return PhaseCost(
        flop=sum(flop for part, flop, _ in cells if part not in ("recompute", "update")),
        ideal_bytes=sum(moved for _, _, moved in cells),
    )


def phase_bound_s(costs: Account, phase: str, device: Device, cache_bytes: int | None = None) -> float:
    """The least time of a phase on a device: the roofline, and traffic as far as no cache can hold it.

    Args:
        costs: Of the step.
        phase: One of `PHASES`.
        device: Its peaks.
        cache_bytes: Of the last-level cache; if None (not known) no traffic is counted.

    Raises:
        ValueError: For a phase that does not exist, or a device without a peak for the precision.
    """
    parts = choose("phase", phase, PHASES)
    bounds = training_time(costs, device, cache_bytes).operations
    return sum(bound.seconds for bound in bounds if part_of(bound.name, bound.phase) in parts)


def part_of(name: str, phase: str) -> str:
    """The part of a step (see `PHASES`) that an operation's phase of the roofline belongs to."""
    return "loss" if (name, phase) in _WITH_THE_LOSS else phase


def _cells(costs: Account, parts: tuple[str, ...]) -> Iterator[tuple[str, int, int]]:
    """Part, matrix FLOP and ideal bytes of each row in each of these parts."""
    for row in costs.rows:
        forward = "update" if row.group == "update" else part_of(row.name, "forward")
        ways = [(forward, "forward"), (part_of(row.name, "backward"), "backward")]
        if costs.checkpointing and row.operation.in_block:
            ways.append(("recompute", "forward"))
        for part, cells in ways:
            if part in parts:
                yield part, row.total(f"{cells}_flop"), row.total(f"{cells}_ideal_bytes")
