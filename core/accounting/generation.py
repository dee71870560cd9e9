"""Generation with a key/value cache: a prefill of the prompt, then one token after the other."""

import dataclasses
from dataclasses import dataclass

from core.accounting.account import Account, Row, account
from core.accounting.formulas import Formula
from core.accounting.hardware import Device
from core.accounting.operations import Operation
from core.accounting.roofline import StepTime, forward_time
from core.config import ModelConfig

KV_CACHE_BYTES_PER_TOKEN = {"heads": Formula("c*L*kv*(dk + dv)"), "latent": Formula("c*L*(rkv + dr)")}
LATENT_DECODING = Operation(
    name="attention",
    group="attention",
    times="L",
    shape="B, h, T, rkv",
    forward_flop="2*B*h*(2*rkv + dr)*T*S",
    elementwise_flop="7*B*h*T*S",
    forward_ideal_bytes="c*(B*T*h*(rkv + dr) + B*S*(rkv + dr) + B*T*h*rkv)",
    forward_eager_bytes="c*(B*T*h*(rkv + dr) + B*S*(rkv + dr) + B*T*h*rkv)",
    note="on the cached latent vectors themselves: kv_up_proj goes into the query and comes out of the weighted sum",
)
"""Attention over a cache of latent vectors.

Reference:
    DeepSeek-AI (2024), section 2.1.2 (the absorbed form), arXiv:2405.04434.
"""


def kv_cache_bytes_per_token(model: ModelConfig, precision: str = "bfloat16") -> int:
    """Bytes that one token of one sequence leaves in the cache.

    c L h_kv (d_k + d_v);  with latent attention c L (r_kv + d_r)
    """
    costs = account(model, seq=1, precision=precision)
    return KV_CACHE_BYTES_PER_TOKEN["heads" if model.latent is None else "latent"](costs.symbols)


@dataclass(frozen=True, slots=True)
class Generation:
    """What it costs to answer prompts. Made by `generation`."""

    prompt_tokens: int
    new_tokens: int
    prefill: Account
    decode: Account
    """The step in the middle of the answer."""
    decode_flop: int
    """Operations of all steps of decoding, non-causal convention."""
    kv_cache_bytes: int
    """At the end of the answer, all sequences."""

    @property
    def memory_bytes(self) -> int:
        """Weights and cache; the few activations of a step are left out."""
        return self.prefill.parameter_bytes + self.kv_cache_bytes

    @property
    def flop(self) -> int:
        """Operations of prefill and decoding, non-causal convention."""
        return self.prefill.forward_flop + self.decode_flop

    def times(self, device: Device) -> tuple[StepTime, StepTime]:
        """Bounds on the prefill and on one step of decoding.

        Raises:
            ValueError: If the device has no known peak for the precision.
        """
        return forward_time(self.prefill, device), forward_time(self.decode, device)


def generation(
    model: ModelConfig, *, prompt_tokens: int, new_tokens: int, batch_size: int = 1, precision: str = "bfloat16"
) -> Generation:
    """What it costs to continue `batch_size` prompts; each new token, the last too, passes through the model once.

    Costs of decoding grow evenly with the position, so the step in the middle stands for all in times.

    Args:
        model: The architecture.
        prompt_tokens: Length of each prompt.
        new_tokens: Tokens generated for each.
        batch_size: Prompts answered together.
        precision: How weights and cache are stored.

    Raises:
        ValueError: For sizes that are not positive.
    """
    for name, value in (("prompt_tokens", prompt_tokens), ("new_tokens", new_tokens)):
        if type(value) is not int or value < 1:
            raise ValueError(f"{name} is {value!r}: it must be a whole number, at least 1")
    shared = {"batch_size": batch_size, "precision": precision}
    first, middle, last = (
        _decoding(model, prompt_tokens + place, **shared) for place in (1, (new_tokens + 1) // 2, new_tokens)
    )
    return Generation(
        prompt_tokens,
        new_tokens,
        account(model, seq=prompt_tokens, **shared),
        middle,
        new_tokens * (first.forward_flop + last.forward_flop) // 2,
        batch_size * (prompt_tokens + new_tokens) * kv_cache_bytes_per_token(model, precision),
    )


def _decoding(model: ModelConfig, keys: int, **shared: int | str) -> Account:
    """One step that finds so many positions in the cache, its own included."""
    costs = account(model, seq=1, keys=keys, **shared)
    if model.latent is None:
        return costs
    cells = LATENT_DECODING.evaluate(costs.symbols)
    own = Row(LATENT_DECODING, LATENT_DECODING.times(costs.symbols), cells)
    # Written out, attention is three rows; one that reads the cache takes their place.
    rows = [row for row in costs.rows if row.name not in ("attention scores", "softmax", "attention weighted sum")]
    rows = [own if row.name == "attention" else row for row in rows]
    if own not in rows:
        rows.insert([row.name for row in rows].index("o_proj"), own)
    return dataclasses.replace(costs, rows=tuple(rows))
