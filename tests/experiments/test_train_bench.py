import dataclasses
import importlib.util

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from core.accounting import parameters, training_step_flop
from core.config import canonical_json
from core.experiments import train_bench, train_cases, train_contestants, train_measure
from core.experiments.train_bench import (
    Ratio,
    case_names,
    first_turn_s,
    made_up_tokens,
    speed_rows,
    time_ratio,
    utilisation,
)
from core.experiments.train_cases import Case, contestant_cases, ladder_cases
from core.experiments.train_contestants import OTHERS, Ours, PlainTorch, Start, halves_from_interleaved
from core.experiments.train_measure import GemmTimer, StepTimer, Turn
from core.records import TrainSpeedRow
from core.results import read_rows, write_rows
from core.training.batches import batch

BFLOAT16 = "bfloat16-autocast"
SHAPES = {
    "llama": {},
    "grouped and tied": {"num_heads": 6, "num_kv_heads": 2, "d_model": 30, "head_dim": 8, "tie_embeddings": True},
}


@pytest.fixture(autouse=True)
def quick_products(monkeypatch):
    monkeypatch.setattr(train_measure, "ROUND_S", 1e-4)
    monkeypatch.setattr(train_measure, "PROBE_S", 1e-4)


@pytest.fixture
def config(tiny_config, replace):
    """Float32, with decay, a norm that clips and a rate that moves the weights."""
    return replace(tiny_config, precision="float32", optimizer__max_grad_norm=0.5, model__vocab_size=53)


def their_contestant(name, config, start):
    pytest.importorskip(OTHERS[name].package)
    return OTHERS[name](config, start)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize(("name", "tolerance"), [("huggingface", 2e-6), ("torch", 1e-12)])
def test_contestants_do_the_same_steps(name, tolerance, shape, config):
    model = dataclasses.replace(config.model, **shape)
    config = dataclasses.replace(config, precision="float64", model=model)
    tokens = made_up_tokens(config.model.vocab_size, 3000)
    ours = Ours(config, tokens)
    start = Start.of(ours)
    theirs = their_contestant(name, config, start)
    sizes = [sum(weight.numel() for weight in each.model.parameters()) for each in (ours, theirs)]
    assert sizes == [parameters(config.model)] * 2
    losses = []
    for step in range(4):
        inputs, targets = batch(tokens, config.model.context_length, config.batch_size, 0, step, "cpu")
        losses.append([float(each.update(inputs, targets, step)) for each in (ours, theirs)])
    losses = np.array(losses)
    assert losses[:, 1] == pytest.approx(losses[:, 0], rel=tolerance)
    assert losses[0, 0] - losses[3, 0] > 0.05  # all of it would agree, too, if nobody moved
    moved = dict(theirs.model.named_parameters())
    for own_name, weight in ours.model.named_parameters():
        if "q_proj" in own_name or "k_proj" in own_name:
            weight = halves_from_interleaved(weight, config.model.d_head)
        if name == "torch":  # Hugging Face rounds to float32 on the way, and Adam divides by tiny gradients
            assert_close(moved[theirs.name_of(own_name)], weight, rtol=1e-9, atol=1e-12)
        assert not torch.equal(weight, start.weights[own_name])


def test_decay_follows_the_groups_of_ours(config):
    ours = Ours(config, made_up_tokens(53, 3000))
    group = {"params": [ours.model.embedding.weight], "weight_decay": 0.7}
    others = [weight for weight in ours.model.parameters() if weight is not ours.model.embedding.weight]
    ours.optimizers = [torch.optim.AdamW([group, {"params": others, "weight_decay": 0.2}])]
    theirs = PlainTorch(config, Start.of(ours))
    (optimizer,) = theirs.optimizers
    decays = {weight: group["weight_decay"] for group in optimizer.param_groups for weight in group["params"]}
    assert {name: decays[weight] for name, weight in theirs.model.named_parameters()} == {
        name: 0.7 if name == "embedding.weight" else 0.2 for name, _ in theirs.model.named_parameters()
    }


def test_rows_of_a_query_that_turns_in_halves():
    weight = torch.arange(12)[:, None]
    # Two heads of six rows: pairs (0, 1), (2, 3), (4, 5) become (0, 3), (1, 4), (2, 5).
    assert halves_from_interleaved(weight, 6).flatten().tolist() == [0, 2, 4, 1, 3, 5, 6, 8, 10, 7, 9, 11]


