"""A short loss trace in float64 that no refactoring may change."""

import numpy as np
import pytest

from core.training.evaluation import EvaluationSet
from core.training.loop import Trainer

# Of `tiny_config` on the tokens below, seed 0. Only a deliberate change of the mathematics replaces them.
TRAIN_LOSS_NATS = [
    6.0810119081,
    6.024012925,
    5.9685459168,
    5.9784696099,
    6.0495441022,
    5.9832024018,
    5.974638813,
    5.9937713091,
    5.9485214365,
    5.9600779578,
    5.8929456725,
    5.891725712,
]
EVAL_LOSS_NATS = {0: 6.0547524569, 5: 6.0479895447, 10: 6.0466293705, 12: 6.0464838531}


def test_golden_trace(tiny_config):
    # A sequence with something to learn, written by arithmetic alone: independent of grammar and tokenizer.
    place = np.arange(3000)
    tokens = ((place * place + 7 * (place % 11)) % 401).astype(np.uint16)
    trainer = Trainer(tiny_config, tokens[500:], EvaluationSet(tokens[:500], None, 500, None), "golden")
    rows = list(trainer.rows())
    assert [row.train_loss_nats for row in rows[1:]] == pytest.approx(TRAIN_LOSS_NATS, rel=1e-6)
    assert {row.step: row.eval_loss_nats for row in rows if row.eval_loss_nats} == pytest.approx(
        EVAL_LOSS_NATS, rel=1e-6
    )
