import json
from dataclasses import asdict, replace

import polars as pl
import pytest
from benchmark_rows import BASE

from core.accounting import account
from core.accounting.features import features
from core.benchmarks import load_benchmarks
from core.config import ModelConfig
from core.experiments.benchmark_fits import predict_measured
from core.results import write_rows

PRICES = {"feed_forward_flop": 2e-11, "score_bytes": 3e-10, "operations": 5e-6}
SIZES = [(batch, seq, width) for batch in (1, 2, 3, 5) for seq in (16, 48, 144) for width in (20, 60)]


def row(batch_size, context_length, d_model, seconds=None):
    shape = {"context_length": context_length, "d_model": d_model, "num_layers": 2, "num_heads": 2, "d_ff": 3 * d_model}
    model = ModelConfig(vocab_size=17, attention="written_out", **shape)
    amounts = features(account(model, batch_size=batch_size), "step")
    found = sum(price * amounts[name] for name, price in PRICES.items())
    sizes = {**shape, "batch_size": batch_size, "d_head": model.d_head, "attention": "written_out"}
    return replace(BASE, **sizes, config_json=json.dumps(asdict(model)), median_s=seconds or found)


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rows")
    measured = [row(*sizes) for sizes in SIZES]
    few = [replace(one, precision="bfloat16") for one in measured[:3]]
    softmax = replace(BASE, subject="softmax", phase="forward", config_json=None)
    write_rows(folder, "benchmarks", "mine", [*measured, *few, softmax])
    return load_benchmarks(folder)[0]


def test_rows_of_known_prices_are_foreseen_without_having_been_seen(rows):
    found, unfitted = predict_measured(rows, 2**34)
    known = found.drop_nulls("fitted_s")
    assert known.height == len(SIZES)
    assert (known["fitted_s"] / known["median_s"] - 1).abs().max() < 0.01
    assert (known["low_s"] <= known["fitted_s"]).all()
    assert (known["fitted_s"] <= known["high_s"]).all()
    assert not known["memory_pressure"].any()
    assert unfitted == [
        "Abacus, 2 threads, step, bfloat16: 3 rows, and a fit needs 8",
        "Abacus, 2 threads, forward, float32: only steps of whole models are fitted, and their phases",
    ]
    assert found.height == rows.height
    assert found.filter(pl.col("fitted_s").is_null())["regime"].to_list() == ["unknown"] * 4


def test_shares_are_those_of_the_prices(rows):
    found, _ = predict_measured(rows, 2**34)
    known = found.drop_nulls("fitted_s").to_dicts()
    for one in known:
        assert sum(one[name] for name in ("compute", "bandwidth", "launches")) == pytest.approx(1)
        assert one[one["regime"]] == max(one[name] for name in ("compute", "bandwidth", "launches"))
    longest = max(known, key=lambda one: (one["context_length"], one["batch_size"], -one["d_model"]))
    shortest = min(known, key=lambda one: (one["context_length"], one["batch_size"], one["d_model"]))
    assert (longest["regime"], shortest["regime"]) == ("bandwidth", "launches")


def test_without_rows_there_is_nothing(rows):
    found, unfitted = predict_measured(rows.clear(), 2**34)
    assert (found.height, unfitted) == (0, [])
    assert "regime" in found.columns


def test_a_row_that_describes_no_model_is_named(rows):
    steps = rows.filter(phase="step", precision="float32")
    for config in ("{", "[]", '{"d_model": -3}'):
        broken = steps.with_columns(config_json=pl.lit(config))
        found, (line,) = predict_measured(broken, 2**34)
        assert line.startswith("Abacus, 2 threads, step, float32: row p describes no model (")
        assert found["fitted_s"].null_count() == steps.height
