import ast
import copy
from pathlib import Path

import pytest
import torch
import torch.nn.functional as oracle
from tiny_model import CONFIG, IDS, IMPLEMENTATIONS, SEQ, VARIANTS, build, by_hand, gradients
from torch.testing import assert_close

from core.model import functional

every_variant = pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS)


@every_variant
@pytest.mark.parametrize("attention", IMPLEMENTATIONS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_token_changes_nothing_before_it_bit_for_bit(changes, attention, dtype):
    model = build(attention=attention, **changes).to(dtype)
    with torch.no_grad():
        before = model(IDS)
        for place in range(SEQ):
            changed = IDS.clone()
            changed[:, place] = (changed[:, place] + 1) % CONFIG.vocab_size
            after = model(changed)
            assert torch.equal(after[:, :place], before[:, :place])
            assert (after[:, place:] != before[:, place:]).any(dim=-1).all()


@every_variant
def test_both_attention_implementations_are_equal(changes):
    models = [build(attention=attention, **changes) for attention in IMPLEMENTATIONS]
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


@every_variant
@pytest.mark.parametrize("attention", IMPLEMENTATIONS)
def test_equals_the_same_model_written_with_torchs_functions(changes, attention):
    model = build(attention=attention, **changes)
    with torch.no_grad():
        assert_close(model(IDS), by_hand(model, IDS), rtol=1e-11, atol=1e-11)
    expected = gradients(model, lambda ids: by_hand(model, ids))
    for name, gradient in gradients(model).items():
        assert_close(gradient, expected[name], rtol=1e-9, atol=1e-13, msg=lambda text, name=name: f"{name}: {text}")


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
            allowed = {
                "torch.nn.functional": {"scaled_dot_product_attention"},
                "torch.nn": ALLOWED_NN,
                "torch.autograd.function": {"once_differentiable"},
                "torch.utils.checkpoint": {"checkpoint"},
            }
            if not node.module.startswith("torch.distributed"):  # how tensors are spread, not what is done with them
                found |= {alias.name for alias in node.names if alias.name not in allowed.get(node.module, ())}
        elif isinstance(node, ast.Attribute):
            of = ast.unparse(node.value)
            if of in ("nn", "torch.nn") and node.attr not in ALLOWED_NN:
                found.add(f"{of}.{node.attr}")
            if of in ("nn.init", "torch.nn.init") and node.attr != "trunc_normal_":
                found.add(f"{of}.{node.attr}")
            if of == "torch.optim" and node.attr != "Optimizer":
                found.add(f"{of}.{node.attr}")
            # Methods of tensors too: x.softmax(-1); `functional` and `eager` are this project's own.
            if node.attr in WRITTEN_HERE and of not in ("functional", "eager", "self", "model"):
                found.add(f"{of}.{node.attr}")
    assert found == set()
