"""Tensors of which each process may hold a part: PyTorch's DTensor, as `fully_shard` makes them."""

from torch import Tensor
from torch.distributed.tensor import DTensor, distribute_tensor


def local(tensor: Tensor) -> Tensor:
    """The part of a tensor that this process holds, in the same memory; a plain tensor is itself."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def full(tensor: Tensor) -> Tensor:
    """A tensor whole, wherever its parts lie; all processes must call it together."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def local_part(whole: Tensor, like: Tensor) -> Tensor:
    """The part of a whole tensor that this process would hold if it were laid out as `like`; no communication."""
    if not isinstance(like, DTensor):
        return whole
    return distribute_tensor(whole, like.device_mesh, like.placements, src_data_rank=None).to_local()
