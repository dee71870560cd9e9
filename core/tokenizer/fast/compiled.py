"""Compiling loops with Numba: a cache on disk that is never stale, and two instructions that Python has no word for."""

import hashlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numba
import platformdirs
from llvmlite import ir
from numba.core import cgutils, config, types
from numba.extending import intrinsic


@cache
def cache_folder() -> Path:
    """Where compiled loops are kept: named by a hash of this package's whole source, Numba and what it compiles for.

    Numba itself looks only at the file that a function stands in and would go on using a loop that was compiled with
    another file's old functions inside.
    """
    digest = hashlib.sha256(f"{numba.__version__} {sys.version} bounds={config.BOUNDSCHECK}".encode())
    for path in sorted(Path(__file__).parent.glob("*.py")):
        source = path.read_bytes()
        digest.update(f"{path.name} {len(source)} ".encode() + source)
    return Path(platformdirs.user_cache_dir("lm-workbook")) / "compiled" / digest.hexdigest()[:20]


def kernel(function: Callable) -> Callable:
    """Compile a function when it is first called; it runs without Python's lock, so that threads run side by side."""
    before, config.CACHE_DIR = config.CACHE_DIR, str(cache_folder())
    try:
        return numba.njit(nogil=True, cache=True, error_model="numpy")(function)
    finally:
        config.CACHE_DIR = before


def _marker(work: str) -> Path:
    return cache_folder() / f"{work}.compiled"


def is_compiled(work: str) -> bool:
    """Whether the loops of this kind of work have been compiled before."""
    return _marker(work).exists()


@contextmanager
def announced(work: str) -> Iterator[None]:
    """Say on standard error that the loops of some work are compiled now, the first time only."""
    known = is_compiled(work)
    if not known:
        print(f"compiling the fast tokenizer's loops for {work} (once, 15-30 s; kept for later)", file=sys.stderr)
    yield
    if not known:
        _marker(work).parent.mkdir(parents=True, exist_ok=True)
        _marker(work).touch()


@intrinsic
def prefetch(typing_context, rows, row):
    """`prefetch(rows, row)`: have the first cache line of a row of a matrix fetched while other work goes on."""

    def generate(context, builder, signature, arguments):
        matrix = context.make_array(signature.args[0])(context, builder, arguments[0])
        stride = cgutils.unpack_tuple(builder, matrix.strides)[0]
        start = builder.bitcast(matrix.data, ir.IntType(8).as_pointer())
        pointer = builder.gep(start, [builder.mul(arguments[1], stride)])
        word = ir.IntType(32)
        function_type = ir.FunctionType(ir.VoidType(), [pointer.type, word, word, word])
        function = cgutils.get_or_insert_function(builder.module, function_type, "llvm.prefetch.p0")
        builder.call(function, [pointer, word(0), word(3), word(1)])  # to read, to keep, data
        return context.get_dummy_value()

    return types.void(rows, types.uint64), generate


if config.BOUNDSCHECK:

    @kernel
    def load64(array, index):
        """Eight bytes as one little-endian number, each checked to lie within the array."""
        value = numba.uint64(0)
        for place in range(8):
            value |= numba.uint64(array[index + numba.uint64(place)]) << numba.uint64(8 * place)
        return value

else:

    @intrinsic
    def load64(typing_context, array, index):
        """`load64(array, index)`: the eight bytes from an index on as one number, in one instruction."""

        def generate(context, builder, signature, arguments):
            data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
            pointer = builder.bitcast(builder.gep(data, [arguments[1]]), ir.IntType(64).as_pointer())
            return builder.load(pointer, align=1)

        return types.uint64(array, types.uint64), generate
