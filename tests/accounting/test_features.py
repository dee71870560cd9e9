import dataclasses

import pytest

from core.accounting import account
from core.accounting.features import FEATURES, MEMORY_TERMS, features, memory_terms
from core.accounting.phases import PHASES, phase_cost
from core.config import ExpertsConfig, LatentConfig, ModelConfig

PLAIN = ModelConfig(
    vocab_size=53, context_length=11, d_model=22, num_layers=3, num_heads=11, d_ff=29, attention="written_out"
)
MODELS = {
    "written out": PLAIN,
    "fused": dataclasses.replace(PLAIN, attention="sdpa"),
    "tied, grouped": dataclasses.replace(PLAIN, tie_embeddings=True, num_kv_heads=1),
    "ungated, norms behind": dataclasses.replace(PLAIN, feed_forward="relu2", norm_placement="post"),
    "mixture": dataclasses.replace(PLAIN, experts=ExpertsConfig(num_experts=5, experts_per_token=2, d_ff=7)),
    "latent": dataclasses.replace(
        PLAIN, latent=LatentConfig(query_rank=5, key_value_rank=7, d_nope=3, d_rope=2, d_value=13)
    ),
}
MODEL_FLOP = [name for name, feature in FEATURES.items() if feature.unit == "FLOP" and name != "update_flop"]


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_flop_of_a_step_sum_to_the_accounts(model):
    costs = account(model, batch_size=2, optimizer="muon")
    amounts = features(costs)
    assert sum(amounts[name] for name in MODEL_FLOP) == costs.training_step_flop
    assert amounts["update_flop"] == sum(row.total("forward_flop") for row in costs.rows if row.group == "update") > 0


@pytest.mark.parametrize("phase", PHASES)
def test_flop_of_every_phase_are_those_of_its_cost(phase):
    costs = account(PLAIN, batch_size=2)
    assert sum(features(costs, phase)[name] for name in MODEL_FLOP) == phase_cost(costs, phase).flop


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_phases_add_up_to_the_step_in_every_feature_but_the_call(model):
    costs = account(model, batch_size=2)
    step, *parts = (features(costs, phase) for phase in ("step", "forward_loss", "backward", "optimizer"))
    assert list(step) == list(FEATURES)
    for name in step:
        together = sum(part[name] for part in parts)
        assert together == (3 if name == "calls" else step[name])
        assert min(part[name] for part in parts) >= 0


def test_bytes_are_those_of_the_rows_they_are_named_for():
    costs = account(PLAIN, batch_size=2)
    rows = {row.name: row for row in costs.rows}

    def moved(name):
        return rows[name].total("forward_eager_bytes") + rows[name].total("backward_eager_bytes")

    amounts = features(costs)
    assert amounts["score_bytes"] == moved("softmax")
    assert amounts["activation_bytes"] == moved("activation")
    assert amounts["logit_bytes"] == moved("loss")
    names = ("embedding", "attention norm", "rope", "attention residual", "feed-forward norm", "feed-forward residual")
    assert amounts["elementwise_bytes"] == sum(moved(name) for name in (*names, "final norm"))
    # AdamW: reads gradient, weight and two means, writes the last three; clipping reads, then reads and writes.
    assert amounts["update_bytes"] == 10 * costs.parameter_bytes
    fused = features(account(MODELS["fused"], batch_size=2))
    assert (fused["score_bytes"], fused["attention_flop"]) == (0, 0)
    assert fused["fused_attention_flop"] == amounts["attention_flop"]


def test_counts():
    step = features(account(PLAIN, batch_size=2))
    assert step["attention_matrices"] == 2 * 3 * 11 * 2
    assert step["token_rows"] == 2 * 3 * 2 * 11
    optimizer = features(account(PLAIN, batch_size=2), "optimizer")
    assert {name: amount for name, amount in optimizer.items() if amount} == {
        "update_bytes": step["update_bytes"],
        "operations": 2,
        "calls": 1,
    }


def test_the_loss_and_the_heads_gradients_are_no_part_of_a_forward_to_the_logits():
    costs = account(PLAIN, batch_size=2)
    forward, with_loss = features(costs, "forward"), features(costs, "forward_loss")
    assert {name for name in forward if forward[name] != with_loss[name]} == {"head_flop", "logit_bytes", "operations"}
    assert forward["logit_bytes"] == 0
    assert with_loss["logit_bytes"] == features(costs)["logit_bytes"]
    assert with_loss["head_flop"] == 3 * forward["head_flop"]


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_memory_terms_sum_to_what_a_step_keeps(model):
    costs = account(model, batch_size=2)
    terms = memory_terms(costs)
    assert list(terms) == list(MEMORY_TERMS)
    assert sum(terms.values()) == costs.saved_bytes + 2 * costs.parameter_bytes + costs.optimizer_bytes


def test_scores_are_quadratic_in_the_context_and_the_feed_forward_is_linear():
    short, long = (
        memory_terms(account(dataclasses.replace(PLAIN, context_length=length), batch_size=2)) for length in (512, 1024)
    )
    assert long["scores"] / short["scores"] == pytest.approx(4, rel=0.02)
    assert long["feed_forward"] == 2 * short["feed_forward"]
    assert long["state"] == short["state"]


def test_a_phase_that_does_not_exist():
    with pytest.raises(ValueError, match=r"phase is 'backwards': there is .*; did you mean backward\?"):
        features(account(PLAIN), "backwards")
