"""Time: what a device's peaks allow at best, operation by operation."""

from collections.abc import Iterator
from dataclasses import dataclass

from core.accounting.account import Account, Row
from core.accounting.hardware import Device
from core.accounting.policies import PRECISIONS


@dataclass(frozen=True, slots=True)
class Bound:
    """One operation in one phase of a step, all its occurrences together."""

    name: str
    group: str
    phase: str
    """`forward`, `recompute`, `backward` or `update`."""
    times: int
    flop: int
    """Operations in matrix products that cannot be left out: with a fused kernel, those that the causal mask leaves."""
    elementwise_flop: int
    """The others; likewise."""
    bytes: int
    """Read and written if the operation is one kernel (ideal)."""
    arithmetic_s: float
    """Seconds at the peaks of matrix products and of float32 arithmetic."""
    memory_s: float
    """Seconds at the bandwidth of the device's memory, of what no cache can hold."""
    launch_s: float
    """Seconds to start one kernel an occurrence; 0 where the device's overhead was not measured."""

    @property
    def seconds(self) -> float:
        """The roofline: arithmetic, traffic and launch overlap within the operation, so the longest of them counts."""
        return max(self.arithmetic_s, self.memory_s, self.launch_s)

    @property
    def limit(self) -> str:
        """Which of them it is: `arithmetic`, `memory` or `launch`."""
        if self.launch_s > max(self.arithmetic_s, self.memory_s):
            return "launch"
        return "arithmetic" if self.arithmetic_s >= self.memory_s else "memory"

    @property
    def intensity(self) -> float:
        """FLOP per byte."""
        return (self.flop + self.elementwise_flop) / self.bytes if self.bytes else 0.0


@dataclass(frozen=True, slots=True)
class StepTime:
    """Bounds on the time of a step."""

    operations: tuple[Bound, ...]
    model_flop: int
    """Non-causal convention."""
    peak_flop_per_s: float

    @property
    def arithmetic_s(self) -> float:
        """Nothing is faster: the arithmetic alone, at the peak."""
        return sum(bound.arithmetic_s for bound in self.operations)

    @property
    def roofline_s(self) -> float:
        """If each operation is one kernel that reads and writes the device's memory, nothing is faster than this.

        Fusing operations, or tensors that stay in a cache, can beat it, down to `arithmetic_s`.
        """
        return sum(bound.seconds for bound in self.operations)

    @property
    def mfu_noncausal(self) -> float:
        """The model FLOP utilisation that the roofline allows, non-causal convention."""
        return self.model_flop / self.roofline_s / self.peak_flop_per_s


def training_time(costs: Account, device: Device, cache_bytes: int | None = 0) -> StepTime:
    """Bounds on the time of a training step on a device.

        seconds(operation) = max(matrix FLOP / peak, element-wise FLOP / float32 peak, bytes / bandwidth, launch)

    Args:
        costs: Of the step.
        device: Its peaks.
        cache_bytes: What its last-level cache holds, see `crossing_bytes`.

    Raises:
        ValueError: If the device has no known peak for the precision.

    Reference:
        Williams, Waterman & Patterson (2009), section 3, doi:10.1145/1498765.1498785.
    """
    phases = ["forward", "recompute", "backward"] if costs.checkpointing else ["forward", "backward"]
    bounds = []
    for phase in phases:
        rows = [row for row in costs.rows if row.group != "update" and (phase != "recompute" or row.operation.in_block)]
        bounds += _bounds(costs, device, rows if phase != "backward" else reversed(rows), phase, cache_bytes)
    bounds += _bounds(costs, device, [row for row in costs.rows if row.group == "update"], "update", cache_bytes)
    return StepTime(tuple(bounds), costs.training_step_flop, _peak(costs, device))


def forward_time(costs: Account, device: Device) -> StepTime:
    """Bounds on the time of a forward pass that ends at the logits: a prefill, or one step of decoding.

    Raises:
        ValueError: If the device has no known peak for the precision.
    """
    rows = [row for row in costs.rows if row.group != "update" and row.name != "loss"]
    return StepTime(
        tuple(_bounds(costs, device, rows, "forward")),
        sum(row.total("forward_flop") for row in rows),
        _peak(costs, device),
    )


def crossing_bytes(ideal_bytes: int, cache_bytes: int | None) -> int:
    """What of an operation's traffic must cross between cache and memory.

        max(0, bytes - 2 cache)

    Of what it reads so much as the last-level cache holds may be there before it, of what it writes so much may stay.

    Args:
        ideal_bytes: Read and written if it is one kernel.
        cache_bytes: 0 counts all, None (not known) nothing.
    """
    return 0 if cache_bytes is None else max(0, ideal_bytes - 2 * cache_bytes)


def _peak(costs: Account, device: Device) -> float:
    return device.peak(PRECISIONS[costs.precision].product_dtype).flop_per_s


def _bounds(
    costs: Account, device: Device, rows: Iterator[Row] | list[Row], phase: str, cache_bytes: int | None = 0
) -> Iterator[Bound]:
    product_rate = _peak(costs, device)
    single = [peak.flop_per_s for peak in device.peaks if peak.input_dtype == "float32"]
    elementwise_rate = max(single, default=product_rate)
    backward, skips = phase == "backward", costs.model.attention != "written_out"
    for row in rows:
        kind = "backward" if backward else "forward"
        flop = row.total(f"causal_{kind}_flop" if skips else f"{kind}_flop")
        # A backward does about twice the element-wise work; left at the forward's, the bound stays a bound.
        elementwise = row.total("elementwise_flop")
        if skips and flop:  # masked pairs are left out here as well
            elementwise = elementwise * row.total("causal_forward_flop") // row.total("forward_flop")
        moved = row.total(f"{kind}_ideal_bytes")
        crossing = row.times * crossing_bytes(row.once(f"{kind}_ideal_bytes"), cache_bytes)
        if not (flop or moved):
            continue
        yield Bound(
            row.name,
            row.group,
            phase,
            row.times,
            flop,
            elementwise,
            moved,
            max(flop / product_rate, elementwise / elementwise_rate),
            crossing / device.memory_bytes_per_s,
            row.times * device.launch_overhead_s,
        )


def training_seconds(flop: float, flop_per_s: float, utilisation: float = 1.0) -> float:
    """Time to do so many operations at a fraction of a rate.

    Args:
        flop: Of the whole run, in the convention that the utilisation was measured in.
        flop_per_s: The device's peak, times the number of devices.
        utilisation: From above 0 to 1.

    Raises:
        ValueError: If the utilisation or the rate is out of range.
    """
    if not 0 < utilisation <= 1:
        raise ValueError(f"utilisation is {utilisation}: it must be above 0 and at most 1")
    if not flop_per_s > 0:
        raise ValueError(f"flop_per_s is {flop_per_s}: it must be positive")
    return flop / (flop_per_s * utilisation)
