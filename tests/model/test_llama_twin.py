"""Our Transformer against Hugging Face's Llama with the same weights."""

import dataclasses

import pytest
import torch
from tiny_model import BATCH, CONFIG, SEQ
from torch.testing import assert_close
from transformers import LlamaConfig, LlamaForCausalLM

from core.model import functional
from core.model.transformer import Transformer


def halves_from_interleaved(weight, d_head):
    """Rows of each head reordered: our pair (2 i, 2 i + 1) is Llama's (i, i + d_head / 2)."""
    return weight.unflatten(0, (-1, d_head // 2, 2)).transpose(1, 2).flatten(0, 2)


def llama_weights(model):
    names = {"attention_norm": "input_layernorm", "feed_forward_norm": "post_attention_layernorm"}
    parts = {"attention": "self_attn", "feed_forward": "mlp"}
    state = {
        "model.embed_tokens.weight": model.embedding.weight,
        "model.norm.weight": model.final_norm.gain,
        "lm_head.weight": model.lm_head.weight,
    }
    for layer, block in enumerate(model.blocks):
        for name, parameter in block.named_parameters():
            part, leaf = name.split(".")[0], name.split(".")[1]
            if part in names:
                state[f"model.layers.{layer}.{names[part]}.weight"] = parameter
            else:
                turned = leaf in ("q_proj", "k_proj")
                weight = halves_from_interleaved(parameter, model.config.d_head) if turned else parameter
                state[f"model.layers.{layer}.{parts[part]}.{leaf}.weight"] = weight
    return {name: weight.detach() for name, weight in state.items()}


MODELS = {
    "llama": {},
    "grouped": {"num_heads": 15, "num_kv_heads": 5},
    "grouped, wide heads, tied": {"num_heads": 6, "num_kv_heads": 2, "head_dim": 8, "tie_embeddings": True},
}


@pytest.mark.parametrize("attention", ["sdpa", "written_out"])
@pytest.mark.parametrize("changes", MODELS.values(), ids=MODELS)
def test_equals_a_hugging_face_llama_with_the_same_weights(changes, attention):
    config = dataclasses.replace(CONFIG, attention=attention, **changes)
    ours = Transformer(config, seed=3).double()
    generator = torch.Generator().manual_seed(13)
    for name, parameter in ours.named_parameters():
        if name.endswith("gain"):
            parameter.data.uniform_(0.5, 2.0, generator=generator)
    theirs = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=config.vocab_size,
            hidden_size=config.d_model,
            intermediate_size=config.d_ff,
            num_hidden_layers=config.num_layers,
            num_attention_heads=config.num_heads,
            num_key_value_heads=config.kv_heads,
            head_dim=config.d_head,
            max_position_embeddings=config.context_length,
            rms_norm_eps=config.norm_eps,
            rope_parameters={"rope_type": "default", "rope_theta": config.rope_theta},
            tie_word_embeddings=config.tie_embeddings,
            attn_implementation="eager",
        )
    ).double()
    theirs.load_state_dict(llama_weights(ours), strict=True)
    ids = torch.randint(config.vocab_size, (BATCH, SEQ), generator=generator)
    with torch.no_grad():
        logits = ours(ids)
        answer = theirs.eval()(ids, labels=ids)
    # Theirs rounds rotary angles, norms and the loss to float32 in a float64 model: hence no tighter.
    assert_close(logits, answer.logits, rtol=1e-5, atol=3e-6)
    loss = functional.cross_entropy(logits[:, :-1], ids[:, 1:]).mean()
    assert_close(float(loss), float(answer.loss), rtol=1e-6, atol=0)
