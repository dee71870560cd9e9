"""What the C library does with the memory of tensors on a CPU that are freed."""

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8
"""Parameters of glibc's `mallopt`, by the numbers of its <malloc.h>."""


def keep_freed_memory(device: str) -> bool:
    """Have freed memory kept for the next tensor instead of given back to the system.

    glibc maps every block above 32 MiB anew and unmaps it when it is freed, so each such tensor of each step is paid
    for page by page: the logits of a step, its attention scores. Here such blocks come from the heap, which is not
    trimmed; one heap for all threads, since the backward runs in a thread of its own and a thread's own heap holds no
    large block. The whole process keeps what its fullest moment took, which a training step needs again at once.

    Args:
        device: Where tensors are; on any but a CPU the C library does not hold them, and nothing is changed.

    Returns:
        Whether the C library has taken it: on Linux with glibc alone (others do not map and unmap in this way, or do
        not say).
    """
    if device.partition(":")[0] != "cpu":
        return False
    if sys.platform != "linux":
        return False
    library = ctypes.CDLL(None)
    if not hasattr(library, "gnu_get_libc_version"):
        return False
    wanted = {_ARENA_MAX: 1, _MMAP_MAX: 0, _TRIM_THRESHOLD: 2**31 - 1}
    taken = [library.mallopt(name, value) == 1 for name, value in wanted.items()]
    return all(taken)
