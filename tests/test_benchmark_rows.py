import io
import math
import random
from dataclasses import asdict, replace
from pathlib import Path

import polars as pl
import pytest
from benchmark_rows import BASE, EMPTY

from core.accounting import account, peak
from core.accounting.text import bytes_text, count
from core.benchmarks import (
    AXES,
    comparable,
    compare,
    error_table,
    load_benchmarks,
    pareto,
    read_set,
    readable,
    regimes,
    scaling_axes,
    scaling_groups,
    sets_at,
    shares,
    status_line,
    top_k,
    utilisation,
)
from core.benchmarks.here import measure_here, point_costs
from core.config import ModelConfig
from core.results import write_rows

FOREIGN = {"batch_size": [3, 5], "seq_len": [11, 7], "d_model": [30, 20], "num_heads": [3, 2], "num_layers": [2, 1]}
FOREIGN |= {"d_ff": [70, 50], "median_s": [0.25, 4.0], "iqr_s": [0.02, 0.0], "num_runs": [7, 1]}


def frame(tmp_path, *rows):
    write_rows(tmp_path, "benchmarks", "mine", rows)
    loaded, problems = load_benchmarks(tmp_path)
    assert problems == []
    return loaded


def content(columns) -> bytes:
    buffer = io.BytesIO()
    pl.DataFrame(columns).write_parquet(buffer)
    return buffer.getvalue()


def test_own_rows_have_their_rates(tmp_path):
    measured = replace(BASE, peak_bytes=2**29)
    row, other = frame(tmp_path, BASE, measured).to_dicts()
    assert {name: row[name] for name in EMPTY} == asdict(BASE)
    assert (row["source"], row["machine"], row["tokens"]) == ("mine.parquet", "Abacus, 2 threads", 26)
    assert (row["tokens_per_s"], row["flop_per_s"], row["intensity"]) == (52, 14e9, 7)
    assert (row["low_tokens_per_s"], row["high_tokens_per_s"]) == (26 / 0.55, 26 / 0.45)
    assert (row["used_bytes"], row["used"], row["tokens_per_s_per_gib"]) == (2**30, "predicted", 52)
    assert (other["used_bytes"], other["used"], other["tokens_per_s_per_gib"]) == (2**29, "measured", 104)
    assert row["label"] == "B 2, T 13, d_model 30, heads 3, d_head 10, layers 5, d_ff 60, V 17, sdpa, float32"


def test_a_card_has_no_threads_and_a_softmax_no_layers(tmp_path):
    card = replace(BASE, device="cuda:0", device_name="Loom")
    softmax = replace(BASE, subject="softmax", d_model=None, d_head=None, num_layers=None, d_ff=None, vocab_size=None)
    skipped = replace(BASE, status="skipped_memory", median_s=None)
    one, two, three, four = frame(tmp_path, card, softmax, skipped, replace(BASE, num_threads=1)).to_dicts()
    assert one["machine"] == "Loom"
    assert two["label"] == "softmax, B 2, T 13, heads 3, sdpa, float32"
    assert (three["tokens_per_s"], three["flop_per_s"], three["tokens"]) == (None, None, 26)
    assert four["machine"] == "Abacus, 1 thread"


def test_training_steps_of_another_program_get_their_accounting():
    rows, lines = read_set("loom.parquet", content(FOREIGN))
    assert lines == []
    first, second = rows.to_dicts()
    model = ModelConfig(
        vocab_size=10_000,
        context_length=11,
        d_model=30,
        num_heads=3,
        num_layers=2,
        d_ff=70,
        attention="written_out",
    )
    costs = account(model, batch_size=3)
    assert first["predicted_flop"] == costs.training_step_flop
    assert first["predicted_bytes"] == costs.total("forward_ideal_bytes") + costs.total("backward_ideal_bytes")
    assert first["used_bytes"] == peak(costs).total
    assert (first["phase"], first["machine"], first["d_head"], first["tokens_per_s"]) == ("step", "loom", 10, 132)
    assert first["iqr_s"] == 0.02
    assert second["iqr_s"] is None  # one run has no quartiles
    assert list(rows.columns) == list(load_benchmarks("nowhere")[0].columns)


