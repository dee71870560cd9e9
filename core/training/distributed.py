"""One run on several devices, one process each, as `torchrun` starts them; alone, everything here does nothing.

The global batch is a function of (seed, step) and every process takes its slice, so the number of processes changes the
losses by rounding only.
"""

import contextlib
import os
from collections.abc import Iterator, Sequence
from typing import Literal, TypeVar

import numpy as np
import torch
from torch import Tensor, distributed, nn
from torch.distributed.tensor import DTensor, distribute_tensor

Item = TypeVar("Item")
Parallel = Literal["ddp", "fsdp"]


def rank() -> int:
    """Which of the run's processes this is, from 0."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def world_size() -> int:
    """How many processes train the run together."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def is_main() -> bool:
    """Whether this is the process that writes files and speaks."""
    return rank() == 0


def check_parallel(parallel: Parallel) -> None:
    """Raise ValueError if a model is to be divided among processes, and nobody started any."""
    if parallel == "fsdp" and "WORLD_SIZE" not in os.environ:
        raise ValueError(
            "--parallel fsdp divides the model among processes: start them with "
            "torchrun --nproc-per-node N -m core train ..."
        )


def local_device(device: str) -> str:
    """The device of this process, where the run's is any CUDA device."""
    if world_size() > 1 and torch.device(device).type == "cuda":
        return f"cuda:{os.environ['LOCAL_RANK']}"
    return device


@contextlib.contextmanager
def joined(device: str) -> Iterator[None]:
    """Join the other processes of the run, if `torchrun` (or whoever sets its variables) started several.

    Args:
        device: The run's; NCCL carries what CUDA devices exchange, gloo what CPUs do.

    Raises:
        ValueError: If the device can not be used by several processes, or there are too few of them.
        ConnectionError: If another process ended in the midst of the run.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield
        return
    kind, local = torch.device(device), int(os.environ["LOCAL_RANK"])
    if kind.type == "mps" or kind.index is not None:
        raise ValueError(f"device is {device}: several processes need device=cuda, one each, or device=cpu")
    if kind.type == "cuda":
        if local >= torch.cuda.device_count():
            raise ValueError(
                f"process {local} of this machine has no CUDA device of its own: there are "
                f"{torch.cuda.device_count()}; start that many with torchrun --nproc-per-node"
            )
        torch.cuda.set_device(local)
    distributed.init_process_group("nccl" if kind.type == "cuda" else "gloo")
    try:
        yield
    except RuntimeError as error:
        if not _is_lost_peer(error):
            raise
        raise ConnectionError(
            "another process of this run was lost; the same command goes on from the last checkpoint "
            f"({str(error).splitlines()[0]})"
        ) from None
    finally:
        distributed.destroy_process_group()


def _is_lost_peer(error: RuntimeError) -> bool:
    # Both libraries name the cause in words alone.
    return isinstance(error, distributed.DistError) or "gloo" in str(error).lower()


def check_divisible(batch_size: int, micro_batch_size: int | None) -> int:
    """The sequences that a process passes through its model at once.

    Raises:
        ValueError: If the batch can not be dealt out evenly.
    """
    size = world_size()
    if batch_size % size:
        raise ValueError(f"batch_size {batch_size} is not a multiple of the {size} processes that share it")
    own = batch_size // size
    micro = min(micro_batch_size or own, own)
    if own % micro:
        raise ValueError(f"micro_batch_size {micro} does not divide the {own} sequences that each of {size} gets")
    return micro


def spread(model: nn.Module, blocks: Sequence[nn.Module], parallel: Parallel) -> nn.Module:
    """The model as several processes train it; its parameters stay where the model has them.

    Args:
        model: The same on every process.
        blocks: Its parts that are gathered one after the other.
        parallel: `ddp`: each holds the whole model, gradients are averaged. `fsdp`: weights, gradients and optimizer
            state are divided among all, weights gathered when they are needed.

    Reference:
        Li et al. (2020), arXiv:2006.15704; Zhao et al. (2023), arXiv:2304.11277 (torch's `fully_shard`).
    """
    if world_size() == 1:
        return model
    if parallel == "ddp":
        return nn.parallel.DistributedDataParallel(model, gradient_as_bucket_view=True)
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    kind = next(model.parameters()).device.type
    mesh = init_device_mesh(kind, (world_size(),))
    for block in blocks:
        fully_shard(block, mesh=mesh)
    return fully_shard(model, mesh=mesh)


@contextlib.contextmanager
def exchanging(model: nn.Module, last: bool) -> Iterator[None]:
    """A backward that exchanges gradients only if it is the step's last; the sums before stay with each process."""
    if isinstance(model, nn.parallel.DistributedDataParallel) and not last:
        with model.no_sync():
            yield
        return
    yield  # sharded gradients are reduced every time: to keep them whole would need the memory that sharding saves


def mean_of_all(value: Tensor) -> Tensor:
    """The mean of a number over the processes."""
    if world_size() > 1:
        value = value.clone()
        distributed.all_reduce(value)
        value /= world_size()
    return value


def divide_again(model: nn.Module) -> None:
    """Divide what a forward without a backward left gathered: such weights are not those that optimizers know."""
    if world_size() > 1:
        from torch.distributed.fsdp import FSDPModule

        for module in model.modules():
            if isinstance(module, FSDPModule):
                module.reshard()


def share(items: Sequence[Item]) -> list[Item]:
    """This process's part of some work; the parts are equally long, so that all make the same collective calls.

    Where the items do not come out even, the last ones are done by several.
    """
    size = world_size()
    if size == 1:
        return list(items)
    return [items[min(place + rank(), len(items) - 1)] for place in range(0, len(items), size)]


def put_together(values: np.ndarray) -> np.ndarray:
    """What all processes found, float64; zero stands for what one did not look for."""
    if world_size() == 1:
        return values
    found = [torch.empty(values.shape, dtype=torch.float64, device=_device()) for _ in range(world_size())]
    distributed.all_gather(found, torch.from_numpy(values).to(_device()))
    together = values
    for other in found:
        theirs = other.cpu().numpy()
        together = np.where(together == 0, theirs, together)
    return together


def agree(value: bool) -> bool:
    """Whether the main process says so: a decision that all must make alike."""
    if world_size() == 1:
        return value
    flag = torch.tensor([int(value)], device=_device())
    distributed.broadcast(flag, src=0)
    return bool(flag.item())


def wait_for_all() -> None:
    """Go on when every process has come here."""
    if world_size() > 1:
        distributed.barrier()


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


def _device() -> str:
    return f"cuda:{os.environ.get('LOCAL_RANK', 0)}" if distributed.get_backend() == "nccl" else "cpu"