def test_a_measurement_in_turns(config, tmp_path):
    pytest.importorskip("transformers")
    cases = [
        Case(name=f"{name} {precision}", contestant=name, config=dataclasses.replace(config, precision=precision))
        for precision, names in (("float32", ["ours", *OTHERS]), (BFLOAT16, ["ours"]))
        for name in names
    ]
    progress = []
    rows = speed_rows(
        cases,
        bench_id="box",
        rounds=2,
        warm_up=1,
        steps=3,
        gemm_sizes=[8, 16],
        peak_flop_per_s={"float32": 7e12}.get,
        git_commit="abc",
        progress=lambda done, total: progress.append(done / total),
    )
    assert [(row.round, row.case, row.warm_up) for row in rows] == [
        (number, case.name, number == 0) for number in range(3) for case in cases
    ]
    assert progress == sorted(progress)
    assert progress[-1] == 1
    assert all(row.agrees for row in rows)
    for number in range(3):
        ours, *others, autocast = (row.loss_nats for row in rows if row.round == number)
        assert others == pytest.approx([ours, ours], abs=2e-5)
        assert autocast != ours
    assert rows[-4].loss_nats < rows[0].loss_nats - 0.05
    assert {row.parameters for row in rows} == {parameters(config.model)}
    assert {row.model_flop for row in rows} == {training_step_flop(config.model, 5)}
    assert {(row.steps, row.step_tokens, row.batch_size, row.context_length) for row in rows} == {(3, 185, 5, 37)}
    assert {(row.precision, row.peak_flop_per_s) for row in rows} == {("float32", 7e12), (BFLOAT16, None)}
    assert {row.config_json for row in rows} == {canonical_json(case.config) for case in cases}
    assert {(row.optimizer, row.predicted_peak_bytes is None) for row in rows} == {
        ("adamw", False),
        ("torch.optim.AdamW", True),
        ("torch.optim.AdamW(fused=True)", True),
    }
    assert all(0 < row.optimizer_s < row.step_s for row in rows)
    rates = {(row.round, row.precision): row.gemm_flop_per_s for row in rows}
    assert len(set(rates.values())) == 6
    write_rows(tmp_path, "train_speed", "box", rows)
    assert [TrainSpeedRow(**row) for row in read_rows(tmp_path, "train_speed", "box")] == rows


class Scripted(StepTimer):
    """Takes no time: notes who was asked for which steps, and answers with losses that are told it."""

    calls = ()
    losses = ()

    def turn(self, batches, first_step):
        name = type(self.contestant).__name__
        Scripted.calls.append((name, first_step, [int(inputs.sum()) for inputs, _ in batches]))
        losses = Scripted.losses[name]
        if isinstance(losses, RuntimeError):
            raise losses
        return Turn(step_s=2.0, optimizer_s=None, losses=losses, peak_bytes=11)


@pytest.fixture
def scripted(monkeypatch):
    Scripted.calls, Scripted.losses = [], {"Ours": [4.0, 3.0], "PlainTorch": [4.0, 3.0], "Second": [4.0, 3.0]}
    monkeypatch.setitem(OTHERS, "second", type("Second", (PlainTorch,), {}))
    monkeypatch.setattr(train_bench, "StepTimer", Scripted)
    return Scripted


def scripted_rows(config, *, rounds=3, **arguments):
    cases = [Case(name=name.upper(), contestant=name, config=config) for name in ("ours", "torch", "second")]
    return speed_rows(cases, bench_id="box", rounds=rounds, warm_up=1, steps=2, gemm_sizes=[8], **arguments)


def test_each_begins_a_round_and_all_get_the_same_batches(scripted, config):
    rows = scripted_rows(config)
    order = [name for name, _, _ in scripted.calls]
    assert order == [
        *["Ours", "PlainTorch", "Second"],
        *["PlainTorch", "Second", "Ours"],
        *["Second", "Ours", "PlainTorch"],
        *["Ours", "PlainTorch", "Second"],
    ]
    assert [step for _, step, _ in scripted.calls] == [0] * 3 + [2] * 3 + [4] * 3 + [6] * 3
    batches = [tuple(sums) for _, _, sums in scripted.calls]
    assert [len(set(batches[number : number + 3])) for number in (0, 3, 6, 9)] == [1, 1, 1, 1]
    assert len({total for pair in batches for total in pair}) == 8
    assert {(row.step_s, row.optimizer_s, row.peak_bytes, row.loss_nats) for row in rows} == {(2.0, None, 11, 3.0)}


def test_other_work_does_not_agree(scripted, config):
    scripted.losses |= {"PlainTorch": [4.0009, 2.9991], "Second": [4.0011, 3.0]}
    rows = scripted_rows(config, rounds=10)
    verdicts = {row.case: [] for row in rows}
    for row in rows:
        verdicts[row.case].append(row.agrees)
    # Ten rounds of two steps are compared, the eleventh is not.
    assert verdicts == {"OURS": [True] * 10 + [None], "TORCH": [True] * 10 + [None], "SECOND": [False] * 10 + [None]}


