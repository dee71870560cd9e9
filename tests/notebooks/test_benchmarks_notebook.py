"""`notebooks/benchmarks.py` driven with rows of our own: what it says and draws is what they say."""

import json
import re
from dataclasses import asdict, replace
from html import unescape
from pathlib import Path

import polars as pl
import pytest
from benchmark_rows import BASE
from test_notebooks import layers, load

from core.accounting import account
from core.accounting.phases import phase_cost
from core.config import ModelConfig
from core.results import write_rows

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "benchmarks.py"
SIZES = [(batch, seq, width) for batch in (1, 2, 3) for seq in (16, 48) for width in (20, 60)]
SECONDS_PER_FLOP = 2e-11
GEMM = 7e10
DEVICE = {"device_id": "abacus", "device": "cpu", "device_name": "Abacus", "num_threads": 2, "unit": "FLOP/s"}


@pytest.fixture(scope="module")
def notebook():
    return load(NOTEBOOK)


def row(batch_size, context_length, d_model, attention="sdpa", **changed):
    shape = {"context_length": context_length, "d_model": d_model, "num_layers": 2, "num_heads": 2, "d_ff": 3 * d_model}
    model = ModelConfig(vocab_size=17, attention=attention, **shape)
    asked = phase_cost(account(model, batch_size=batch_size), "step")
    seconds = SECONDS_PER_FLOP * asked.flop
    told = {"config_json": json.dumps(asdict(model)), "d_head": model.d_head, "attention": attention}
    told |= {"predicted_flop": float(asked.flop), "predicted_bytes": float(asked.ideal_bytes)}
    told |= {"median_s": seconds, "iqr_s": seconds / 7, "predicted_s": seconds / 2, "peak_bytes": asked.ideal_bytes}
    return replace(BASE, **shape | {"batch_size": batch_size} | told | changed)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("benchmarks")
    rows = [row(*sizes) for sizes in SIZES]
    slow = row(*SIZES[0], attention="written_out")
    slow = replace(slow, median_s=3 * rows[0].median_s)
    skipped = replace(rows[1], median_s=None, status="skipped_memory", batch_size=1000)
    write_rows(folder, "benchmarks", "mine", [*rows, slow, skipped])
    return folder, rows


def shown(notebook, results_dir, **defs):
    outputs, definitions = notebook.app.run(defs={"results_dir": results_dir, **defs})
    html = " ".join(unescape(getattr(output, "text", "")) for output in outputs)
    html = html.replace("\\u003c", "<").replace("\\u003e", ">")
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", html)).split()), definitions


def test_the_rows_are_told(notebook, folder):
    results_dir, rows = folder
    text, definitions = shown(notebook, results_dir)
    assert f"{len(rows) + 1} measured on Abacus, 2 threads; 1 not (skipped memory)." in text
    beaten = [row for row in rows for other in rows if other.peak_bytes < row.peak_bytes and speed(other) >= speed(row)]
    frontier = [row for row in rows if row not in beaten]
    assert f"{len(frontier)} of {len(rows) + 1} are on the frontier" in text
    drawn = layers(definitions["pareto_chart"].to_dict())[1]["rows"]
    assert [line["tokens_per_s"] for line in drawn] == sorted(map(speed, frontier))
    assert "Of 1 configurations written_out is faster in 0; the median is 0.33 times as fast" in text
    assert "batch_size" in definitions["options"].elements["axis"].options.values()
    assert f"Of {len(rows) + 1} measured memory peaks" in text


def test_a_rectangle_shows_rows_and_a_selected_row_is_measured_anew(notebook, folder):
    results_dir, _ = folder
    _, definitions = shown(notebook, results_dir)
    assert definitions["brushed"] is None
    assert {param["name"] for param in definitions["pareto_chart"].to_dict()["params"]} == {"brush"}
    numbered = definitions["numbered"]
    picked = numbered.filter(pl.col("no").is_in([4, 9]))
    table = type("Table", (), {"value": picked, "text": "", "_mime_": lambda self: ("text/html", "")})()
    _, definitions = shown(notebook, results_dir, row_table=table, columns=definitions["columns"], numbered=numbered)
    assert {name: definitions["at_hand"].value[name] for name in ("batch_size", "d_model", "d_ff", "attention")} == {
        name: picked[name][0] for name in ("batch_size", "d_model", "d_ff", "attention")
    }


def speed(row):
    return row.batch_size * row.context_length / row.median_s


def test_predictions_have_not_seen_what_they_predict(notebook, folder):
    results_dir, rows = folder
    text, definitions = shown(notebook, results_dir)
    line = definitions["errors"].filter(of="all").row(0, named=True)
    drawn = layers(definitions["residual_chart"].to_dict())[1]["rows"]
    assert line["rows"] == len(drawn) == len(rows) + 1
    assert line["mean_error"] == pytest.approx(sum(abs(row["error"]) for row in drawn) / len(drawn))
    # All but the slow one are a price times FLOP, which the fit finds.
    assert line["median_error"] < 0.02
    assert "compute limits" in text
    assert sum(row["share"] for row in definitions["shares"]) == pytest.approx(line["rows"])


def test_utilisation_needs_a_measured_machine(notebook, folder, tmp_path):
    results_dir, rows = folder
    text, definitions = shown(notebook, results_dir)
    assert "mfu_chart" not in definitions
    assert "Abacus with 2 threads has not been measured: run OMP_NUM_THREADS=2 workbook device measure there" in text
    both = tmp_path / "results"
    (both / "benchmarks").mkdir(parents=True)
    (both / "benchmarks" / "mine.parquet").write_bytes((results_dir / "benchmarks" / "mine.parquet").read_bytes())
    (both / "devices").mkdir()
    devices = [DEVICE | {"quantity": kind, "dtype": "float32", "value": GEMM} for kind in ("gemm", "copy")]
    pl.DataFrame(devices).write_parquet(both / "devices" / "abacus.parquet")
    text, definitions = shown(notebook, both)
    mfu = 1 / SECONDS_PER_FLOP / GEMM
    assert f"The highest MFU is {mfu:.1%}" in text
    drawn = layers(definitions["mfu_chart"].to_dict())[-1]["rows"]
    assert sorted(row["mfu_noncausal"] for row in drawn) == pytest.approx([mfu / 3, *[mfu] * len(rows)])


def test_other_programs_rows_stand_beside_and_problems_are_said(notebook, folder):
    results_dir, rows = folder
    foreign = {"batch_size": [3, 5], "seq_len": [11, 7], "d_model": [30, 20], "num_heads": [3, 2], "num_layers": [2, 1]}
    pl.DataFrame(foreign | {"d_ff": [70, 50], "median_s": [0.25, 4.0]}).write_parquet(results_dir / "loom.parquet")
    pl.DataFrame({"price": [1.0]}).write_parquet(results_dir / "shop.parquet")
    path = type("Path", (), {"value": str(results_dir)})()
    upload = type("Upload", (), {"value": ()})()
    text, _ = shown(notebook, results_dir, path=path, upload=upload)
    assert "shop.parquet: no result set" in text
    assert f"{len(rows) + 3} measured on Abacus, 2 threads, loom" in text
    assert "loom, step, float32: 2 rows, and a fit needs 8" in text
    path.value = "/nowhere"
    text, _ = shown(notebook, results_dir, path=path, upload=upload)
    assert "path is '/nowhere': there is no file" in text


def test_without_rows_the_command_is_named(notebook, tmp_path):
    text, definitions = shown(notebook, tmp_path)
    assert "workbook bench grid cpu" in text
    assert "Measure here" in text
    assert not [name for name in definitions if name.endswith("_chart")]
