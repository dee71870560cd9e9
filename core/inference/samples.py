"""What a finished run's model writes, as rows."""

import os

from core.inference.generate import generate
from core.inference.load import load_run
from core.records import RunRow, SampleRow
from core.tokenizer import Tokenizer
from core.tokenizer.pretokenize import END_OF_TEXT
from core.training.batches import stream_seed


def prompt_ids(tokenizer: Tokenizer, prompt: str) -> list[int]:
    """The ids of a prompt; of an empty one the end marker, behind which a document begins, or a newline without one."""
    marker = tokenizer.special_id(END_OF_TEXT)
    return tokenizer.encode(prompt or (END_OF_TEXT if marker is not None else "\n"))


def sample_run(
    run: RunRow,
    data_dir: str | os.PathLike[str],
    count: int,
    *,
    prompt: str = "",
    temperature: float = 0.8,
    max_new_tokens: int = 256,
) -> list[SampleRow]:
    """Let a run's model write texts, each with a seed of its own.

    Args:
        run: A run with a checkpoint.
        data_dir: Where its folder is.
        count: How many texts.
        prompt: What they continue; empty starts a new document.
        temperature: Of the draws.
        max_new_tokens: Where a text that does not end is cut.
    """
    model, tokenizer = load_run(data_dir, run.run_id, run.device)
    rows = []
    for sample in range(count):
        seed = stream_seed(run.seed, "sampling") + sample
        ids = generate(
            model,
            prompt_ids(tokenizer, prompt),
            max_new_tokens,
            temperature=temperature,
            stop_id=tokenizer.special_id(END_OF_TEXT),
            seed=seed,
        )
        rows.append(
            SampleRow(
                run_id=run.run_id,
                sample=sample,
                prompt=prompt,
                text=tokenizer.decode(ids),
                temperature=temperature,
                top_k=None,
                top_p=None,
                seed=seed,
            )
        )
    return rows
