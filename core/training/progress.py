"""What a run in progress says of itself: the numbers beside its growing curve. Only the device needs torch."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from core.accounting.runs import gemm_flop_per_s, mfu_noncausal
from core.accounting.text import duration
from core.curves import speed

RECENT = 20
"""Steps whose median counts as the speed now."""


def this_device(device: str) -> dict[str, Any]:
    """How rows written on this machine call a device: `device`, `device_name`, `num_threads`."""
    import torch

    from core.training.device import device_name

    return {"device": device, "device_name": device_name(device), "num_threads": torch.get_num_threads()}


def progress(
    rows: Sequence[Mapping[str, Any]],
    *,
    num_steps: int,
    precision: str,
    device: Mapping[str, Any],
    devices: Iterable[Mapping[str, Any]],
) -> tuple[dict[str, str], str | None]:
    """Where a run stands, by what it is called; a dash where nothing is known yet.

        time left = steps left * tokens per step / tokens per second

    Evaluations and checkpoints come on top of the time left.

    Args:
        rows: Of table `steps`, in order, one at least.
        num_steps: Of the whole run.
        precision: One of `PRECISIONS`.
        device: As `this_device` has it.
        devices: Rows of table `devices`.

    Returns:
        The numbers as text, and a sentence about why there is no utilisation, or None.
    """
    last, now = rows[-1], speed(rows[-RECENT:])
    losses = [row["eval_loss_nats"] for row in rows if row["eval_loss_nats"] is not None]
    rate = left = mfu = "–"
    unmeasured = None
    if now is not None:
        rate = f"{now.tokens_per_s:,.0f}"
        left = duration((num_steps - last["step"]) / last["step"] * last["tokens"] / now.tokens_per_s)
        try:
            peak = gemm_flop_per_s(devices, precision=precision, **device)
            mfu = f"{mfu_noncausal(now.flop_per_s, peak):.1%}"
        except ValueError as error:
            unmeasured = str(error)
    numbers = {
        "step": f"{last['step']:,} / {num_steps:,}",
        "batch loss": "–" if last["train_loss_nats"] is None else f"{last['train_loss_nats']:.3f}",
        "evaluation loss": f"{losses[-1]:.4f}" if losses else "–",
        "tokens/s": rate,
        "MFU (non-causal)": mfu,
        "training time left": left,
    }
    return numbers, unmeasured
