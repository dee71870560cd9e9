"""Memory per device when a model is spread over several."""

import dataclasses
from dataclasses import dataclass

from core.accounting.account import Account, account
from core.accounting.memory import walk
from core.config import ModelConfig

SCHEMES = ("ddp", "zero-1", "zero-2", "zero-3", "fsdp", "tensor")


@dataclass(frozen=True, slots=True)
class Shard:
    """What one of several devices holds, bytes."""

    scheme: str
    degree: int
    parameters: int
    gradients: int
    optimizer: int
    gathered: int
    """Whole weights and gradients that are put together for the block at work."""
    activations: int
    """Saved and temporary, when they are most."""

    @property
    def total(self) -> int:
        """All of it; gradients and gathered weights as if they lived at the activations' peak: an upper bound."""
        return self.parameters + self.gradients + self.optimizer + self.gathered + self.activations


def shard(costs: Account, scheme: str, degree: int) -> Shard:
    """Memory of one device.

        ddp      everything on each                zero-1   optimizer state / n
        zero-2   gradients / n besides             zero-3   weights / n besides, one row's gathered when used
        fsdp     as zero-3, gathered block by block, the next one already under way (so is a table larger than a block)
        tensor   heads, feed-forward and vocabulary / n

    Args:
        costs: The workload of one device (its share of the batch).
        scheme: One of `SCHEMES`.
        degree: Number of devices n.

    Raises:
        ValueError: For an unknown scheme, or what cannot be divided.

    Reference:
        ZeRO: Rajbhandari et al. (2020), section 5, arXiv:1910.02054. Tensor: Shoeybi et al. (2019), arXiv:1909.08053.
    """
    if type(degree) is not int or degree < 1:
        raise ValueError(f"degree is {degree!r}: it must be a whole number of devices, at least 1")
    if scheme not in SCHEMES:
        raise ValueError(f"scheme is {scheme!r}: it must be one of {', '.join(SCHEMES)}")
    if scheme == "tensor":
        costs = _account_like(costs, tensor_parallel(costs.model, degree))
    divided = {"zero-1": 1, "zero-2": 2, "zero-3": 3, "fsdp": 3}.get(scheme, 0)
    parameters, gradients, optimizer = (
        -(-size // degree) if place <= divided else size
        for size, place in ((costs.parameter_bytes, 3), (costs.parameter_bytes, 2), (costs.optimizer_bytes, 1))
    )
    # Before the last layer of each kind, dense or mixture, most is saved.
    layers = {layer for layer in (costs.symbols["D"] - 1, costs.model.num_layers - 1) if layer >= 0}
    activations = max(
        # The update's workspace shrinks with the optimizer's state.
        moment.saved + -(-moment.temporary // (degree if divided and moment.phase == "update" else 1))
        for moment in walk(costs, layers)
    )
    gathered = 0
    if degree > 1 and divided == 3:
        # Weights and gradient of what is at work; with fsdp the weights of the next block besides.
        row, block = costs.symbols["Pmax"], _largest_block(costs)
        gathered = costs.symbols["s"] * (2 * max(row, block) + block if scheme == "fsdp" else 2 * row)
    return Shard(scheme, degree, parameters, gradients, optimizer, gathered, activations)


def _largest_block(costs: Account) -> int:
    """Parameters of the larger kind of block: with the plain feed-forward, or with a mixture of experts."""
    rows = [row for row in costs.rows if row.operation.in_block and row.times]
    return max(
        sum(row.once("parameters") for row in rows if row.operation.times.text != other) for other in ("D", "L - D")
    )


def tensor_parallel(model: ModelConfig, degree: int) -> ModelConfig:
    """The part of a model that one of several tensor-parallel devices computes.

    Raises:
        ValueError: If heads, feed-forward or vocabulary cannot be divided evenly.
    """
    sizes = {"num_heads": model.num_heads, "num_kv_heads": model.kv_heads, "d_ff": model.d_ff}
    sizes["vocab_size"] = model.vocab_size
    if model.experts is not None:
        sizes["experts.d_ff"] = model.experts.d_ff
    for name, size in sizes.items():
        if size % degree:
            raise ValueError(f"{name} {size} is not divisible by {degree} devices")
    parts = {name: size // degree for name, size in sizes.items() if "." not in name}
    if model.latent is None:
        parts["head_dim"] = model.d_head
    else:
        del parts["num_kv_heads"]
    if model.experts is not None:
        parts["experts"] = dataclasses.replace(model.experts, d_ff=model.experts.d_ff // degree)
    return dataclasses.replace(model, **parts)


def _account_like(costs: Account, model: ModelConfig) -> Account:
    return account(
        model,
        batch_size=costs.batch_size,
        seq=costs.seq,
        keys=costs.keys,
        precision=costs.precision,
        optimizer=costs.optimizer,
        checkpointing=costs.checkpointing,
    )
