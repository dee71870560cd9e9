import math

import pytest

from core.accounting.text import bytes_text, count, duration

COUNTS = {
    0: "0",
    1: "1",
    12: "12",
    999: "999",
    1000: "1.00 k",
    1004: "1.00 k",
    1006: "1.01 k",
    -5: "-5",
    -1234: "-1.23 k",
    9_994: "9.99 k",
    9_995: "10.0 k",
    9_996: "10.0 k",
    99_949: "99.9 k",
    99_951: "100 k",
    999_499: "999 k",
    999_500: "1.00 M",
    999_999_999: "1.00 G",
    10**12: "1.00 T",
    10**15: "1.00 P",
    10**18: "1.00 E",
    10**21: "1.00 Z",
    10**24: "1.00 Y",
    5 * 10**28: "50,000 Y",
    22_696_448: "22.7 M",
    0.5: "0.5",
    1 / 3: "0.333",
    2.0: "2",
    999.4: "999",
    999.6: "1.00 k",
    -999.6: "-1.00 k",
    123_456.7: "123 k",
}


@pytest.mark.parametrize("number", COUNTS)
def test_count(number):
    assert count(number) == COUNTS[number]


def test_count_with_a_unit():
    assert count(291_648_307_200, "FLOP") == "292 GFLOP"
    assert count(10.29e15, "FLOP") == "10.3 PFLOP"
    assert count(7, "FLOP") == "7 FLOP"
    assert count(999.6, "B/s") == "1.00 kB/s"


SIZES = {
    0: "0 B",
    7: "7 B",
    1023: "1,023 B",
    1024: "1.00 KiB",
    1536: "1.50 KiB",
    -1536: "-1.50 KiB",
    10 * 2**10 - 6: "9.99 KiB",
    10 * 2**10 - 5: "10.0 KiB",
    100 * 2**20 - 1: "100 MiB",
    1023 * 2**20: "1,023 MiB",
    1023.4 * 2**20: "1,023 MiB",
    1023.6 * 2**20: "1.00 GiB",
    2**30 - 1: "1.00 GiB",
    2**30: "1.00 GiB",
    80 * 10**9: "74.5 GiB",
    80 * 2**30: "80.0 GiB",
    2**40: "1.00 TiB",
    2**50: "1.00 PiB",
    5000 * 2**50: "5,000 PiB",
    0.4: "0 B",
    1023.6: "1.00 KiB",
}


@pytest.mark.parametrize("number", SIZES)
def test_bytes(number):
    assert bytes_text(number) == SIZES[number]


DAY = 86_400
DURATIONS = {
    0: "0 s",
    3e-9: "3.00 ns",
    0.9996e-6: "1.00 µs",
    1e-6: "1.00 µs",
    4.2e-3: "4.20 ms",
    0.0123: "12.3 ms",
    0.9994: "999 ms",
    0.9996: "1.00 s",
    1: "1.00 s",
    59.94: "59.9 s",
    59.96: "1.0 minutes",
    60: "1.0 minutes",
    90: "1.5 minutes",
    3594: "59.9 minutes",
    3598: "1.0 hours",
    3600: "1.0 hours",
    23.94 * 3600: "23.9 hours",
    23.96 * 3600: "1.0 days",
    DAY: "1.0 days",
    99.94 * DAY: "99.9 days",
    99.96 * DAY: "100 days",
    4886.2 * DAY: "4,886 days",
    math.inf: "inf days",
}


@pytest.mark.parametrize("seconds", DURATIONS)
def test_duration(seconds):
    assert duration(seconds) == DURATIONS[seconds]


@pytest.mark.parametrize("text", [count, bytes_text, duration])
def test_no_more_than_three_digits_and_always_near(text):
    units = {"": 1, **{prefix: 1000**power for power, prefix in enumerate("kMGTPEZY", 1)}}
    units |= {"B": 1, **{f"{prefix}iB": 1024**power for power, prefix in enumerate("KMGTP", 1)}}
    units |= {"ns": 1e-9, "µs": 1e-6, "ms": 1e-3, "s": 1, "minutes": 60, "hours": 3600, "days": DAY}
    number = 1.0 if text is not duration else 1e-8
    while number < 99 * DAY:
        digits, _, unit = text(number).partition(" ")
        value = float(digits.replace(",", ""))
        assert value < (1024 if text is bytes_text else 1000), text(number)
        step = 10.0 ** -len(digits.partition(".")[2]) if "." in digits else 1
        assert abs(value * units[unit] - number) <= 0.51 * step * units[unit], text(number)
        number *= 1.00731
