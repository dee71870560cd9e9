"""Applying merges to one pre-token: the one that was learnt earliest, the leftmost first, until none applies."""

from typing import NamedTuple

import numpy as np

from core.tokenizer.fast.compiled import kernel

NONE = np.uint32(0xFFFFFFFF)
"""The rank of a pair that does not merge."""

LANES = 64
"""Bytes of a pre-token that is merged without a heap."""
_LANE_BITS, _LANE_MASK, _NO_PAIR = np.uint32(7), np.uint64(127), NONE << np.uint32(7)

_NOTHING = (1 << 21) - 1
"""The id of what stands before and behind a pre-token."""
_EMPTY = np.uint64(0xFFFFFFFFFFFFFFFF)
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_U0, _U1, _ID_BITS, _RANK_BITS = np.uint64(0), np.uint64(1), np.uint64(21), np.uint64(22)
_RANK_MASK = np.uint64((1 << 22) - 1)


class Merges(NamedTuple):
    """A tokenizer's merges as tables."""

    byte_ids: np.ndarray
    """int32 [256], the id of each byte."""
    byte_ranks: np.ndarray
    """uint32 [65536], the rank of each pair of bytes, the left one high; `NONE` without."""
    pairs: np.ndarray
    """uint64 rows: left id (21 bits), right id (21), rank (22). Each pair has a row to itself, so that looking one up
    takes no branch, which the processor could not foresee."""
    shifts: np.ndarray
    """uint64: how many strides a pair's row lies from where its hash points, by the hash's last bits."""
    merged_ids: np.ndarray
    """int32, by rank: the id that the pair becomes."""


class MergeScratch(NamedTuple):
    """Working memory of `apply_merges`."""

    ids: np.ndarray
    """int32."""
    ranks: np.ndarray
    """uint32."""
    following: np.ndarray
    previous: np.ndarray

    @classmethod
    def of(cls, size: int) -> "MergeScratch":
        """Room for pre-tokens of up to `size` bytes."""
        room = max(size, 2 * LANES)
        lanes = (np.empty(2 * LANES, np.uint64) for _ in range(2))
        return cls(np.empty(room, np.int32), np.empty(room, np.uint32), *lanes)


def merge_tables(byte_ids: list[int], merged: dict[tuple[int, int], tuple[int, int]], num_merges: int) -> Merges:
    """The tables of merges: (left id, right id) to (rank, id).

    Raises:
        ValueError: If an id is not below 2^21 - 1 or a rank not below 2^22.
    """
    largest = max([*byte_ids, *(max(*pair, merged_id) for pair, (_, merged_id) in merged.items())], default=0)
    if largest >= _NOTHING or num_merges >= 1 << 22:
        raise ValueError(
            f"the largest id is {largest} of {num_merges} merges: the fast engine holds 2^21 - 1 ids, 2^22 merges"
        )
    rows = np.array([(*pair, *value) for pair, value in merged.items()], np.int64).reshape(-1, 4)
    merged_ids = np.zeros(max(num_merges, 1), np.int32)
    merged_ids[rows[:, 2]] = rows[:, 3]
    byte_ranks = np.full((256, 256), NONE, np.uint32)
    byte_of = np.full(largest + 1, -1, np.int64)
    byte_of[byte_ids] = np.arange(256)
    bytes_only = rows[(byte_of[rows[:, 0]] >= 0) & (byte_of[rows[:, 1]] >= 0)]
    byte_ranks[byte_of[bytes_only[:, 0]], byte_of[bytes_only[:, 1]]] = bytes_only[:, 2]
    size = 1 << max(8, (2 * len(rows)).bit_length())
    unsigned = rows.astype(np.uint64)
    keys = (unsigned[:, 0] << _ID_BITS) | unsigned[:, 1]
    pairs, shifts = _perfect_hash(keys, unsigned[:, 2], size)
    return Merges(np.array(byte_ids, np.int32), byte_ranks.reshape(-1), pairs, shifts, merged_ids)


