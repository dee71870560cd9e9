"""What an architecture costs: the only place where a cost formula is written. Standard library only."""

from core.accounting.account import Account, Row, account, forward_flop, parameters, training_step_flop
from core.accounting.memory import Moment, by_layer, peak, textbook_memory_bytes, walk
from core.accounting.policies import OPTIMIZERS, PRECISIONS
from core.accounting.table import OPERATIONS, operations

__all__ = [
    "OPERATIONS",
    "OPTIMIZERS",
    "PRECISIONS",
    "Account",
    "Moment",
    "Row",
    "account",
    "by_layer",
    "forward_flop",
    "operations",
    "parameters",
    "peak",
    "textbook_memory_bytes",
    "training_step_flop",
    "walk",
]
