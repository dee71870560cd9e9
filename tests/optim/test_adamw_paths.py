"""The three implementations of AdamW's update, each called explicitly, against torch's AdamW in float64."""

import importlib.util
import sys
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

from core.optim import adamw_numba, adamw_plain
from core.optim.adamw import AdamW
from core.optim.adamw_plain import Coefficients, Slot, update_plain

OPTIONS = {"lr": 1e-2, "betas": (0.9, 0.95), "eps": 1e-6, "weight_decay": 0.1}
SHAPES = [(2, 3), (), (7, 11), (4099,), (1,), (0, 5), (64, 32)]
STEPS = 5


def gradients(step, dtype):
    generator = torch.Generator().manual_seed(step)
    return [(10.0 ** (step - 3) * torch.randn(shape, generator=generator)).to(dtype) for shape in SHAPES]


def start(dtype):
    generator = torch.Generator().manual_seed(31)
    return [torch.randn(shape, generator=generator).to(dtype) for shape in SHAPES]


def by_torch(weights, gradient_dtype):
    """Weights after some steps of torch's optimizer in float64, from the same rounded weights and gradients."""
    weights = [torch.nn.Parameter(weight.double()) for weight in weights]
    optimizer = torch.optim.AdamW(weights, foreach=False, **OPTIONS)
    for step in range(STEPS):
        for weight, gradient in zip(weights, gradients(step, gradient_dtype), strict=True):
            weight.grad = gradient.double()
        optimizer.step()
    return [weight.detach() for weight in weights]


def by_update(update, weights, gradient_dtype, laid_out=torch.clone):
    means, mean_squares = ([torch.zeros_like(weight) for weight in weights] for _ in range(2))
    weights = [laid_out(weight) for weight in weights]
    for step in range(STEPS):
        parts = zip(weights, gradients(step, gradient_dtype), means, mean_squares, strict=True)
        slots = [Slot._make(part) for part in parts if part[0].numel()]
        update(slots, Coefficients.of(OPTIONS, step + 1))
    return weights


def compare(ours, theirs, **tolerances):
    for one, other in zip(ours, theirs, strict=True):
        assert_close(one.double(), other, **tolerances)


TOLERANCES = {torch.float64: {"rtol": 1e-12, "atol": 1e-14}, torch.float32: {"rtol": 1e-5, "atol": 1e-6}}


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("bucket", [5, 100, 2**22])
def test_the_plain_update_equals_torchs(monkeypatch, dtype, bucket):
    monkeypatch.setattr(adamw_plain, "BUCKET", bucket)
    weights = start(dtype)
    compare(by_update(update_plain, weights, dtype), by_torch(weights, dtype), **TOLERANCES[dtype])


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("threads", [1, 3])
def test_the_compiled_update_equals_torchs(monkeypatch, dtype, threads):
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    monkeypatch.setattr(adamw_numba, "_LEAST_SHARE", 11)
    weights = start(dtype)
    compare(by_update(adamw_numba.update, weights, dtype), by_torch(weights, dtype), **TOLERANCES[dtype])


def test_the_number_of_threads_changes_no_bit(monkeypatch):
    monkeypatch.setattr(adamw_numba, "_LEAST_SHARE", 11)
    results = []
    for threads in (1, 2, 5, 64):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        results.append(torch.cat([w.flatten() for w in by_update(adamw_numba.update, start(torch.float32), None)]))
    assert [torch.equal(results[0], result) for result in results] == [True] * 4


def test_float32_gradients_may_have_any_size():
    """Squares that vanish and squares near the largest number: the same as torch's float32."""
    sizes = torch.tensor([1e-30, 1e-20, 1e-10, 1.0, 1e10, 1e18])
    ours, theirs = torch.nn.Parameter(torch.ones(6)), torch.nn.Parameter(torch.ones(6))
    for optimizer, weight in ((AdamW([ours], eps=0.0), ours), (torch.optim.AdamW([theirs], eps=0.0), theirs)):
        weight.grad = sizes.clone()
        optimizer.step()
    assert_close(ours, theirs, rtol=1e-6, atol=0, equal_nan=True)
    assert ours[2:].tolist() == pytest.approx([1 - 1e-5 - 1e-3] * 4, rel=1e-6)


def test_gradients_of_another_dtype_are_taken_by_the_plain_update():
    weights = start(torch.float32)
    got = by_update(update_plain, weights, torch.bfloat16)
    compare(got, by_torch(weights, torch.bfloat16), **TOLERANCES[torch.float32])
    slot = Slot(weights[0], weights[0].bfloat16(), weights[0], weights[0])
    assert not adamw_numba.takes(slot)


def test_parameters_that_are_not_contiguous_are_updated_too():
    torch.manual_seed(7)
    whole = torch.randn(7, 5, dtype=torch.float64)
    ours, theirs = torch.nn.Parameter(whole.clone().t()), torch.nn.Parameter(whole.clone().t().contiguous())
    mine, torchs = AdamW([ours], **OPTIONS), torch.optim.AdamW([theirs], **OPTIONS)
    for _ in range(STEPS):
        gradient = torch.randn(5, 7, dtype=torch.float64)
        ours.grad, theirs.grad = gradient, gradient.clone()
        mine.step()
        torchs.step()
    assert not ours.is_contiguous()
    assert_close(ours, theirs, rtol=1e-12, atol=1e-14)


