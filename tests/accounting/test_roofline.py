import dataclasses
import math

import pytest

from core.accounting import PRECISIONS, account
from core.accounting.hardware import DEVICES, Device, Peak, device
from core.accounting.roofline import forward_time, training_seconds, training_time
from core.config import ModelConfig
from core.presets import PRESETS, preset

BATCH, SEQ, WIDTH, HEADS, D_FF, VOCAB, LAYERS = 2, 11, 35, 7, 37, 53, 3
MODEL = ModelConfig(
    vocab_size=VOCAB, context_length=13, d_model=WIDTH, num_layers=LAYERS, num_heads=HEADS, d_ff=D_FF,
    feed_forward="relu2", norm_placement="none", positions="none", attention="written_out",
)  # fmt: skip
TOKENS, SCORES = BATCH * SEQ, BATCH * HEADS * SEQ * SEQ
PARAMETERS = 2 * VOCAB * WIDTH + LAYERS * (4 * WIDTH * WIDTH + 2 * WIDTH * D_FF)


def box(float32=1e9, bytes_per_s=1e9, launch_s=0.0, **others):
    """A made-up device with these peaks."""
    peaks = tuple(
        Peak(input_dtype=dtype, accumulate_dtype="float32", flop_per_s=rate, source="test", status="measured")
        for dtype, rate in {"float32": float32, **others}.items()
    )
    return Device(
        name="box", peaks=peaks, memory_bytes=2**30, memory_bytes_per_s=bytes_per_s, memory_source="test",
        memory_status="measured", launch_overhead_s=launch_s,
    )  # fmt: skip


def product(d_in, d_out):
    """Forward FLOP and numbers moved of a linear layer: operands once, result once; backward two of each operand."""
    read, weight, written = TOKENS * d_in, d_in * d_out, TOKENS * d_out
    return 2 * TOKENS * d_in * d_out, 0, 4 * (read + weight + written), 4 * (2 * read + 2 * weight + written)


