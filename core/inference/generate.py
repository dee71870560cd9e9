"""Generating token after token from a model."""

from collections.abc import Iterator, Sequence

import torch

from core.inference.sampling import check_sampling, next_token_probabilities
from core.model.transformer import Transformer


def generate(
    model: Transformer,
    prompt: Sequence[int],
    max_new_tokens: int,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    stop_id: int | None = None,
    num_ids: int | None = None,
    seed: int = 0,
) -> Iterator[int]:
    """Yield new tokens one by one.

    The model sees the last `context_length` tokens of prompt and output: the beginning of a longer prompt is dropped,
    and so is the beginning of what was generated once the context is full.

    Args:
        model: Used as it stands, on its device.
        prompt: Ids; at least one.
        max_new_tokens: At most so many are yielded.
        temperature: 0 takes the most probable token each time.
        top_k: See `next_token_probabilities`.
        top_p: See `next_token_probabilities`.
        stop_id: Generation ends when this token is drawn; it is not yielded.
        num_ids: Only ids below this are drawn: a model may have more rows than its tokenizer has tokens.
        seed: Of the draws; the same model, prompt, options and seed give the same tokens.

    Raises:
        ValueError: For an empty prompt, ids beyond the vocabulary, or options out of range.
    """
    vocab_size, context_length = model.config.vocab_size, model.config.context_length
    if not prompt:
        raise ValueError("the prompt has no tokens: give at least one (the end-of-text marker starts a new document)")
    if not all(0 <= token_id < vocab_size for token_id in prompt):
        raise ValueError(f"the prompt has ids outside the model's vocabulary of {vocab_size}")
    if max_new_tokens < 1:
        raise ValueError(f"max_new_tokens is {max_new_tokens}: it must be at least 1")
    check_sampling(temperature, top_k, top_p)

    @torch.no_grad()
    def tokens() -> Iterator[int]:
        generator = torch.Generator().manual_seed(seed)
        ids = list(prompt)
        for _ in range(max_new_tokens):
            window = torch.tensor([ids[-context_length:]], device=model.embedding.weight.device)
            logits = model.lm_head(model.hidden(window)[0, -1])[:num_ids].cpu()
            probabilities = next_token_probabilities(logits, temperature, top_k, top_p)
            token_id = int(torch.multinomial(probabilities, 1, generator=generator))
            if token_id == stop_id:
                return
            ids.append(token_id)
            yield token_id

    return tokens()  # the checks above are made at the call, not at the first token
