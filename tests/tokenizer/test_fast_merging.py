import random

import numpy as np
import pytest

from core.tokenizer import Tokenizer
from core.tokenizer.fast.merging import merge_tables

BYTES = {value: bytes([value]) for value in range(256)}


def test_two_pairs_whose_hashes_agree_are_told_apart():
    # Of one group and one first row: no shift that is added to both could part them.
    merges = [(b"f", b"e"), (b"b", b"z")]
    tokenizer = Tokenizer(BYTES | {256: b"fe", 257: b"bz"}, merges)
    assert tokenizer.fast_encoder().encode("febz efzb" * 300) == tokenizer.encode_reference("febz efzb" * 300)


@pytest.mark.parametrize("num_pairs", [0, 1, 7, 100, 300, 1000, 2000])
def test_every_pair_has_a_row_to_itself(num_pairs):
    source = random.Random(num_pairs)
    for largest in (300, 3000, 60_000, (1 << 21) - 2):
        pairs = {}
        while len(pairs) < num_pairs:
            pair = source.randrange(largest + 1), source.randrange(largest + 1)
            pairs.setdefault(pair, (len(pairs), source.randrange(largest + 1)))
        tables = merge_tables(list(range(256)), pairs, num_pairs)
        rows = sorted(int(row) for row in tables.pairs if row != np.uint64(0xFFFFFFFFFFFFFFFF))
        assert rows == sorted((left << 43) | (right << 22) | rank for (left, right), (rank, _) in pairs.items())
        assert tables.merged_ids[:num_pairs].tolist() == [merged for _, merged in pairs.values()]
        assert len(tables.pairs) <= 1 << 14