def test_a_contestant_that_fails_is_left_out(scripted, config):
    scripted.losses["PlainTorch"] = RuntimeError("CUDA out of memory. Tried\nmore")
    problems = []
    rows = scripted_rows(config, on_problem=problems.append)
    assert problems == ["TORCH: CUDA out of memory. Tried"]
    assert case_names(rows) == ["OURS", "SECOND"]
    assert [name for name, _, _ in scripted.calls].count("PlainTorch") == 1


def test_a_turn_times_steps_and_their_optimizers(monkeypatch):
    """On a clock that goes on by one whenever somebody looks."""
    clock = iter(range(100))
    monkeypatch.setattr("core.experiments.train_measure.time.perf_counter", lambda: float(next(clock)))

    class Contestant:
        def __init__(self):
            self.model = torch.nn.Linear(3, 2)
            self.optimizers = [torch.optim.SGD(self.model.parameters()) for _ in range(2)]

        def update(self, inputs, targets, step):
            for optimizer in self.optimizers:
                optimizer.step()
            return inputs + targets + step

    timer = StepTimer(Contestant(), "cpu")
    batches = [(torch.tensor(2.0), torch.tensor(3.0)), (torch.tensor(5.0), torch.tensor(7.0))]
    for _ in range(2):
        # Of a step, two optimizers look at its beginning and its end each: 2 of the 9 intervals' 4.5 a step.
        assert timer.turn(batches, 10) == Turn(step_s=4.5, optimizer_s=2.0, losses=[15.0, 23.0], peak_bytes=None)


def test_the_fastest_matrix_product_is_chosen(config, monkeypatch):
    asked = []

    class Timer:
        def __init__(self, statement, globals, num_threads):
            self.names = globals

        def blocked_autorange(self, min_run_time):
            size, dtype = len(self.names["a"]), self.names["a"].dtype
            asked.append((size, dtype))
            assert torch.equal(torch.mm(self.names["a"], self.names["b"], out=self.names["out"]), self.names["out"])
            return type("Blocks", (), {"times": [{3: 1.0, 5: 2.0, 7: 10.0}[size]]})

    monkeypatch.setattr("core.experiments.train_measure.Timer", Timer)
    configs = [dataclasses.replace(config, precision=name) for name in ("float32", "float64", "float32")]
    rates = GemmTimer(configs, [3, 5, 7]).rates()
    assert rates == {"float32": 2 * 5**3 / 2.0, "float64": 2 * 5**3 / 2.0}
    assert asked[-2:] == [(5, torch.float32), (5, torch.float64)]


@pytest.fixture
def slow_bfloat16(monkeypatch):
    monkeypatch.setattr(train_cases, "bfloat16_is_fast", lambda device: False)


@pytest.fixture
def fast_bfloat16(monkeypatch):
    monkeypatch.setattr(train_cases, "bfloat16_is_fast", lambda device: True)


def test_cases_on_a_cpu_without_bfloat16(config, slow_bfloat16, monkeypatch):
    monkeypatch.setattr(train_cases, "installed", lambda name: True)
    cases, lines = contestant_cases(config)
    assert [case.name for case in cases] == ["ours float32", "huggingface float32", "torch float32"]
    assert [case.config for case in cases] == [config] * 3
    assert lines == [
        "bfloat16-autocast: this CPU has no instructions for it (--precision bfloat16-autocast measures it still)"
    ]
    cases, lines = contestant_cases(config, ["torch"], [BFLOAT16, "float64", BFLOAT16])
    assert [(case.name, case.config.precision) for case in cases] == [
        ("ours bfloat16-autocast", BFLOAT16),
        ("torch bfloat16-autocast", BFLOAT16),
        ("ours float64", "float64"),
        ("torch float64", "float64"),
    ]
    assert lines == []


def test_cases_on_a_cpu_with_bfloat16(config, fast_bfloat16):
    cases, lines = contestant_cases(config, ["torch"])
    assert [case.name for case in cases] == ["ours float32", "torch float32", "ours bfloat16-autocast"]
    assert lines == []


def test_what_is_left_out_is_said(config, fast_bfloat16, replace, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "transformers" else find(name))
    cases, lines = contestant_cases(config, precisions=["float32"])
    assert [case.contestant for case in cases] == ["ours", "torch"]
    assert lines == ["huggingface needs transformers, which is not installed"]
    cases, lines = contestant_cases(replace(config, model__feed_forward="silu"), ["torch"], ["float32"])
    assert [case.contestant for case in cases] == ["ours"]
    assert lines == ["model.feed_forward is 'silu': the others train a Llama, where it is 'swiglu'"]
    for name in ("jax", "ours"):
        with pytest.raises(ValueError, match=f"against is '{name}': it must be huggingface or torch"):
            contestant_cases(config, [name])
    with pytest.raises(ValueError, match="precision is tf32, which only CUDA has"):
        contestant_cases(config, precisions=["tf32"])
    with pytest.raises(ValueError, match="precision is 'int8': it must be float32 or"):
        contestant_cases(config, precisions=["int8"])


