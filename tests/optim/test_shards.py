"""Parameters that lie on two processes get the values that they would get on one."""

import math

import pytest
import torch
from torch import distributed, multiprocessing, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard, distribute_tensor
from torch.testing import assert_close

from core.optim.adamw import AdamW
from core.optim.average import WeightAverage
from core.optim.clipping import clip_grad_norm
from core.optim.muon import Muon

SHAPES = [(7, 11), (13, 5), (1, 3), (17,), (1,)]  # none is cut evenly, of some one process holds nothing


def drawn(shape, seed):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def train(lay_out, whole):
    """Some steps of both optimizers, clipped and averaged: weights, average and norms, whole."""
    model = nn.ParameterList(nn.Parameter(lay_out(drawn(shape, n))) for n, shape in enumerate(SHAPES))
    optimizers = [AdamW(model[2:], lr=0.05), Muon(model[:2], weight_decay=0.3)]
    average = WeightAverage(model, 0.9)
    norms = []
    for step in range(4):
        for n, parameter in enumerate(model):
            parameter.grad = lay_out(drawn(SHAPES[n], 100 * step + n))
        norms.append(float(clip_grad_norm(model, 3.0)))
        for optimizer in optimizers:
            optimizer.step()
        average.update()
    with average.swapped():
        averaged = [whole(parameter.detach().clone()) for parameter in model]
    states = [
        whole(value)
        for optimizer in optimizers
        for state in optimizer.state.values()
        for value in state.values()
        if isinstance(value, torch.Tensor)
    ]
    return [*(whole(parameter.detach()) for parameter in model), *averaged, *states], norms


def on_each(rank, folder, device_mesh, placements):
    torch.set_num_threads(1)
    store = distributed.FileStore(f"{folder}/store", math.prod(device_mesh))
    distributed.init_process_group("gloo", store=store, rank=rank, world_size=math.prod(device_mesh))
    try:
        mesh = init_device_mesh("cpu", device_mesh)
        got, norms = train(lambda whole: distribute_tensor(whole, mesh, placements), DTensor.full_tensor)
        expected, expected_norms = train(torch.clone, torch.clone)
        assert norms == pytest.approx(expected_norms, rel=1e-13)
        for one, other in zip(got, expected, strict=True):
            assert_close(one, other, rtol=1e-11, atol=1e-12)
        unsummed = nn.Parameter(distribute_tensor(torch.ones(3), mesh, [Replicate()] * len(placements)))
        unsummed.grad = DTensor.from_local(torch.ones(3), mesh, [Partial()] * len(placements))
        with pytest.raises(ValueError, match="Partial"):
            clip_grad_norm([unsummed], 1.0)
    finally:
        distributed.destroy_process_group()


def test_one_process(tmp_path):
    on_each(0, tmp_path, (1,), [Shard(0)])


@pytest.mark.slow
@pytest.mark.parametrize(("device_mesh", "placements"), [((2,), [Shard(0)]), ((2, 2), [Replicate(), Shard(0)])])
def test_several_processes(tmp_path, device_mesh, placements):
    multiprocessing.spawn(on_each, (tmp_path, device_mesh, placements), nprocs=math.prod(device_mesh))
