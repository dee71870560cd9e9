"""Learning rate as a pure function of the step."""

import math

from core.config import ScheduleConfig


def cosine(step: int, *, max_lr: float, min_lr: float, warmup_steps: int, total_steps: int) -> float:
    """Linear warm-up, then half a cosine down to `min_lr`, which holds after `total_steps`.

        step < warmup:            step / warmup * max_lr
        warmup <= step <= total:  min_lr + (1 + cos(pi (step - warmup) / (total - warmup))) / 2 * (max_lr - min_lr)

    Reference:
        Loshchilov & Hutter (2017), eq. 5, arXiv:1608.03983, one cycle; the warm-up is Goyal et al. (2017).
    """
    progress = _progress(step, warmup_steps, total_steps)
    return _warmup(step, max_lr, warmup_steps, min_lr + (1 + math.cos(math.pi * progress)) / 2 * (max_lr - min_lr))


def linear(step: int, *, max_lr: float, min_lr: float, warmup_steps: int, total_steps: int) -> float:
    """Linear warm-up, then a straight line down to `min_lr`, which holds after `total_steps`."""
    progress = _progress(step, warmup_steps, total_steps)
    return _warmup(step, max_lr, warmup_steps, (1 - progress) * max_lr + progress * min_lr)


def warmup_stable_decay(
    step: int, *, max_lr: float, min_lr: float, warmup_steps: int, decay_steps: int, total_steps: int
) -> float:
    """Linear warm-up, a plateau at `max_lr`, then a straight line down over the last `decay_steps`.

    Reference:
        Hu et al. (2024), eq. 1, arXiv:2404.06395 (their annealing function f is our straight line).
    """
    progress = _progress(step, total_steps - decay_steps, total_steps)
    return _warmup(step, max_lr, warmup_steps, (1 - progress) * max_lr + progress * min_lr)


def learning_rate(step: int, *, max_lr: float, num_steps: int, schedule: ScheduleConfig) -> float:
    """The learning rate of a step (counted from 0) of a run.

    Warm-up counts from 1, so that the first step already moves; the last step, `num_steps - 1`, uses `final_lr`.

    Args:
        step: 0 .. num_steps - 1.
        max_lr: The peak, `optimizer.lr`.
        num_steps: Steps of the run.
        schedule: Shape, warm-up, decay, final rate.
    """
    if schedule.kind == "constant":
        return _warmup(step + 1, max_lr, schedule.warmup_steps, max_lr)
    shape = {"max_lr": max_lr, "min_lr": schedule.final_lr, "warmup_steps": schedule.warmup_steps}
    if schedule.kind == "cosine":
        return cosine(step + 1, total_steps=num_steps, **shape)
    if schedule.kind == "linear":
        return linear(step + 1, total_steps=num_steps, **shape)
    return warmup_stable_decay(step + 1, decay_steps=schedule.decay_steps, total_steps=num_steps, **shape)


def _warmup(step: int, max_lr: float, warmup_steps: int, otherwise: float) -> float:
    return max_lr * step / warmup_steps if step < warmup_steps else otherwise


def _progress(step: int, start: int, end: int) -> float:
    """1 from `end` on, 0 before `start`, straight between; the two may coincide."""
    if step >= end:
        return 1.0
    return 0.0 if step <= start else (step - start) / (end - start)
