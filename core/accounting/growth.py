"""How costs grow when one size of a model or its workload does."""

import dataclasses
import math

from core.accounting.account import Account, account
from core.accounting.memory import peak
from core.config import ModelConfig

AXES = {
    "num_layers": "L, layers",
    "d_model": "d, width (heads and d_ff in proportion)",
    "seq": "T, tokens of a sequence",
    "batch_size": "B, sequences",
    "vocab_size": "V, vocabulary",
}
QUANTITIES = {
    "parameters": "parameters",
    "training_step_flop": "training FLOP per step",
    "saved_bytes": "saved bytes",
    "peak_bytes": "bytes at the peak",
}


def quantity(costs: Account, name: str) -> int:
    """One of `QUANTITIES`."""
    return peak(costs).total if name == "peak_bytes" else getattr(costs, name)


def scaled(model: ModelConfig, axis: str, factor: int, **workload) -> Account:
    """The account with one of `AXES` multiplied by a whole factor.

    A wider model has more heads of the same width and a wider feed-forward, as families of models do.

    Raises:
        ValueError: For an unknown axis.
    """
    if axis not in AXES:
        raise ValueError(f"axis is {axis!r}: it must be one of {', '.join(AXES)}")
    if axis == "seq":
        seq = workload.pop("seq", None)
        seq = factor * (model.context_length if seq is None else seq)
        return account(dataclasses.replace(model, context_length=max(seq, model.context_length)), seq=seq, **workload)
    if axis == "batch_size":
        return account(model, batch_size=factor * workload.pop("batch_size", 1), **workload)
    names = [axis] if axis != "d_model" else ["d_model", "num_heads", "d_ff"]
    changes = {name: factor * getattr(model, name) for name in names}
    if axis == "d_model" and model.num_kv_heads is not None:
        changes["num_kv_heads"] = factor * model.num_kv_heads
    if axis == "d_model" and model.experts is not None:
        changes["experts"] = dataclasses.replace(model.experts, d_ff=factor * model.experts.d_ff)
    return account(dataclasses.replace(model, **changes), **workload)


def growth(model: ModelConfig, axis: str, factors: tuple[int, ...] = (1, 2, 4, 8, 16), **workload) -> list[dict]:
    """Rows of `axis, factor, quantity, value` for every quantity, ready for a chart."""
    rows = []
    for factor in factors:
        costs = scaled(model, axis, factor, **workload)
        rows += [
            {"axis": axis, "factor": factor, "quantity": name, "value": quantity(costs, name)} for name in QUANTITIES
        ]
    return rows


def exponent(model: ModelConfig, axis: str, name: str, **workload) -> float:
    """The power with which a quantity grows here: log2 of its factor when the axis doubles."""
    once, twice = (quantity(scaled(model, axis, factor, **workload), name) for factor in (1, 2))
    return math.log2(twice / once)