def test_what_cannot_be_used_is_said_and_the_rest_loads(tmp_path):
    write_rows(tmp_path, "benchmarks", "mine", [BASE])
    old = pl.read_parquet(tmp_path / "benchmarks" / "mine.parquet").drop("iqr_s", "adds_up")
    old.write_parquet(tmp_path / "benchmarks" / "old.parquet")
    (tmp_path / "benchmarks" / "torn.parquet").write_bytes(b"PAR1")
    others = {
        "loom.parquet": content(FOREIGN | {"num_heads": [7, 2]}),
        "prices.parquet": content({"batch_size": [1], "d_model": [3], "price": [2.0]}),
        "words.parquet": content(FOREIGN | {"d_model": ["wide", "narrow"]}),
        "slow.parquet": content(FOREIGN | {"median_s": [0.0, None]}),
        "not.parquet": b"hello",
    }
    rows, problems = load_benchmarks(tmp_path, others)
    assert rows["source"].to_list() == ["mine.parquet", "old.parquet", "loom.parquet"]
    assert rows["iqr_s"].to_list() == [0.1, None, None]
    told = "\n".join(problems)
    assert "old.parquet: written by another version, without iqr_s, adds_up" in told
    assert "torn.parquet: cannot be read" in told
    assert "not.parquet: cannot be read" in told
    assert "loom.parquet: left out row 0: d_model 30" in told
    assert "prices.parquet: no result set, for it has no column seq_len, num_heads, num_layers, d_ff, median_s" in told
    assert "words.parquet: columns of other types" in told
    assert "slow.parquet: left out row 0: median_s is 0.0: it must be positive and 1 more" in told
    assert len(problems) == 7


def test_sets_at_a_path(tmp_path):
    file = tmp_path / "a.parquet"
    file.write_bytes(b"")
    assert sets_at("") == {}
    assert sets_at(str(file)) == sets_at(f" {tmp_path} ") == {"a.parquet": file}
    for path in (tmp_path / "b.parquet", Path("nowhere")):
        with pytest.raises(ValueError, match=f"path is '{path}': there is no file"):
            sets_at(str(path))


def beaten(row, rows):
    """By definition: another one is at least as good in both and better in one."""
    return any(
        other["used_bytes"] <= row["used_bytes"]
        and other["tokens_per_s"] >= row["tokens_per_s"]
        and (other["used_bytes"], other["tokens_per_s"]) != (row["used_bytes"], row["tokens_per_s"])
        for other in rows
        if other["machine"] == row["machine"]
    )


@pytest.mark.parametrize("seed", range(7))
def test_no_point_of_the_frontier_is_beaten_and_every_other_is(seed):
    pick = random.Random(seed)
    rows = [
        {"place": place, "machine": pick.choice("ab"), "used_bytes": pick.randrange(13), "tokens_per_s": pick.random()}
        for place in range(61)
    ]
    rows += [row | {"place": 61 + place} for place, row in enumerate(rows[:19])]  # ties stand together
    frontier = pareto(pl.DataFrame(rows))
    assert sorted(frontier["place"]) == [row["place"] for row in rows if not beaten(row, rows)]
    assert frontier.select("machine", "used_bytes").rows() == sorted(frontier.select("machine", "used_bytes").rows())


def test_rows_without_memory_have_no_place_on_the_frontier():
    rows = pl.DataFrame({"machine": ["a", "a"], "used_bytes": [None, 3], "tokens_per_s": [9.0, 1.0]})
    assert pareto(rows)["tokens_per_s"].to_list() == [1.0]


