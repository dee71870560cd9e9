"""The operation table: every cost formula of the workbook.

Rows stand in the order of the forward pass; `applies` says which models have them, so a variant is a row in place of
another. The eager and saved cells describe `core.model` kernel by kernel, and tests hold them to what torch does. Rows
of what `core.model` does not build (LayerNorm, GELU, mixtures, latent attention) count as fused kernels.
An axis of one element (one sequence, one head) may spare torch a copy that the eager cells count.
"""

from core.accounting.operations import Operation
from core.accounting.table.attention import ATTENTION
from core.accounting.table.ends import EMBEDDING, OUTPUT, UPDATE
from core.accounting.table.feed_forward import FEED_FORWARD
from core.config import ModelConfig

OPERATIONS: tuple[Operation, ...] = (*EMBEDDING, *ATTENTION, *FEED_FORWARD, *OUTPUT, *UPDATE)


def operations(model: ModelConfig) -> tuple[Operation, ...]:
    """The rows that a model has, in the order of its forward pass."""
    return tuple(row for row in OPERATIONS if row.applies(model))
