import dataclasses
import re

import pytest

from core.accounting import account, peak, walk
from core.accounting.growth import AXES, QUANTITIES
from core.accounting.hardware import DEVICES, device, measured_device
from core.accounting.roofline import training_time
from core.accounting.rows import (
    BREAKDOWNS,
    TABLE_CELLS,
    breakdown_rows,
    budget_rows,
    comparison_rows,
    convention_rows,
    diagram_rows,
    formula_markdown,
    growth_rows,
    memory_rows,
    operation_rows,
    roofline_points,
    shard_rows,
)
from core.accounting.summary import workload
from core.config import ExpertsConfig, ModelConfig
from core.presets import PRESETS, preset

BATCH, SEQ, WIDTH, LAYERS, HEADS, D_HEAD, D_FF, VOCAB = 2, 11, 30, 5, 3, 10, 37, 53
MODEL = ModelConfig(
    vocab_size=VOCAB, context_length=13, d_model=WIDTH, num_layers=LAYERS, num_heads=HEADS, d_ff=D_FF,
    attention="written_out",
)  # fmt: skip
COSTS = account(MODEL, batch_size=BATCH, seq=SEQ)
AGAIN = account(MODEL, batch_size=BATCH, seq=SEQ, checkpointing=True)
PRODUCTS = LAYERS * (4 * WIDTH * WIDTH + 3 * WIDTH * D_FF) + WIDTH * VOCAB
PARAMETERS = PRODUCTS + VOCAB * WIDTH + (2 * LAYERS + 1) * WIDTH
FORWARD = 2 * BATCH * SEQ * PRODUCTS + LAYERS * 4 * BATCH * WIDTH * SEQ * SEQ
BOX = measured_device(
    "box", gemm_flop_per_s={"float32": 7e9}, copy_bytes_per_s=3e9, memory_bytes=1_500_000, source="test"
)


def named(rows, name, key="name"):
    return next(row for row in rows if row[key] == name)


@pytest.mark.parametrize("name", PRESETS)
def test_breakdowns_sum_to_the_totals(name):
    for checkpointing in (False, True):
        costs = account(preset(name).model, batch_size=3, checkpointing=checkpointing, precision="bfloat16-autocast")
        sums = {what: sum(row["value"] for row in breakdown_rows(costs, what)) for what in BREAKDOWNS}
        update = sum(row.total("forward_eager_bytes") for row in costs.rows if row.group == "update")
        traffic = costs.total("forward_eager_bytes") + costs.total("backward_eager_bytes")
        assert sums == {
            "parameters": costs.parameters,
            "FLOP": costs.training_step_flop,
            "saved bytes": costs.saved_bytes,
            "memory traffic": traffic - update,
        }
        for what in BREAKDOWNS:
            rows = breakdown_rows(costs, what)
            assert min(row["value"] for row in rows) > 0
            assert len({row["name"] for row in rows}) == len(rows)


def test_breakdown_by_hand():
    parameters = breakdown_rows(COSTS, "parameters")
    assert parameters[0] == {"name": "embedding", "group": "embedding", "value": VOCAB * WIDTH}
    assert named(parameters, "gate_proj") == {
        "name": "gate_proj",
        "group": "feed-forward",
        "value": LAYERS * WIDTH * D_FF,
    }
    assert "softmax" not in {row["name"] for row in parameters}
    assert named(breakdown_rows(COSTS, "FLOP"), "lm_head")["value"] == 6 * BATCH * SEQ * WIDTH * VOCAB
    again = breakdown_rows(AGAIN, "saved bytes")
    outside = ["block inputs", "final norm", "lm_head"]
    assert [row["name"] for row in again] == ["embedding", "rotary angles", *outside]
    assert named(again, "block inputs")["value"] == LAYERS * 4 * BATCH * SEQ * WIDTH
    assert breakdown_rows(AGAIN, "FLOP") == breakdown_rows(COSTS, "FLOP")


