import dataclasses
import json
import math
import re

import pytest

from core.accounting.hardware import (
    DEVICES,
    Device,
    Peak,
    device,
    device_from_dict,
    device_to_dict,
    measured_device,
)

TERA = 1e12


RIDGES = {"rtx-4090": 164, "rtx-5090": 117, "a100-80gb": 153, "h100-sxm": 295, "h100-pcie": 378, "h200": 206}
RIDGES |= {"b200": 281, "m1": 38, "m1-max": 26, "m2": 36, "m2-max": 34}


@pytest.mark.parametrize("name", RIDGES)
def test_ridge_is_where_both_limits_meet(name):
    assert round(device(name).ridge("bfloat16")) == RIDGES[name]


@pytest.mark.parametrize(("name", "bfloat16"), [("rtx-4090", 165.2), ("rtx-5090", 209.5)])
def test_consumer_cards_halve_the_rate_for_float32_sums(name, bfloat16):
    card = device(name)
    assert card.peak("bfloat16").flop_per_s == bfloat16 * TERA
    for dtype in ("float16", "float8"):
        ratio = card.peak(dtype, "float16").flop_per_s / card.peak(dtype).flop_per_s
        assert ratio == pytest.approx(2, rel=1e-3)


def test_data_centre_peaks_are_dense():
    # The datasheets print 1,979 and 3,958 TFLOP/s for these, with sparsity.
    assert device("h100-sxm").peak("bfloat16").flop_per_s == 989.4 * TERA
    assert device("h200").peak("float8").flop_per_s == 1978.9 * TERA
    assert device("a100-40gb").peak("float16", "float16").flop_per_s == 312 * TERA
    tensor_core_ratios = {
        name: card.peak("bfloat16").flop_per_s / card.peak("tf32").flop_per_s
        for name, card in DEVICES.items()
        if card.name.startswith("NVIDIA")
    }
    assert tensor_core_ratios == pytest.approx(dict.fromkeys(tensor_core_ratios, 2), rel=1e-3)


def test_apple_rates_are_said_or_derived_from_the_clock():
    assert device("m2").peak("float32").flop_per_s == pytest.approx(3.6e12)
    assert device("m2").peak("float32").status == "published"
    for name, cores, hertz in (("m2-ultra", 76, 1.398e9), ("m3-max", 40, 1.38e9), ("m4-pro", 20, 1.578e9)):
        peak = device(name).peak("float32")
        assert peak.flop_per_s == pytest.approx(cores * 128 * 2 * hertz)
        assert peak.status == "derived"
        assert f"{cores} cores x 128 ALUs x 2 x {hertz / 1e6:.0f} MHz" in peak.source
    for name in ("m1", "m4-max"):
        assert device(name).peak("float16").flop_per_s == device(name).peak("float32").flop_per_s
        assert device(name).peak("bfloat16").status == "derived"
    # The derivation, held against what Apple says of the same chip (its M1 Max clocks at 1296 MHz).
    assert device("m1-max").peak("float32").flop_per_s == pytest.approx(32 * 128 * 2 * 1.296e9, rel=0.03)
    assert device("m2").peak("float32").flop_per_s == pytest.approx(10 * 128 * 2 * 1.398e9, rel=0.01)


def test_every_number_says_where_it_is_from():
    for known in DEVICES.values():
        assert {peak.status for peak in known.peaks} <= {"published", "derived"}
        assert min(len(text) for text in [known.memory_source, *(peak.source for peak in known.peaks)]) > 10
        pairs = [(peak.input_dtype, peak.accumulate_dtype) for peak in known.peaks]
        assert len(set(pairs)) == len(pairs)
        assert known.cost_per_hour_usd is None


def test_memory_units():
    assert device("rtx-4090").memory_bytes == 24 * 2**30
    assert device("h100-sxm").memory_bytes == 80 * 10**9
    assert device("m3-ultra").memory_bytes == 512 * 2**30
    assert "10^9" in device("h100-sxm").memory_source
    assert "the most that this chip was sold with" in device("m1").memory_source


NEAREST = {
    "h100": "did you mean h100-sxm or h100-pcie? ",
    "RTX-4090": "did you mean rtx-4090? ",
    "a100_80gb": "did you mean a100-80gb? ",
    "tpu": "",
    "": "",
}


@pytest.mark.parametrize("name", NEAREST)
def test_unknown_device_names_the_nearest_and_all(name):
    with pytest.raises(ValueError, match="it is not known") as error:
        device(name)
    assert str(error.value) == f"device is {name!r}: it is not known; {NEAREST[name]}There are {', '.join(DEVICES)}"


def test_unknown_pair_names_those_there_are():
    with pytest.raises(ValueError, match="NVIDIA A100 SXM 40 GB has no known peak for float8 accumulated in float32"):
        device("a100-40gb").peak("float8")
    with pytest.raises(ValueError, match=r"float16: it has .*float32 in float32, bfloat16 in float32, float16 in"):
        device("m1").ridge("float16", "float16")


