"""Memory of a training step: what lives at every moment, and which moment is the peak."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import ClassVar

from core.accounting.account import Account, Row, account
from core.accounting.formulas import Formula
from core.accounting.policies import OPTIMIZERS
from core.config import ModelConfig


@dataclass(frozen=True, slots=True)
class Moment:
    """One operation of a step, at its worst. All numbers are bytes."""

    KINDS: ClassVar[tuple[str, ...]] = ("parameters", "optimizer", "gradients", "saved", "temporary")

    phase: str
    """`forward`, `recompute` (activation checkpointing), `backward` or `update`."""
    name: str
    """The operation."""
    layer: int | None
    """The first is 0; None outside of the blocks."""
    parameters: int
    optimizer: int
    gradients: int
    """Of parameters whose backward is done."""
    saved: int
    """Kept for the backward that is still to come."""
    temporary: int
    """Whatever else lives: results not yet passed on, gradients on their way, workspace."""

    @property
    def total(self) -> int:
        """Everything alive."""
        return self.parameters + self.optimizer + self.gradients + self.saved + self.temporary

    def __str__(self) -> str:
        where = f" of layer {self.layer + 1}" if self.layer is not None else ""
        return f"{self.phase}, {self.name}{where}"


def walk(costs: Account, layers: Iterable[int] | None = None) -> Iterator[Moment]:
    """The moments of a training step in their order: forward, backward layer by layer, update.

        alive = parameters + optimizer state + gradients so far + saved so far + the row's live bytes

    Args:
        costs: The workload.
        layers: Only these of the layers, first is 0; all if None.
    """
    parts = _Parts(costs)
    num_layers = costs.model.num_layers
    chosen = range(num_layers) if layers is None else sorted(set(layers))
    yield from parts.forward(parts.start, 0, None)
    for layer in chosen:
        yield from parts.forward(parts.block(layer), parts.saved_before(layer), layer)
    before_end = parts.saved_before(num_layers)
    yield from parts.forward(parts.end, before_end, None)
    yield from parts.backward(parts.end, before_end, parts.gradients_before, None)
    for layer in reversed(chosen):
        before, gradients = parts.saved_before(layer), parts.gradients_after(layer)
        if costs.checkpointing:
            yield from parts.recompute(parts.block(layer), before, gradients, layer)
            before += parts.input_besides
        yield from parts.backward(parts.block(layer), before, gradients, layer)
    yield from parts.backward(parts.start, 0, parts.gradients_after(-1), None)
    temporary = OPTIMIZERS[costs.optimizer].temporary_bytes(costs.symbols)
    for name, extra in (("gradient clipping", 0), ("optimizer", temporary)):
        yield parts.moment("update", name, None, costs.parameter_bytes, 0, extra)


def peak(costs: Account) -> Moment:
    """The moment of a training step at which most lives.

    What lives in one operation grows or shrinks evenly from layer to layer, so the first and the last layer of each
    kind hold the extremes.
    """
    last, dense = costs.model.num_layers - 1, costs.symbols["D"]
    layers = {layer for layer in (0, dense - 1, dense, last) if 0 <= layer <= last}
    return max(walk(costs, layers), key=lambda moment: moment.total)


def by_layer(costs: Account) -> list[Moment]:
    """The walk at a picture's resolution: the worst moment of each phase in each layer, in order."""
    worst: dict[tuple[str, int | str], Moment] = {}
    for moment in walk(costs):
        key = (moment.phase, moment.name if moment.layer is None else moment.layer)
        if key not in worst or moment.total > worst[key].total:
            worst[key] = moment
    return list(worst.values())


