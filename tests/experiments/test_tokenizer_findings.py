"""What the tokenizer notebook offers to choose from, and what it says of speeds."""

import pytest

from core.experiments import tokenizer_findings as findings
from core.records import TokenizerSpeedRow


def speed(engine, wall_s, **more):
    row = {
        **{"bench_id": "b", "work": "short_50", "engine": engine, "package_version": None, "corpus": "text"},
        **{"corpus_bytes": 10**8, "corpus_sha256": "0", "vocab_size": 1000, "num_threads": 2, "repeat": 0},
        **{"wall_s": wall_s, "process_s": None, "cpu_s": 1.0, "unwritten_s": None, "peak_rss_bytes": None},
        **{"text_bytes": 500_000, "tokens": 1, "calls": 1000, "agrees": True, "python_version": "3"},
        **{
            "numba_version": None,
            "git_commit": "c0ffee",
            "utc": "2026-01-02T03:04:05+00:00",
            "device_name": "A machine",
        },
    }
    return row | more


def test_the_study_of_most_texts_comes_first():
    pairs = [("new", "tales")] * 3 + [(name, text) for name in ("two", "long") for text in "ba"] + [("long", "a")]
    rows = [{"study_id": study, "encoded": text} for study, text in pairs]
    assert list(findings.studies(rows).items()) == [("long", ["a", "b"]), ("two", ["a", "b"]), ("new", ["tales"])]
    assert findings.studies([]) == {}


def test_the_measurement_that_compares_most_comes_first():
    cases = [
        ("alone", "ours", 10**10, 1000),
        *(("short", engine, 10**6, 1000) for engine in ("ours", "x", "y", "z")),
        *(("two", engine, 10**9, 1000) for engine in ("ours", "x")),
        *(("three", engine, 10**8, size) for engine in ("ours", "x", "y") for size in (1000, 2000)),
    ]
    rows = [
        speed(engine, 1.0, bench_id=bench, corpus_bytes=corpus_bytes, vocab_size=size)
        for bench, engine, corpus_bytes, size in cases
    ]
    found = findings.measurements([*rows, speed("ours", 1.0, work="train")], "short_50")
    assert list(found) == [
        "text, 2,000 tokens (three)",
        "text, 1,000 tokens (three)",
        "text, 1,000 tokens (two)",
        "text, 1,000 tokens (short)",
        "text, 1,000 tokens (alone)",
    ]
    assert [len(of) for of in found.values()] == [3, 3, 2, 4, 1]
    assert [findings.is_short(of[0]) for of in found.values()] == [False, False, False, True, False]
    assert findings.measurements(rows, "decode") == {}


def test_speeds_are_rates_and_times_of_a_call():
    walls = {"ours": (0.02, 0.01, 0.04), "tiktoken": (0.03, 0.02, 0.12)}
    rows = [speed(engine, wall, repeat=at) for engine, of in walls.items() for at, wall in enumerate(of)]
    assert set(rows[0]) == set(TokenizerSpeedRow.__slots__)
    ours, other = findings.speeds(rows)
    assert (ours["lowest_us"], ours["median_us"], ours["highest_us"]) == pytest.approx((10, 20, 40))
    assert (ours["lowest_rate"], ours["median_rate"], ours["highest_rate"]) == pytest.approx((1.25e7, 2.5e7, 5e7))
    assert (other["lowest_times"], other["times"], other["highest_times"]) == pytest.approx((1.5, 2.0, 3.0))
    assert findings.speed_table([ours, other], per_call=True, pile=False) == [
        {"engine": "ours", "µs per call": "20.0", "time / ours": "1.00", "range": "1.00–1.00 (n = 3)"}
        | {"same result": "yes"},
        {"engine": "tiktoken", "µs per call": "30.0", "time / ours": "2.00", "range": "1.50–3.00 (n = 3)"}
        | {"same result": "yes"},
    ]
    (alone,) = findings.speed_table([ours], per_call=False, pile=True)
    assert alone == {"engine": "ours", "MB/s": "25.0", "the Pile": "9.2 hours", "machines for a day": "1"}