X, LOGITS = TOKENS * WIDTH, TOKENS * VOCAB
PRODUCT_OF_HEADS = 2 * SCORES * (WIDTH // HEADS)
BLOCK = {  # forward FLOP of products (the backward's are twice as many), other forward FLOP, bytes forward, backward
    "q_proj": product(WIDTH, WIDTH),
    "k_proj": product(WIDTH, WIDTH),
    "v_proj": product(WIDTH, WIDTH),
    "attention scores": (PRODUCT_OF_HEADS, 2 * SCORES, 4 * (2 * X + SCORES), 4 * (4 * X + SCORES)),
    "softmax": (0, 5 * SCORES, 4 * 2 * SCORES, 4 * 3 * SCORES),
    "attention weighted sum": (PRODUCT_OF_HEADS, 0, 4 * (2 * X + SCORES), 4 * (3 * X + 2 * SCORES)),
    "o_proj": product(WIDTH, WIDTH),
    "attention residual": (0, X, 4 * 3 * X, 4 * 3 * X),
    "up_proj": product(WIDTH, D_FF),
    "activation": (0, 2 * TOKENS * D_FF, 4 * 2 * TOKENS * D_FF, 4 * 3 * TOKENS * D_FF),
    "down_proj": product(D_FF, WIDTH),
    "feed-forward residual": (0, X, 4 * 3 * X, 4 * 3 * X),
}
EMBEDDING = {"embedding": (0, 0, 4 * 2 * X + 8 * TOKENS, 4 * (X + VOCAB * WIDTH) + 8 * TOKENS)}
HEAD = {"lm_head": product(WIDTH, VOCAB)}
LOSS = {"loss": (0, 5 * LOGITS, 4 * LOGITS + 8 * TOKENS, 4 * 2 * LOGITS + 8 * TOKENS)}
ADAMW_FLOP = 3 + 4 + 1 + 3 + 3  # mean, mean square, decay, denominator, step; of each parameter
UPDATE = {  # AdamW reads weight, gradient and two means, and writes all but the gradient
    "gradient clipping": (0, 3 * PARAMETERS, 4 * 3 * PARAMETERS, 0),
    "optimizer": (0, ADAMW_FLOP * PARAMETERS, 4 * 7 * PARAMETERS, 0),
}
ONCE = EMBEDDING | HEAD | LOSS | UPDATE
FORWARD_ORDER = [*EMBEDDING, *BLOCK, *HEAD, *LOSS]


def by_hand(rate, bytes_per_s, launch_s=0.0, again=False):
    """Seconds and limit of every operation by phase and name."""
    rows = {}
    for name, (flop, other, forward, backward) in (ONCE | BLOCK).items():
        times = LAYERS if name in BLOCK else 1
        cases = [("update" if name in UPDATE else "forward", flop, forward)]
        cases += [("backward", 2 * flop, backward)] if name not in UPDATE else []
        cases += [("recompute", flop, forward)] if again and name in BLOCK else []
        for phase, products, moved in cases:
            limits = {"arithmetic": max(products, other) / rate, "memory": moved / bytes_per_s, "launch": launch_s}
            limit = max(limits, key=limits.get)
            rows[phase, name] = (times * limits[limit], limit)
    return rows


DEVICES_BY_HAND = {
    "all arithmetic": (1e3, 1e15, 0.0, {"arithmetic"}),
    "all memory": (1e15, 1e3, 0.0, {"memory"}),
    "both": (7e6, 3e6, 0.0, {"arithmetic", "memory"}),
    "all launches": (1e9, 1e9, 1.0, {"launch"}),
    "all three": (7e6, 3e6, 5e-3, {"arithmetic", "memory", "launch"}),
}


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("case", DEVICES_BY_HAND)
def test_seconds_and_limits_by_hand(case, checkpointing):
    rate, bytes_per_s, launch_s, limits = DEVICES_BY_HAND[case]
    costs = account(MODEL, batch_size=BATCH, seq=SEQ, checkpointing=checkpointing)
    time = training_time(costs, box(rate, bytes_per_s, launch_s))
    expected = by_hand(rate, bytes_per_s, launch_s, again=checkpointing)
    assert {(bound.phase, bound.name): bound.seconds for bound in time.operations} == pytest.approx(
        {key: seconds for key, (seconds, _) in expected.items()}, rel=1e-12
    )
    found = {(bound.phase, bound.name): bound.limit for bound in time.operations}
    assert found == {key: limit for key, (_, limit) in expected.items()}
    # The lookup has no arithmetic: it waits for memory everywhere.
    assert {limit for (_, name), limit in found.items() if name != "embedding"} == limits
    assert time.roofline_s == pytest.approx(sum(seconds for seconds, _ in expected.values()), rel=1e-12)
    matrices = sum(2 * TOKENS * weights for weights in (WIDTH * VOCAB, *(LAYERS * [4 * WIDTH**2 + 2 * WIDTH * D_FF])))
    model_flop = 3 * (matrices + LAYERS * 2 * PRODUCT_OF_HEADS)
    assert time.model_flop == model_flop
    assert time.mfu_noncausal == pytest.approx(model_flop / rate / time.roofline_s, rel=1e-12)


def test_operations_stand_in_the_order_of_a_step():
    costs = account(MODEL, batch_size=BATCH, seq=SEQ, checkpointing=True)
    phases: dict[str, list[str]] = {}
    for bound in training_time(costs, box()).operations:
        phases.setdefault(bound.phase, []).append(bound.name)
    assert list(phases) == ["forward", "recompute", "backward", "update"]
    assert phases["forward"] == FORWARD_ORDER
    assert phases["recompute"] == list(BLOCK)
    assert phases["backward"] == FORWARD_ORDER[::-1]
    assert phases["update"] == list(UPDATE)


def test_checkpointing_adds_the_blocks_forward_and_nothing_else():
    here = box(7e6, 3e6)
    plain, again = (
        training_time(account(MODEL, batch_size=BATCH, seq=SEQ, checkpointing=on), here) for on in (False, True)
    )
    by_name = by_hand(7e6, 3e6)
    assert again.roofline_s - plain.roofline_s == pytest.approx(sum(by_name["forward", name][0] for name in BLOCK))
    assert again.model_flop == plain.model_flop  # work done twice is no progress of the model


def test_forward_ends_at_the_logits():
    time = forward_time(account(MODEL, batch_size=BATCH, seq=SEQ), box(7e6, 3e6))
    expected = {key: value for key, value in by_hand(7e6, 3e6).items() if key[0] == "forward" and key[1] != "loss"}
    assert [bound.name for bound in time.operations] == FORWARD_ORDER[:-1]
    assert time.roofline_s == pytest.approx(sum(seconds for seconds, _ in expected.values()))
    assert time.model_flop == sum(BLOCK[name][0] * LAYERS for name in BLOCK) + HEAD["lm_head"][0]


def test_products_run_at_the_precisions_peak_and_the_rest_at_float32s():
    costs = account(MODEL, batch_size=BATCH, seq=SEQ, precision="bfloat16-autocast")
    time = training_time(costs, box(float32=3e6, bfloat16=7e6, bytes_per_s=1e15))
    found = {(bound.phase, bound.name): bound for bound in time.operations}
    assert found["forward", "q_proj"].arithmetic_s == pytest.approx(LAYERS * 2 * TOKENS * WIDTH**2 / 7e6)
    assert found["backward", "q_proj"].arithmetic_s == pytest.approx(LAYERS * 4 * TOKENS * WIDTH**2 / 7e6)
    assert found["forward", "softmax"].arithmetic_s == pytest.approx(LAYERS * 5 * SCORES / 3e6)
    assert found["update", "optimizer"].arithmetic_s == pytest.approx(ADAMW_FLOP * PARAMETERS / 3e6)
    assert time.peak_flop_per_s == 7e6
    # Of numbers in a product two bytes each, of weights in the update four.
    assert found["forward", "q_proj"].bytes == LAYERS * 2 * (2 * X + WIDTH * WIDTH)
    assert found["update", "optimizer"].bytes == 7 * 4 * PARAMETERS


def attention_bounds(costs, where):
    return {bound.phase: bound for bound in training_time(costs, where).operations if bound.name == "attention"}


@pytest.mark.parametrize("d_head", [4, 64])
def test_a_fused_kernel_leaves_masked_pairs_out(d_head):
    model = dataclasses.replace(MODEL, attention="sdpa", head_dim=d_head)
    costs = account(model, batch_size=BATCH, seq=SEQ)
    found = attention_bounds(costs, box(1e6, 1e15))
    pairs = BATCH * HEADS * SEQ * (SEQ + 1) // 2
    # Two products, each a multiplication and an addition a pair and head dimension; seven operations a pair besides.
    assert found["forward"].flop == LAYERS * 4 * d_head * pairs
    assert found["backward"].flop == LAYERS * 8 * d_head * pairs
    for phase, bound in found.items():
        assert bound.elementwise_flop == LAYERS * 7 * pairs
        assert bound.arithmetic_s == pytest.approx(bound.flop / 1e6), phase
        assert bound.intensity == pytest.approx((bound.flop + LAYERS * 7 * pairs) / bound.bytes)
    fast = attention_bounds(account(model, batch_size=BATCH, seq=SEQ, precision="tf32"), box(1e6, 1e15, tf32=1e9))
    assert fast["forward"].arithmetic_s == pytest.approx(LAYERS * 7 * pairs / 1e6)  # the exponentials, not the products


def pairs_of_presets_and_devices():
    for name in PRESETS:
        for device_name, known in DEVICES.items():
            for precision, formats in PRECISIONS.items():
                pairs = [(peak.input_dtype, peak.accumulate_dtype) for peak in known.peaks]
                if (formats.product_dtype, "float32") in pairs:
                    yield name, device_name, precision


def test_bounds_are_ordered_everywhere():
    checked = 0
    accounts = {
        (name, precision): account(preset(name).model, precision=precision, seq=257)
        for name in PRESETS
        for precision in PRECISIONS
    }
    for name, device_name, precision in pairs_of_presets_and_devices():
        costs, known = accounts[name, precision], DEVICES[device_name]
        time = training_time(costs, known)
        assert 0 < time.arithmetic_s <= time.roofline_s < math.inf
        assert time.arithmetic_s >= costs.training_step_flop_causal / time.peak_flop_per_s * (1 - 1e-12)
        moved = sum(costs.total(cell) for cell in ("forward_ideal_bytes", "backward_ideal_bytes"))
        assert time.roofline_s >= moved / known.memory_bytes_per_s * (1 - 1e-12)
        assert {bound.limit for bound in time.operations} <= {"arithmetic", "memory"}
        checked += 1
    assert checked > 1500


@pytest.mark.parametrize("name", ["gpt2", "llama-3-8b", "deepseek-v3"])
def test_no_step_beats_the_peak_in_the_convention_of_what_it_computes(name):
    model = preset(name).model
    for seq in (17, 1031, 65_537):
        written_out = account(dataclasses.replace(model, attention="written_out"), seq=seq)
        assert training_time(written_out, device("h100-sxm")).mfu_noncausal < 1
        fused = account(dataclasses.replace(model, attention="sdpa"), seq=seq)
        time = training_time(fused, device("h100-sxm"))
        assert fused.training_step_flop_causal / time.roofline_s / time.peak_flop_per_s < 1


def test_unknown_pairs_of_precision_and_device():
    costs = account(MODEL, precision="bfloat16")
    for bound in (training_time, forward_time):
        with pytest.raises(
            ValueError, match="box has no known peak for bfloat16 accumulated in float32: it has float32"
        ):
            bound(costs, box())
    with pytest.raises(ValueError, match=r"Apple M4 .* has no known peak for tf32"):
        training_time(account(MODEL, precision="tf32"), device("m4"))


def test_training_seconds_of_the_textbook():
    # CS336, assignment 1: GPT-2 XL, 400,000 steps of 1,024 sequences, at half of an A100's float32 peak.
    costs = account(preset("cs336-gpt2-xl").model, batch_size=1024)
    parameters = 2 * 50_257 * 1600 + 48 * (12 * 1600**2 + 2 * 1600) + 1600
    per_step = 6 * parameters * 1_048_576
    assert costs.training_step_flop_6nd == per_step
    assert per_step == pytest.approx(10.29e15, rel=1e-3)
    peak = device("a100-40gb").peak("float32").flop_per_s
    seconds = training_seconds(400_000 * costs.training_step_flop_6nd, peak, 0.5)
    assert seconds == 400_000 * per_step / (0.5 * 19.5e12)
    assert round(seconds / 86_400) == 4886


def test_training_seconds():
    assert training_seconds(35.0, 7.0) == 5.0
    assert training_seconds(35.0, 7.0, 0.5) == 10.0


@pytest.mark.parametrize("utilisation", [0, -0.1, 1.001, math.nan, math.inf])
def test_utilisation_out_of_range(utilisation):
    with pytest.raises(ValueError, match=f"utilisation is {utilisation}: it must be above 0 and at most 1"):
        training_seconds(1.0, 1.0, utilisation)


@pytest.mark.parametrize("rate", [0, -1.0, math.nan])
def test_rate_out_of_range(rate):
    with pytest.raises(ValueError, match=f"flop_per_s is {rate}: it must be positive"):
        training_seconds(1.0, rate)


LLAMA = preset("llama-3-8b").model
LLAMA_WEIGHTS = 8_030_261_248
TORCHTITAN_FLOP_PER_TOKEN = 57_914_449_920


def test_llama_in_torchtitans_convention():
    # torchtitan: 6 (P - embedding) + 12 L h d_head T, the norms' gains among P. Ours: what is multiplied, alone.
    embedding, gains = 128_256 * 4096, (2 * 32 + 1) * 4096
    attention = 12 * 32 * 4096 * 8192
    assert 6 * (LLAMA_WEIGHTS - embedding) + attention == TORCHTITAN_FLOP_PER_TOKEN
    costs = account(LLAMA, seq=8192)
    assert costs.training_step_flop == 8192 * (TORCHTITAN_FLOP_PER_TOKEN - 6 * gains)
    assert costs.forward_flop == 158_140_695_838_720  # llm-analysis


@pytest.mark.parametrize(("tokens_per_s", "percent"), [(5762, 33.74), (6667, 39.04)])
def test_torchtitans_utilisation(tokens_per_s, percent):
    # Per GPU, Llama 3 8B on eight H100s, eager and compiled; 989 TFLOP/s.
    assert 100 * tokens_per_s * TORCHTITAN_FLOP_PER_TOKEN / 989e12 == pytest.approx(percent, abs=0.005)
    ours = account(LLAMA, seq=8192).training_step_flop / 8192
    mfu = 100 * tokens_per_s * ours / device("h100-sxm").peak("bfloat16").flop_per_s
    assert mfu == pytest.approx(percent, abs=0.03)


def test_nanogpts_utilisation():
    # 100 sequences of 1,024 in 0.755 s on an A100: its notebook prints 37.14 %.
    costs = account(preset("gpt2").model, batch_size=100)
    mfu = costs.training_step_flop / 0.755 / device("a100-40gb").peak("bfloat16").flop_per_s
    assert round(100 * mfu, 2) == 37.14
