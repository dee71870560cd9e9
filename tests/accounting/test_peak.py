"""The peak of memory: what the allocator sees, which operation it falls in, and the walk it is the highest point of."""

import random

import pytest
from grid import SIZES

from core.accounting import OPTIMIZERS, PRECISIONS, account, by_layer, peak, textbook_memory_bytes, walk
from core.config import ExpertsConfig, LatentConfig, ModelConfig
from core.experiments.memory_measure import measure_peak
from core.presets import preset

TOLERANCE = 0.005


def model(vocab_size, context_length, d_model, num_layers, num_heads, d_ff, **fields):
    sizes = {"vocab_size": vocab_size, "context_length": context_length, "d_model": d_model, "num_layers": num_layers}
    return ModelConfig(num_heads=num_heads, d_ff=d_ff, **sizes, **fields)


STEPS = {
    "loss": (model(997, 83, 62, 2, 31, 127), 3, {}, "forward, loss"),
    "softmax": (
        model(101, 211, 44, 2, 11, 67, attention="written_out"),
        2,
        {},
        "backward, softmax of layer 2",
    ),
    "hidden layer": (model(53, 61, 62, 2, 31, 1009), 3, {}, "backward, activation of layer 2"),
    "optimizer": (model(211, 7, 134, 2, 67, 499), 2, {"optimizer": "adamw-foreach"}, "update, optimizer"),
    "muon": (model(53, 7, 134, 2, 67, 499), 2, {"optimizer": "muon"}, "update, optimizer"),
    "chunked loss": (model(997, 83, 62, 2, 31, 127), 3, {"loss_chunk": 17}, "forward, loss"),
    "chunked loss, autocast": (
        model(1999, 31, 62, 1, 31, 67),
        7,
        {"loss_chunk": 31, "precision": "bfloat16-autocast"},
        "forward, loss",
    ),
    "short chunks": (model(1999, 31, 62, 1, 31, 67), 7, {"loss_chunk": 101}, "forward, loss"),
    "in between, first layer": (
        model(53, 29, 118, 5, 59, 499),
        2,
        {"optimizer": "adamw-fused"},
        "backward, gate_proj of layer 1",
    ),
    "in between, first weights": (
        model(53, 13, 118, 5, 59, 499),
        1,
        {"optimizer": "sgd-momentum"},
        "backward, q_proj of layer 1",
    ),
    "tied table": (model(3001, 5, 62, 2, 31, 67, tie_embeddings=True), 2, {}, "backward, embedding"),
    "autocast": (model(997, 83, 62, 2, 31, 127), 3, {"precision": "bfloat16-autocast"}, "forward, loss"),
    "autocast, weights cast": (
        model(53, 5, 118, 2, 59, 997),
        1,
        {"precision": "bfloat16-autocast", "optimizer": "sgd"},
        "backward, gate_proj of layer 1",
    ),
    "autocast, no norms": (
        model(53, 127, 257, 2, 3, 683, head_dim=14, norm_placement="none", feed_forward="silu"),
        5,
        {"precision": "bfloat16-autocast"},
        "forward, feed-forward residual of layer 2",
    ),
    "float64, shared heads": (
        model(53, 127, 62, 1, 31, 67, num_kv_heads=1, attention="written_out", positions="none"),
        1,
        {"precision": "float64"},
        "backward, softmax of layer 1",
    ),
    "checkpointing": (
        model(503, 7, 62, 5, 31, 331),
        2,
        {"checkpointing": True, "optimizer": "adamw-foreach"},
        "update, optimizer",
    ),
}


@pytest.mark.parametrize("name", STEPS)
def test_the_peak_is_what_the_allocator_sees(name):
    config, batch_size, workload, moment = STEPS[name]
    costs = account(config, batch_size=batch_size, **workload)
    measured = measure_peak(config, batch_size, **workload)
    assert str(peak(costs)) == moment
    assert peak(costs).total == pytest.approx(measured.peak_bytes, rel=TOLERANCE)


CHECKPOINTED = {
    "logits": (model(1999, 83, 62, 3, 31, 127), {}, "forward, loss"),
    "hidden layer": (model(53, 61, 62, 7, 31, 1009), {}, "backward, activation of layer 1"),
    "softmax": (model(53, 127, 62, 3, 31, 67, attention="written_out"), {}, "backward, softmax of layer 1"),
    "autocast": (model(53, 61, 62, 5, 31, 499), {"precision": "bfloat16-autocast"}, "backward, activation of layer 1"),
}


@pytest.mark.parametrize("name", CHECKPOINTED)
def test_the_peak_with_checkpointing(name):
    config, workload, moment = CHECKPOINTED[name]
    costs = account(config, batch_size=2, checkpointing=True, **workload)
    measured = measure_peak(config, 2, checkpointing=True, **workload)
    assert str(peak(costs)) == moment
    assert peak(costs).total == pytest.approx(measured.peak_bytes, rel=TOLERANCE)
    assert peak(costs).total < peak(account(config, batch_size=2, **workload)).total


ACCUMULATED = {
    "logits": (model(997, 83, 62, 2, 31, 127), {}),
    "hidden layer": (model(53, 61, 62, 3, 31, 1009), {}),
    "weights": (model(53, 13, 118, 5, 59, 499), {"optimizer": "sgd"}),
    "tied": (model(3001, 5, 62, 2, 31, 67, tie_embeddings=True), {"optimizer": "sgd"}),
    "tied, hidden layer": (model(499, 61, 62, 3, 31, 1009, tie_embeddings=True), {"optimizer": "sgd"}),
    "autocast": (model(997, 83, 62, 2, 31, 127), {"precision": "bfloat16-autocast"}),
    "checkpointing": (model(53, 61, 62, 3, 31, 1009), {"checkpointing": True, "loss_chunk": 17}),
}