def test_no_transformers_is_no_version(monkeypatch):
    def missing(name):
        raise train_contestants.importlib.metadata.PackageNotFoundError

    monkeypatch.setattr(train_contestants.importlib.metadata, "version", missing)
    assert train_contestants.transformers_version() is None


def test_the_ladder_changes_one_thing_at_a_time(config, fast_bfloat16, monkeypatch):
    monkeypatch.setattr(train_cases, "check_numerics", lambda config: None)
    cases, lines = ladder_cases(dataclasses.replace(config, compile=True, loss_chunk=7, precision="float64"))
    assert lines == []
    seen = [
        (
            case.config.model.attention,
            case.config.loss_chunk,
            case.config.precision,
            case.config.compile,
            case.config.activation_checkpointing,
        )
        for case in cases
    ]
    assert seen == [
        ("written_out", None, "float32", False, False),
        ("sdpa", None, "float32", False, False),
        ("sdpa", 2048, "float32", False, False),
        ("sdpa", 2048, "tf32", False, False),
        ("sdpa", 2048, "tf32", True, False),
        ("sdpa", 2048, BFLOAT16, True, False),
        ("sdpa", 2048, BFLOAT16, True, True),
    ]


def test_the_ladder_leaves_out_what_the_device_has_not(config, slow_bfloat16, monkeypatch):
    monkeypatch.setattr("core.training.numerics.shutil.which", lambda name: None)
    cases, lines = ladder_cases(config)
    assert [case.name for case in cases] == ["plain", "fused attention", "loss in chunks", "checkpointing"]
    assert cases[-1].config == dataclasses.replace(config, loss_chunk=2048, activation_checkpointing=True)
    assert [line.partition(":")[0] for line in lines] == ["tf32", "compiled", "bfloat16"]
    assert lines[2] == "bfloat16: this CPU has no instructions for it"


@pytest.fixture
def made_up(scripted, config):
    """What makes rows of one case with given seconds a step by round; the first round warms up."""
    row = scripted_rows(config)[0]

    def rows(case, seconds, **columns):
        return [
            dataclasses.replace(row, case=case, round=number, warm_up=number == 0, step_s=step_s, steps=2, **columns)
            for number, step_s in enumerate(seconds)
        ]

    return rows


def test_ratios_are_of_the_same_round(made_up):
    rows = [*made_up("a", [9.0, 2.0, 4.0, 1.0]), *made_up("b", [1.0, 5.0, 6.0, 9.0, 50.0]), *made_up("c", [3.0])]
    assert time_ratio(rows, "b", "a") == Ratio(median=2.5, lower=2.0, upper=5.75, rounds=3)
    assert time_ratio(rows[:3] + rows[4:], "a", "b") == Ratio(median=16 / 30, lower=14 / 30, upper=18 / 30, rounds=2)
    assert time_ratio([*rows[:2], *rows[4:]], "b", "a") == Ratio(median=2.5, lower=None, upper=None, rounds=1)
    assert time_ratio(rows, "a", "a") == Ratio(median=1.0, lower=1.0, upper=1.0, rounds=3)
    assert time_ratio(rows, "a", "c") is None
    assert case_names(rows) == ["a", "b", "c"]


def test_utilisation_is_of_the_rate_of_its_round(made_up):
    rows = made_up("a", [1.0, 2.0, 4.0, 5.0], model_flop=40.0, peak_flop_per_s=80.0)
    rates = [1.0, 40.0, 12.5, 32.0]  # shares of the last three: 20 / 40, 10 / 12.5, 8 / 32
    rows = [dataclasses.replace(row, gemm_flop_per_s=rate) for row, rate in zip(rows, rates, strict=True)]
    assert utilisation(rows, "a") == 0.5
    assert utilisation(rows, "a", "peak_flop_per_s") == 0.125
    assert utilisation(made_up("b", [1.0, 2.0], peak_flop_per_s=None), "b", "peak_flop_per_s") is None


def test_the_first_turn_takes_longer(made_up):
    assert first_turn_s(made_up("a", [30.0, 2.0, 4.0, 3.0]), "a") == 54.0
    assert first_turn_s(made_up("a", [1.0, 2.0]), "a") == 0.0
    assert first_turn_s(made_up("a", [1.0]), "a") is None


def test_made_up_ids_are_as_frequent_as_words():
    ids = made_up_tokens(1000, 100_000)
    assert (ids.min(), ids.max()) == (0, 999)
    counts = np.bincount(ids, minlength=1000)
    share = np.log1p(1 / np.arange(1, 1001)) / np.log(1001)  # of rank k: log((k + 1) / k) / log(V + 1)
    assert counts[:20] / 100_000 == pytest.approx(share[:20], rel=0.05)
