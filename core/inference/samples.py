"""What a finished run's model writes, as rows."""

import os

from core.inference.load import load_run
from core.records import RunRow, SampleRow
from core.training.batches import stream_seed


def sample_run(
    run: RunRow,
    data_dir: str | os.PathLike[str],
    count: int,
    *,
    temperature: float = 0.8,
    max_new_tokens: int = 256,
) -> list[SampleRow]:
    """Let a run's model write texts from the beginning of a document, each with a seed of its own.

    Args:
        run: A run with a checkpoint.
        data_dir: Where its folder is.
        count: How many texts.
        temperature: Of the draws.
        max_new_tokens: Where a text that does not end is cut.
    """
    loaded = load_run(data_dir, run.run_id, run.device)
    rows = []
    for sample in range(count):
        seed = stream_seed(run.seed, "sampling") + sample
        ids = loaded.complete("", max_new_tokens, temperature=temperature, seed=seed)
        rows.append(
            SampleRow(
                run_id=run.run_id,
                sample=sample,
                prompt="",
                text=loaded.tokenizer.decode(ids),
                temperature=temperature,
                top_k=None,
                top_p=None,
                seed=seed,
            )
        )
    return rows
