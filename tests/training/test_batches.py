import math
import threading

import numpy as np
import pytest
import torch

from core.training.batches import batch, check_long_enough, prefetched, stream_seed, window_starts

TOKENS = np.random.default_rng(7).permutation(101).astype(np.uint16)  # each value stands at one place only


def starts(num_tokens=101, context_length=13, batch_size=5, seed=3, step=2):
    return window_starts(num_tokens, context_length, batch_size, seed, step).tolist()


def test_starts_are_a_function_of_seed_and_step_alone():
    before = starts()
    np.random.default_rng(99).random(7)
    torch.manual_seed(99)
    for step in range(11):
        starts(step=step)
    assert starts() == before
    others = [starts(seed=seed, step=step) for seed in range(5) for step in range(7)]
    assert others.count(before) == 1
    assert len({tuple(other) for other in others}) == 35


def test_starts_are_uniform_over_every_place_where_a_window_fits():
    # 17 tokens, windows of 5 and a target: the first starts at 0, the last at 11.
    drawn = np.array(starts(17, 5, batch_size=12_007))
    counts = np.bincount(drawn)
    assert len(counts) == 12
    chi_square = float(((counts - 12_007 / 12) ** 2 / (12_007 / 12)).sum())
    assert abs(chi_square - 11) < 4 * math.sqrt(2 * 11)


def test_the_first_draw_of_each_step_is_uniform_over_steps():
    drawn = [starts(12, 5, batch_size=1, step=step)[0] for step in range(2003)]
    counts = np.bincount(drawn)
    assert len(counts) == 7
    chi_square = float(((counts - 2003 / 7) ** 2 / (2003 / 7)).sum())
    assert abs(chi_square - 6) < 4 * math.sqrt(2 * 6)


def test_data_of_one_window_has_one_place():
    assert starts(14, 13) == [0] * 5


@pytest.mark.parametrize("dtype", [np.uint16, np.uint32, np.int64])
def test_a_batch_is_the_windows_and_its_targets_are_one_later(dtype):
    tokens = TOKENS.astype(dtype)
    inputs, targets = batch(tokens, 13, 5, seed=3, step=2, device="cpu")
    assert inputs.tolist() == [TOKENS[start : start + 13].tolist() for start in starts()]
    assert targets.tolist() == [TOKENS[start + 1 : start + 14].tolist() for start in starts()]
    assert (inputs.dtype, targets.dtype) == (torch.int64, torch.int64)


def test_a_batch_reaches_the_last_token_and_no_further():
    tokens = np.arange(7)
    inputs, targets = batch(tokens, 5, 211, seed=3, step=2, device="cpu")
    assert set(map(tuple, inputs.tolist())) == {(0, 1, 2, 3, 4), (1, 2, 3, 4, 5)}
    assert set(map(tuple, targets.tolist())) == {(1, 2, 3, 4, 5), (2, 3, 4, 5, 6)}


def test_batches_of_a_file_are_those_of_the_array(tmp_path):
    path = tmp_path / "tokens.bin"
    path.write_bytes(TOKENS.tobytes())
    mapped = np.memmap(path, dtype=np.uint16, mode="r")
    assert torch.equal(batch(mapped, 13, 5, 3, 2, "cpu")[1], batch(TOKENS, 13, 5, 3, 2, "cpu")[1])


@pytest.mark.parametrize("num_tokens", [0, 1, 13])
def test_too_little_data_is_said_in_numbers(num_tokens):
    with pytest.raises(ValueError, match=rf"^the part: {num_tokens} tokens, .*context_length 13 needs 14 "):
        check_long_enough(num_tokens, 13, "the part")


def test_just_enough_data_is_enough():
    assert check_long_enough(14, 13, "the part") is None


def test_streams_of_a_run_are_separate():
    seeds = {stream_seed(seed, stream) for seed in range(101) for stream in ("init", "data", "sampling")}
    assert len(seeds) == 303
    assert stream_seed(7, "init") == stream_seed(7, "init")


def test_slices_of_all_processes_are_the_batch():
    whole = batch(TOKENS, 13, 12, seed=3, step=2, device="cpu")
    for world_size in (1, 2, 3, 4):
        slices = [
            batch(TOKENS, 13, 12, seed=3, step=2, device="cpu", rank=rank, world_size=world_size)
            for rank in range(world_size)
        ]
        for place in (0, 1):
            assert torch.equal(torch.cat([part[place] for part in slices]), whole[place])


def test_prefetched_batches_come_in_order_and_not_much_too_early():
    made = []

    def make(step):
        made.append(step)
        return step * 10

    batches = prefetched(make, range(3, 10), ahead=2)
    assert next(batches)[0] == 30
    taken = [30]
    for number, stall_s in batches:
        taken.append(number)
        assert stall_s >= 0
        assert len(made) <= len(taken) + 2
    assert taken == [30, 40, 50, 60, 70, 80, 90]
    assert made == list(range(3, 10))


def test_what_fails_in_making_a_batch_is_raised_in_its_place():
    def make(step):
        if step == 5:
            raise ValueError("step 5 is torn")
        return step

    batches = prefetched(make, range(9))
    assert [next(batches)[0] for _ in range(5)] == [0, 1, 2, 3, 4]
    with pytest.raises(ValueError, match="step 5 is torn"):
        next(batches)


def test_prefetching_that_is_left_ends_its_thread():
    before = threading.active_count()
    batches = prefetched(lambda step: step, range(1000))
    next(batches)
    assert threading.active_count() == before + 1
    batches.close()
    assert threading.active_count() == before
