"""One run on several devices, one process each, as `torchrun` starts them; alone, everything here does nothing."""

import os

import torch
from torch import Tensor, distributed
from torch.distributed.tensor import DTensor, distribute_tensor


def rank() -> int:
    """Which of the run's processes this is, from 0."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def world_size() -> int:
    """How many processes train the run together."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def is_main() -> bool:
    """Whether this is the process that writes files and speaks."""
    return rank() == 0


def full(tensor: Tensor) -> Tensor:
    """A tensor whole, wherever its parts lie; all processes must call it together."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


@torch.no_grad()
def assign(tensor: Tensor, values: Tensor) -> None:
    """Copy whole values into a tensor, of which this process may hold a part."""
    if isinstance(tensor, DTensor):
        values = distribute_tensor(values.to(tensor.device), tensor.device_mesh, tensor.placements)
    tensor.copy_(values)


def like(tensor: Tensor, values: Tensor) -> Tensor:
    """Whole values as a new tensor, laid out over the processes as `tensor` is."""
    values = values.to(tensor.device)
    if isinstance(tensor, DTensor):
        return distribute_tensor(values, tensor.device_mesh, tensor.placements)
    return values


def agree(value: bool) -> bool:
    """Whether the main process says so: a decision that all must make alike."""
    if world_size() == 1:
        return value
    flag = torch.tensor([int(value)], device=_device())
    distributed.broadcast(flag, src=0)
    return bool(flag.item())


def _device() -> str:
    return f"cuda:{os.environ.get('LOCAL_RANK', 0)}" if distributed.get_backend() == "nccl" else "cpu"
