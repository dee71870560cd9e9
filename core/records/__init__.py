"""The rows of `results/`: each dataclass is the schema of one parquet table. Missing is null, never 0."""

from core.records.benchmarks import BenchmarkRow
from core.records.devices import DeviceRow, MemoryRow, TrainSpeedRow
from core.records.runs import RunRow, SampleRow, StepRow
from core.records.tokenizers import CompressionRow, FrequencyRow, GrowthRow, TokenizerSpeedRow

__all__ = [
    "BenchmarkRow",
    "CompressionRow",
    "DeviceRow",
    "FrequencyRow",
    "GrowthRow",
    "MemoryRow",
    "RunRow",
    "SampleRow",
    "StepRow",
    "TokenizerSpeedRow",
    "TrainSpeedRow",
]
