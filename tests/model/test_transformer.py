import ast
import copy
import dataclasses
from pathlib import Path

import pytest
import torch
import torch.nn.functional as oracle
from torch.testing import assert_close

from core.config import ModelConfig
from core.model import functional
from core.model.transformer import Transformer

BATCH, SEQ = 2, 11
CONFIG = ModelConfig(
    vocab_size=53, context_length=13, d_model=30, num_layers=2, num_heads=3, d_ff=37, rope_theta=500.0, norm_eps=0.03
)
IDS = torch.randint(CONFIG.vocab_size, (BATCH, SEQ), generator=torch.Generator().manual_seed(5))
TARGETS = torch.randint(CONFIG.vocab_size, (BATCH, SEQ), generator=torch.Generator().manual_seed(7))
IMPLEMENTATIONS = ["sdpa", "written_out"]


def build(seed=3, **changes):
    """A float64 model whose gains are not all one."""
    model = Transformer(dataclasses.replace(CONFIG, **changes), seed).double()
    generator = torch.Generator().manual_seed(13)
    for name, parameter in model.named_parameters():
        if name.endswith("gain"):
            parameter.data.uniform_(0.5, 2.0, generator=generator)
    return model


def gradients(model):
    functional.cross_entropy(model(IDS), TARGETS).mean().backward()
    return {name: parameter.grad for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("attention", IMPLEMENTATIONS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_token_changes_nothing_before_it_bit_for_bit(attention, dtype):
    model = build(attention=attention).to(dtype)
    with torch.no_grad():
        before = model(IDS)
        for place in range(SEQ):
            changed = IDS.clone()
            changed[:, place] = (changed[:, place] + 1) % CONFIG.vocab_size
            after = model(changed)
            assert torch.equal(after[:, :place], before[:, :place])
            assert (after[:, place:] != before[:, place:]).any(dim=-1).all()


def test_both_attention_implementations_are_equal():
    models = [build(attention=attention) for attention in IMPLEMENTATIONS]
    with torch.no_grad():
        assert_close(models[0](IDS), models[1](IDS), rtol=1e-12, atol=1e-12)
    first, second = map(gradients, models)
    assert first.keys() == second.keys()
    for name, gradient in first.items():
        assert gradient.abs().max() > 1e-6, name
        assert_close(gradient, second[name], rtol=1e-9, atol=1e-14)


@torch.no_grad()
def test_the_answer_depends_on_rope_theta():
    first, second = build(rope_theta=500.0)(IDS), build(rope_theta=50_000.0)(IDS)
    assert torch.equal(first[:, 0], second[:, 0])  # position 0 does not turn and sees only itself
    assert ((first - second)[:, 2:].abs().amax(dim=-1) > 1e-3).all()  # (two equal first tokens mix equal values)


@torch.no_grad()
def test_the_answer_depends_on_norm_eps():
    assert (build()(IDS) - build(norm_eps=1e-5)(IDS)).abs().amax() > 1e-2


def test_tied_embeddings_are_one_parameter():
    tied = build(tie_embeddings=True)
    assert tied.embedding.weight is tied.lm_head.weight
    names = [name for name, _ in tied.named_parameters()]
    assert "embedding.weight" in names
    assert "lm_head.weight" not in names


def test_a_tied_parameters_gradient_is_the_sum_of_its_two_uses():
    tied, untied = build(tie_embeddings=True), build()
    untied.load_state_dict(tied.state_dict())
    assert untied.embedding.weight is not untied.lm_head.weight
    summed, apart = gradients(tied), gradients(untied)
    both = apart["embedding.weight"] + apart["lm_head.weight"]
    assert_close(summed["embedding.weight"], both, rtol=1e-10, atol=1e-14)
    assert apart["embedding.weight"].abs().max() > 1e-6


@torch.no_grad()
def test_hidden_is_what_the_head_reads():
    model = build()
    assert_close(model(IDS), oracle.linear(model.hidden(IDS), model.lm_head.weight), rtol=1e-12, atol=1e-12)


def by_hand(model, ids, feed_forward):
    """The same Transformer from torch's own functions, rotary positions as complex numbers."""
    config, seq = model.config, ids.shape[-1]
    pairs = torch.arange(config.d_head // 2, dtype=torch.float64)
    angles = torch.arange(seq)[:, None] * config.rope_theta ** (-2 * pairs / config.d_head)
    turn = torch.polar(torch.ones_like(angles), angles)

    def heads(x):
        return x.view(*x.shape[:-1], config.num_heads, config.d_head).transpose(1, 2)

    def rotated(x):
        return torch.view_as_real(torch.view_as_complex(x.unflatten(-1, (-1, 2)).contiguous()) * turn).flatten(-2)

    def norm(x, module):
        return oracle.rms_norm(x, (config.d_model,), module.gain, config.norm_eps)

    x = oracle.embedding(ids, model.embedding.weight)
    for block in model.blocks:
        y, attention = norm(x, block.attention_norm), block.attention
        query, key, value = (
            heads(oracle.linear(y, projection.weight))
            for projection in (attention.q_proj, attention.k_proj, attention.v_proj)
        )
        mixed = oracle.scaled_dot_product_attention(rotated(query), rotated(key), value, is_causal=True)
        x = x + oracle.linear(mixed.transpose(1, 2).flatten(-2), attention.o_proj.weight)
        x = x + feed_forward(block.feed_forward, norm(x, block.feed_forward_norm))
    return oracle.linear(norm(x, model.final_norm), model.lm_head.weight)


def silu_by_hand(module, x):
    return oracle.linear(oracle.silu(oracle.linear(x, module.up_proj.weight)), module.down_proj.weight)


def swiglu_by_hand(module, x):
    gated = oracle.silu(oracle.linear(x, module.gate_proj.weight)) * oracle.linear(x, module.up_proj.weight)
    return oracle.linear(gated, module.down_proj.weight)


@torch.no_grad()
@pytest.mark.parametrize(("feed_forward", "oracle_of_it"), [("silu", silu_by_hand), ("swiglu", swiglu_by_hand)])
def test_equals_the_same_model_written_with_torchs_functions(feed_forward, oracle_of_it):
    model = build(feed_forward=feed_forward)
    assert_close(model(IDS), by_hand(model, IDS, oracle_of_it), rtol=1e-11, atol=1e-11)


@torch.no_grad()
def test_a_sequence_is_answered_alone_and_in_a_batch_alike():
    model = build()
    assert_close(model(IDS)[1:], model(IDS[1:]), rtol=1e-12, atol=1e-12)


@torch.no_grad()
def test_a_longer_sequence_than_the_context_still_begins_alike():
    model, ids = build(), IDS.repeat(1, 2)
    assert ids.shape[1] > CONFIG.context_length
    assert_close(model(ids)[:, :SEQ], model(IDS), rtol=1e-11, atol=1e-11)


@torch.no_grad()
def test_a_copy_gives_the_same_bits():
    model = build()
    assert torch.equal(copy.deepcopy(model)(IDS), model(IDS))


ALLOWED_NN = {"Module", "Parameter", "ModuleList", "ModuleDict", "Sequential", "init"}
WRITTEN_HERE = {"linear", "embedding", "rms_norm", "layer_norm", "normalize", "silu", "relu", "gelu", "glu", "softplus"}
WRITTEN_HERE |= {"softmax", "log_softmax", "logsumexp", "logsigmoid", "cross_entropy", "nll_loss", "kl_div", "dropout"}
WRITTEN_HERE |= {"multi_head_attention_forward", "clip_grad_norm_", "clip_grad_value_"}


def source_files():
    core = Path(functional.__file__).parents[1]
    return [path for part in ("model", "optim", "inference") for path in sorted((core / part).rglob("*.py"))]


@pytest.mark.parametrize("path", source_files(), ids=lambda path: f"{path.parent.name}/{path.name}")
def test_only_containers_parameters_and_the_fast_path_come_from_torchs_high_level_api(path):
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.startswith(("torch.", "transformers", "einops"))}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("torch."):
            allowed = {"torch.nn.functional": {"scaled_dot_product_attention"}, "torch.nn": ALLOWED_NN}
            found |= {alias.name for alias in node.names if alias.name not in allowed.get(node.module, ())}
        elif isinstance(node, ast.Attribute):
            of = ast.unparse(node.value)
            if of in ("nn", "torch.nn") and node.attr not in ALLOWED_NN:
                found.add(f"{of}.{node.attr}")
            if of in ("nn.init", "torch.nn.init") and node.attr != "trunc_normal_":
                found.add(f"{of}.{node.attr}")
            if of == "torch.optim" and node.attr != "Optimizer":
                found.add(f"{of}.{node.attr}")
            # Methods of tensors too: x.softmax(-1); `functional` is this project's own.
            if node.attr in WRITTEN_HERE and of not in ("functional", "self", "model"):
                found.add(f"{of}.{node.attr}")
    assert found == set()
