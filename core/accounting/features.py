"""What a step's time is made of: sums over the operation table that a fitted model gives prices to."""

from dataclasses import dataclass

from core.accounting.account import Account, Row
from core.accounting.phases import PHASES, part_of
from core.accounting.policies import choose


@dataclass(frozen=True, slots=True)
class Feature:
    """One term of a step's time."""

    unit: str
    """Of the amount; a coefficient is seconds for one of these."""
    meaning: str


FEATURES: dict[str, Feature] = {
    "projection_flop": Feature("FLOP", "products with attention's weights"),
    "feed_forward_flop": Feature("FLOP", "products with the feed-forward's weights"),
    "attention_flop": Feature("FLOP", "scores and weighted sums, written out"),
    "fused_attention_flop": Feature("FLOP", "scores and weighted sums in one kernel"),
    "head_flop": Feature("FLOP", "products with the output head"),
    "update_flop": Feature("FLOP", "the optimizer's own products"),
    "score_bytes": Feature("B", "softmax over the scores, kernel by kernel"),
    "fused_attention_bytes": Feature("B", "queries, keys, values and outputs of the fused kernel"),
    "activation_bytes": Feature("B", "the feed-forward's function, kernel by kernel"),
    "elementwise_bytes": Feature("B", "norms, rotations, residual sums and lookups, kernel by kernel"),
    "logit_bytes": Feature("B", "the loss over all logits, kernel by kernel"),
    "update_bytes": Feature("B", "gradient clipping and optimizer, each operand once"),
    "operations": Feature("operation", "rows of the table as often as they occur, each some launches"),
    "calls": Feature("call", "once each time"),
    "attention_matrices": Feature("matrix", "one for each layer, head and sequence"),
    "token_rows": Feature("row", "one for each layer and token"),
}
"""In the order of a report. FLOP are matrix products in the non-causal model convention."""

MEMORY_TERMS: dict[str, str] = {
    "state": "weights, gradients and what the optimizer keeps",
    "activations": "saved for the backward outside of the two below",
    "feed_forward": "saved by the feed-forward",
    "scores": "saved by attention's scores",
}
"""What memory a training step fills, in bytes each."""


def features(costs: Account, phase: str = "step") -> dict[str, float]:
    """The amounts that a phase's time is a sum of, each with a price of its own.

        seconds = sum_j c_j feature_j,   c_j >= 0

    Args:
        costs: Model and workload.
        phase: One of `PHASES`.

    Returns:
        One amount for each of `FEATURES`, in its unit, none negative.

    Raises:
        ValueError: For a phase that does not exist.
    """
    parts = choose("phase", phase, PHASES)
    amounts = dict.fromkeys(FEATURES, 0.0)
    amounts["calls"] = 1.0
    for row in costs.rows:
        if row.group == "update":
            if "update" in parts:
                amounts["update_flop"] += row.total("forward_flop")
                amounts["update_bytes"] += row.total("forward_ideal_bytes")
                amounts["operations"] += row.times
            continue
        for name in ("forward", "backward"):
            if part_of(row.name, name) not in parts:
                continue
            for feature, cell in _terms(row):
                amounts[feature] += row.total(f"{name}_{cell}")
            amounts["operations"] += row.times if row.once(f"{name}_eager_bytes") else 0
    layers = costs.model.num_layers * sum(name in parts for name in ("forward", "backward"))
    amounts["attention_matrices"] = float(layers * costs.model.num_heads * costs.batch_size)
    amounts["token_rows"] = float(layers * costs.tokens)
    return amounts


def _terms(row: Row) -> list[tuple[str, str]]:
    """The features that a row of the model adds to, and with which of its cells."""
    if row.name == "attention":
        return [("fused_attention_flop", "flop"), ("fused_attention_bytes", "eager_bytes")]
    if row.name in ("attention scores", "attention weighted sum"):
        return [("attention_flop", "flop")]
    if row.name == "softmax":
        return [("score_bytes", "eager_bytes")]
    if row.name == "loss":
        return [("logit_bytes", "eager_bytes")]
    if row.once("forward_flop"):
        group = {"attention": "projection", "feed-forward": "feed_forward", "output": "head"}[row.group]
        return [(f"{group}_flop", "flop")]
    return [("activation_bytes" if row.name.endswith("activation") else "elementwise_bytes", "eager_bytes")]


def memory_terms(costs: Account) -> dict[str, int]:
    """What a training step keeps in memory, in bytes, by `MEMORY_TERMS`; all saved at once, nothing recomputed."""
    terms = dict.fromkeys(MEMORY_TERMS, 0)
    terms["state"] = 2 * costs.parameter_bytes + costs.optimizer_bytes
    for row in costs.rows:
        if row.name in ("attention scores", "softmax", "attention weighted sum", "attention"):
            kind = "scores"
        else:
            kind = "feed_forward" if row.group == "feed-forward" else "activations"
        terms[kind] += row.total("saved_bytes")
    return terms
