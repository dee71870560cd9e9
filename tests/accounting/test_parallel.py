import dataclasses
import math

import pytest

from core.accounting import account, walk
from core.accounting.parallel import SCHEMES, Shard, shard, tensor_parallel
from core.config import ExpertsConfig, LatentConfig, ModelConfig
from core.presets import preset

LAYERS, WIDTH, HEADS, KV_HEADS, D_HEAD, D_FF, VOCAB = 3, 35, 15, 5, 14, 55, 85
MODEL = ModelConfig(
    vocab_size=VOCAB, context_length=13, d_model=WIDTH, num_layers=LAYERS, num_heads=HEADS, num_kv_heads=KV_HEADS,
    head_dim=D_HEAD, d_ff=D_FF,
)  # fmt: skip
BLOCK = WIDTH * D_HEAD * (2 * HEADS + 2 * KV_HEADS) + 3 * WIDTH * D_FF + 2 * WIDTH
PARAMETERS = 2 * VOCAB * WIDTH + LAYERS * BLOCK + WIDTH
LARGEST_ROW = WIDTH * HEADS * D_HEAD
ADAMW_MEANS = 2


def parts(found: Shard) -> tuple[int, int, int, int]:
    return found.parameters, found.gradients, found.optimizer, found.gathered


def ceil(size: int, degree: int) -> int:
    return math.ceil(size / degree)


@pytest.mark.parametrize("degree", [1, 2, 5, 11, 13])
def test_zero_by_hand(degree):
    costs, weights = account(MODEL, batch_size=2, seq=11), 4 * PARAMETERS
    means = ADAMW_MEANS * weights
    assert (weights % 11, weights % 13) == (6, 3)  # remainders, which have to be rounded up
    several = degree > 1
    expected = {
        "ddp": (weights, weights, means, 0),
        "zero-1": (weights, weights, ceil(means, degree), 0),
        "zero-2": (weights, ceil(weights, degree), ceil(means, degree), 0),
        "zero-3": (ceil(weights, degree), ceil(weights, degree), ceil(means, degree), several * 4 * 2 * LARGEST_ROW),
        "fsdp": (ceil(weights, degree), ceil(weights, degree), ceil(means, degree), several * 4 * 3 * BLOCK),
    }
    assert BLOCK > LARGEST_ROW
    found = {scheme: shard(costs, scheme, degree) for scheme in expected}
    assert {scheme: parts(part) for scheme, part in found.items()} == expected
    for scheme, part in found.items():
        assert (part.scheme, part.degree) == (scheme, degree)
        assert part.total == sum(parts(part)) + part.activations


@pytest.mark.parametrize("name", ["gpt2", "llama-3.2-1b", "mixtral-8x7b", "deepseek-v3"])
def test_one_device_holds_what_ddp_holds(name):
    costs = account(preset(name).model, seq=101)
    everything = dataclasses.replace(shard(costs, "ddp", 1), scheme="")
    assert everything.parameters == costs.parameter_bytes
    for scheme in SCHEMES:
        assert dataclasses.replace(shard(costs, scheme, 1), scheme="") == everything


