"""What devices can do at most: arithmetic by dtype, memory and its bandwidth, each number with where it comes from.

A peak here is dense: the figures with 2:4 sparsity, twice as large, that makers print beside or instead of it apply to
no ordinary matrix product. It is held per pair of dtypes: on consumer NVIDIA cards a product of float16 or float8
inputs runs twice as fast if it is accumulated in float16, and torch accumulates in float32. It is at the clock that the
maker names: a card that runs above that can exceed it (GeForce cards by a fifth). Standard library only.
"""

import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Status = Literal["published", "derived", "measured"]
"""`published` by the maker, `derived` from what is published (the source says how), or `measured` by us."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Peak:
    """The most arithmetic that a device does with one pair of dtypes, dense: no sparsity is counted."""

    input_dtype: str
    """Of both factors: `float32`, `tf32` (float32 storage, 10 bits of mantissa), `bfloat16`, `float16`, `float8`."""
    accumulate_dtype: str
    """In which the products are summed: it decides the rate as well as the error (see above)."""
    flop_per_s: float
    """A multiply-add counts as two."""
    source: str
    status: Status

    def __post_init__(self) -> None:
        _require_positive("flop_per_s", self.flop_per_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """One device: its peaks and its memory."""

    name: str
    """As its maker spells it."""
    peaks: tuple[Peak, ...]
    memory_bytes: int
    memory_bytes_per_s: float
    """Read and written together."""
    memory_source: str
    memory_status: Status
    launch_overhead_s: float = 0.0
    """Time of an operation too small to take any: nothing is faster. 0 where it was not measured."""
    cost_per_hour_usd: float | None = None
    """The user's own: prices are no property of a device. `dataclasses.replace` sets it."""

    def __post_init__(self) -> None:
        _require_positive("memory_bytes", self.memory_bytes)
        _require_positive("memory_bytes_per_s", self.memory_bytes_per_s)
        _require_not_negative("launch_overhead_s", self.launch_overhead_s)
        if self.cost_per_hour_usd is not None:
            _require_not_negative("cost_per_hour_usd", self.cost_per_hour_usd)

    def peak(self, input_dtype: str, accumulate_dtype: str | None = None) -> Peak:
        """The peak of a pair of dtypes; accumulated in float32, as torch does, if not said.

        Raises:
            ValueError: If none is known for this pair; it names those that are.
        """
        accumulate_dtype = accumulate_dtype or "float32"
        for peak in self.peaks:
            if (peak.input_dtype, peak.accumulate_dtype) == (input_dtype, accumulate_dtype):
                return peak
        pairs = ", ".join(f"{peak.input_dtype} in {peak.accumulate_dtype}" for peak in self.peaks)
        raise ValueError(
            f"{self.name} has no known peak for {input_dtype} accumulated in {accumulate_dtype}: it has {pairs}"
        )

    def ridge(self, input_dtype: str, accumulate_dtype: str | None = None) -> float:
        """The arithmetic intensity, FLOP per byte, from which on arithmetic and not memory is the limit.

            ridge = flop_per_s / memory_bytes_per_s

        >>> round(device("h100-sxm").ridge("bfloat16"))
        295

        Raises:
            ValueError: As `peak`.

        Reference:
            Williams, Waterman & Patterson (2009), "Roofline", section 3, doi:10.1145/1498765.1498785.
        """
        return self.peak(input_dtype, accumulate_dtype).flop_per_s / self.memory_bytes_per_s


def device(name: str) -> Device:
    """The known device of this id, such as `h100-sxm`.

    Raises:
        ValueError: If there is none; it names the nearest. There is no default: a wrong peak is worse than none.
    """
    if name in DEVICES:
        return DEVICES[name]
    near = [known for known in DEVICES if name and known.startswith(name.lower())]
    near = near or difflib.get_close_matches(name.lower(), DEVICES, n=1)
    meant = f"did you mean {' or '.join(near)}? " if near else ""
    raise ValueError(f"device is {name!r}: it is not known; {meant}There are {', '.join(DEVICES)}")


def measured_device(
    name: str,
    *,
    gemm_flop_per_s: Mapping[str, float],
    copy_bytes_per_s: float,
    memory_bytes: int,
    launch_overhead_s: float = 0.0,
    source: str,
) -> Device:
    """A device from what was measured on it. Its peaks are rates reached, so a faster program is possible.

    Args:
        name: As its maker spells it.
        gemm_flop_per_s: Of the best matrix product, by input dtype; accumulated in float32, which torch asks for.
        copy_bytes_per_s: Of a copy within its memory, bytes read and bytes written added.
        memory_bytes: In all.
        launch_overhead_s: Of one operation on next to no data.
        source: When and how it was measured.

    Raises:
        ValueError: If there is no rate, or one is not positive and finite.
    """
    if not gemm_flop_per_s:
        raise ValueError(f"gemm_flop_per_s of {name} is empty: at least one dtype and its rate are needed")
    for dtype, rate in gemm_flop_per_s.items():
        _require_positive(f"gemm_flop_per_s of {dtype}", rate)
    _require_positive("copy_bytes_per_s", copy_bytes_per_s)
    return Device(
        name=name,
        peaks=tuple(
            Peak(input_dtype=dtype, accumulate_dtype="float32", flop_per_s=rate, source=source, status="measured")
            for dtype, rate in gemm_flop_per_s.items()
        ),
        memory_bytes=memory_bytes,
        memory_bytes_per_s=copy_bytes_per_s,
        memory_source=source,
        memory_status="measured",
        launch_overhead_s=launch_overhead_s,
    )