@pytest.mark.parametrize("name", ACCUMULATED)
def test_the_peak_with_micro_batches(name):
    config, workload = ACCUMULATED[name]
    once, later = (peak(account(config, batch_size=2, accumulated=choice, **workload)) for choice in (False, True))
    measured = [measure_peak(config, 2, micro_batches=count, **workload).peak_bytes for count in (1, 2, 3)]
    assert once.total == pytest.approx(measured[0], rel=TOLERANCE)
    assert later.total == pytest.approx(measured[1], rel=TOLERANCE)
    assert later.total > once.total
    assert measured[2] == measured[1]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_what_lives_all_the_time_is_equal_bytes(optimizer):
    config = ModelConfig(num_heads=6, **SIZES)
    for precision in ("float32", "float64"):
        costs = account(config, batch_size=2, precision=precision, optimizer=optimizer)
        measured = measure_peak(config, 2, precision=precision, optimizer=optimizer)
        assert measured.parameter_bytes == costs.parameter_bytes
        assert measured.input_bytes == 2 * 8 * costs.tokens
        # Torch's AdamW counts its steps in a tensor a parameter: 9 of a block, 3 others.
        steps = 4 * (9 * config.num_layers + 3) if optimizer in ("adamw-foreach", "adamw-fused") else 0
        assert measured.optimizer_bytes == costs.optimizer_bytes + steps


def random_workload(seed):
    """A model and its workload, described or built, from a few layers to many."""
    draw = random.Random(seed)
    heads = draw.choice([2, 3, 5])
    fields = {
        "vocab_size": draw.choice([3, 101, 5003]),
        "context_length": draw.choice([2, 31, 257]),
        "d_model": draw.choice([6, 31, 127]),
        "num_layers": draw.choice([1, 2, 7]),
        "num_heads": heads,
        "d_ff": draw.choice([7, 89, 1009]),
        "norm": draw.choice(["rms_norm", "layer_norm"]),
        "norm_placement": draw.choice(["pre", "post", "none"]),
        "feed_forward": draw.choice(["swiglu", "silu", "relu2", "gelu"]),
        "tie_embeddings": draw.random() < 0.5,
        "attention": draw.choice(["sdpa", "written_out", "flash"]),
    }
    if draw.random() < 0.5:
        dense = draw.randint(0, fields["num_layers"])
        fields["experts"] = ExpertsConfig(
            num_experts=7, experts_per_token=draw.choice([1, 3]), d_ff=draw.choice([5, 331]), num_dense_layers=dense
        )
    if draw.random() < 0.2:
        fields["d_model"] = 31 * heads
        sizes = {"query_rank": 13, "key_value_rank": 11, "d_nope": 7, "d_rope": 4, "d_value": 5}
        fields["latent"] = LatentConfig(**sizes)
    else:
        fields["head_dim"] = draw.choice([2, 14, 62])
        fields["num_kv_heads"] = draw.choice([1, heads])
        fields["positions"] = draw.choice(["rope", "none", "learned"])
    workload = {"precision": draw.choice(list(PRECISIONS)), "optimizer": draw.choice(list(OPTIMIZERS))}
    workload |= {"batch_size": draw.choice([1, 3, 17]), "checkpointing": draw.random() < 0.5}
    return account(ModelConfig(**fields), **workload)


def test_the_peak_is_the_highest_point_of_the_whole_walk():
    falls_in = set()
    for seed in range(400):
        costs = random_workload(seed)
        moments, highest = list(walk(costs)), peak(costs)
        assert highest.total == max(moment.total for moment in moments), costs
        assert highest in by_layer(costs)
        assert all(min(moment.gradients, moment.saved, moment.temporary) >= 0 for moment in moments)
        falls_in.add((highest.phase, highest.layer is None))
    assert falls_in >= {("forward", True), ("backward", False), ("backward", True), ("update", True)}


def test_the_walk_begins_with_nothing_saved_and_ends_with_all_gradients():
    costs = account(ModelConfig(num_heads=6, **SIZES), batch_size=2, optimizer="adamw-foreach")
    moments = list(walk(costs))
    assert (str(moments[0]), moments[0].gradients) == ("forward, embedding", 0)
    assert max(moment.saved for moment in moments) == costs.saved_bytes
    last = moments[-1]
    assert (str(last), last.saved, last.gradients) == ("update, optimizer", 0, costs.parameter_bytes)
    assert last.temporary == costs.parameter_bytes
    assert last.total == 20 * costs.parameters


def test_the_textbooks_xl():
    xl = preset("cs336-gpt2-xl").model
    for batch_size in (1, 3, 4):
        memory = textbook_memory_bytes(xl, batch_size)
        assert memory == {"activations": 15_311_904_768 * batch_size, "state": 26_168_601_600}
        assert (sum(memory.values()) <= 80e9) == (batch_size <= 3)
    gated = textbook_memory_bytes(ModelConfig(num_heads=6, **SIZES))["activations"]
    plain = textbook_memory_bytes(ModelConfig(num_heads=6, feed_forward="silu", **SIZES))["activations"]
    assert gated - plain == 4 * 3 * 2 * 11 * 37