def test_a_line_joins_what_is_equal_in_all_else(tmp_path):
    batches = [replace(BASE, batch_size=size, median_s=size / 10) for size in (5, 2, 11)]
    slower = [replace(row, attention="written_out", median_s=3 * row.median_s) for row in batches[:2]]
    alone = replace(BASE, batch_size=7, d_ff=61)
    rows = frame(tmp_path, *batches, *slower, alone)
    groups = scaling_groups(rows, "batch_size")
    lines = [group["x"].to_list() for _, group in groups.group_by("group", maintain_order=True)]
    assert sorted(lines) == [[2, 5], [2, 5, 11]]
    for _, group in groups.group_by("group"):
        held = [name for name in AXES if name != "batch_size"]
        assert all(group[name].n_unique() == 1 for name in held)
    assert scaling_axes(rows) == {"batch_size": 2}
    assert scaling_groups(rows, "d_model").is_empty()
    with pytest.raises(ValueError, match="axis is 'colour': one of batch_size, context_length"):
        scaling_groups(rows, "colour")


def test_a_wider_model_keeps_its_heads_and_its_ratio(tmp_path):
    wide = replace(BASE, d_model=70, num_heads=7, d_ff=140)
    rows = frame(tmp_path, BASE, wide, replace(wide, d_ff=141))
    assert scaling_groups(rows, "width")["x"].to_list() == [30, 70]
    assert scaling_axes(rows) == {"d_ff": 1, "width": 1}


def test_the_same_configuration_in_two_ways(tmp_path):
    card = replace(BASE, device="cuda", device_name="Loom", median_s=0.125)
    written = replace(BASE, attention="written_out", median_s=1.0)
    rows = frame(tmp_path, BASE, card, written, replace(card, phase="forward"))
    assert comparable(rows) == {
        "machine: Abacus, 2 threads | Loom": ("machine", "Abacus, 2 threads", "Loom"),
        "attention: sdpa | written_out": ("attention", "sdpa", "written_out"),
    }
    (pair,) = compare(rows, "machine", "Abacus, 2 threads", "Loom").to_dicts()
    assert (pair["one_s"], pair["other_s"], pair["times"], pair["phase"]) == (0.5, 0.125, 4, "step")
    assert compare(rows, "attention", "sdpa", "written_out")["times"].to_list() == [0.5]


def test_the_best_come_first(tmp_path):
    rows = frame(tmp_path, *(replace(BASE, point_id=str(s), median_s=float(s)) for s in (5, 2, 3)))
    assert top_k(rows, 2)["point_id"].to_list() == ["2", "3"]
    assert top_k(rows, 7, "median_s")["point_id"].to_list() == ["5", "3", "2"]


def test_the_largest_share_limits():
    units = {"products": "FLOP", "scores": "B", "loss": "B", "calls": "calls"}
    terms = [
        {"products": 3.0, "scores": 2.0, "loss": 2.0, "calls": 1.0},
        {"products": 3.0, "scores": 2.0, "loss": 0.0, "calls": 5.0},
        {},
    ]
    first, second, unknown = regimes(terms, units)
    assert first == {"compute": 3 / 8, "bandwidth": 4 / 8, "launches": 1 / 8, "regime": "bandwidth"}
    assert second["regime"] == "launches"
    assert unknown == {"compute": None, "bandwidth": None, "launches": None, "regime": "unknown"}


def test_errors_are_told_with_and_without_the_flagged(tmp_path):
    measured = (1.0, 2.0, 4.0, None)
    rows = frame(tmp_path, *(replace(BASE, median_s=seconds) for seconds in measured))
    told = {"guess": pl.Series([1.1, 1.0, 4.0, 3.0]), "memory_pressure": pl.Series([False, True, None, False])}
    line, calm = error_table(rows.with_columns(**told), "guess").to_dicts()
    assert (line["machine"], line["of"], line["rows"]) == ("Abacus, 2 threads", "all", 3)
    assert math.isclose(line["median_error"], 0.1)
    assert math.isclose(line["mean_error"], 0.2)
    assert math.isclose(line["p90_error"], 0.1 + 0.8 * 0.4)
    assert line["above"] == pytest.approx(1 / 3)
    assert (calm["of"], calm["rows"], calm["above"]) == ("not flagged", 2, 0.5)
    assert math.isclose(calm["mean_error"], 0.05)