MEASURED = {"copy_bytes_per_s": 5.0, "memory_bytes": 11, "source": "test"}


def test_measured_device():
    built = measured_device("box", gemm_flop_per_s={"float32": 35.0, "tf32": 70.0}, launch_overhead_s=2e-6, **MEASURED)
    peaks = tuple(
        Peak(input_dtype=dtype, accumulate_dtype="float32", flop_per_s=rate, source="test", status="measured")
        for dtype, rate in (("float32", 35.0), ("tf32", 70.0))
    )
    memory = {"memory_bytes": 11, "memory_bytes_per_s": 5.0, "memory_source": "test", "memory_status": "measured"}
    assert built == Device(name="box", peaks=peaks, launch_overhead_s=2e-6, **memory)
    assert (built.ridge("float32"), built.ridge("tf32")) == (7.0, 14.0)
    assert dataclasses.replace(built, cost_per_hour_usd=1.5).cost_per_hour_usd == 1.5


@pytest.mark.parametrize("bad", [0.0, -1.0, math.nan, math.inf])
@pytest.mark.parametrize("field", ["copy_bytes_per_s", "memory_bytes", "gemm_flop_per_s"])
def test_measured_device_refuses_what_is_no_rate(field, bad):
    wrong = {"float32": bad} if field == "gemm_flop_per_s" else bad
    with pytest.raises(ValueError, match=rf"{field}.* is {bad}: it must be positive and finite"):
        measured_device("box", **{"gemm_flop_per_s": {"float32": 1.0}, **MEASURED, field: wrong})


def test_measured_device_needs_a_rate_and_sane_extras():
    with pytest.raises(ValueError, match="gemm_flop_per_s of box is empty"):
        measured_device("box", gemm_flop_per_s={}, **MEASURED)
    with pytest.raises(ValueError, match=r"launch_overhead_s is -1\.0: it must be finite and not negative"):
        measured_device("box", gemm_flop_per_s={"float32": 1.0}, launch_overhead_s=-1.0, **MEASURED)
    with pytest.raises(ValueError, match="cost_per_hour_usd is nan"):
        dataclasses.replace(device("h200"), cost_per_hour_usd=math.nan)


def test_measured_device_survives_json():
    built = measured_device("box", gemm_flop_per_s={"float32": 35.1, "tf32": 70.0}, launch_overhead_s=2e-6, **MEASURED)
    values = device_to_dict(built)
    assert values == {
        "name": "box",
        "gemm_flop_per_s": {"float32": 35.1, "tf32": 70.0},
        "copy_bytes_per_s": 5.0,
        "memory_bytes": 11,
        "launch_overhead_s": 2e-6,
        "source": "test",
    }
    assert device_from_dict(json.loads(json.dumps(values))) == built
    assert device_from_dict({"id": "mine", "utc": "2026-01-02", **values}) == built


def test_only_what_was_measured_is_written():
    for other in (device("h200"), device("m1"), dataclasses.replace(device_from_dict(BOX), cost_per_hour_usd=1.0)):
        with pytest.raises(ValueError, match=f"{re.escape(other.name)} is not a device as `measured_device` makes it"):
            device_to_dict(other)


BOX = {"name": "box", "gemm_flop_per_s": {"float32": 1.0}, "launch_overhead_s": 0, **MEASURED}
WRONG = {
    "gemm_flop_per_s of box is 7: it must be a mapping of dtypes to rates": {"gemm_flop_per_s": 7},
    "gemm_flop_per_s of box is empty": {"gemm_flop_per_s": {}},
    "gemm_flop_per_s of float32 of box is 'fast': it must be a number": {"gemm_flop_per_s": {"float32": "fast"}},
    "gemm_flop_per_s of float32 is 0: it must be positive and finite": {"gemm_flop_per_s": {"float32": 0}},
    "copy_bytes_per_s of box is None: it must be a number": {"copy_bytes_per_s": None},
    "copy_bytes_per_s is nan: it must be positive and finite": {"copy_bytes_per_s": math.nan},
    "memory_bytes of box is 1.5: it must be a whole number": {"memory_bytes": 1.5},
    "memory_bytes of box is True: it must be a whole number": {"memory_bytes": True},
    "launch_overhead_s is -1: it must be finite and not negative": {"launch_overhead_s": -1},
    "source of box is 3: it must be text": {"source": 3},
}


@pytest.mark.parametrize("message", WRONG)
def test_wrong_values_are_named(message):
    with pytest.raises(ValueError, match="^" + re.escape(message)):
        device_from_dict({**BOX, **WRONG[message]})


def test_missing_values_are_named():
    with pytest.raises(ValueError, match=r"^box has no memory_bytes, source: a measured device has name, gemm"):
        device_from_dict({key: value for key, value in BOX.items() if key not in ("memory_bytes", "source")})
    with pytest.raises(ValueError, match=r"^a device is \[1\]: it must be a mapping with name, gemm_flop_per_s, copy"):
        device_from_dict([1])
