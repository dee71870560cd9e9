import functools
import json

import numpy as np
import polars as pl
import pytest
from outcomes import refused, said

from core.accounting import account
from core.accounting.features import features
from core.config import ModelConfig


@pytest.fixture
def bench(workbook, monkeypatch, tmp_path):
    """Run `workbook bench` in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    return functools.partial(workbook, "bench")


@pytest.fixture
def rows(tmp_path):
    """24 rows whose time is 1e-10 s for each FLOP of the feed-forward and 2e-10 s for each byte of scores."""
    random = np.random.default_rng(0)
    rows = []
    for _ in range(24):
        sizes = {
            "d_model": int(random.choice([14, 22, 34])),
            "num_heads": 1,
            "num_layers": int(random.choice([2, 3, 5])),
            "d_ff": int(random.choice([19, 29, 43])),
        }
        batch_size, length = int(random.choice([2, 3, 5, 7])), int(random.choice([11, 31, 61]))
        model = ModelConfig(vocab_size=10_000, context_length=length, attention="written_out", **sizes)
        amounts = features(account(model, batch_size=batch_size))
        seconds = 1e-10 * amounts["feed_forward_flop"] + 2e-10 * amounts["score_bytes"]
        rows.append({"batch_size": batch_size, "seq_len": length, **sizes, "median_s": seconds, "note": "kept"})
    frame = pl.DataFrame(rows)
    frame.write_parquet(tmp_path / "rows.parquet")
    return frame


def test_fit_then_predict(bench, rows, tmp_path):
    out = said(bench("fit", "rows.parquet", "--out", "fit.json", "--memory-gib", 16, "--commit", "abc"))
    lines = out.splitlines()
    assert lines[0] == "step, float32: 24 rows"
    prices = {line.split()[3].rstrip(":"): float(line.split()[1]) for line in lines if "%" in line and "s/" in line}
    assert prices["feed_forward_flop"] == pytest.approx(1e-10, rel=1e-2)
    assert prices["score_bytes"] == pytest.approx(2e-10, rel=1e-2)
    assert any(line.split()[:3] == ["10", "folds", "all"] for line in lines)
    assert lines[-1] == "fit.json: 24 rows of an unnamed device"
    fitted = json.loads((tmp_path / "fit.json").read_text())
    assert (fitted["memory_bytes"], fitted["git_commit"], fitted["num_rows"]) == (2**34, "abc", 24)

    out = said(bench("predict", "rows.parquet", "--fit", "fit.json", "--out", "out.parquet"))
    assert out.splitlines()[0] == "out.parquet: 24 rows predicted, 0 of them under memory pressure"
    assert out.splitlines()[2].split()[:4] == ["these", "rows", "all", "24"]
    written = pl.read_parquet(tmp_path / "out.parquet")
    assert written.columns == [*rows.columns, "predicted_s", "low_s", "high_s", "memory_pressure"]
    assert written.select(rows.columns).equals(rows)
    assert written["predicted_s"].to_list() == pytest.approx(rows["median_s"].to_list(), rel=1e-3)
    assert (written["low_s"] <= written["predicted_s"]).all()
    assert (written["predicted_s"] <= written["high_s"]).all()
    assert written["memory_pressure"].to_list() == [False] * 24


def test_predict_without_times_and_with_rows_of_other_things(bench, rows, tmp_path):
    said(bench("fit", "rows.parquet", "--out", "fit.json", "--memory-gib", 16))
    asked = rows.head(3).drop("median_s").with_columns(pl.Series("subject", ["model", "gemm", "model"]))
    asked.write_parquet(tmp_path / "asked.parquet")
    out = said(bench("predict", "asked.parquet", "--fit", "fit.json", "--out", "out.parquet"))
    assert out == "out.parquet: 2 rows predicted, 0 of them under memory pressure\n"
    written = pl.read_parquet(tmp_path / "out.parquet")
    assert written["predicted_s"].is_null().to_list() == [False, True, False]
    assert written["memory_pressure"].to_list() == [False, None, False]


def test_the_memory_is_said_where_it_is_assumed(bench, rows, tmp_path):
    first = said(bench("fit", "rows.parquet", "--out", "fit.json")).splitlines()[0]
    assert first == "no column memory_bytes: taken for 24 GiB (--memory-gib says otherwise)"
    assert json.loads((tmp_path / "fit.json").read_text())["memory_bytes"] == 24 * 2**30


def test_refusals(bench, rows, tmp_path):
    assert "rows.csv: no such file" in refused(bench("fit", "rows.csv", "--out", "fit.json"))
    rows.drop("d_ff").write_parquet(tmp_path / "less.parquet")
    assert "less.parquet: no column d_ff" in refused(bench("fit", "less.parquet", "--out", "fit.json"))
    rows.head(5).write_parquet(tmp_path / "few.parquet")
    line = refused(bench("fit", "few.parquet", "--out", "fit.json", "--memory-gib", 16))
    assert "5 rows of a setting at most (step, float32): a fit needs 8 or more" in line
    assert not (tmp_path / "fit.json").exists()
    line = refused(bench("fit", "few.parquet", "--out", "fit.json", "--memory-gib", "inf"))
    assert "'--memory-gib': Input should be less than or equal to 1000000" in line
    (tmp_path / "folder").mkdir()
    assert "folder: a folder; name the file" in refused(bench("fit", "rows.parquet", "--out", "folder"))
    assert "rows.parquet: to be read and to be written" in refused(
        bench("fit", "rows.parquet", "--out", "rows.parquet")
    )
    (tmp_path / "fit.json").write_text('{"version": 1}')
    line = refused(bench("predict", "rows.parquet", "--fit", "fit.json", "--out", "out.parquet"))
    assert "fit.json: no calibration of version 2" in line
    assert not (tmp_path / "out.parquet").exists()


def test_a_setting_that_the_fit_does_not_know(bench, rows, tmp_path):
    said(bench("fit", "rows.parquet", "--out", "fit.json", "--memory-gib", 16))
    rows.with_columns(precision=pl.lit("tf32")).write_parquet(tmp_path / "other.parquet")
    line = refused(bench("predict", "other.parquet", "--fit", "fit.json", "--out", "out.parquet"))
    assert "row 0: the fit has no rows of step, tf32; it has step, float32" in line
