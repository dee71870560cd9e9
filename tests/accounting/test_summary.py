import dataclasses
import json

import pytest

from core.accounting import account
from core.accounting.hardware import device, measured_device
from core.accounting.operations import CELLS
from core.accounting.summary import on_device, summary, workload
from core.config import ModelConfig, from_dict
from core.presets import PRESETS, preset

BATCH, SEQ, WIDTH, LAYERS, HEADS, D_FF, VOCAB = 2, 11, 30, 5, 3, 37, 53
MODEL = ModelConfig(
    vocab_size=VOCAB, context_length=13, d_model=WIDTH, num_layers=LAYERS, num_heads=HEADS, d_ff=D_FF,
    attention="written_out",
)  # fmt: skip
PRODUCTS = LAYERS * (4 * WIDTH * WIDTH + 3 * WIDTH * D_FF) + WIDTH * VOCAB
PARAMETERS = PRODUCTS + VOCAB * WIDTH + (2 * LAYERS + 1) * WIDTH
SCORES = LAYERS * 4 * BATCH * WIDTH
"""FLOP of the two products of attention per pair of positions."""
FORWARD = 2 * BATCH * SEQ * PRODUCTS + SCORES * SEQ * SEQ
CAUSAL = 2 * BATCH * SEQ * PRODUCTS + SCORES * SEQ * (SEQ + 1) // 2
STORED = LAYERS * (8 * SEQ * WIDTH + 4 * SEQ * D_FF + 2 * HEADS * SEQ * SEQ) + SEQ * WIDTH + SEQ * VOCAB + SEQ
TEXTBOOK = 4 * BATCH * STORED
"""Each tensor of the forward once, in float32."""
BOX = measured_device(
    "box", gemm_flop_per_s={"float32": 7e9}, copy_bytes_per_s=3e9, memory_bytes=1_000_003, source="test"
)

WORKLOADS = {
    "default": {},
    "all given": {
        "batch_size": 7,
        "seq": 5,
        "precision": "bfloat16-autocast",
        "optimizer": "adamw-foreach",
        "checkpointing": True,
        "loss_chunk": 7,
        "accumulated": True,
    },
}


def test_numbers_by_hand():
    answers = summary(account(MODEL, batch_size=BATCH, seq=SEQ))
    expected = {
        "batch_size": 2,
        "seq": 11,
        "precision": "float32",
        "optimizer": "adamw",
        "checkpointing": False,
        "loss_chunk": None,
        "accumulated": False,
        "tokens": 22,
        "parameters": PARAMETERS,
        "active_parameters": PARAMETERS,
        "forward_flop": FORWARD,
        "forward_flop_causal": CAUSAL,
        "backward_flop": 2 * FORWARD,
        "training_step_flop": 3 * FORWARD,
        "training_step_flop_causal": 3 * CAUSAL,
        "training_step_flop_hardware": 3 * FORWARD,
        "training_step_flop_6nd": 6 * PARAMETERS * 22,
        "parameter_bytes": 4 * PARAMETERS,
        "optimizer_bytes": 8 * PARAMETERS,
        "kv_cache_bytes_per_token": 2 * LAYERS * 2 * WIDTH,
        "textbook_memory_bytes": {"activations": TEXTBOOK, "state": 16 * PARAMETERS},
    }
    assert {name: answers[name] for name in expected} == expected
    assert from_dict(ModelConfig, answers["model"]) == MODEL
    rest = {"model", "saved_bytes", "peak_bytes", "peak_moment", "peak_parts_bytes", "operations"}
    assert set(answers) == set(expected) | rest
    assert answers["saved_bytes"] == sum(row["times"] * row["saved_bytes"] for row in answers["operations"])
    assert answers["peak_bytes"] == sum(answers["peak_parts_bytes"].values())
    kinds = ["parameters", "optimizer", "gradients", "saved", "temporary"]
    assert list(answers["peak_parts_bytes"]) == kinds
    assert answers["peak_parts_bytes"]["optimizer"] == 8 * PARAMETERS


def test_what_is_computed_twice_is_hardware_flop():
    head = 2 * BATCH * SEQ * WIDTH * VOCAB
    again = summary(account(MODEL, batch_size=BATCH, seq=SEQ, checkpointing=True))
    assert again["training_step_flop"] == 3 * FORWARD
    assert again["training_step_flop_hardware"] == 3 * FORWARD + FORWARD - head
    fused = summary(account(dataclasses.replace(MODEL, attention="sdpa"), batch_size=BATCH, seq=SEQ))
    assert fused["training_step_flop_hardware"] == 3 * FORWARD + SCORES * SEQ * SEQ // 2


def types_of(value, path="answers"):
    """Every leaf's path and type."""
    if isinstance(value, dict):
        for name, inner in value.items():
            assert isinstance(name, str)
            yield from types_of(inner, f"{path}.{name}")
    elif isinstance(value, list):
        for inner in value:
            yield from types_of(inner, f"{path}[]")
    else:
        yield path, type(value)


