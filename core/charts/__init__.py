"""Every figure of the workbook. Builders take rows (lists of dictionaries); no polars, no torch."""

from core.charts.architecture import (
    breakdown_chart,
    comparison_chart,
    growth_chart,
)
from core.charts.benchmark_predictions import (
    REGIME_COLOURS,
    diagonal_chart,
    limits_chart,
    mfu_chart,
    residual_chart,
)
from core.charts.benchmarks import GAINS, SCALED, pairs_chart, pareto_chart, scaling_chart
from core.charts.chips import is_part, plain, visible_bytes
from core.charts.diagram import diagram
from core.charts.machine import memory_walk_chart, roofline_chart
from core.charts.run_costs import run_memory_chart, throughput_chart
from core.charts.style import GROUP_COLOURS, PALETTE
from core.charts.table import anchor, linked_table
from core.charts.tokenizer_study import (
    COSTS,
    bits_chart,
    file_size_chart,
    growth_of_vocabulary_chart,
    rank_chart,
    speed_chart,
    transfer_chart,
    used_chart,
    vocabulary_chart,
)
from core.charts.tokens import (
    UNDER_TOKENS,
    compression_chart,
    control_row,
    pair_table,
    side_by_side,
    token_panels,
    token_table,
    word_pieces,
)
from core.charts.training import LOSS_UNITS, LOSSES, MAX_POINTS, X_AXES, loss_chart, step_chart

__all__ = [
    "COSTS",
    "GAINS",
    "GROUP_COLOURS",
    "LOSSES",
    "LOSS_UNITS",
    "MAX_POINTS",
    "PALETTE",
    "REGIME_COLOURS",
    "SCALED",
    "UNDER_TOKENS",
    "X_AXES",
    "anchor",
    "bits_chart",
    "breakdown_chart",
    "comparison_chart",
    "compression_chart",
    "control_row",
    "diagonal_chart",
    "diagram",
    "file_size_chart",
    "growth_chart",
    "growth_of_vocabulary_chart",
    "is_part",
    "limits_chart",
    "linked_table",
    "loss_chart",
    "memory_walk_chart",
    "mfu_chart",
    "pair_table",
    "pairs_chart",
    "pareto_chart",
    "plain",
    "rank_chart",
    "residual_chart",
    "roofline_chart",
    "run_memory_chart",
    "scaling_chart",
    "side_by_side",
    "speed_chart",
    "step_chart",
    "throughput_chart",
    "token_panels",
    "token_table",
    "transfer_chart",
    "used_chart",
    "visible_bytes",
    "vocabulary_chart",
    "word_pieces",
]