def test_shares_are_in_the_order_of_compute(tmp_path):
    limits = {"compute": [0.2, None, 0.7], "bandwidth": [0.5, None, 0.1], "launches": [0.3, None, 0.2]}
    rows = frame(tmp_path, *[BASE] * 3).with_columns(pl.Series(name, found) for name, found in limits.items())
    found = {(row["order"], row["part"]): row["share"] for row in shares(rows)}
    assert found == {
        **{(0, "compute"): 0.7, (0, "bandwidth"): 0.1, (0, "launches"): 0.2},
        **{(1, "compute"): 0.2, (1, "bandwidth"): 0.5, (1, "launches"): 0.3},
    }


def test_tables_have_headings_and_numbers_to_read(tmp_path):
    row = replace(BASE, iqr_s=None)
    shown, forms = readable(frame(tmp_path, row).select("machine", "d_ff", "batch_size", "median_s", "iqr_s"))
    assert shown.columns == ["machine", "d_ff", "batch size", "median time", "IQR"]
    assert {heading: forms[heading](shown[heading][0]) for heading in forms} == {"median time": "500 ms", "IQR": ""}


def test_what_was_not_measured_is_counted(tmp_path):
    skipped = replace(BASE, status="skipped_memory", median_s=None)
    noisy = replace(BASE, noisy=True, adds_up=False)
    line = status_line(frame(tmp_path, BASE, noisy, skipped, skipped, replace(skipped, status="error")))
    assert line == (
        "**2 measured** on Abacus, 2 threads; 1 not (error); 2 not (skipped memory); 1 noisy; "
        "1 whose phases do not add up to the step."
    )


def machine_rows(copy):
    machine = {"device": "cpu", "device_name": "Abacus", "num_threads": 2}
    gemm = {"quantity": "gemm", "dtype": "float32", "value": 7e10}
    return [machine | gemm, *([machine | {"quantity": "copy", "dtype": "float32", "value": 1e10}] if copy else [])]


def test_utilisation_is_of_the_machine_itself(tmp_path):
    card = replace(BASE, device="cuda", device_name="Loom")
    rows = frame(tmp_path, BASE, card, replace(BASE, median_s=None)).to_dicts()
    found, missing = utilisation(rows, machine_rows(copy=True))
    ((name, roof),) = found.items()
    assert (name, roof["flop_per_s"], roof["bytes_per_s"]) == ("Abacus, 2 threads, float32", 7e10, 1e10)
    assert [row["mfu_noncausal"] for row in roof["rows"]] == [0.2]  # 7e9 FLOP in 0.5 s
    assert missing == ["Loom has not been measured: run `workbook device measure` there"]
    found, missing = utilisation(rows[:1], machine_rows(copy=False))
    assert found == {}
    assert missing == ["no copy has been measured on Abacus, 2 threads: run `workbook device measure` there"]


AT_HAND = {"batch_size": 2, "context_length": 13, "d_model": 30, "num_heads": 3, "num_layers": 2, "d_ff": 60}
AT_HAND |= {"vocab_size": 17, "attention": "sdpa", "precision": "float32"}


def test_what_a_point_costs_is_told_before_it_is_measured():
    shape = {name: value for name, value in AT_HAND.items() if name not in ("batch_size", "precision")}
    costs = account(ModelConfig(**shape), batch_size=2)
    assert list(point_costs(AT_HAND).values()) == [
        count(costs.parameters),
        count(costs.training_step_flop),
        bytes_text(peak(costs).total),
    ]
    with pytest.raises(ValueError, match="d_model 30"):
        point_costs(AT_HAND | {"num_heads": 7})
    with pytest.raises(ValueError, match="axis of model is 'widht'"):
        point_costs(AT_HAND | {"widht": 3})


@pytest.mark.slow
def test_a_point_measured_here_joins_the_rows(tmp_path):
    for batch_size in (2, 3):
        process = measure_here(AT_HAND | {"batch_size": batch_size}, tmp_path / "results", tmp_path / "work")
        assert process.wait(300) == 0, (tmp_path / "work" / "log.txt").read_text()
    rows, problems = load_benchmarks(tmp_path / "results")
    assert problems == []
    assert sorted(rows.filter(phase="step")["batch_size"]) == [2, 3]
    assert rows.filter(pl.col("median_s") > 0).height == rows.height
    assert rows["source"].n_unique() == 1