def test_diagram_rows():
    rows = diagram_rows(COSTS, lambda name: f"#{name}")
    assert [row["name"] for row in rows] == [row.name for row in COSTS.rows if row.group != "update"]
    assert named(rows, "attention scores") == {
        "name": "attention scores",
        "group": "attention",
        "times": LAYERS,
        "symbols": "B, h, T, S",
        "shape": f"{BATCH} × {HEADS} × {SEQ} × {SEQ}",
        "parameters": 0,
        "flop": 2 * BATCH * HEADS * D_HEAD * SEQ * SEQ,
        "bytes": 4 * 2 * BATCH * SEQ * WIDTH + SEQ * SEQ,
        "href": "#attention scores",
    }
    gpt2 = diagram_rows(account(preset("gpt2").model), str.upper)
    assert named(gpt2, "lm_head (tied)")["shape"] == "1 × 1,024 × 50,257"
    assert named(gpt2, "q_proj")["symbols"] == "B, T, h·dk"  # a dot for a product
    assert named(gpt2, "q_proj")["href"] == "Q_PROJ"
    for cell, key in (("parameters", "parameters"), ("forward_flop", "flop"), ("saved_bytes", "bytes")):
        assert sum(row["times"] * row[key] for row in rows) == COSTS.total(cell)


@pytest.mark.parametrize("costs", [COSTS, AGAIN], ids=["plain", "checkpointing"])
def test_memory_rows(costs):
    rows = memory_rows(costs)
    assert [row["order"] for row in rows] == list(range(len(rows)))
    worst = max(walk(costs), key=lambda moment: moment.total)
    highest = max(rows, key=lambda row: row["total"])
    assert (highest["total"], highest["moment"]) == (worst.total, str(worst))
    for row in rows:
        assert row["total"] == sum(row[kind] for kind in ("parameters", "optimizer", "gradients", "saved", "temporary"))
        assert (row["parameters"], row["optimizer"]) == (4 * PARAMETERS, 8 * PARAMETERS)
    phases = list(dict.fromkeys(row["phase"] for row in rows))
    assert phases == ["forward", "backward", *(["recompute"] if costs.checkpointing else []), "update"]
    assert rows[-1]["gradients"] == 4 * PARAMETERS


def test_roofline_points():
    time = training_time(COSTS, BOX)
    rows = roofline_points(time)
    assert {row["name"] for row in rows} == {row.name for row in COSTS.rows} - {"embedding", "rotary angles"}  # lookups
    lookup = sum(bound.seconds for bound in time.operations if bound.name == "embedding")
    assert sum(row["seconds"] for row in rows) == pytest.approx(time.roofline_s - lookup)
    assert sum(row["share"] for row in rows) == pytest.approx(1 - lookup / time.roofline_s)
    for row in rows:
        assert row["flop"] == pytest.approx(row["intensity"] * row["bytes"])
        assert row["flop_per_s"] == pytest.approx(min(7e9, row["intensity"] * 3e9))  # the roof
    point = next(row for row in rows if (row["name"], row["phase"]) == ("up_proj", "backward"))
    assert point["flop"] == LAYERS * 4 * BATCH * SEQ * WIDTH * D_FF
    assert point["bytes"] == LAYERS * 4 * (BATCH * SEQ * (2 * WIDTH + D_FF) + 2 * WIDTH * D_FF)


@pytest.mark.parametrize("axis", AXES)
def test_growth_rows_are_factors(axis):
    rows = growth_rows(MODEL, axis, batch_size=3)
    assert [row["x"] for row in rows] == [factor for factor in (1, 2, 4, 8, 16) for _ in QUANTITIES]
    assert {row["y"] for row in rows if row["x"] == 1} == {1}
    flop = {row["x"]: row["y"] for row in rows if row["component"] == "training FLOP per step"}
    if axis == "batch_size":
        assert flop == {1: 1, 2: 2, 4: 4, 8: 8, 16: 16}
    head = WIDTH * VOCAB
    if axis == "vocab_size":  # the head grows, everything else stands
        block = account(MODEL).forward_flop / (2 * 13) - head
        assert flop == pytest.approx({factor: (block + factor * head) / (block + head) for factor in flop})
    if axis == "num_layers":
        blocks = PARAMETERS - 2 * head - WIDTH
        grown = {row["x"]: row["y"] for row in rows if row["component"] == "parameters"}
        assert grown == pytest.approx({x: (x * blocks + 2 * head + WIDTH) / PARAMETERS for x in grown})