def test_every_further_stage_takes_less_of_what_is_kept():
    costs = account(preset("llama-3-8b").model, precision="bfloat16-autocast")
    kept = [shard(costs, scheme, 8) for scheme in ("ddp", "zero-1", "zero-2", "zero-3")]
    sizes = [part.parameters + part.gradients + part.optimizer for part in kept]
    one = 4 * 8_030_261_248
    assert sizes == [4 * one, 2 * one + 2 * one // 8, one + 3 * one // 8, 4 * one // 8]
    assert len({part.activations for part in kept}) == 1


def activations_of(costs):
    """The most that is saved or temporary at one moment of a step, weights' update left out."""
    return max(moment.saved + moment.temporary for moment in walk(costs) if moment.phase != "update")


@pytest.mark.parametrize("workload", [{}, {"checkpointing": True}, {"precision": "bfloat16-autocast"}])
def test_the_total_bounds_every_moment(workload):
    # Weights outweigh so short a sequence: the whole's peak is in the update, where no activations are left.
    costs = account(MODEL, seq=11, optimizer="adamw-foreach", **workload)
    assert max(walk(costs), key=lambda moment: moment.total).phase == "update"
    for scheme in ("zero-1", "zero-2", "zero-3", "fsdp"):
        part = shard(costs, scheme, 5)
        assert part.activations == activations_of(costs) > 0
    whole = shard(costs, "ddp", 5)
    assert whole.total >= max(moment.total for moment in walk(costs))


@pytest.mark.parametrize("scheme", ["ddp", "zero-1", "fsdp"])
def test_the_updates_workspace_shrinks_with_the_state(scheme):
    costs = account(MODEL, seq=1, optimizer="adamw-foreach")  # whose workspace is as large as the weights
    degree = 1 if scheme == "ddp" else 5
    assert shard(costs, scheme, 5).activations == max(4 * PARAMETERS // degree, activations_of(costs))


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("name", ["gpt2", "llama-3.2-1b", "qwen3-30b-a3b", "deepseek-v3"])
def test_activations_are_the_most_of_all_layers(name, checkpointing):
    for seq in (2, 257):
        costs = account(preset(name).model, seq=seq, checkpointing=checkpointing, optimizer="sgd")
        assert shard(costs, "zero-3", 8).activations == activations_of(costs)


def test_fsdp_gathers_the_larger_kind_of_block_or_the_table():
    experts = ExpertsConfig(num_experts=7, experts_per_token=2, d_ff=11, num_dense_layers=2)
    attention = WIDTH * D_HEAD * (2 * HEADS + 2 * KV_HEADS) + 2 * WIDTH
    mixture = attention + 3 * 7 * WIDTH * 11 + 7 * WIDTH
    model = dataclasses.replace(MODEL, experts=experts)
    assert mixture > BLOCK
    assert shard(account(model), "fsdp", 2).gathered == 4 * 3 * mixture
    # With layers of one kind alone, the other's matrices gather nothing.
    for dense, block in ((0, mixture), (LAYERS, BLOCK)):
        same = dataclasses.replace(model, experts=dataclasses.replace(experts, num_dense_layers=dense))
        assert shard(account(same), "fsdp", 2).gathered == 4 * 3 * block
    # Where a table is larger: it and its gradient, beside the weights of a block.
    wide = dataclasses.replace(MODEL, vocab_size=1009)
    assert shard(account(wide), "fsdp", 2).gathered == 4 * (2 * 1009 * WIDTH + BLOCK)


def matrices(model):
    """Parameters that tensor parallelism divides: all but norms, router and projections into latent vectors."""
    whole = ("norm", "router", "down_proj")
    rows = account(model, seq=1).rows
    kept = [row for row in rows if not any(word in row.name for word in whole) or "experts" in row.name]
    kept += [row for row in rows if row.name == "down_proj"]
    return sum(row.total("parameters") for row in kept), sum(row.total("parameters") for row in rows)


def test_tensor_parallel_by_hand():
    part = tensor_parallel(MODEL, 5)
    sizes = (part.num_heads, part.kv_heads, part.d_head, part.d_ff, part.vocab_size)
    assert sizes == (HEADS // 5, KV_HEADS // 5, D_HEAD, D_FF // 5, VOCAB // 5)
    assert part.d_model == WIDTH  # the residual stream is whole on each
    gains = (2 * LAYERS + 1) * WIDTH
    found = shard(account(MODEL, batch_size=2, seq=11), "tensor", 5)
    own = 4 * ((PARAMETERS - gains) // 5 + gains)
    assert parts(found) == (own, own, ADAMW_MEANS * own, 0)


@pytest.mark.parametrize(
    ("name", "degree"),
    [("llama-3-8b", 8), ("llama-2-70b", 8), ("mixtral-8x7b", 4), ("qwen3-235b-a22b", 4), ("deepseek-v3", 16)],
)
def test_the_parts_matrices_are_the_models(name, degree):
    model = preset(name).model
    (whole, everything), (part, part_everything) = matrices(model), matrices(tensor_parallel(model, degree))
    assert degree * part == whole
    assert everything - whole == part_everything - part  # what is not divided stands on each
    assert whole > 0.99 * everything


def test_tensor_parallel_of_biases():
    model = dataclasses.replace(preset("gpt2").model, vocab_size=50_256)
    rows = {row.name: row.total("parameters") for row in account(tensor_parallel(model, 4)).rows}
    # Into heads and hidden layer biases are divided with the columns; out of them they stand whole on each.
    assert rows["q_proj"] == 12 * (768 * 768 + 768) // 4
    assert rows["up_proj"] == 12 * (768 * 3072 + 3072) // 4
    assert rows["o_proj"] == 12 * (768 * 768 // 4 + 768)
    assert rows["down_proj"] == 12 * (768 * 3072 // 4 + 768)


def test_tensor_parallel_divides_scores_and_logits():
    model = dataclasses.replace(MODEL, attention="written_out")
    costs = account(model, batch_size=2, seq=11, precision="bfloat16", optimizer="sgd", checkpointing=True)
    part = account(
        tensor_parallel(model, 5), batch_size=2, seq=11, precision="bfloat16", optimizer="sgd", checkpointing=True
    )
    found = shard(costs, "tensor", 5)
    assert (found.parameters, found.optimizer) == (part.parameter_bytes, 0)
    assert found.activations == activations_of(part)
    for name in ("attention scores", "softmax", "lm_head"):
        whole_flop, part_flop = (
            sum(
                row.total(cell)
                for row in each.rows
                if row.name == name
                for cell in ("forward_flop", "elementwise_flop")
            )
            for each in (costs, part)
        )
        assert 5 * part_flop == whole_flop > 0


def test_tensor_parallel_keeps_the_cached_positions():
    whole, part = (account(model, seq=2, keys=101) for model in (MODEL, tensor_parallel(MODEL, 5)))
    assert shard(whole, "tensor", 5).activations == activations_of(part)
    keys_and_values = LAYERS * 101 * 2 * (KV_HEADS // 5) * D_HEAD
    assert part.saved_bytes > 4 * keys_and_values


@pytest.mark.parametrize(
    ("changes", "degree", "message"),
    [
        ({}, 2, "num_heads 15 is not divisible by 2 devices"),
        ({"num_kv_heads": 1}, 3, "num_kv_heads 1 is not divisible by 3 devices"),
        ({"d_ff": 59}, 5, "d_ff 59 is not divisible by 5 devices"),
        ({"vocab_size": 83}, 5, "vocab_size 83 is not divisible by 5 devices"),
        (
            {"experts": ExpertsConfig(num_experts=7, experts_per_token=2, d_ff=11)},
            5,
            r"experts.d_ff 11 is not divisible by 5 devices",
        ),
    ],
)
def test_what_cannot_be_divided_is_named(changes, degree, message):
    with pytest.raises(ValueError, match=message):
        shard(account(dataclasses.replace(MODEL, **changes)), "tensor", degree)


def test_latent_heads_are_divided_and_their_widths_kept():
    latent = LatentConfig(query_rank=17, key_value_rank=11, d_nope=7, d_rope=4, d_value=5)
    model = dataclasses.replace(MODEL, num_heads=5, num_kv_heads=None, head_dim=None, latent=latent)
    part = tensor_parallel(model, 5)
    assert (part.num_heads, part.latent) == (1, latent)
    rows = {row.name: row.once("parameters") for row in account(part).rows}
    assert rows["q_up_proj"] == 17 * (7 + 4)
    assert rows["kv_up_proj"] == 11 * (7 + 5)
    assert rows["o_proj"] == 5 * WIDTH
    assert rows["q_down_proj"] == 17 * WIDTH
    assert rows["kv_down_proj"] == (11 + 4) * WIDTH


@pytest.mark.parametrize("degree", [0, -2, 1.5, "8", True])
def test_degrees_that_are_none(degree):
    with pytest.raises(ValueError, match=f"degree is {degree!r}: it must be a whole number of devices, at least 1"):
        shard(account(MODEL), "fsdp", degree)


def test_unknown_scheme():
    with pytest.raises(
        ValueError, match="scheme is 'zero-4': it must be one of ddp, zero-1, zero-2, zero-3, fsdp, tensor"
    ):
        shard(account(MODEL), "zero-4", 2)