_MEASURED = {
    "name": str,
    "gemm_flop_per_s": dict,
    "copy_bytes_per_s": (int, float),
    "memory_bytes": int,
    "launch_overhead_s": (int, float),
    "source": str,
}
"""What JSON holds of a measured device: the arguments of `measured_device`, and their types."""
_KINDS = {str: "text", dict: "a mapping of dtypes to rates", int: "a whole number", (int, float): "a number"}


def device_to_dict(device: Device) -> dict[str, Any]:
    """A measured device as JSON holds it; `device_from_dict` is its inverse.

    Raises:
        ValueError: If that would lose something: a published figure, a price.
    """
    values = {
        "name": device.name,
        "gemm_flop_per_s": {peak.input_dtype: peak.flop_per_s for peak in device.peaks},
        "copy_bytes_per_s": device.memory_bytes_per_s,
        "memory_bytes": device.memory_bytes,
        "launch_overhead_s": device.launch_overhead_s,
        "source": device.memory_source,
    }
    if device_from_dict(values) != device:
        raise ValueError(f"{device.name} is not a device as `measured_device` makes it, and only those are exported")
    return values


def device_from_dict(values: Mapping[str, Any]) -> Device:
    """A measured device from what JSON holds of it; keys beyond those needed, such as `id` and `utc`, are passed over.

    Raises:
        ValueError: If something is missing, of the wrong type, or no rate.
    """
    if not isinstance(values, Mapping):
        raise ValueError(f"a device is {values!r}: it must be a mapping with {', '.join(_MEASURED)}")
    name = values.get("name", "a device")
    if missing := [key for key in _MEASURED if key not in values]:
        raise ValueError(f"{name} has no {', '.join(missing)}: a measured device has {', '.join(_MEASURED)}")
    rates = values["gemm_flop_per_s"].items() if isinstance(values["gemm_flop_per_s"], dict) else ()
    fields = [(key, values[key], kind) for key, kind in _MEASURED.items()]
    fields += [(f"gemm_flop_per_s of {dtype}", rate, (int, float)) for dtype, rate in rates]
    for key, value, kind in fields:
        if not isinstance(value, kind) or isinstance(value, bool):
            raise ValueError(f"{key} of {name} is {value!r}: it must be {_KINDS[kind]}")
    return measured_device(**{key: values[key] for key in _MEASURED})


def _require_positive(name: str, value: float) -> None:
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{name} is {value}: it must be positive and finite")


def _require_not_negative(name: str, value: float) -> None:
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(f"{name} is {value}: it must be finite and not negative")


def _peaks(source: str, status: Status, teraflops: Mapping[str, float]) -> tuple[Peak, ...]:
    """Peaks in TFLOP/s by input dtype, or by `input_in_accumulate` where that is not float32."""
    return tuple(
        Peak(input_dtype=into, accumulate_dtype=out or "float32", flop_per_s=rate * 1e12, source=source, status=status)
        for (into, _, out), rate in ((key.partition("_in_"), rate) for key, rate in teraflops.items())
    )


# GDDR comes in chips of whole GiB. HBM capacities are quoted in GB without saying which: 10^9 is the cautious reading
# (an A100 "80 GB" reports 85.0e9 bytes to a program, an H200 "141 GB" 150e9).
_GDDR = "{} GB of GDDR, in units of 2^30; a program is given somewhat less"
_HBM = "{} GB of HBM, read as 10^9 bytes each; a program is given somewhat more"


def _nvidia(name: str, source: str, gigabytes: int, gigabytes_per_s: float, **teraflops: float) -> Device:
    """An NVIDIA card, all of it published."""
    memory, unit = (_GDDR, 2**30) if "GeForce" in name else (_HBM, 10**9)
    return Device(
        name=name,
        peaks=_peaks(source, "published", teraflops),
        memory_bytes=gigabytes * unit,
        memory_bytes_per_s=gigabytes_per_s * 1e9,
        memory_source=f"{source}: {memory.format(gigabytes)}",
        memory_status="published",
    )