def _perfect_hash(keys: np.ndarray, ranks: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """`pairs` and `shifts` for some pairs, with `size` rows or, where they cannot be parted so, twice as many."""
    while True:
        pairs, shifts = np.full(size, _EMPTY, np.uint64), np.zeros(size // 8, np.uint64)
        group = (_mix_array(keys) & np.uint64(len(shifts) - 1)).astype(np.int64)
        sizes = np.bincount(group, minlength=len(shifts))
        order = np.lexsort((group, -sizes[group]))  # the largest groups first, while there is room
        if _place_pairs(pairs, shifts, keys[order], ranks[order]):
            return pairs, shifts
        size *= 2


def _mix_array(keys: np.ndarray) -> np.ndarray:
    mixed = keys * _MULTIPLIER
    return mixed ^ (mixed >> np.uint64(32))


@kernel
def _mix(key):
    mixed = key * _MULTIPLIER
    return mixed ^ (mixed >> np.uint64(32))


@kernel
def _pair_row(mixed, shift, mask):
    """Strides differ from pair to pair, so that two which begin at one row part."""
    return ((mixed >> np.uint64(24)) + shift * ((mixed >> np.uint64(44)) | _U1)) & mask


@kernel
def _place_pairs(pairs, shifts, keys, ranks):
    """Find each group of pairs, neighbours in the list, a shift that sends them all to rows that are free.

    Returns:
        Whether every group has one; two pairs of one start and stride have none.
    """
    mask, group_mask = np.uint64(pairs.shape[0] - 1), np.uint64(shifts.shape[0] - 1)
    first = 0
    while first < keys.shape[0]:
        group, last = _mix(keys[first]) & group_mask, first + 1
        while last < keys.shape[0] and _mix(keys[last]) & group_mask == group:
            last += 1
        shift, placed = _U0, first
        while placed < last:
            row = _pair_row(_mix(keys[placed]), shift, mask)
            if pairs[row] == _EMPTY:
                pairs[row] = (keys[placed] << _RANK_BITS) | ranks[placed]
                placed += 1
                continue
            for i in range(first, placed):
                pairs[_pair_row(_mix(keys[i]), shift, mask)] = _EMPTY
            shift, placed = shift + _U1, first
            if shift == np.uint64(pairs.shape[0]):
                return False
        shifts[group] = shift
        first = last
    return True


@kernel
def _rank(pairs, shifts, left, right):
    """The rank of a pair of ids."""
    key = (np.uint64(left) << _ID_BITS) | np.uint64(right)
    mixed = _mix(key)
    shift = shifts[mixed & np.uint64(shifts.shape[0] - 1)]
    found = pairs[_pair_row(mixed, shift, np.uint64(pairs.shape[0] - 1))]
    return np.uint32(found & _RANK_MASK) if found >> _RANK_BITS == key else NONE


@kernel
def apply_to_short(byte_ids, byte_ranks, rows, shifts, merged_ids, text, begin, size, ids, pairs, following, previous):
    """Merge up to `LANES` bytes: each pair's rank and place in one number, the least of all lanes sought.

    Bytes stand in the lanes from 1 on, with `_NOTHING` before and behind, so that every merge looks up two new pairs
    and the only branch is the end.

    Arrays come one by one: taking them out of a tuple, here once a pre-token, counts references atomically.

    Args:
        byte_ids: And the next four, of `Merges`.
        byte_ranks: As above.
        rows: `pairs` there.
        shifts: As above.
        merged_ids: As above.
        text: Bytes.
        begin: First byte.
        size: Bytes.
        ids: And the rest, of `MergeScratch`; gets the ids.
        pairs: `ranks` there.
        following: As above.
        previous: As above.

    Returns:
        How many ids it wrote.
    """
    pairs[size] = NONE
    for lane in range(size):
        ids[lane + _U1] = byte_ids[text[begin + lane]]
        following[lane + _U1], previous[lane + _U1] = lane + np.uint64(2), lane
    ids[0] = ids[size + _U1] = _NOTHING
    for lane in range(_U1, size):
        pair = (np.uint64(text[begin + lane - _U1]) << np.uint64(8)) | np.uint64(text[begin + lane])
        pairs[lane] = (byte_ranks[pair] << _LANE_BITS) | np.uint32(lane)
    written = size
    while True:
        least = NONE
        for lane in range(_U1, size):
            least = min(least, pairs[lane])
        if least >= _NO_PAIR:
            break
        written -= _U1
        lane = np.uint64(least) & _LANE_MASK
        before, gone = previous[lane], following[lane]
        after = following[gone]
        merged = merged_ids[least >> _LANE_BITS]
        ids[lane] = merged
        following[lane] = after
        previous[after] = lane
        pairs[gone] = NONE
        pairs[lane] = (_rank(rows, shifts, merged, ids[after]) << _LANE_BITS) | np.uint32(lane)
        pairs[before] = (_rank(rows, shifts, ids[before], merged) << _LANE_BITS) | np.uint32(before)
    lane = _U1
    for place in range(written):
        ids[place] = ids[lane]
        lane = following[lane]
    return np.int64(written)


@kernel
def _sift_up(heap, place):
    entry = heap[place]
    while place > 0 and heap[(place - 1) >> 1] > entry:
        heap[place] = heap[(place - 1) >> 1]
        place = (place - 1) >> 1
    heap[place] = entry


@kernel
def _sift_down(heap, size):
    entry, place = heap[0], 0
    while 2 * place + 1 < size:
        child = 2 * place + 1
        if child + 1 < size and heap[child + 1] < heap[child]:
            child += 1
        if heap[child] >= entry:
            break
        heap[place] = heap[child]
        place = child
    heap[place] = entry


@kernel
def apply_to_long(byte_ids, rows, shifts, merged_ids, text, begin, end, ids, ranks):
    """Merge any number of bytes in n log n steps: a heap of (rank, place), outdated entries dropped as they surface."""
    size = end - begin
    following = np.empty(size + 1, np.int32)
    previous = np.empty(size + 1, np.int32)
    heap = np.empty(3 * size, np.uint64)
    entries = 0
    for i in range(size):
        ids[i] = byte_ids[text[begin + i]]
        following[i], previous[i] = i + 1, i - 1
    for i in range(size - 1):
        ranks[i] = _rank(rows, shifts, ids[i], ids[i + 1])
        if ranks[i] != NONE:
            heap[entries] = (np.uint64(ranks[i]) << np.uint64(32)) | np.uint64(i)
            entries += 1
            _sift_up(heap, entries - 1)
    ranks[size - 1] = NONE
    while entries > 0:
        entry = heap[0]
        entries -= 1
        heap[0] = heap[entries]
        _sift_down(heap, entries)
        place, rank = np.int64(entry & np.uint64(0xFFFFFFFF)), np.uint32(entry >> np.uint64(32))
        if ranks[place] != rank:
            continue
        ids[place] = merged_ids[rank]
        gone = following[place]
        after = following[gone]
        ranks[gone] = NONE
        following[place] = after
        ranks[place] = NONE
        if after < size:
            previous[after] = place
            ranks[place] = _rank(rows, shifts, ids[place], ids[after])
            if ranks[place] != NONE:
                heap[entries] = (np.uint64(ranks[place]) << np.uint64(32)) | np.uint64(place)
                entries += 1
                _sift_up(heap, entries - 1)
        before = previous[place]
        if before >= 0:
            ranks[before] = _rank(rows, shifts, ids[before], ids[place])
            if ranks[before] != NONE:
                heap[entries] = (np.uint64(ranks[before]) << np.uint64(32)) | np.uint64(before)
                entries += 1
                _sift_up(heap, entries - 1)
    written, place = 0, 0
    while place < size:
        ids[written] = ids[place]
        written += 1
        place = following[place]
    return written
