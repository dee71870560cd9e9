"""Runs against the accounting: the device's measured rate, utilisation, memory."""

import re

import pytest

from core.accounting import account, peak
from core.accounting.runs import (
    cost_numbers,
    gemm_flop_per_s,
    memory_rows,
    memory_table,
    mfu_noncausal,
    run_account,
    throughput_rows,
    throughput_table,
)
from core.config import canonical_json


def product(value: float, **columns) -> dict:
    usual = {"quantity": "gemm", "device": "cpu", "device_name": "Epyc", "num_threads": 2, "dtype": "float32"}
    return {**usual, "value": value, **columns}


DEVICES = [
    product(100.0),
    product(130.0),
    product(120.0),
    product(900.0, quantity="copy"),
    product(70.0, num_threads=1),
    product(5000.0, device="cuda:1", device_name="H", num_threads=3),
    product(9000.0, device="cuda:1", device_name="H", num_threads=3, dtype="bfloat16"),
]


def rate(**changes) -> float:
    usual = {"device": "cpu", "device_name": "Epyc", "num_threads": 2, "precision": "float32"}
    return gemm_flop_per_s(DEVICES, **usual | changes)


def test_the_best_product_of_the_same_device_and_precision():
    assert rate() == 130.0
    assert rate(num_threads=1) == 70.0
    # A GPU's rate is not a matter of the host's threads, nor of which of the same GPUs it was.
    assert rate(device="cuda", device_name="H", num_threads=16) == 5000.0
    assert rate(device="cuda:0", device_name="H", num_threads=16, precision="bfloat16-autocast") == 9000.0


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"num_threads": 4},
            "Epyc with 4 threads has not been measured: run `OMP_NUM_THREADS=4 workbook device measure`",
        ),
        ({"device": "mps", "device_name": "M"}, "M has not been measured: run `workbook device measure` there"),
        (
            {"device": "cuda", "device_name": "H", "precision": "tf32"},
            "H has been measured in float32, bfloat16, but not",
        ),
        ({"precision": "float64"}, "Epyc with 2 threads has been measured in float32, but not in float64"),
        ({"precision": "float3"}, "precision is 'float3'"),
    ],
)
def test_what_was_not_measured_is_said_with_the_command(changes, said):
    with pytest.raises(ValueError, match=f"^{re.escape(said)}"):
        rate(**changes)


def test_mfu():
    assert mfu_noncausal(65.0, 130.0) == 0.5
    assert mfu_noncausal(65.0, 130.0, world_size=5) == 0.1


def test_a_run_s_account_is_of_what_one_device_holds_at_once(tiny_config, replace):
    config = replace(tiny_config, batch_size=12, precision="bfloat16-autocast", activation_checkpointing=True)
    expected = account(config.model, batch_size=12, precision="bfloat16-autocast", checkpointing=True)
    assert run_account(config) == expected
    assert run_account(config, world_size=3) == run_account(replace(config, batch_size=4))
    in_parts = run_account(replace(config, micro_batch_size=2, loss_chunk=11))
    assert (in_parts.batch_size, in_parts.accumulated, in_parts.loss_chunk) == (2, True, 11)
    at_once = run_account(replace(config, micro_batch_size=6), world_size=3)  # a device's share is less than that
    assert (at_once.batch_size, at_once.accumulated) == (4, False)
    with pytest.raises(ValueError, match="batch_size 12 cannot be shared evenly by 5 devices"):
        run_account(config, world_size=5)


def run(config, **columns) -> dict:
    usual = {
        "run_id": "r",
        "device": "cpu",
        "device_name": "Epyc",
        "num_threads": 2,
        "world_size": None,
        "parallel": None,
    }
    usual |= {"peak_bytes": None, "predicted_peak_bytes": None, "config_json": canonical_json(config)}
    return {**usual, **columns}


def steps(run_id: str, rates: list[float | None], stall_s: float | None = None) -> list[dict]:
    return [
        {"run_id": run_id, "step": n, "tokens": 7 * n, "model_flop": 14.0 * n, "tokens_per_s": rate}
        | {"stall_s": stall_s, "segment": 0}
        for n, rate in enumerate(rates)
    ]


def test_throughput_of_runs(tiny_config, replace):
    config = replace(tiny_config, precision="float32")
    runs = [
        run(config, run_id="a"),
        run(config, run_id="two", world_size=2),
        run(config, run_id="b", num_threads=5),
        run(config, run_id="none"),
    ]
    rows = steps("a", [None, 13.0, 26.0, 39.0], 0.014) + steps("two", [None, 26.0]) + steps("b", [None, 7.0, 7.0])
    found = throughput_rows(runs, rows + steps("none", [None]), DEVICES)
    assert [row["run_id"] for row in found] == ["a", "two", "b"]
    # 26 tokens a second of 2 FLOP each, of 130 FLOP/s.
    assert [row["mfu_noncausal"] for row in found] == [pytest.approx(0.4), pytest.approx(0.2), None]
    assert "OMP_NUM_THREADS=5 workbook device measure" in found[2]["unmeasured"]
    first, _, last = throughput_table(found)
    assert (first["tokens/s"], first["half of the steps"], first["training FLOP/s"]) == ("26", "20 – 32", "52")
    # Three times 0.014 s of 7/13 + 7/26 + 7/39 s.
    assert (first["MFU"], first["waiting for data"], first["resumed"]) == ("40.0%", "4.25%", "0 times")
    assert (last["MFU"], last["waiting for data"]) == ("not known", "not recorded")


def test_a_row_from_before_precision_was_a_field_is_known_by_its_dtype(tiny_config):
    old = run(tiny_config, config_json='{"dtype":"float32"}')
    (found,) = throughput_rows([old], steps("r", [None, 65.0]), DEVICES)
    assert found["mfu_noncausal"] == 1.0


def test_memory_of_runs(tiny_config):
    worst = peak(run_account(tiny_config))
    runs = [
        run(tiny_config, run_id="cpu"),
        run(tiny_config, run_id="gpu", peak_bytes=1100, predicted_peak_bytes=1000),
        run(tiny_config, run_id="divided", parallel="fsdp", world_size=4),
        run(tiny_config, run_id="newer", config_json='{"telepathy":1}'),
    ]
    rows, problems = memory_rows(runs)
    assert [row["run_id"] for row in rows] == ["cpu", "gpu"]
    assert sum(rows[0][part] for part in worst.KINDS) == rows[0]["predicted"] == worst.total
    assert [row["off"] for row in rows] == [None, pytest.approx(0.1)]
    assert problems.pop(0) == "divided: its weights were divided among 4 devices, whose memory is not predicted"
    assert problems == ["newer: there is no field 'telepathy' (fields: " + problems[0].partition("(fields: ")[2]]
    cpu, gpu = memory_table(rows)
    assert (cpu["measured"], cpu["difference"]) == ("not recorded", "–")
    assert (gpu["predicted"], gpu["measured"], gpu["difference"]) == ("1,000 B", "1.07 KiB", "+10.0%")


def test_cost_numbers(tiny_config, replace):
    config = replace(tiny_config, micro_batch_size=1)
    numbers = cost_numbers(config)
    step = account(config.model, batch_size=5)
    assert numbers["tokens"] == "2.22 k"  # 12 steps of 5 x 37, whatever the micro-batch
    assert numbers["parameters"] == "25.5 k"
    assert step.parameters == 2 * 401 * 22 + 22 + 2 * (4 * 22 * 22 + 3 * 22 * 29 + 2 * 22)
    assert numbers["training FLOP"] == f"{12 * step.training_step_flop / 1e6:.0f} M"
