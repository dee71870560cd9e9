import dataclasses

import pytest

from core.accounting import account
from core.accounting.generation import generation, kv_cache_bytes_per_token
from core.accounting.hardware import device, measured_device
from core.config import ExpertsConfig, LatentConfig, ModelConfig
from core.presets import preset

MODEL = ModelConfig(
    vocab_size=53, context_length=13, d_model=30, num_layers=5, num_heads=6, num_kv_heads=3, head_dim=14, d_ff=37
)
LATENT = dataclasses.replace(
    MODEL,
    num_kv_heads=None,
    head_dim=None,
    latent=LatentConfig(query_rank=17, key_value_rank=11, d_nope=7, d_rope=4, d_value=5),
)


@pytest.mark.parametrize(
    ("name", "size"), [("llama-3-8b", 131_072), ("llama-2-7b", 524_288), ("deepseek-v3", 70_272), ("gpt2", 36_864)]
)
def test_published_cache_sizes(name, size):
    assert kv_cache_bytes_per_token(preset(name).model) == size


def test_cache_of_a_whole_context():
    answer = generation(preset("llama-3-8b").model, prompt_tokens=8000, new_tokens=192)
    assert answer.kv_cache_bytes == 2**30
    assert answer.memory_bytes == 2**30 + 2 * 8_030_261_248


@pytest.mark.parametrize(("precision", "size"), [("bfloat16", 2), ("float32", 4), ("bfloat16-autocast", 2)])
def test_cache_bytes_by_precision(precision, size):
    assert kv_cache_bytes_per_token(MODEL, precision) == size * 5 * 2 * 3 * 14  # layers, key and value, heads, width
    assert kv_cache_bytes_per_token(LATENT, precision) == size * 5 * (11 + 4)  # the latent vector and the shared key
    answer = generation(MODEL, prompt_tokens=7, new_tokens=4, batch_size=3, precision=precision)
    assert answer.kv_cache_bytes == size * 5 * 2 * 3 * 14 * 3 * 11


def flop_of_a_token(keys):
    """Matrix products that one token at the end of so many positions costs MODEL."""
    layer = 2 * 30 * 14 * (6 + 3 + 3 + 6) + 3 * 2 * 30 * 37 + 2 * 6 * 14 * 2 * keys
    return 5 * layer + 2 * 30 * 53


def flop_of_a_latent_token(keys):
    """The same of LATENT, on the cached vectors: kv_up_proj carries the query there and the weighted sum back."""
    projections = 30 * 17 + 17 * 6 * (7 + 4) + 30 * (11 + 4) + 6 * 7 * 11 + 6 * 11 * 5 + 6 * 5 * 30
    attention = 6 * keys * ((11 + 4) + 11)
    return 5 * 2 * (projections + attention + 3 * 30 * 37) + 2 * 30 * 53