class _Parts:
    """The rows before, in and behind the blocks, with the sums that the walk needs."""

    def __init__(self, costs: Account) -> None:
        self.costs = costs
        self.gradients_before = costs.parameter_bytes if costs.accumulated else 0
        self.start = [row for row in costs.rows if row.group == "embedding"]
        self.end = [row for row in costs.rows if row.group == "output"]
        in_block = [row for row in costs.rows if row.operation.in_block]
        self._blocks = (
            [row for row in in_block if row.operation.times.text != "L - D"],
            [row for row in in_block if row.operation.times.text != "D"],
        )
        self._saved = tuple(sum(row.once("saved_bytes") for row in block) for block in self._blocks)
        self._gradients = tuple(sum(self._gradient(row) for row in block) for block in self._blocks)
        self._num_dense = costs.symbols["D"]
        self._always = costs.parameter_bytes, costs.optimizer_bytes
        # A block's first norm or product keeps its input, unless it keeps a cast of it instead.
        casts, in_front = costs.symbols["q"] > 0, costs.model.norm_placement == "pre"
        self.input_besides = costs.block_input_bytes if casts and not in_front else 0

    def block(self, layer: int) -> list[Row]:
        """The rows of a layer."""
        return self._blocks[layer >= self._num_dense]

    def saved_before(self, layer: int) -> int:
        """Bytes saved by all that comes before a layer."""
        start = sum(row.once("saved_bytes") for row in self.start)
        if self.costs.checkpointing:
            return start + layer * self.costs.block_input_bytes
        return start + sum(count * saved for count, saved in zip(self._counts(layer), self._saved, strict=True))

    def gradients_after(self, layer: int) -> int:
        """Bytes of the gradients that exist once the backward has been through all that comes after a layer."""
        whole, done = self._counts(self.costs.model.num_layers), self._counts(layer + 1)
        blocks = zip(whole, done, self._gradients, strict=True)
        in_blocks = sum((count - before) * gradients for count, before, gradients in blocks)
        return self.gradients_before + sum(self._gradient(row) for row in self.end) + in_blocks

    def _counts(self, layer: int) -> tuple[int, int]:
        """How many of the layers before this one are dense, and how many are mixtures."""
        dense = min(layer, self._num_dense)
        return dense, layer - dense

    def _gradient(self, row: Row) -> int:
        """Bytes that a row's backward leaves behind; a gradient that is added to an earlier one leaves none."""
        symbols = self.costs.symbols
        # A tied head has no parameters of its own, yet its gradient of the whole table waits for the embedding's.
        tied = symbols["V"] * symbols["d"] if row.name == "lm_head (tied)" else 0
        own = 0 if self.costs.accumulated else row.once("parameters")
        return symbols["s"] * (own + tied)

    def forward(self, rows: list[Row], saved: int, layer: int | None) -> Iterator[Moment]:
        """The moments of a forward through these rows."""
        if self.costs.checkpointing and layer is not None:
            # Without autograd nothing outlives its use: what the row works on, and the block's input.
            for row in rows:
                own = row.once("saved_bytes") + row.once("forward_live_bytes")
                yield self.moment(
                    "forward", row.name, layer, self.gradients_before, saved + self.costs.block_input_bytes, own
                )
            return
        for row in rows:
            saved += row.once("saved_bytes")
            yield self.moment("forward", row.name, layer, self.gradients_before, saved, row.once("forward_live_bytes"))

    def recompute(self, rows: list[Row], saved: int, gradients: int, layer: int) -> Iterator[Moment]:
        """The moments of a checkpointed block's second forward, while the gradient of its result waits.

        It ends with the last tensor that a row keeps: that row's result is not formed again. It begins when a row of
        the backward asks for what was kept; if that is the last product, then the gradient is cast already.
        """
        symbols, placement = self.costs.symbols, self.costs.model.norm_placement
        stream = self.costs.tokens * self.costs.model.d_model
        waiting = (symbols["s"] + (symbols["q"] if placement != "post" else 0)) * stream
        held = (1 if placement == "pre" else 2) * symbols["u"] * stream
        last = max(place for place, row in enumerate(rows) if row.once("saved_bytes"))
        for place, row in enumerate(rows[: last + 1]):
            saved += row.once("saved_bytes")
            live = row.once("forward_live_bytes") if place < last else held
            yield self.moment("recompute", row.name, layer, gradients, saved, live + waiting)

    def backward(self, rows: list[Row], saved: int, gradients: int, layer: int | None) -> Iterator[Moment]:
        """The moments of a backward through these rows."""
        saved += sum(row.once("saved_bytes") for row in rows)
        for row in reversed(rows):
            yield self.moment("backward", row.name, layer, gradients, saved, row.once("backward_live_bytes"))
            saved -= row.once("saved_bytes")
            gradients += self._gradient(row)

    def moment(self, phase: str, name: str, layer: int | None, gradients: int, saved: int, temporary: int) -> Moment:
        """A moment with the parameters and the optimizer's state, which live always."""
        return Moment(phase, name, layer, *self._always, gradients, saved, temporary)


TEXTBOOK_ACTIVATION_BYTES = {
    "swiglu": Formula("s*B*(L*(8*T*d + 4*T*f + 2*h*T*T) + T*d + T*V + T)"),
    "ungated": Formula("s*B*(L*(8*T*d + 2*T*f + 2*h*T*T) + T*d + T*V + T)"),
}
TEXTBOOK_STATE_BYTES = Formula("4*s*P")


def textbook_memory_bytes(model: ModelConfig, batch_size: int = 1, seq: int | None = None) -> dict[str, int]:
    """Training memory in the convention of textbook exercises: each tensor of the forward is stored once, in float32.

        activations = 4 B (L (8 T d + 2 T f + 2 h T^2) + T d + T V + T)        (4 T f where the feed-forward is gated)
        state       = 4 P each for weights, gradients and AdamW's two means

    In a block that is two norms, query, key, value, scores, softmax, weighted sum, output, and the feed-forward's
    layers; behind them the final norm, logits and losses. What autograd really keeps and what lives for a moment is
    `account`'s and `peak`'s answer.

    Returns:
        Bytes: `activations`, which grow with the batch, and `state`, which does not.
    """
    costs = account(model, batch_size=batch_size, seq=seq)
    activations = TEXTBOOK_ACTIVATION_BYTES["swiglu" if model.feed_forward == "swiglu" else "ungated"]
    return {"activations": activations(costs.symbols), "state": TEXTBOOK_STATE_BYTES(costs.symbols)}
