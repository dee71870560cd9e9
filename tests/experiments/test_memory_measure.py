import subprocess
import sys

import pytest
import torch

from core.config import ModelConfig
from core.experiments.memory_measure import (
    OPTIMIZERS,
    WEIGHT_DTYPES,
    allocated_peak_bytes,
    check_measurable,
    kept_bytes,
    measure_peak,
    measure_saved,
)
from core.model.transformer import Transformer

TINY = ModelConfig(vocab_size=53, context_length=11, d_model=22, num_layers=2, num_heads=11, d_ff=29)


def test_the_allocated_peak_is_the_most_at_once():
    before = torch.ones(10_007)

    def call():
        first = torch.ones(1009)
        second = torch.cat([first, first])
        del first
        return torch.cat([second, second, before[:7]])

    assert allocated_peak_bytes(call) == 4 * (2 * 1009 + 4 * 1009 + 7)
    assert allocated_peak_bytes(lambda: None) == 0


def test_kept_bytes_count_each_storage_once_and_no_parameters():
    weight, x = torch.ones(7, 5, requires_grad=True), torch.ones(3, 5)

    def forward():
        hidden = (x @ weight.T).exp()  # the product keeps x, exp its result
        return (hidden * hidden).view(21).square()  # which the product of it with itself keeps too; then that product

    assert kept_bytes(forward, [weight]) == 4 * (3 * 5 + 3 * 7 + 3 * 7)
    assert kept_bytes(forward, []) == 4 * (3 * 5 + 3 * 7 + 3 * 7)  # the gradient of x is not asked for
    assert kept_bytes(forward, [weight, x]) == 4 * (3 * 7 + 3 * 7)
    with torch.no_grad():
        assert kept_bytes(forward, []) == 0


def test_a_step_holds_at_least_parameters_state_gradients_and_inputs():
    numbers = sum(p.numel() for p in Transformer(TINY).parameters())
    measured = measure_peak(TINY, 3, seq=7)
    assert (measured.parameter_bytes, measured.optimizer_bytes) == (4 * numbers, 2 * 4 * numbers)
    assert measured.input_bytes == 2 * 8 * 3 * 7
    assert measured.peak_bytes > 4 * 4 * numbers + measured.input_bytes
    assert measure_peak(TINY, 3, seq=7) == measured


def test_batch_sequence_and_checkpointing_count():
    saved = {(batch, seq): measure_saved(TINY, batch, seq) for batch, seq in ((3, 11), (6, 11), (3, None), (3, 5))}
    assert saved[3, None] == saved[3, 11]
    # All but the angles and the gradient of the head is of the batch.
    rest = 2 * 4 * 11 + 4 * 53 * 22
    assert saved[6, 11] - rest == 2 * (saved[3, 11] - rest)
    assert measure_saved(TINY, 3, loss_chunk=7) == saved[3, 11]
    assert saved[3, 5] < saved[3, 11]
    assert measure_saved(TINY, 3, checkpointing=True) < saved[3, 11]
    peaks = [measure_peak(TINY, 83, checkpointing=choice).peak_bytes for choice in (True, False)]
    assert peaks[0] < peaks[1]


def test_an_optimizer_with_more_to_hold_peaks_higher():
    short = {name: measure_peak(TINY, 1, seq=1, optimizer=name).peak_bytes for name in OPTIMIZERS}
    assert sorted(short, key=short.get) == ["sgd", "sgd-momentum", "muon", "adamw", "adamw-fused", "adamw-foreach"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 0}, "batch_size is 0: it must be a whole number, at least 1"),
        ({"batch_size": 2.0}, r"batch_size is 2\.0: it must be a whole number"),
        ({"seq": -3}, "seq is -3: it must be a whole number"),
        ({"precision": "bfloat16"}, f"precision is 'bfloat16': there is {', '.join(WEIGHT_DTYPES)}; did you mean"),
        ({"optimizer": "adam"}, "optimizer is 'adam': there is adamw, .*did you mean adamw"),
        ({"device": "mps"}, "device is 'mps': torch records the peak of memory on cpu and cuda alone"),
    ],
)
def test_what_cannot_be_measured_is_said(changes, message):
    with pytest.raises(ValueError, match=message):
        measure_peak(TINY, **{"batch_size": 1, **changes})


def test_devices_with_a_record():
    check_measurable("cpu")
    check_measurable("cuda:1")
    with pytest.raises(ValueError, match="device is 'meta'"):
        check_measurable("meta")


def test_measuring_prints_nothing():
    code = "from core.config import ModelConfig\nfrom core.experiments.memory_measure import measure_peak\n"
    code += f"print(measure_peak({TINY!r}, 1).input_bytes)"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("176\n", "")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpus_peak_is_near_the_cpus():
    config = ModelConfig(
        vocab_size=5003, context_length=256, d_model=256, num_layers=3, num_heads=4, d_ff=704, attention="written_out"
    )
    on_cpu, on_gpu = (measure_peak(config, 4, device=device).peak_bytes for device in ("cpu", "cuda"))
    assert on_gpu == pytest.approx(on_cpu, rel=0.2)