@pytest.mark.parametrize("new", [1, 2, 8, 19])
@pytest.mark.parametrize("attention", ["sdpa", "written_out"])
def test_flop_is_the_sum_over_positions(new, attention):
    batch, prompt = 3, 11
    model = dataclasses.replace(MODEL, attention=attention)
    answer = generation(model, prompt_tokens=prompt, new_tokens=new, batch_size=batch)
    # Non-causal: each of the prompt's tokens is counted as if it saw the whole prompt.
    prefill = sum(flop_of_a_token(prompt) for _ in range(prompt))
    steps = [flop_of_a_token(prompt + place) for place in range(1, new + 1)]
    assert answer.prefill.forward_flop == batch * prefill
    assert answer.decode.forward_flop == batch * sorted(steps)[(new + 1) // 2 - 1]
    assert answer.decode_flop == batch * sum(steps)
    assert answer.flop == batch * (prefill + sum(steps))


@pytest.mark.parametrize("attention", ["sdpa", "written_out"])
def test_latent_decoding_works_on_the_cached_vectors(attention):
    batch, prompt, new = 3, 101, 8
    model = dataclasses.replace(LATENT, attention=attention)
    answer = generation(model, prompt_tokens=prompt, new_tokens=new, batch_size=batch)
    assert answer.decode_flop == batch * sum(flop_of_a_latent_token(prompt + place) for place in range(1, new + 1))
    names = [row.name for row in answer.decode.rows]
    row = answer.decode.rows[names.index("attention")]
    assert names[names.index("attention") + 1] == "o_proj"
    assert not {"attention scores", "softmax", "attention weighted sum"} & set(names)
    # Of each position it reads what the cache holds of it, and no more; besides, one query in and one sum out.
    per_layer = 2 * (batch * (prompt + 4) * (11 + 4) + batch * 6 * (11 + 4) + batch * 6 * 11)
    assert row.total("forward_ideal_bytes") == 5 * per_layer
    grown = generation(model, prompt_tokens=prompt + 1, new_tokens=new, batch_size=batch)
    per_key = grown.decode.total("forward_ideal_bytes") - answer.decode.total("forward_ideal_bytes")
    assert per_key == batch * kv_cache_bytes_per_token(model)


def test_decoding_reads_the_experts_that_tokens_can_reach():
    model = dataclasses.replace(MODEL, experts=ExpertsConfig(num_experts=7, experts_per_token=2, d_ff=11, num_shared=1))
    for batch, reached in {1: 2, 2: 4, 3: 6, 4: 7, 5: 7}.items():
        decode = generation(model, prompt_tokens=13, new_tokens=1, batch_size=batch).decode
        row = next(row for row in decode.rows if row.name == "experts up_proj")
        activations = batch * (2 + 1) * (30 + 11)
        assert row.once("forward_ideal_bytes") == 2 * ((reached + 1) * 30 * 11 + activations)
        assert row.once("forward_flop") == 2 * batch * (2 + 1) * 30 * 11


def test_a_step_of_decoding_waits_for_weights_and_cache():
    where = measured_device(
        "slow memory", gemm_flop_per_s={"bfloat16": 1e30}, copy_bytes_per_s=1e9, memory_bytes=2**40, source="test"
    )
    model = preset("llama-3-8b").model
    answer = generation(model, prompt_tokens=8191, new_tokens=1)
    _, decode = answer.times(where)
    # Every weight but the table's other rows, and the whole cache; the activations of one token are a trifle.
    read = 2 * (8_030_261_248 - 128_256 * 4096) + 8192 * 131_072
    assert decode.roofline_s == pytest.approx(read / 1e9, rel=1e-3)
    assert decode.roofline_s > read / 1e9
    assert decode.arithmetic_s < 1e-15
    assert {bound.limit for bound in decode.operations} == {"memory"}


def test_a_long_prefill_waits_for_arithmetic():
    model = preset("llama-3-8b").model
    prefill, decode = generation(model, prompt_tokens=8192, new_tokens=2).times(device("h100-sxm"))
    products = 158_140_695_838_720 - 4 * 32 * 4096 * 8192**2 + 4 * 32 * 4096 * 8192 * 8193 // 2
    assert prefill.arithmetic_s == pytest.approx(products / 989.4e12, rel=0.02)
    assert prefill.roofline_s < 1.2 * prefill.arithmetic_s
    assert decode.roofline_s > 100 * decode.arithmetic_s


@pytest.mark.parametrize(
    ("field", "value"), [("prompt_tokens", 0), ("prompt_tokens", 1.5), ("new_tokens", 0), ("new_tokens", "7")]
)
def test_sizes_that_are_none(field, value):
    with pytest.raises(ValueError, match=rf"{field} is {value!r}: it must be a whole number, at least 1"):
        generation(MODEL, **{"prompt_tokens": 3, "new_tokens": 2, field: value})


def test_other_bad_input():
    with pytest.raises(ValueError, match="batch_size is 0"):
        generation(MODEL, prompt_tokens=3, new_tokens=2, batch_size=0)
    with pytest.raises(ValueError, match="precision is 'int4'"):
        generation(MODEL, prompt_tokens=3, new_tokens=2, precision="int4")
    answer = generation(MODEL, prompt_tokens=3, new_tokens=2, precision="float64")
    with pytest.raises(ValueError, match="no known peak for float64"):
        answer.times(device("m4"))


def test_the_prefill_is_the_account_of_the_prompt():
    answer = generation(MODEL, prompt_tokens=11, new_tokens=2, batch_size=3)
    assert answer.prefill == account(MODEL, batch_size=3, seq=11, precision="bfloat16")
    assert (answer.prompt_tokens, answer.new_tokens) == (11, 2)
