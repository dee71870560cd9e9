"""What an architecture costs: the only place where a cost formula is written. Standard library only."""

from core.accounting.memory import training_memory_bytes
from core.accounting.operations import OPERATIONS, Operation, forward_flop, parameters, training_flop

__all__ = ["OPERATIONS", "Operation", "forward_flop", "parameters", "training_flop", "training_memory_bytes"]
