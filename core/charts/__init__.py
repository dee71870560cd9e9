"""Every figure of the workbook. Builders take rows (lists of dictionaries); no polars, no torch."""

from core.charts.architecture import (
    breakdown_chart,
    comparison_chart,
    growth_chart,
)
from core.charts.chips import is_part, plain, visible_bytes
from core.charts.diagram import diagram
from core.charts.machine import memory_walk_chart, roofline_chart
from core.charts.style import GROUP_COLOURS, PALETTE
from core.charts.table import anchor, linked_table
from core.charts.tokens import (
    UNDER_TOKENS,
    compression_chart,
    pair_table,
    token_panels,
    token_table,
    word_pieces,
)
from core.charts.training import MAX_POINTS, X_AXES, loss_chart, step_chart

__all__ = [
    "GROUP_COLOURS",
    "MAX_POINTS",
    "PALETTE",
    "UNDER_TOKENS",
    "X_AXES",
    "anchor",
    "breakdown_chart",
    "comparison_chart",
    "compression_chart",
    "diagram",
    "growth_chart",
    "is_part",
    "linked_table",
    "loss_chart",
    "memory_walk_chart",
    "pair_table",
    "plain",
    "roofline_chart",
    "step_chart",
    "token_panels",
    "token_table",
    "visible_bytes",
    "word_pieces",
]
