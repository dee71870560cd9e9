import torch

from core.training.progress import progress, this_device

DEVICE = {"device": "cpu", "device_name": "Epyc", "num_threads": 2}
DEVICES = [{**DEVICE, "quantity": "gemm", "dtype": "float32", "value": 700.0}]


def rows(count: int, **last) -> list[dict]:
    made = [
        {
            "step": step,
            "tokens": 11 * step,
            "model_flop": 110.0 * step,
            "train_loss_nats": None if step == 0 else 3.0,
            "eval_loss_nats": 5.0 if step == 0 else None,
            "tokens_per_s": None if step == 0 else 22.0 if step > 30 else 1.0,
            "stall_s": None,
            "segment": 0,
        }
        for step in range(count)
    ]
    made[-1] |= last
    return made


def told(rows, num_steps=151, **changes):
    options = {"num_steps": num_steps, "precision": "float32", "device": DEVICE, "devices": DEVICES}
    return progress(rows, **options | changes)


def test_the_speed_is_that_of_the_last_steps():
    numbers, unmeasured = told(rows(52, train_loss_nats=2.5))
    assert numbers == {
        "step": "51 / 151",
        "batch loss": "2.500",
        "evaluation loss": "5.0000",
        "tokens/s": "22",
        "MFU (non-causal)": "31.4%",  # 22 x 10 FLOP/s of 700
        "training time left": "50.0 s",  # 100 steps of 11 tokens
    }
    assert unmeasured is None


def test_before_the_first_step():
    numbers, unmeasured = told(rows(1))
    assert (numbers["step"], numbers["batch loss"], numbers["evaluation loss"]) == ("0 / 151", "–", "5.0000")
    assert {numbers[name] for name in ("tokens/s", "MFU (non-causal)", "training time left")} == {"–"}
    assert unmeasured is None


def test_an_unmeasured_device_is_answered_with_the_command():
    numbers, unmeasured = told(rows(5), devices=[])
    assert (numbers["tokens/s"], numbers["MFU (non-causal)"]) == ("1", "–")
    assert "`OMP_NUM_THREADS=2 workbook device measure`" in unmeasured


def test_this_device_is_called_as_rows_call_it():
    device = this_device("cpu")
    assert (device["device"], device["num_threads"]) == ("cpu", torch.get_num_threads())
    assert device["device_name"]
