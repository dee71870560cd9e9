"""Evaluation on a fixed set: the loss of every token, each seen with as much of its document as fits."""

import math
from dataclasses import dataclass

import numpy as np
import torch

from core.corpus.dataset import Dataset
from core.corpus.stories import floor_nats
from core.corpus.tokens import documents
from core.model import functional
from core.model.transformer import Transformer
from core.training import distributed


@dataclass(frozen=True, slots=True)
class EvaluationSet:
    """The tokens a run is evaluated on, and what is known about them."""

    tokens: np.ndarray
    end_of_text_id: int | None
    num_bytes: int
    """Size of the text the tokens stand for."""
    floor_loss_nats: float | None
    """Exact mean of -log P(token) under the process that wrote the text, where it is known."""

    def bits_per_byte(self, loss_nats: float) -> float:
        """Nats per token as bits per byte of text."""
        return loss_nats * len(self.tokens) / self.num_bytes / math.log(2)


def evaluation_set(dataset: Dataset, eval_tokens: int) -> EvaluationSet:
    """The first `eval_tokens` of the validation part, cut back to the end of a document where there is one."""
    tokens = np.asarray(dataset.valid.tokens[:eval_tokens])
    end_of_text_id = dataset.valid.info.end_of_text_id
    ends = np.flatnonzero(tokens == end_of_text_id) if end_of_text_id is not None else np.empty(0)
    if ends.size:
        tokens = tokens[: ends[-1] + 1]
    floor = None
    if dataset.is_stories and ends.size:
        texts = [dataset.tokenizer.decode(document.tolist()) for document in documents(tokens, end_of_text_id)]
        floor = math.fsum(floor_nats(texts)) / len(tokens)
    num_bytes = len(dataset.tokenizer.decode_bytes(tokens.tolist()))
    return EvaluationSet(tokens, end_of_text_id, num_bytes, floor)


def evaluation_windows(tokens: np.ndarray, context_length: int, end_of_text_id: int | None) -> list[tuple[int, int]]:
    """Cut an evaluation set into windows of at most `context_length` targets: every token is scored exactly once.

    A window ends with the last document that it holds whole, so the next one starts at a document's beginning: what is
    shorter than the context is scored with all that precedes it in its document. A longer document is cut.

    Returns:
        (start, end) of each window.
    """
    ends = np.flatnonzero(tokens == end_of_text_id) + 1 if end_of_text_id is not None else np.empty(0, dtype=np.int64)
    windows, start = [], 0
    while start < len(tokens):
        end = min(start + context_length, len(tokens))
        if end < len(tokens):
            whole = ends[np.searchsorted(ends, end, side="right") - 1] if ends.size and ends[0] <= end else 0
            end = int(whole) if whole > start else end
        windows.append((start, end))
        start = end
    return windows


@torch.no_grad()
def token_losses(
    model: Transformer,
    tokens: np.ndarray,
    end_of_text_id: int | None,
    *,
    context_length: int | None = None,
    batch_size: int = 16,
) -> np.ndarray:
    """The loss of every token, in nats.

    Args:
        model: Evaluated as it stands, on the device where it is.
        tokens: The evaluation set.
        end_of_text_id: Stands before the first token, as before any other document; without one the first token, which
            nothing precedes, gets NaN.
        context_length: At most so many tokens precede a target; the model's own if None.
        batch_size: Windows evaluated together.

    Returns:
        float64, one per token. Several processes share the work; each gets all losses.
    """
    length = model.config.context_length if context_length is None else context_length
    first_is_given = end_of_text_id is None
    scored = tokens[1:] if first_is_given else tokens
    before = tokens[:1] if first_is_given else [end_of_text_id]
    # inputs[t] is what precedes scored[t]. Windows may reach past the end, so pad.
    inputs = np.concatenate([before, scored, np.zeros(length, dtype=tokens.dtype)]).astype(np.int64)
    windows = evaluation_windows(scored, length, end_of_text_id)
    device = model.embedding.weight.device
    losses = np.zeros(len(scored))
    groups = [windows[first : first + batch_size] for first in range(0, len(windows), batch_size)]
    for group in distributed.share(groups):
        places = np.array([start for start, _ in group])[:, None] + np.arange(length)
        ids = torch.from_numpy(inputs[places]).to(device)
        targets = torch.from_numpy(inputs[places + 1]).to(device)
        group_losses = functional.cross_entropy(model(ids), targets).double().cpu().numpy()
        for row, (start, end) in enumerate(group):
            losses[start:end] = group_losses[row, : end - start]
    losses = distributed.put_together(losses)
    return np.concatenate([[np.nan], losses]) if first_is_given else losses


def evaluate(model: Transformer, evaluation: EvaluationSet, batch_size: int = 16) -> float:
    """Mean loss over the evaluation set, nats per token (NaN or inf if any loss is)."""
    losses = token_losses(model, evaluation.tokens, evaluation.end_of_text_id, batch_size=batch_size)
    return float(np.mean(losses if evaluation.end_of_text_id is not None else losses[1:]))
