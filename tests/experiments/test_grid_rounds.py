import statistics
from types import SimpleNamespace

import pytest
import torch

from core.experiments.grid_rounds import MIN_ROUND_S, ReferenceProduct, Rounds, rounds_needed, time_rounds


class Scripted:
    """A Timer that runs what it is given once and returns the measurements of its script, in turn."""

    def __init__(self, script, runs=1):
        self.script, self.runs, self.asked = script, runs, []

    def __call__(self, statement, globals, num_threads):
        assert (statement, num_threads) == ("call()", torch.get_num_threads())
        self.call = globals["call"]
        return self

    def blocked_autorange(self, min_run_time):
        self.asked.append(min_run_time)
        self.call()
        return SimpleNamespace(times=list(self.script.pop(0)), number_per_run=self.runs)


class Told:
    """Phases that note what is prepared and called; what fails raises."""

    def __init__(self, **failures):
        self.log, self.failures = [], failures

    def call(self, phase):
        self.log.append(f"prepare {phase}")
        return lambda: self.run(phase)

    def run(self, phase):
        self.log.append(phase)
        if phase in self.failures:
            raise self.failures[phase]


def timed(script, phases=("forward", "step"), num_rounds=2, visit=1, reference=(), told=None, runs=1):
    told, found = told or Told(), {}
    references, clock = iter([99.0, *reference]), iter(range(0, 1000, 7))
    scripted = Scripted(script, runs)
    how = {"num_rounds": num_rounds, "visit": visit, "found": found, "make_timer": scripted}
    try:
        time_rounds(told, phases, lambda: next(references), clock=lambda: next(clock), **how)
    except (RuntimeError, MemoryError) as error:
        return found, told, error
    assert scripted.script == []
    assert set(scripted.asked) == {MIN_ROUND_S}
    return found, told, None


def test_all_phases_in_each_round_beside_the_reference():
    script = [(1.0, 3.0, 2.0), (10.0,), (4.0, 4.0), (30.0,)]
    found, told, _ = timed(script, reference=(1.0, 3.0, 5.0, 2.0, 4.0, 6.0), visit=3, runs=8)
    assert told.log == ["prepare forward", "forward", "prepare step", "step"] * 3  # the first is the warm-up
    assert found["forward"] == Rounds(
        seconds=(2.0, 4.0),
        reference_s=(2.0, 3.0),  # mean of before and after, in each round
        visits=(3, 3),
        num_blocks=5,
        runs_per_block=8,
        warm_up_s=7,
    )
    assert (found["step"].seconds, found["step"].reference_s) == ((10.0, 30.0), (4.0, 5.0))


def test_what_comes_before_a_failure_is_measured():
    told = Told(step=MemoryError("no more"))
    script = [(2.0,), (3.0,)]
    found, told, error = timed(script, ("forward", "step", "backward"), reference=[1.0] * 4, told=told)
    assert str(error) == "no more"
    assert error.__traceback__.tb_next.tb_next is None  # the frames that hold the tensors are let go
    assert found["forward"].seconds == (2.0, 3.0)
    assert set(found) == {"forward"}
    assert "backward" not in told.log


def rounds(seconds, reference=None, visits=None):
    reference = reference or [1.0] * len(seconds)
    visits = visits or [1] * len(seconds)
    return Rounds(seconds=tuple(seconds), reference_s=tuple(reference), visits=tuple(visits), num_blocks=len(seconds))


def test_a_machine_that_is_slow_for_a_while_divides_out():
    slow = rounds([2.0, 2.0, 6.0, 6.0, 2.0], [0.5, 0.5, 1.5, 1.5, 0.5])
    assert (slow.median_s, slow.iqr_s) == (2.0, 4.0)
    assert (slow.relative, slow.relative_median, slow.relative_iqr) == ((4.0,) * 5, 4.0, 0.0)
    assert slow.noisy("cpu") is False


def test_a_shared_cpu_may_spread_twice_as_much():
    between = rounds([1.8, 1.92, 2.0, 2.08, 2.2])  # 8 %
    assert between.relative_iqr == pytest.approx(0.16)
    assert (between.noisy("cpu"), between.noisy("cuda")) == (False, True)
    assert rounds([1.0, 1.5, 2.0, 2.5, 3.0]).noisy("cpu") is True


def test_fewer_than_five_rounds_have_no_range():
    few = rounds([1.0, 2.0, 3.0, 4.0])
    assert (few.iqr_s, few.relative_iqr, few.noisy("cpu"), few.median_s) == (None, None, None, 2.5)
    assert [rounds_needed(visits) for visits in (1, 2, 3, 9)] == [5, 3, 3, 3]


def test_visits_add_up():
    first = Rounds(seconds=(1.0, 2.0), reference_s=(4.0, 5.0), visits=(1, 1), num_blocks=7, warm_up_s=3.0)
    later = Rounds(seconds=(3.0,), reference_s=(6.0,), visits=(2,), num_blocks=2, runs_per_block=10, warm_up_s=1.0)
    both = first.then(later)
    assert both.seconds == (1.0, 2.0, 3.0)
    assert (both.reference_s, both.visits, both.attempts) == ((4.0, 5.0, 6.0), (1, 1, 2), 2)
    assert (both.num_blocks, both.runs_per_block, both.warm_up_s) == (9, 10, 3.0)
    assert Rounds().then(first) == first


def test_the_reference_is_two_products_by_the_half():
    clock = iter([5.0, 8.0])
    reference = ReferenceProduct("cpu", 3, clock=lambda: next(clock))
    assert reference() == 1.5
    assert torch.equal(reference._out, reference._left @ reference._right)
    assert reference._out.abs().sum() > 0


class Product:
    """The phase is a product of these."""

    def __init__(self, a, b):
        self.a, self.b = a, b

    def call(self, phase):
        return lambda: self.a @ self.b


def measured(a, b):
    found = {}
    reference = ReferenceProduct(str(a.device), 64)
    time_rounds(Product(a, b), ("forward",), reference, num_rounds=5, visit=1, found=found)
    return found["forward"]


def test_a_large_product_takes_at_least_its_physical_floor():
    # 64 float32 products and sums a cycle (two units of 512 bits) at 6 GHz: more than any core does.
    size, peak_flop_per_s = 700, 64 * 2 * 6e9 * torch.get_num_threads()
    found = measured(*torch.rand(2, size, size))
    assert min(found.seconds) >= 2 * size**3 / peak_flop_per_s
    assert found.num_blocks >= 5
    assert found.median_s == statistics.median(found.seconds)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_large_product_takes_at_least_its_physical_floor_on_cuda():
    found = measured(*torch.rand(2, 8192, 8192, device="cuda", dtype=torch.bfloat16))
    assert min(found.seconds) >= 2 * 8192**3 / 5e15


@pytest.mark.skipif(not torch.backends.mps.is_available(), reason="no Apple GPU")
def test_a_large_product_takes_at_least_its_physical_floor_on_mps():
    found = measured(*torch.rand(2, 4096, 4096, device="mps"))
    assert min(found.seconds) >= 2 * 4096**3 / 2e14
