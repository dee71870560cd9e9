import dataclasses

from core.config import ModelConfig, OptimizerConfig
from core.model.transformer import Transformer
from core.optim.adamw import AdamW
from core.optim.groups import build_optimizers
from core.optim.muon import Muon

CONFIG = ModelConfig(vocab_size=29, context_length=11, d_model=12, num_layers=2, num_heads=3, d_ff=19)
EMBEDDING, HEAD, GAINS, BLOCKS = 29 * 12, 29 * 12, 5 * 12, 2 * (4 * 12 * 12 + 3 * 12 * 19)


def groups(tied=False, **options):
    """Of every group: optimizer, name, parameters, decay, peak and present learning rate."""
    model = Transformer(dataclasses.replace(CONFIG, tie_embeddings=tied))
    optimizers = build_optimizers(model, OptimizerConfig(lr=0.003, muon_lr=0.05, weight_decay=0.7, **options))
    grouped = [parameter for o in optimizers for group in o.param_groups for parameter in group["params"]]
    assert sorted(map(id, grouped)) == sorted(map(id, model.parameters()))
    return [
        (type(o), g["name"], sum(p.numel() for p in g["params"]), g["weight_decay"], g["peak_lr"], g["lr"])
        for o in optimizers
        for g in o.param_groups
    ]


def test_adamw_decays_matrices():
    assert groups() == [
        (AdamW, "block matrices, head", BLOCKS + HEAD, 0.7, 0.003, 0.003),
        (AdamW, "embedding, gains", EMBEDDING + GAINS, 0.0, 0.003, 0.003),
    ]


def test_a_tied_table_counts_once_and_as_an_embedding():
    assert groups(tied=True) == [
        (AdamW, "block matrices", BLOCKS, 0.7, 0.003, 0.003),
        (AdamW, "embedding, gains", EMBEDDING + GAINS, 0.0, 0.003, 0.003),
    ]
    assert groups(tied=True, kind="muon") == [
        (AdamW, "embedding, gains", EMBEDDING + GAINS, 0.0, 0.003, 0.003),
        (Muon, "block matrices", BLOCKS, 0.7, 0.05, 0.05),
    ]


def test_decay_of_all_is_one_group_in_the_models_order():
    whole = EMBEDDING + GAINS + BLOCKS + HEAD
    assert groups(decayed="all") == [(AdamW, "embedding, gains, block matrices, head", whole, 0.7, 0.003, 0.003)]
    model = Transformer(CONFIG)
    (optimizer,) = build_optimizers(model, OptimizerConfig(decayed="all"))
    assert list(map(id, optimizer.param_groups[0]["params"])) == list(map(id, model.parameters()))


def test_muon_takes_the_matrices_of_the_blocks():
    assert groups(kind="muon") == [
        (AdamW, "head", HEAD, 0.7, 0.003, 0.003),
        (AdamW, "embedding, gains", EMBEDDING + GAINS, 0.0, 0.003, 0.003),
        (Muon, "block matrices", BLOCKS, 0.7, 0.05, 0.05),
    ]
    assert groups(kind="muon", decayed="all") == [
        (AdamW, "embedding, gains, head", EMBEDDING + GAINS + HEAD, 0.7, 0.003, 0.003),
        (Muon, "block matrices", BLOCKS, 0.7, 0.05, 0.05),
    ]


def test_the_other_settings_arrive():
    config = OptimizerConfig(kind="muon", betas=(0.5, 0.75), eps=1e-3, muon_momentum=0.25)
    adamw, muon = build_optimizers(Transformer(CONFIG), config)
    assert {(group["betas"], group["eps"]) for group in adamw.param_groups} == {((0.5, 0.75), 1e-3)}
    assert [group["momentum"] for group in muon.param_groups] == [0.25]
