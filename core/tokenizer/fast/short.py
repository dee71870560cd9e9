"""A call of the encoding loop with one argument, for short texts: there a call costs more than its work.

Numba examines each array that it is given, some 0.1 us apiece and more inside named tuples, and the loop has thirty. A
structure that compiled code has made is one argument, whatever it holds.
"""

from numba.core import types
from numba.experimental import structref

from core.tokenizer.fast.blocks import DONE, POSITION, SEGMENT, WRITTEN
from core.tokenizer.fast.boundaries import PADDING
from core.tokenizer.fast.compiled import kernel
from core.tokenizer.fast.encoding import encode_segments


@structref.register
class _ArgumentsType(types.StructRef):
    """Numba's type of `_Arguments`."""


class _Arguments(structref.StructRefProxy):
    """What `encode_segments` takes, by the names that it has there."""


structref.define_proxy(
    _Arguments,
    _ArgumentsType,
    [
        *("buffer", "segments", "pattern", "class_of", "merges", "starts", "scratch", "values"),
        *("table", "packed", "pool", "merging", "out", "ends", "state"),
    ],
)


@kernel
def bind(
    buffer, segments, pattern, class_of, merges, starts, scratch, values, table, packed, pool, merging, out, ends, state
):
    """The arguments of `encode_segments`, for `encode_bound`."""
    return _Arguments(
        buffer,
        segments,
        pattern,
        class_of,
        merges,
        starts,
        scratch,
        values,
        table,
        packed,
        pool,
        merging,
        out,
        ends,
        state,
    )


@kernel
def encode_bound(bound, size):
    """Encode the `size` bytes behind the bound buffer's padding; returns how many ids, -1 where there is no room.

    A loop that met no room is begun again, which does no harm: what it interned stays true.
    """
    state, segments = bound.state, bound.segments
    segments[0, 0], segments[0, 1], segments[0, 2] = PADDING, PADDING + size, -1
    state[SEGMENT], state[POSITION], state[WRITTEN] = 0, PADDING, 0
    code = encode_segments(
        bound.buffer,
        segments,
        bound.pattern,
        bound.class_of,
        bound.merges,
        bound.starts,
        bound.scratch,
        bound.values,
        bound.table,
        bound.packed,
        bound.pool,
        bound.merging,
        bound.out,
        bound.ends,
        state,
    )
    return state[WRITTEN] if code == DONE else -1
