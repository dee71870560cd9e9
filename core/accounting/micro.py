"""What single operations cost, those that the micro-benchmarks time: products, traffic, the least time."""

from collections.abc import Mapping
from dataclasses import dataclass

from core.accounting.formulas import Formula, scope
from core.accounting.hardware import Device
from core.accounting.policies import NEWTON_SCHULZ, OPTIMIZERS, PRECISIONS, choose
from core.accounting.roofline import crossing_bytes

_SYMBOLS = {
    "batch_size": "B",
    "context_length": "T",
    "d_model": "d",
    "num_heads": "h",
    "d_head": "dk",
    "num_layers": "L",
    "d_ff": "f",
    "vocab_size": "V",
}


def _cells(**texts: str) -> dict[str, Formula]:
    return {name: Formula(text) for name, text in texts.items()}


MICRO: dict[str, dict[str, dict[str, Formula]]] = {
    "gemm": {
        "forward": _cells(flop="2*B*T*d*f", moved="s*(B*T*d + d*f + B*T*f)"),
        "backward": _cells(flop="4*B*T*d*f", moved="s*(2*B*T*d + 2*d*f + B*T*f)"),
    },
    "attention": {
        "forward": _cells(flop="4*B*h*T*T*dk", causal="2*B*h*T*(T + 1)*dk", moved="4*s*B*h*T*dk"),
        "backward": _cells(flop="8*B*h*T*T*dk", causal="4*B*h*T*(T + 1)*dk", moved="8*s*B*h*T*dk"),
    },
    "softmax": {
        "forward": _cells(flop="0", moved="2*s*B*h*T*T"),
        "backward": _cells(flop="0", moved="3*s*B*h*T*T"),
    },
    "rms_norm": {
        "forward": _cells(flop="0", moved="s*(2*B*T*d + d)"),
        "backward": _cells(flop="0", moved="s*(3*B*T*d + 2*d)"),
    },
    "cross_entropy": {
        "forward": _cells(flop="0", moved="s*B*T*V + 8*B*T"),
        "backward": _cells(flop="0", moved="2*s*B*T*V + 8*B*T"),
    },
}
"""FLOP of matrix products (`causal`: of the pairs that the mask leaves), and bytes read and written if the operation is
one kernel, by subject and phase. The backward of `gemm` gives both gradients, that of attention reads q, k, v, the
result and its gradient and writes three gradients. The subject `optimizer` is the optimizer's row in `OPTIMIZERS`."""
_LIVE = {
    "gemm": Formula("2*s*(B*T*d + d*f + B*T*f)"),
    "attention": Formula("8*s*B*h*T*dk"),
    "softmax": Formula("8*s*B*h*T*T"),
    "rms_norm": Formula("6*s*B*T*d"),
    "cross_entropy": Formula("5*s*B*T*V"),
    "optimizer": Formula("5*s*L*d*f"),
}
_SCORES = Formula("6*s*B*h*T*T")


@dataclass(frozen=True, slots=True, kw_only=True)
class MicroCost:
    """What one operation asks for in one phase."""

    flop: int
    """Of matrix products, non-causal convention."""
    least_flop: int
    """Those that the implementation cannot leave out: with a fused causal kernel the pairs that the mask leaves."""
    ideal_bytes: int
    """Read and written if the operation is one kernel."""


def micro_cost(
    subject: str,
    phase: str,
    sizes: Mapping[str, int],
    *,
    precision: str = "float32",
    attention: str | None = None,
    optimizer: str | None = None,
) -> MicroCost:
    """The cost of one operation.

    Args:
        subject: A key of `MICRO`, or `optimizer`.
        phase: `forward`, `backward`; of an optimizer `optimizer`.
        sizes: By the names of the axes, such as `batch_size`; those that the subject has.
        precision: One of `PRECISIONS`; all numbers are in its product's format.
        attention: The implementation; only `written_out` computes what the mask hides.
        optimizer: One of `OPTIMIZERS`.

    Raises:
        ValueError: For a name that does not exist.
    """
    symbols = _scope(sizes, precision)
    if subject == "optimizer":
        row = choose("optimizer", optimizer or "adamw", OPTIMIZERS).row
        symbols = scope(symbols | _of_optimizer(symbols))
        flop = row.forward_flop(symbols)
        return MicroCost(flop=flop, least_flop=flop, ideal_bytes=row.forward_ideal_bytes(symbols))
    cells = choose("phase", phase, choose("subject", subject, MICRO))
    flop = cells["flop"](symbols)
    skips = "causal" in cells and attention != "written_out"
    least = cells["causal"](symbols) if skips else flop
    return MicroCost(flop=flop, least_flop=least, ideal_bytes=cells["moved"](symbols))


def micro_bound_s(cost: MicroCost, precision: str, device: Device, cache_bytes: int | None = None) -> float:
    """The least time of an operation: its products at the peak, its traffic as far as no cache can hold it, its start.

        max(least FLOP / peak, crossing bytes / bandwidth, launch)

    Args:
        cost: Of the operation.
        precision: One of `PRECISIONS`.
        device: Its peaks.
        cache_bytes: Of the last-level cache, see `crossing_bytes`.

    Raises:
        ValueError: If the device has no known peak for the precision and there are products.
    """
    crossing = crossing_bytes(cost.ideal_bytes, cache_bytes)
    dtype = PRECISIONS[precision].product_dtype
    products_s = cost.least_flop / device.peak(dtype).flop_per_s if cost.least_flop else 0.0
    return max(products_s, crossing / device.memory_bytes_per_s, device.launch_overhead_s)


def micro_live_bytes(
    subject: str, sizes: Mapping[str, int], *, precision: str = "float32", attention: str | None = None
) -> int:
    """About what lives at once in forward and backward, temporaries counted generously: what not to try."""
    symbols = _scope(sizes, precision)
    scores = _SCORES(symbols) if subject == "attention" and attention == "written_out" else 0
    return choose("subject", subject, _LIVE)(symbols) + scores


def _scope(sizes: Mapping[str, int], precision: str) -> dict[str, int]:
    product_bytes = choose("precision", precision, PRECISIONS).product_bytes
    return scope({_SYMBOLS[name]: size for name, size in sizes.items()} | {"s": product_bytes})


def _of_optimizer(symbols: Mapping[str, int]) -> dict[str, int]:
    """P, M, N, W, Z of `num_layers` equal matrices, all of which Muon would move."""
    number, sides = symbols["L"], sorted((symbols["d"], symbols["f"]))
    of_one = {name: formula(scope({"r": sides[0], "c": sides[1]})) for name, formula in NEWTON_SCHULZ.items()}
    sums = {name: number * of_one[name] for name in ("M", "N", "W")}
    return {**sums, "Z": of_one["Z"], "P": sums["M"]}
