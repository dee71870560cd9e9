"""Measuring one configuration on this machine, in a process of its own: a page stays free and can be closed."""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from core.accounting import account, peak
from core.accounting.text import bytes_text, count
from core.config import ModelConfig
from core.config.grid import GridPart


def point_costs(axes: Mapping[str, Any]) -> dict[str, str]:
    """What one configuration costs, by what it is called, as text.

    Args:
        axes: One value for each axis of a model's grid (`num_heads`, not `d_head`).

    Raises:
        ValueError: If an axis or a value is none, or no model can have these.
    """
    GridPart(axes=dict(axes))
    shape = ("vocab_size", "context_length", "d_model", "num_layers", "num_heads", "d_ff", "attention")
    workload = ("batch_size", "precision", "optimizer")
    costs = account(
        ModelConfig(**{name: axes[name] for name in shape if name in axes}),
        **{name: axes[name] for name in workload if name in axes},
    )
    return {
        "parameters": count(costs.parameters),
        "FLOP of a step (non-causal)": count(costs.training_step_flop),
        "memory at the peak": bytes_text(peak(costs).total),
    }


def measure_here(axes: Mapping[str, Any], results_dir: str | Path, folder: str | Path) -> subprocess.Popen[str]:
    """Start `workbook bench grid` on one configuration.

    Its rows join those of other configurations that were measured so; what stands there already is not measured again.

    Args:
        axes: As for `point_costs`.
        results_dir: Where the rows go.
        folder: Where the grid's file and what the process says (`log.txt`) are written.

    Raises:
        ValueError: As `point_costs`.
    """
    point_costs(axes)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    grid = folder / "grid.yaml"  # JSON is YAML
    grid.write_text(json.dumps({"name": "here", "visits": 1, "axes": dict(axes)}))
    command = [sys.executable, "-m", "core", "bench", "grid", str(grid), "--results", str(Path(results_dir).resolve())]
    with (folder / "log.txt").open("w") as log:
        return subprocess.Popen(
            command, cwd=Path(__file__).parents[2], stdin=subprocess.DEVNULL, stdout=log, stderr=log, text=True
        )