@pytest.mark.parametrize("name", ["quickstart", "gpt2-xl", "llama-3-405b", "qwen3-235b-a22b", "deepseek-v3"])
def test_json_keeps_every_number(name):
    answers = summary(account(preset(name).model, batch_size=1009), device("b200"))
    assert json.loads(json.dumps(answers)) == answers
    floats = {path.rpartition(".")[2] for path, kind in types_of(answers) if kind is float}
    seconds_and_rates = {
        "peak_flop_per_s", "step_arithmetic_s", "step_roofline_s", "tokens_per_s_roofline",
        "mfu_noncausal_roofline", "mfu_causal_roofline",
    }  # fmt: skip
    assert floats == seconds_and_rates | {"rope_theta", "norm_eps"}
    units = ("flop", "bytes", "parameters", "_causal", "_6nd", "_hardware", "batch_size", "seq")
    for path, kind in types_of({key: value for key, value in answers.items() if key not in ("model", "operations")}):
        if path.endswith(units):
            assert kind is int, path
    assert {kind for path, kind in types_of(answers["operations"]) if path.rpartition(".")[2] in CELLS} == {int}


def test_operations_are_the_rows():
    costs = account(MODEL, batch_size=BATCH, seq=SEQ)
    operations = summary(costs)["operations"]
    assert [row["name"] for row in operations] == [row.name for row in costs.rows]
    row = next(row for row in operations if row["name"] == "up_proj")
    assert list(row) == ["name", "group", *CELLS]
    assert (row["group"], row["times"], row["parameters"]) == ("feed-forward", LAYERS, WIDTH * D_FF)
    assert (row["forward_flop"], row["backward_flop"]) == tuple(n * BATCH * SEQ * WIDTH * D_FF for n in (2, 4))
    assert row["saved_bytes"] == 0  # its input is gate_proj's
    assert row["elementwise_flop"] == 0  # zeros are written out: every row has every cell


@pytest.mark.parametrize("options", WORKLOADS)
def test_a_workload_gives_its_account_again(options):
    for model in (MODEL, *(preset(name).model for name in PRESETS)):
        costs = account(model, **WORKLOADS[options])
        again = account(model, **workload(costs))
        assert again == costs
        assert again.rows == costs.rows
    expected = {
        "batch_size": 1, "seq": 13, "precision": "float32", "optimizer": "adamw", "checkpointing": False,
        "loss_chunk": None, "accumulated": False,
    } | WORKLOADS[options]  # fmt: skip
    assert workload(account(MODEL, **WORKLOADS[options])) == expected


def test_a_summary_is_enough_to_make_the_account_again():
    costs = account(MODEL, **WORKLOADS["all given"])
    answers = json.loads(json.dumps(summary(costs, device("h200"))))
    asked = {name: answers[name] for name in workload(costs)}
    assert account(from_dict(ModelConfig, answers["model"]), **asked) == costs


def test_on_a_device():
    costs = account(MODEL, batch_size=BATCH, seq=SEQ)
    plain, found = summary(costs), summary(costs, BOX)
    part = found.pop("device")
    assert found == plain
    assert part == on_device(costs, BOX)
    assert (part["name"], part["memory_bytes"], part["peak_flop_per_s"]) == ("box", 1_000_003, 7e9)
    assert part["fits"] is True
    assert found["peak_bytes"] < 1_000_003
    largest, longest = part["largest_batch_size"], part["largest_seq"]
    for fits, sizes in ((True, (largest, longest)), (False, (largest + 1, longest + 1))):
        for asked in ({"batch_size": sizes[0], "seq": SEQ}, {"batch_size": BATCH, "seq": sizes[1]}):
            assert summary(account(MODEL, **asked), BOX)["device"]["fits"] is fits
    # All arithmetic but the products' also runs at the peak, so no time is below that of the products alone.
    assert part["step_arithmetic_s"] > 3 * FORWARD / 7e9
    assert part["step_roofline_s"] >= part["step_arithmetic_s"]
    assert part["tokens_per_s_roofline"] == pytest.approx(22 / part["step_roofline_s"])
    assert part["mfu_noncausal_roofline"] == pytest.approx(3 * FORWARD / part["step_roofline_s"] / 7e9)
    assert part["mfu_causal_roofline"] == pytest.approx(3 * CAUSAL / part["step_roofline_s"] / 7e9)


def test_what_fits_depends_on_the_rest_of_the_workload():
    costs = account(MODEL, batch_size=BATCH, seq=SEQ)
    again = account(MODEL, batch_size=BATCH, seq=SEQ, checkpointing=True, optimizer="sgd")
    assert on_device(again, BOX)["largest_batch_size"] > 2 * on_device(costs, BOX)["largest_batch_size"]
    small = dataclasses.replace(BOX, memory_bytes=12 * PARAMETERS)
    part = on_device(costs, small)
    assert (part["fits"], part["largest_batch_size"], part["largest_seq"]) == (False, 0, 0)


@pytest.mark.parametrize(("spare", "fits"), [(0, True), (-1, False)])
def test_the_last_byte_counts(spare, fits):
    costs = account(MODEL, batch_size=BATCH, seq=SEQ)
    part = on_device(costs, dataclasses.replace(BOX, memory_bytes=summary(costs)["peak_bytes"] + spare))
    assert part["fits"] is fits
    assert (part["largest_batch_size"], part["largest_seq"]) == ((BATCH, SEQ) if fits else (BATCH - 1, SEQ - 1))


def test_unknown_peak():
    with pytest.raises(ValueError, match="box has no known peak for bfloat16"):
        summary(account(MODEL, precision="bfloat16"), BOX)
