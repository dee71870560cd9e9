"""AdamW's update on CUDA: one Triton kernel for all parameters of a group.

It reads weight, gradient and the two means once and writes three of them once, 28 bytes a parameter in float32; its
time is memory bandwidth's.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from core.optim.adamw_plain import Coefficients, Slot

BLOCK = 2048
"""Elements of one program of the kernel."""
_DTYPES = (torch.float32, torch.bfloat16)


@triton.jit
def _update(
    weight_like,  # tells the type of weights and means, as the next tells that of gradients; neither is read
    gradient_like,
    addresses,
    sizes,
    first_blocks,
    owners,
    decay,
    gradient_weight,
    beta2,
    square_weight,
    square_correction,
    eps,
    step_size,
    ALIGNED: tl.constexpr,
    BLOCK: tl.constexpr,
):
    block = tl.program_id(0)
    owner = tl.load(owners + block)
    start = (block - tl.load(first_blocks + owner)).to(tl.int64) * BLOCK
    size = tl.load(sizes + owner)
    weight_address = tl.load(addresses + 4 * owner)
    gradient_address = tl.load(addresses + 4 * owner + 1)
    mean_address = tl.load(addresses + 4 * owner + 2)
    square_address = tl.load(addresses + 4 * owner + 3)
    offsets = start + tl.arange(0, BLOCK)
    weights = weight_address.to(weight_like.dtype) + offsets
    gradients = gradient_address.to(gradient_like.dtype) + offsets
    means = mean_address.to(weight_like.dtype) + offsets
    squares = square_address.to(weight_like.dtype) + offsets
    if ALIGNED:  # what the compiler must know to move 16 bytes at a time
        size = tl.multiple_of(size, 16)
        weights = tl.multiple_of(weights, 16)
        gradients = tl.multiple_of(gradients, 16)
        means = tl.multiple_of(means, 16)
        squares = tl.multiple_of(squares, 16)
    inside = offsets < size

    w = tl.load(weights, mask=inside).to(tl.float32)
    g = tl.load(gradients, mask=inside).to(tl.float32)
    m = tl.load(means, mask=inside).to(tl.float32)
    v = tl.load(squares, mask=inside).to(tl.float32)
    m = m + gradient_weight * (g - m)
    v = v * beta2 + square_weight * g * g
    denominator = tl.sqrt_rn(tl.div_rn(v, square_correction)) + eps
    w = w * decay + tl.div_rn(step_size * m, denominator)
    tl.store(means, m.to(weight_like.dtype.element_ty), mask=inside)
    tl.store(squares, v.to(weight_like.dtype.element_ty), mask=inside)
    tl.store(weights, w.to(weight_like.dtype.element_ty), mask=inside)


def takes(slot: Slot) -> bool:
    """Whether the kernel can update this parameter: contiguous, weight and means of one dtype, all 4 or 2 bytes."""
    dtype = slot.weight.dtype
    return (
        dtype in _DTYPES
        and slot.gradient.dtype in _DTYPES
        and slot.mean.dtype == slot.mean_square.dtype == dtype
        and all(tensor.is_contiguous() for tensor in slot)
    )


class Update:
    """The update of one optimizer; it keeps the tables that say which program of the kernel has which elements.

    A gradient's memory may be another at every step, so addresses go to the device each time, the host not waiting.
    """

    def __init__(self) -> None:
        self._tables: dict[tuple, tuple[Tensor, Tensor, Tensor]] = {}

    def __call__(self, slots: list[Slot], numbers: Coefficients) -> None:
        """Update parameters: one launch per device, pair of dtypes and alignment."""
        kinds: dict[tuple, list[Slot]] = {}
        for slot in slots:
            kind = (slot.weight.device, slot.weight.dtype, slot.gradient.dtype, _is_aligned(slot))
            kinds.setdefault(kind, []).append(slot)
        for (device, _, _, aligned), alike in kinds.items():
            sizes, first_blocks, owners = self._table(tuple(slot.weight.numel() for slot in alike), device)
            addresses = _moved(torch.tensor([tensor.data_ptr() for slot in alike for tensor in slot]), device)
            first = alike[0]
            with torch.cuda.device_of(first.weight):
                _update[(len(owners),)](
                    first.weight,
                    first.gradient,
                    addresses,
                    sizes,
                    first_blocks,
                    owners,
                    *numbers,
                    ALIGNED=aligned,
                    BLOCK=BLOCK,
                    num_warps=8,
                    enable_fp_fusion=False,  # every rounding as on the CPU
                )

    def _table(self, sizes: tuple[int, ...], device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        """Elements and first block of every parameter, and the parameter of every block."""
        if (sizes, device) not in self._tables:
            elements = torch.tensor(sizes)
            blocks = (elements + BLOCK - 1) // BLOCK
            owners = torch.repeat_interleave(torch.arange(len(sizes)), blocks)
            tables = (elements, blocks.cumsum(0) - blocks, owners)
            self._tables[sizes, device] = tuple(_moved(table, device) for table in tables)
        return self._tables[sizes, device]


def _moved(table: Tensor, device: torch.device) -> Tensor:
    return table if device.type == "cpu" else table.pin_memory().to(device, non_blocking=True)


def _is_aligned(slot: Slot) -> bool:
    return slot.weight.numel() % 16 == 0 and all(tensor.data_ptr() % 16 == 0 for tensor in slot)