def test_comparison_rows():
    other_model = dataclasses.replace(
        MODEL, num_layers=10, experts=ExpertsConfig(num_experts=7, experts_per_token=2, d_ff=11)
    )
    other = account(other_model, batch_size=3, seq=7)
    rows = comparison_rows(COSTS, other)
    attention_and_gains = 10 * (4 * WIDTH * WIDTH + 2 * WIDTH) + 2 * VOCAB * WIDTH + WIDTH
    all_experts, router = 10 * 3 * 7 * WIDTH * 11, 10 * WIDTH * 7
    held, active = (attention_and_gains + router + part for part in (all_experts, all_experts * 2 // 7))
    found = {row["quantity"]: (row["this"], row["other"]) for row in rows}
    assert found == {
        "parameters": (PARAMETERS, held),
        "active parameters": (PARAMETERS, active),
        "forward FLOP per token": (FORWARD / 22, other.forward_flop / 21),
        "FLOP of a training step": (3 * FORWARD, 3 * other.forward_flop),
        "saved bytes per token": (COSTS.saved_bytes / 22, other.saved_bytes / 21),
        "bytes at the peak": (peak(COSTS).total, peak(other).total),
        "cache bytes per token": (2 * LAYERS * 2 * WIDTH, 2 * 10 * 2 * WIDTH),
    }
    for row in rows:
        assert row["ratio"] * row["this"] == pytest.approx(row["other"])
    assert named(rows, "parameters", "quantity")["this_text"] == "38.2 k"
    assert named(rows, "FLOP of a training step", "quantity")["this_text"].endswith(" MFLOP")
    assert named(rows, "cache bytes per token", "quantity")["other_text"] == "1.17 KiB"
    assert {row["ratio"] for row in comparison_rows(COSTS, COSTS)} == {1}


def test_budget_rows():
    asked = workload(COSTS)
    small = dataclasses.replace(BOX, name="small", memory_bytes=12 * PARAMETERS)
    huge = device("b200")
    rows = budget_rows(MODEL, [BOX, small, huge], asked)
    assert [(row["device"], row["memory"]) for row in rows] == [
        ("box", "1.43 MiB"), ("small", "447 KiB"), ("NVIDIA B200 (HGX)", "168 GiB"),
    ]  # fmt: skip
    none = {"largest batch": "does not fit", "longest sequence": "does not fit"}
    assert rows[1] | none == rows[1]
    for row, where in ((rows[0], BOX), (rows[2], huge)):
        for title, name in (("largest batch", "batch_size"), ("longest sequence", "seq")):
            size = int(row[title].replace(",", ""))
            for value, fits in ((size, True), (size + 1, False)):
                assert (peak(account(MODEL, **{**asked, name: value})).total <= where.memory_bytes) is fits
    assert re.fullmatch(r"\d{1,3}(,\d{3})+", rows[2]["largest batch"])


def test_every_known_device_has_a_budget():
    rows = budget_rows(preset("gpt2").model, DEVICES.values(), workload(account(preset("gpt2").model)))
    assert [row["device"] for row in rows] == [known.name for known in DEVICES.values()]
    sizes = {row["device"]: int(row["largest batch"].replace(",", "")) for row in rows}
    by_memory = sorted(DEVICES.values(), key=lambda known: known.memory_bytes)
    assert [sizes[known.name] for known in by_memory] == sorted(sizes.values())


def test_shard_rows():
    rows = shard_rows(COSTS, 3, dataclasses.replace(BOX, memory_bytes=620_000))
    assert [row["scheme"] for row in rows] == ["ddp", "zero-1", "zero-2", "zero-3", "fsdp", "tensor"]
    weights = 4 * PARAMETERS
    assert weights == 152_640
    by_scheme = {row["scheme"]: row for row in rows}
    kept = {
        scheme: [row.get(kind) for kind in ("parameters", "gradients", "optimizer")]
        for scheme, row in by_scheme.items()
    }
    whole, third, means, third_of_means = "149 KiB", "49.7 KiB", "298 KiB", "99.4 KiB"
    assert kept == {
        "ddp": [whole, whole, means],
        "zero-1": [whole, whole, third_of_means],
        "zero-2": [whole, third, third_of_means],
        "zero-3": [third, third, third_of_means],
        "fsdp": [third, third, third_of_means],
        "tensor": [None, None, None],
    }
    assert by_scheme["ddp"]["box"] == "does not fit"
    assert by_scheme["fsdp"]["box"] == "fits"
    assert by_scheme["tensor"] == {"scheme": "tensor", "on each": "d_ff 37 is not divisible by 3 devices"}


def test_convention_rows():
    costs = account(dataclasses.replace(MODEL, attention="sdpa"), batch_size=BATCH, seq=SEQ, checkpointing=True)
    scores = LAYERS * 4 * BATCH * WIDTH
    causal = 2 * BATCH * SEQ * PRODUCTS + scores * SEQ * (SEQ + 1) // 2
    head = 2 * BATCH * SEQ * WIDTH * VOCAB
    expected = {
        "model, non-causal": 3 * FORWARD,
        "model, causal": 3 * causal,
        "hardware": 4 * FORWARD - head + scores * SEQ * SEQ // 2,
        "6ND": 6 * PARAMETERS * BATCH * SEQ,
    }
    rows = convention_rows(costs)
    assert {row["convention"]: row["FLOP of a step"] for row in rows} == {
        name: f"{flop:,}" for name, flop in expected.items()
    }
    assert {row["convention"]: row["of the first"] for row in rows} == {
        name: f"{flop / (3 * FORWARD):.4f}" for name, flop in expected.items()
    }
    assert len({row["what counts"] for row in rows}) == 4


def test_operation_rows():
    rows = operation_rows(COSTS)
    assert [row["operation"] for row in rows] == [row.name for row in COSTS.rows]
    for cell, title in TABLE_CELLS.items():
        assert sum(row["times"] * row[title] for row in rows) == COSTS.total(cell)
    row = named(rows, "down_proj", "operation")
    assert (row["times"], row["parameters"]) == (LAYERS, D_FF * WIDTH)
    assert (row["forward FLOP"], row["backward FLOP"]) == tuple(n * BATCH * SEQ * D_FF * WIDTH for n in (2, 4))
    once = 4 * (BATCH * SEQ * (D_FF + WIDTH) + D_FF * WIDTH)
    assert (row["forward bytes, ideal"], row["forward bytes, eager"]) == (once, once)
    assert row["saved bytes"] == 4 * BATCH * SEQ * D_FF
    assert named(rows, "optimizer", "operation")["forward bytes, ideal"] == 7 * 4 * PARAMETERS


def test_formulas_and_numbers_stand_side_by_side():
    text = {row.name: formula_markdown(row) for row in COSTS.rows}
    assert text["attention scores"].splitlines()[0] == (
        f"Occurs $L$ = {LAYERS} times. Its result has the axes $B, h, T, S$. "
        "Product, scale, mask (a byte a pair); kept: query, key and mask."
    )
    assert (
        f"| forward FLOP | $2 B h d_k T S$ | {2 * BATCH * HEADS * D_HEAD * SEQ * SEQ:,} |" in text["attention scores"]
    )
    assert (
        f"| saved bytes | $2 c B T h d_k + T S$ | {8 * BATCH * SEQ * WIDTH + SEQ * SEQ:,} |" in text["attention scores"]
    )
    assert "parameters" not in text["attention scores"]  # cells that are always zero are left out
    assert f"| parameters | $f d + b d$ | {D_FF * WIDTH:,} |" in text["down_proj"]
    assert text["down_proj"].startswith(f"Occurs $L_D$ = {LAYERS} times. Its result has the axes $B, T, d$.")
    assert text["embedding"].startswith("Occurs once. Its result has the axes $B, T, d$. A lookup: ")
    assert f"| forward bytes, ideal | $7 s P$ | {7 * 4 * PARAMETERS:,} |" in text["optimizer"]
    assert text["optimizer"].startswith("Occurs once. Ours: one compiled loop, nothing besides.\n")


@pytest.mark.parametrize("name", ["gpt2", "quickstart", "deepseek-v3"])
def test_every_formulas_table_is_one(name):
    for row in account(preset(name).model, precision="bfloat16-autocast").rows:
        words, _, table = formula_markdown(row).partition("\n\n")
        head, rule, *lines = table.splitlines()
        assert (head, rule) == ("| cell | formula | once |", "|---|---|---|")
        assert words.endswith(".")
        shown = {}
        for line in lines:
            assert line.count("|") == 4, "a bar within a formula would end its cell"
            title, formula, number = (part.strip() for part in line.strip("|").split("|"))
            assert formula.startswith("$")
            assert formula.count("{") == formula.count("}")
            shown[title] = int(number.replace(",", ""))
        nonzero = {title: row.once(cell) for cell, title in TABLE_CELLS.items() if row.once(cell)}
        assert {title: number for title, number in shown.items() if number} == nonzero
