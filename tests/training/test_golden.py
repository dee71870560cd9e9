"""A short loss trace in float64 that no refactoring may change."""

import dataclasses

import numpy as np
import pytest

from core.training.evaluation import EvaluationSet
from core.training.loop import Trainer

# Of `tiny_config` on the tokens below, seed 0. Only a deliberate change of the mathematics replaces them.
TRAIN_LOSS_NATS = [
    6.0276848198,
    6.0263122734,
    5.9352872104,
    6.0014710419,
    5.9962652629,
    5.9789857874,
    5.9964487209,
    5.9886400859,
    5.9652744496,
    5.9761254769,
    5.8216040099,
    5.8902215591,
]
EVAL_LOSS_NATS = {0: 6.0426481747, 5: 6.0458127815, 10: 6.0471069711, 12: 6.047015965}


def test_golden_trace(tiny_config):
    config = dataclasses.replace(tiny_config, optimizer=dataclasses.replace(tiny_config.optimizer, decayed="all"))
    # A sequence with something to learn, written by arithmetic alone: independent of grammar and tokenizer.
    place = np.arange(3000)
    tokens = ((place * place + 7 * (place % 11)) % 401).astype(np.uint16)
    trainer = Trainer(config, tokens[500:], EvaluationSet(tokens[:500], None, 500, None), "golden")
    rows = list(trainer.rows())
    assert [row.train_loss_nats for row in rows[1:]] == pytest.approx(TRAIN_LOSS_NATS, rel=1e-6)
    assert {row.step: row.eval_loss_nats for row in rows if row.eval_loss_nats} == pytest.approx(
        EVAL_LOSS_NATS, rel=1e-6
    )
