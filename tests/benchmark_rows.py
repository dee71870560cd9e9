"""A benchmark row of our own to vary."""

from core.records import BenchmarkRow

EMPTY = dict.fromkeys(BenchmarkRow.__slots__)
BASE = BenchmarkRow(
    **EMPTY
    | {"bench_id": "mine", "point_id": "p", "subject": "model", "phase": "step", "status": "ok", "device": "cpu"}
    | {"batch_size": 2, "context_length": 13, "d_model": 30, "num_heads": 3, "d_head": 10, "num_layers": 5}
    | {"d_ff": 60, "vocab_size": 17, "precision": "float32", "attention": "sdpa", "compiled": False}
    | {"optimizer": "adamw", "median_s": 0.5, "iqr_s": 0.1, "num_threads": 2, "device_name": "Abacus"}
    | {"predicted_flop": 7e9, "predicted_bytes": 1e9, "predicted_peak_bytes": 2**30, "memory_bytes": 2**34}
    | {"torch_version": "2", "utc": "2026-01-02T03:04:05+00:00"}
)
