"""What takes turns in the training benchmark: ours and others, or ours from plain to fast."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from core.config import RunConfig, with_fields
from core.experiments.train_contestants import OTHERS, OURS, check_llama, installed
from core.training.numerics import bfloat16_is_fast, check_numerics

BFLOAT16 = "bfloat16-autocast"
LOSS_CHUNK = 2048
LADDER: dict[str, dict[str, object]] = {
    "plain": {
        "model.attention": "written_out",
        "precision": "float32",
        "compile": False,
        "loss_chunk": None,
        "activation_checkpointing": False,
    },
    "fused attention": {"model.attention": "sdpa"},
    "loss in chunks": {"loss_chunk": LOSS_CHUNK},
    "tf32": {"precision": "tf32"},
    "compiled": {"compile": True},
    "bfloat16": {"precision": BFLOAT16},
    "checkpointing": {"activation_checkpointing": True},
}
"""Steps from the formulas as they are written to the fastest, and what each changes; the last saves memory alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One that takes turns with the others."""

    name: str
    contestant: str
    config: RunConfig


def contestant_cases(
    config: RunConfig, against: Sequence[str] | None = None, precisions: Sequence[str] | None = None
) -> tuple[list[Case], list[str]]:
    """Ours and the others in each precision, ours first, and a line about each that is left out.

    Args:
        config: Device resolved, and `compile` as all are to have it.
        against: Names of others; all if None.
        precisions: If None, the configuration's and, where the device has instructions for it, bfloat16; of that on a
            CPU ours alone.

    Raises:
        ValueError: For a name that is none, or a precision that the device has not.
    """
    wanted = list(OTHERS) if against is None else list(dict.fromkeys(against))
    for name in wanted:
        if name not in OTHERS:
            raise ValueError(f"against is {name!r}: it must be {' or '.join(OTHERS)}")
    lines = [f"{name} needs {OTHERS[name].package}, which is not installed" for name in wanted if not installed(name)]
    names = [OURS, *filter(installed, wanted)]
    if len(names) > 1:
        try:
            check_llama(config.model)
        except ValueError as error:
            names, lines = [OURS], [*lines, str(error)]
    chosen = [(precision, names) for precision in dict.fromkeys(precisions or [config.precision])]
    if precisions is None and config.precision != BFLOAT16:
        if bfloat16_is_fast(config.device):
            chosen.append((BFLOAT16, [OURS] if torch.device(config.device).type == "cpu" else names))
        else:
            lines.append(f"{BFLOAT16}: this CPU has no instructions for it (--precision {BFLOAT16} measures it still)")
    cases = [
        Case(name=f"{name} {precision}", contestant=name, config=replace(config, precision=precision))
        for precision, those in chosen
        for name in those
    ]
    for case in cases:
        check_numerics(case.config)
    return cases, lines


def ladder_cases(config: RunConfig) -> tuple[list[Case], list[str]]:
    """Our own configurations, each the one before with a step of `LADDER`, and a line about each step left out."""
    cases, lines = [], []
    for name, changes in LADDER.items():
        changed = with_fields(config, changes)
        try:
            if changes.get("precision") == BFLOAT16 and not bfloat16_is_fast(config.device):
                raise ValueError("this CPU has no instructions for it")
            check_numerics(changed)
        except ValueError as error:
            lines.append(f"{name}: {error}")
            continue
        config = changed
        cases.append(Case(name=name, contestant=OURS, config=config))
    return cases, lines
