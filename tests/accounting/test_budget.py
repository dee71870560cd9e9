import dataclasses

import pytest

from core.accounting import account, peak, textbook_memory_bytes
from core.accounting.budget import LARGEST, largest_batch_size, largest_seq, largest_that_fits, peak_bytes
from core.config import ExpertsConfig, ModelConfig
from core.presets import preset

MODEL = ModelConfig(vocab_size=53, context_length=13, d_model=30, num_layers=2, num_heads=3, d_ff=37)
MODELS = {
    "sdpa": MODEL,
    "written out": dataclasses.replace(MODEL, attention="written_out"),
    "tied": dataclasses.replace(MODEL, tie_embeddings=True),
    "gpt": dataclasses.replace(MODEL, norm="layer_norm", feed_forward="gelu", positions="learned", bias=True),
    "mixture": dataclasses.replace(
        MODEL, experts=ExpertsConfig(num_experts=7, experts_per_token=2, d_ff=11, num_dense_layers=1)
    ),
}
WORKLOADS = {
    "plain": {},
    "autocast": {"precision": "bfloat16-autocast", "optimizer": "adamw-foreach"},
    "checkpointing": {"checkpointing": True, "optimizer": "sgd"},
}
MEMORIES = (100_000, 234_567, 500_000, 1_000_003, 2_000_003)


def by_scan(sizes, needed, memory_bytes):
    """The largest size that fits, tried one by one; 0 if none does."""
    return max((size for size in sizes if needed(size) <= memory_bytes), default=0)


@pytest.mark.parametrize("workload", WORKLOADS)
@pytest.mark.parametrize("name", MODELS)
def test_solved_is_scanned(name, workload):
    model, options = MODELS[name], WORKLOADS[workload]
    batches = {size: peak(account(model, batch_size=size, seq=11, **options)).total for size in range(1, 120)}
    lengths = {size: peak(account(model, batch_size=3, seq=size, **options)).total for size in range(1, 420)}
    found = set()
    for memory_bytes in MEMORIES:
        batch_size = by_scan(batches, batches.get, memory_bytes)
        seq = by_scan(lengths, lengths.get, memory_bytes)
        assert batch_size < max(batches), "the scan must reach beyond what fits"
        assert seq < max(lengths)
        assert largest_batch_size(model, memory_bytes, seq=11, **options) == batch_size
        assert largest_seq(model, memory_bytes, batch_size=3, **options) == seq
        found |= {batch_size, seq}
    assert len(found) > 5


def test_exactly_at_the_boundary():
    for size in (1, 2, 3, 7, 8, 64, 101):
        needed = peak(account(MODEL, batch_size=size, seq=11)).total
        assert largest_batch_size(MODEL, needed, seq=11) == size
        assert largest_batch_size(MODEL, needed - 1, seq=11) == size - 1
    for size in (7, 8, 64, 101):  # shorter ones need as much as the update does, and so as much as each other
        needed = peak(account(MODEL, batch_size=2, seq=size)).total
        assert largest_seq(MODEL, needed, batch_size=2) == size
        assert largest_seq(MODEL, needed - 1, batch_size=2) == size - 1


def test_none_fits():
    # Weights and AdamW's two means alone: three numbers of four bytes each.
    parameters = 2 * 53 * 30 + 2 * (4 * 30 * 30 + 3 * 30 * 37 + 2 * 30) + 30
    for memory_bytes in (0, -1, 12 * parameters):
        assert largest_batch_size(MODEL, memory_bytes) == 0
        assert largest_seq(MODEL, memory_bytes) == 0


def test_the_search_ends():
    assert LARGEST <= largest_batch_size(MODEL, 2**80) < 2 * LARGEST


def test_a_sequence_may_exceed_the_context():
    assert largest_seq(MODEL, 80 * 10**9) > 1000 * MODEL.context_length


def test_peak_bytes():
    # Plain SGD on next to nothing: weights, all gradients but the table's, and that table's with its rows' gradient.
    model = ModelConfig(
        vocab_size=1009, context_length=2, d_model=2, num_layers=1, num_heads=1, d_ff=3, norm_placement="none",
        positions="none", tie_embeddings=False,
    )  # fmt: skip
    others = 4 * 2 * 2 + 3 * 2 * 3 + 1009 * 2
    table, rows, ids = 1009 * 2, 2, 8
    assert peak_bytes(model, seq=1, optimizer="sgd") == 4 * (2 * others + 2 * table + rows) + ids


def test_textbook_batch_in_80_gigabytes():
    # CS336, assignment 1, GPT-2 XL in float32: every tensor of the forward once, and four times the weights.
    seq, width, heads, layers, vocab = 1024, 1600, 25, 48, 50_257
    parameters = 2 * vocab * width + layers * (12 * width**2 + 2 * width) + width
    block = 8 * seq * width + 2 * seq * 4 * width + 2 * heads * seq * seq
    a_sequence = 4 * (layers * block + seq * width + seq * vocab + seq)
    model = preset("cs336-gpt2-xl").model
    needed = {size: sum(textbook_memory_bytes(model, size).values()) for size in range(1, 9)}
    assert needed == {size: 16 * parameters + size * a_sequence for size in range(1, 9)}
    assert by_scan(needed, needed.get, 80 * 10**9) == 3


COSTS = {
    "straight": lambda size: 7 + 3 * size,
    "quadratic": lambda size: 5 * size + size * size // 3,
    "of power 5": lambda size: size**5,
    "with a plateau": lambda size: max(1000, 2 * size),
    "in steps": lambda size: 100 * (size // 17),
    "crooked": lambda size: size if size < 500 else 10**6 * size,
    "hardly growing": lambda size: size.bit_length(),
}


@pytest.mark.parametrize("shape", COSTS)
def test_the_search_finds_what_a_scan_does_in_few_steps(shape):
    cost, asked = COSTS[shape], []
    sizes = {size: cost(size) for size in range(1, 3000)}

    def counted(size):
        asked.append(size)
        return cost(size)

    for limit in (*range(0, 40), 99, 100, 101, 999, 1000, 1001, 2345):
        if (expected := by_scan(sizes, sizes.get, limit)) < 2999:
            asked.clear()
            assert largest_that_fits(counted, limit) == expected
            assert len(asked) < 60