class Allocations(TorchDispatchMode):
    """Bytes of every tensor that an operation makes in memory of its own."""

    def __init__(self):
        super().__init__()
        self.made_bytes = 0

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        result = function(*arguments, **(options or {}))
        known = {a.untyped_storage().data_ptr() for a in arguments if isinstance(a, torch.Tensor)}
        if isinstance(result, torch.Tensor) and result.untyped_storage().data_ptr() not in known:
            self.made_bytes += result.untyped_storage().nbytes()
        return result


def test_the_compiled_update_makes_nothing_in_memory():
    weight = torch.nn.Parameter(torch.ones(7, 11))
    weight.grad = torch.ones(7, 11)
    optimizer = AdamW([weight])
    with Allocations() as first:
        optimizer.step()
    with Allocations() as second:
        optimizer.step()
    assert (first.made_bytes, second.made_bytes) == (2 * 4 * 77, 0)  # the state, then nothing


@pytest.fixture
def interpreted(monkeypatch):
    """The module of the Triton kernel, run by Triton's interpreter on the CPU; the real module stays as it is."""
    pytest.importorskip("triton")
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    path = Path(adamw_plain.__file__).with_name("adamw_triton.py")
    spec = importlib.util.spec_from_file_location("interpreted_adamw_triton", path)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("gradient_dtype", [torch.float32, torch.bfloat16])
def test_the_triton_kernel_equals_torchs(interpreted, gradient_dtype):
    weights = start(torch.float32)
    got = by_update(interpreted.Update(), weights, gradient_dtype)
    compare(got, by_torch(weights, gradient_dtype), **TOLERANCES[torch.float32])


def test_the_triton_kernel_equals_the_compiled_loop_bit_for_bit(interpreted):
    weights = start(torch.float32)
    pairs = zip(
        by_update(interpreted.Update(), weights, torch.float32),
        by_update(adamw_numba.update, weights, torch.float32),
        strict=True,
    )
    assert [torch.equal(one, other) for one, other in pairs] == [True] * len(SHAPES)


def test_the_triton_kernel_takes_bfloat16_weights(interpreted):
    """One step from equal state, to a unit in the last place: the interpreter cuts where a GPU rounds to nearest."""
    weights = start(torch.bfloat16)
    pairs = zip(weights, gradients(3, torch.bfloat16), strict=True)
    slots = [Slot(w.clone(), g, torch.zeros_like(w), torch.zeros_like(w)) for w, g in pairs if w.numel()]
    exact = [Slot(*(tensor.double() for tensor in slot)) for slot in slots]
    interpreted.Update()(slots, Coefficients.of(OPTIONS, 1))
    update_plain(exact, Coefficients.of(OPTIONS, 1))
    for ours, theirs in zip(slots, exact, strict=True):
        for one, other in zip(ours, theirs, strict=True):
            assert_close(one.double(), other, rtol=2**-7, atol=1e-30)


def test_the_triton_kernel_moves_16_bytes_at_a_time():
    """In the machine code for an H100, compiled without one."""
    pytest.importorskip("triton")
    from triton import compile
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from core.optim import adamw_triton

    kernel = adamw_triton._update
    types = dict.fromkeys(kernel.arg_names, "fp32")
    types |= dict.fromkeys(kernel.arg_names[:2], "*fp32") | dict.fromkeys(kernel.arg_names[2:6], "*i64")
    types |= {"ALIGNED": "constexpr", "BLOCK": "constexpr"}
    source = ASTSource(kernel, types, constexprs={"ALIGNED": True, "BLOCK": adamw_triton.BLOCK})
    options = {"num_warps": 8, "enable_fp_fusion": False}
    text = compile(source, target=GPUTarget("cuda", 90, 32), options=options).asm["ptx"]
    moves = ("ld.global.v4.b32", "ld.global.b32", "st.global.v4.b32", "st.global.b32")
    counts = {move: text.count(move) for move in moves}
    # 2048 elements by 256 threads are two groups of four each, of four tensors read and three written.
    assert counts == {"ld.global.v4.b32": 8, "ld.global.b32": 0, "st.global.v4.b32": 6, "st.global.b32": 0}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("path", ["triton", "plain"])
def test_on_cuda_as_on_the_cpu(monkeypatch, path):
    if path == "triton":
        pytest.importorskip("triton")
    else:
        monkeypatch.setattr("core.optim.adamw._HAS_TRITON", False)
    weights = start(torch.float32)
    parameters = [torch.nn.Parameter(weight.cuda()) for weight in weights]
    optimizer = AdamW(parameters, **OPTIONS)
    for step in range(STEPS):
        for parameter, gradient in zip(parameters, gradients(step, torch.float32), strict=True):
            parameter.grad = gradient.cuda()
        optimizer.step()
    assert (optimizer._on_cuda is not None) == (path == "triton")
    compare([p.detach().cpu() for p in parameters], by_torch(weights, torch.float32), **TOLERANCES[torch.float32])
