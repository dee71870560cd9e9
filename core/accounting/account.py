"""Evaluating the table: what one model costs under one workload."""

from dataclasses import dataclass, field
from typing import Any

from core.accounting.formulas import Formula, scope
from core.accounting.operations import Operation
from core.accounting.policies import NEWTON_SCHULZ, OPTIMIZERS, PRECISIONS, choose
from core.accounting.table import operations
from core.config import ModelConfig


@dataclass(frozen=True, slots=True)
class Row:
    """An operation with its cells evaluated."""

    operation: Operation
    times: int
    cells: dict[str, int]
    """One occurrence; cells that are zero may be missing."""

    @property
    def name(self) -> str:
        """The operation's name."""
        return self.operation.name

    @property
    def group(self) -> str:
        """The operation's group."""
        return self.operation.group

    def once(self, cell: str) -> int:
        """A cell for one occurrence."""
        return self.cells.get(cell, 0)

    def total(self, cell: str) -> int:
        """A cell for all occurrences."""
        return self.times * self.cells.get(cell, 0)


@dataclass(frozen=True, slots=True)
class Account:
    """Every cost of a model under a workload; integers are exact. Made by `account`."""

    model: ModelConfig
    batch_size: int
    seq: int
    keys: int
    precision: str
    optimizer: str
    checkpointing: bool
    loss_chunk: int | None
    accumulated: bool
    symbols: dict[str, Any] = field(repr=False)
    rows: tuple[Row, ...] = field(repr=False)

    def total(self, cell: str) -> int:
        """A cell summed over the model."""
        return sum(row.times * row.cells.get(cell, 0) for row in self.rows)

    def _of_the_model(self, cell: str) -> int:
        """A cell summed over the model, the optimizer's products left out."""
        return sum(row.total(cell) for row in self.rows if row.group != "update")

    def shape(self, row: Row) -> tuple[int, ...]:
        """The axes of a row's result."""
        return tuple(axis(self.symbols) for axis in row.operation.axes)

    @property
    def parameters(self) -> int:
        """Weights in all; a tied head counts once."""
        return self.symbols["P"]

    @property
    def active_parameters(self) -> int:
        """Weights that one token meets, the embedding table counted whole."""
        return self.total("active_parameters")

    @property
    def tokens(self) -> int:
        """Tokens of one step."""
        return self.batch_size * self.seq

    @property
    def forward_flop(self) -> int:
        """Matrix products of a forward pass, non-causal model convention."""
        return self._of_the_model("forward_flop")

    @property
    def training_step_flop(self) -> int:
        """Forward and backward, non-causal model convention (PaLM, appendix B); the optimizer is left out."""
        return self.forward_flop + self.total("backward_flop")

    @property
    def training_step_flop_causal(self) -> int:
        """The same with only those pairs of query and key that the causal mask leaves (Megatron)."""
        return self._of_the_model("causal_forward_flop") + self.total("causal_backward_flop")

    @property
    def training_step_flop_hardware(self) -> int:
        """What the device is asked for: non-causal, and all that is computed twice (fused attention, checkpointing)."""
        again = self.total("recomputed_flop")
        if self.checkpointing:
            again += sum(row.total("forward_flop") for row in self.rows if row.operation.in_block)
        return self.training_step_flop + again

    @property
    def training_step_flop_6nd(self) -> int:
        """6 N D: the rule of thumb, N the weights that a token meets and D the tokens of the step.

        Reference:
            Kaplan et al. (2020), section 2.1, arXiv:2001.08361 (there N leaves embeddings out).
        """
        return 6 * self.active_parameters * self.tokens

    @property
    def saved_bytes(self) -> int:
        """Kept from forward to backward, parameters left out; with checkpointing, each block's input alone."""
        if not self.checkpointing:
            return self.total("saved_bytes")
        block_inputs = self.model.num_layers * self.block_input_bytes
        return block_inputs + sum(row.total("saved_bytes") for row in self.rows if not row.operation.in_block)

    @property
    def block_input_bytes(self) -> int:
        """The residual stream at one place."""
        return self.symbols["s"] * self.tokens * self.model.d_model

    @property
    def parameter_bytes(self) -> int:
        """Weights as they are stored; their gradients take as much."""
        return self.symbols["s"] * self.parameters

    @property
    def optimizer_bytes(self) -> int:
        """What the optimizer keeps between steps."""
        return OPTIMIZERS[self.optimizer].state_bytes(self.symbols)