def _apple(
    chip: str, cores: int, gibibytes: int, gigabytes_per_s: float, *, said: float | None = None, mhz: int | None = None
) -> Device:
    """An Apple GPU: its float32 rate as Apple `said`, in TFLOP/s, or derived from its top clock.

    A core has 128 ALUs and does float16 and bfloat16 no faster than float32. Clocks are published nowhere; these are
    the highest states that macOS's own `powermetrics` lists.
    """
    rate = said or cores * 128 * 2 * (mhz or 0) / 1e6
    source = f"{cores} cores x 128 ALUs x 2 x {mhz} MHz, the top clock that powermetrics lists"
    source, status = ("Apple, when the chip was presented", "published") if said else (source, "derived")
    half = f"the float32 rate ({source}): this GPU does float16 and bfloat16 no faster"
    return Device(
        name=f"Apple {chip} ({cores}-core GPU)",
        peaks=_peaks(source, status, {"float32": rate}) + _peaks(half, "derived", {"bfloat16": rate, "float16": rate}),
        memory_bytes=gibibytes * 2**30,
        memory_bytes_per_s=gigabytes_per_s * 1e9,
        memory_source=f"Apple: {gibibytes} GB (2^30), the most that this chip was sold with, shared with the CPU",
        memory_status="published",
    )


_ADA = "NVIDIA Ada GPU Architecture whitepaper v2.02, appendix A"
_RTX_BLACKWELL = "NVIDIA RTX Blackwell GPU Architecture whitepaper, appendix A"
_A100 = "NVIDIA A100 whitepaper and datasheet (SXM)"
_H100 = "NVIDIA H100 whitepaper and datasheet"
_H200 = "NVIDIA H200 datasheet, sparse figures halved; the GPU, hence the digits, is the H100 SXM's"
_B200 = "NVIDIA HGX B200 datasheet, per GPU, sparse figures halved (an early brief: 80 for float32, 1100 for tf32)"
_A100_RATES = {"float32": 19.5, "tf32": 156, "bfloat16": 312, "float16": 312, "float16_in_float16": 312}
_GH100_RATES = {"float32": 66.9, "tf32": 494.7, "bfloat16": 989.4, "float16": 989.4, "float8": 1978.9}
_H100_PCIE_RATES = {"float32": 51.2, "tf32": 378, "bfloat16": 756, "float16": 756, "float8": 1513}
_B200_RATES = {"float32": 75, "tf32": 1125, "bfloat16": 2250, "float16": 2250, "float8": 4500}
_RTX_4090_RATES = {"float32": 82.6, "tf32": 82.6, "bfloat16": 165.2, "float16": 165.2, "float8": 330.3}
_RTX_4090_RATES |= {"float16_in_float16": 330.3, "float8_in_float16": 660.6}
_RTX_5090_RATES = {"float32": 104.8, "tf32": 104.8, "bfloat16": 209.5, "float16": 209.5, "float8": 419}
_RTX_5090_RATES |= {"float16_in_float16": 419, "float8_in_float16": 838}

DEVICES: dict[str, Device] = {
    "rtx-4090": _nvidia("NVIDIA GeForce RTX 4090", _ADA, 24, 1008, **_RTX_4090_RATES),
    "rtx-5090": _nvidia("NVIDIA GeForce RTX 5090", _RTX_BLACKWELL, 32, 1792, **_RTX_5090_RATES),
    "a100-40gb": _nvidia("NVIDIA A100 SXM 40 GB", _A100, 40, 1555, **_A100_RATES),
    "a100-80gb": _nvidia("NVIDIA A100 SXM 80 GB", _A100, 80, 2039, **_A100_RATES),
    "h100-sxm": _nvidia("NVIDIA H100 SXM", _H100, 80, 3350, **_GH100_RATES),
    "h100-pcie": _nvidia("NVIDIA H100 PCIe", _H100, 80, 2000, **_H100_PCIE_RATES),
    "h200": _nvidia("NVIDIA H200 SXM", _H200, 141, 4800, **_GH100_RATES),
    "b200": _nvidia("NVIDIA B200 (HGX)", _B200, 180, 8000, **_B200_RATES),
    "m1": _apple("M1", 8, 16, 68.25, said=2.6),
    "m1-pro": _apple("M1 Pro", 16, 32, 200, said=5.2),
    "m1-max": _apple("M1 Max", 32, 64, 400, said=10.4),
    "m1-ultra": _apple("M1 Ultra", 64, 128, 800, mhz=1296),
    "m2": _apple("M2", 10, 24, 100, said=3.6),
    "m2-pro": _apple("M2 Pro", 19, 32, 200, mhz=1398),
    "m2-max": _apple("M2 Max", 38, 96, 400, mhz=1398),
    "m2-ultra": _apple("M2 Ultra", 76, 192, 800, mhz=1398),
    "m3": _apple("M3", 10, 24, 100, mhz=1380),
    "m3-pro": _apple("M3 Pro", 18, 36, 150, mhz=1380),
    "m3-max": _apple("M3 Max", 40, 128, 400, mhz=1380),
    "m3-ultra": _apple("M3 Ultra", 80, 512, 819, mhz=1380),
    "m4": _apple("M4", 10, 32, 120, mhz=1578),
    "m4-pro": _apple("M4 Pro", 20, 64, 273, mhz=1578),
    "m4-max": _apple("M4 Max", 40, 128, 546, mhz=1578),
}
