"""Memory of training: what lives as long as the run does."""

from core.accounting.operations import parameters
from core.config import ModelConfig

BYTES_OF_DTYPE = {"float32": 4, "float64": 8}


def training_memory_bytes(model: ModelConfig, dtype: str = "float32") -> dict[str, int]:
    """Bytes of weights, gradients and AdamW's two means; activations are not counted here."""
    weights = parameters(model) * BYTES_OF_DTYPE[dtype]
    return {"parameters": weights, "gradients": weights, "optimizer state": 2 * weights}
