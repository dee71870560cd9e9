"""How much autograd keeps of the model's functions: what their memory in training is."""

import torch

from core.model import functional

BATCH, HEADS, QUERIES, KEYS, D_HEAD, VOCAB = 2, 3, 5, 7, 11, 17


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).requires_grad_()


def kept_for_the_backward(function, *inputs):
    """Sizes of the different tensors (not the leaves) that autograd keeps while a function runs."""
    kept = {}

    def keep(tensor):
        kept[tensor.untyped_storage().data_ptr()] = (tensor, tensor.numel())  # held, so that no address comes twice
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        result = function(*inputs)
    leaves = {tensor.untyped_storage().data_ptr() for tensor in inputs}
    assert result.requires_grad
    return sorted(numel for address, (_, numel) in kept.items() if address not in leaves)


def test_softmax_keeps_one_matrix_and_its_row_sums():
    # Without the `detach` of the shift it would be the scores besides (2 x here, not kept by the product).
    kept = kept_for_the_backward(lambda x: functional.softmax(2 * x), normal(BATCH, QUERIES, KEYS))
    assert kept == [BATCH * QUERIES, BATCH * QUERIES * KEYS]


def test_attention_keeps_two_matrices_of_the_scores_size_besides_its_mask():
    inputs = [normal(HEADS, size, D_HEAD, seed=seed) for seed, size in enumerate((QUERIES, KEYS, KEYS))]
    kept = kept_for_the_backward(functional.attention, *inputs, functional.causal_mask(QUERIES, KEYS))
    assert [size for size in kept if size >= HEADS * QUERIES * KEYS] == [HEADS * QUERIES * KEYS] * 2


def test_cross_entropy_keeps_two_tensors_of_the_logits_size():
    logits, targets = normal(BATCH, QUERIES, VOCAB), torch.zeros(BATCH, QUERIES, dtype=torch.int64)
    kept = kept_for_the_backward(functional.cross_entropy, logits, targets)
    assert [size for size in kept if size > BATCH * QUERIES] == [BATCH * QUERIES * VOCAB] * 2