def account(
    model: ModelConfig,
    *,
    batch_size: int = 1,
    seq: int | None = None,
    keys: int | None = None,
    precision: str = "float32",
    optimizer: str = "adamw",
    checkpointing: bool = False,
    loss_chunk: int | None = None,
    accumulated: bool = False,
) -> Account:
    """What a model costs.

    Args:
        model: The architecture.
        batch_size: Sequences.
        seq: Tokens of each that are computed; the full context if None.
        keys: Positions that the last of them sees, in decoding with a cache; `seq` if None.
        precision: One of `PRECISIONS`.
        optimizer: One of `OPTIMIZERS`.
        checkpointing: Keep only each block's input and compute the block again in the backward.
        loss_chunk: Tokens whose logits exist at once; all if None. The products are the same in number.
        accumulated: Whether this is a later micro-batch of a step: all gradients exist from its start. Then
            `batch_size` is that of the micro-batch.

    Raises:
        ValueError: For sizes that are not positive integers below 2^63, or names that do not exist.
    """
    seq = model.context_length if seq is None else seq
    keys = seq if keys is None else keys
    chunk = batch_size if loss_chunk is None else loss_chunk
    for name, value in (("batch_size", batch_size), ("seq", seq), ("keys", keys), ("loss_chunk", chunk)):
        if type(value) is not int or not 1 <= value < 2**63:
            raise ValueError(f"{name} is {value!r}: it must be a whole number from 1 to 2^63 - 1")
    if keys < seq:
        raise ValueError(f"keys is {keys}: the last of {seq} tokens sees at least all of these")
    for name, value in (("checkpointing", checkpointing), ("accumulated", accumulated)):
        if type(value) is not bool:
            raise ValueError(f"{name} is {value!r}: it must be True or False")
    sizes = _sizes(model, batch_size, seq, keys)
    tokens = sizes["B"] * sizes["T"]
    sizes["K"] = tokens if loss_chunk is None else min(loss_chunk, tokens)
    symbols = scope(sizes | choose("precision", precision, PRECISIONS).symbols)
    table = operations(model)
    times = [row.times(symbols) for row in table]
    counts = [row.parameters(symbols) for row in table]
    symbols["P"] = sum(number * count for number, count in zip(times, counts, strict=True))
    symbols["Pmax"] = max(counts)
    symbols |= _orthogonalised(table, symbols) if optimizer == "muon" else {}
    update = choose("optimizer", optimizer, OPTIMIZERS).row
    rows = tuple(
        Row(row, number, row.evaluate(symbols)) for row, number in zip((*table, update), (*times, 1), strict=True)
    )
    return Account(
        model=model,
        batch_size=batch_size,
        seq=seq,
        keys=keys,
        precision=precision,
        optimizer=optimizer,
        checkpointing=checkpointing,
        loss_chunk=loss_chunk,
        accumulated=accumulated,
        symbols=symbols,
        rows=rows,
    )


def _orthogonalised(table: tuple[Operation, ...], symbols: dict[str, Any]) -> dict[str, int]:
    """The values of M, N, W and Z: what Muon moves, and what that costs."""
    sums = {"M": 0, "N": 0, "W": 0, "Z": 0}
    for row in table:
        if not (row.in_block and row.matrices):
            continue
        count, *sides = (Formula(text)(symbols) for text in row.matrices)
        sizes = scope({"r": min(sides), "c": max(sides)})
        each = {name: formula(sizes) for name, formula in NEWTON_SCHULZ.items()}
        if number := row.times(symbols) * count:
            sums |= {name: sums[name] + number * each[name] for name in ("M", "N", "W")}
            sums["Z"] = max(sums["Z"], each["Z"])
    return sums


def _sizes(model: ModelConfig, batch_size: int, seq: int, keys: int) -> dict[str, int]:
    """The values of a formula's symbols, but for those that need a sum over the table and those of the precision."""
    experts, latent = model.experts, model.latent
    return {
        "B": batch_size,
        "T": seq,
        "S": keys,
        "V": model.vocab_size,
        "C": model.context_length,
        "d": model.d_model,
        "L": model.num_layers,
        "D": model.num_layers if experts is None else experts.num_dense_layers,
        "h": model.num_heads,
        "kv": model.kv_heads,
        "dk": model.d_head if latent is None else latent.d_nope + latent.d_rope,
        "dv": model.d_head if latent is None else latent.d_value,
        "f": model.d_ff,
        "b": int(model.bias),
        "E": experts.num_experts if experts else 0,
        "A": experts.experts_per_token if experts else 0,
        "X": experts.num_shared if experts else 0,
        "fe": experts.d_ff if experts else 0,
        "rq": latent.query_rank if latent else 0,
        "rkv": latent.key_value_rank if latent else 0,
        "dn": latent.d_nope if latent else 0,
        "dr": latent.d_rope if latent else 0,
    }


def parameters(model: ModelConfig) -> int:
    """Weights in all; a tied head counts once."""
    return account(model, seq=1).parameters


def forward_flop(model: ModelConfig, batch_size: int = 1, seq: int | None = None) -> int:
    """Operations of one forward pass, non-causal convention, the full context if `seq` is None."""
    return account(model, batch_size=batch_size, seq=seq).forward_flop


def training_step_flop(model: ModelConfig, batch_size: int = 1, seq: int | None = None) -> int:
    """Operations of forward and backward, non-causal convention, the full context if `seq` is None."""
    return account(model, batch_size=batch_size, seq=seq).training_step_flop
