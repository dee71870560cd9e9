import functools
import json
import re
import subprocess
import sys

import pytest
import yaml

from core.accounting import OPTIMIZERS, PRECISIONS
from core.accounting.hardware import DEVICES
from core.cli.configuration import to_yaml
from core.presets import PRESETS, preset
from core.records import DeviceRow
from core.results import write_rows


@pytest.fixture
def workbook(workbook):
    """Run `workbook account ...` in this process; returns exit code, standard output, standard error."""
    return functools.partial(workbook, "account")


@pytest.fixture
def answers(workbook):
    """What `workbook account ... --json` prints, which is one JSON object and nothing else."""

    def run(*words: object) -> dict:
        code, out, err = workbook(*words, "--json")
        assert (code, err) == (0, "")
        return json.loads(out)

    return run


def number_after(label: str, text: str) -> str:
    """The digits behind a label at the start of a line."""
    return re.search(rf"^{re.escape(label)} +([\d,.]+)", text, re.M)[1]


GPT2_FORWARD = 291_648_307_200
PUBLISHED = {  # parameters, forward FLOP of one full context
    "gpt2": (124_439_808, GPT2_FORWARD),
    "gpt2-xl": (1_557_611_200, 3_506_703_564_800),
    "cs336-gpt2-small": (2 * 50_257 * 768 + 12 * (12 * 768**2 + 2 * 768) + 768, GPT2_FORWARD),
    "cs336-gpt2-xl": (1_635_537_600, 3_506_703_564_800),
    "llama-3-8b": (8_030_261_248, 158_140_695_838_720),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_numbers_as_json(answers, name):
    found, (parameters, forward) = answers(name), PUBLISHED[name]
    assert (found["name"], found["batch_size"]) == (name, 1)
    assert found["seq"] == found["model"]["context_length"]
    assert (found["parameters"], found["forward_flop"]) == (parameters, forward)
    assert found["training_step_flop"] == 3 * forward
    assert found["training_step_flop_6nd"] == 6 * parameters * found["seq"]
    assert (found["parameter_bytes"], found["optimizer_bytes"]) == (4 * parameters, 8 * parameters)
    assert found["peak_bytes"] == sum(found["peak_parts_bytes"].values())
    assert found["saved_bytes"] == sum(row["times"] * row["saved_bytes"] for row in found["operations"])
    tokens = 20_000 * found["seq"] * (16 if name.startswith("cs336") else 1)  # as the preset's run
    assert found["run"] == {"tokens": tokens, "training_flop": 3 * forward * tokens // found["seq"]}


def test_every_preset_as_a_table(workbook):
    for name in PRESETS:
        code, out, err = workbook(name, "--device", "b200")
        assert (code, err) == (0, ""), name
        assert out.startswith(f"{name}: {preset(name).model.num_layers} layers, ")
        assert max(len(line.rstrip()) for line in out.splitlines()) <= 90
        parts = re.findall(r"(?:parameters|optimizer|gradients|saved|temporary) [\d.,]+ [KMGTP]?i?B", out)
        assert len(parts) == 5


def test_the_table_says_what_the_json_does(workbook, answers):
    words = ["gpt2", "--batch-size", 3, "--seq", 257, "--precision", "bfloat16-autocast"]
    found, (code, out, err) = answers(*words), workbook(*words)
    assert (code, err) == (0, "")
    for label, key in {
        "parameters": "parameters",
        "forward FLOP": "forward_flop",
        "training step FLOP": "training_step_flop",
        "6 N D": "training_step_flop_6nd",
    }.items():
        assert number_after(label, out) == f"{found[key]:,}"
    assert f"{found['training_step_flop_causal']:,} causal" in out
    assert f"{found['training_step_flop_hardware']:,} on the hardware" in out
    assert f"({found['saved_bytes']:,} bytes)" in out
    assert number_after("memory at the peak", out) == f"{found['peak_bytes'] / 2**30:.2f}"
    assert f"in {found['peak_moment']}:" in out
    assert "a step of 3 x 257 tokens, bfloat16-autocast, adamw" in out
    rows = re.findall(r"^(\S.*?) {2,}(\d+) ", out, re.M)[: len(found["operations"])]
    assert rows == [(row["name"], str(row["times"])) for row in found["operations"]]
    shares = [float(share) for share in re.findall(r" ([\d.]+)%", out)]
    assert sum(shares) == pytest.approx(100, abs=0.5)
    assert re.search(rf"^q_proj +12 +{12 * (768 * 768 + 768):,} ", out, re.M)


def test_a_narrow_terminal_cuts_no_digits(workbook, monkeypatch):
    from core.cli import console

    for width in (40, 80, 120):
        monkeypatch.setattr(console.console, "_width", width)
        _, out, _ = workbook("deepseek-v3")
        assert re.search(r"^experts gate_proj +58 +218,821,033,984 +2\.51 P ", out, re.M), width
        assert "…" not in out


def test_fields_are_changed_by_words_and_options(answers):
    by_words = answers("gpt2", "model.num_layers=5", "model.feed_forward=silu", "batch_size=2")
    by_options = answers(
        "gpt2", "--set", "model.num_layers=5", "--set", "model.feed_forward=silu", "--set", "batch_size=2"
    )
    assert by_words == by_options
    layer = 4 * (768 * 768 + 768) + 2 * 768 * 3072 + 3072 + 768 + 4 * 768
    assert by_words["parameters"] == (50_257 + 1024) * 768 + 5 * layer + 2 * 768
    assert by_words["run"]["tokens"] == 2 * 1024 * 20_000  # the run's batch; a step is counted for --batch-size
    assert (by_words["batch_size"], by_words["tokens"]) == (1, 1024)
    grouped = answers("llama-3-8b", "model.num_kv_heads=4", "--seq", 64)
    assert grouped["kv_cache_bytes_per_token"] == 131_072 // 2
    assert grouped["parameters"] == 8_030_261_248 - 32 * 2 * 4096 * 4 * 128


def test_workload_options_are_carried_through(answers):
    found = answers(
        "quickstart", "--batch-size", 7, "--seq", 19, "--precision", "bfloat16", "--optimizer", "sgd", "--checkpointing"
    )
    asked = {"batch_size": 7, "seq": 19, "precision": "bfloat16", "optimizer": "sgd", "checkpointing": True}
    assert {name: found[name] for name in asked} == asked
    assert found["parameter_bytes"] == 2 * found["parameters"]
    assert found["optimizer_bytes"] == 0


def test_checkpointing_shows_what_is_kept(workbook, answers):
    _, plain, _ = workbook("quickstart")
    code, out, _ = workbook("quickstart", "--checkpointing")
    assert code == 0
    assert ", activation checkpointing" in out
    assert re.search(r"^activation +2 +1\.38 MiB$", plain, re.M)  # 2 x 2 tensors of 256 tokens x 352 x 4 bytes
    assert re.search(r"^activation +2 *$", out, re.M)
    assert re.search(r"^block inputs +2 +256 KiB$", out, re.M)  # 2 x 256 tokens x 128 x 4 bytes
    found = answers("quickstart", "--checkpointing")
    outside = [row for row in found["operations"] if row["group"] in ("embedding", "output")]
    assert found["saved_bytes"] == sum(row["saved_bytes"] for row in outside) + 2 * 256 * 128 * 4


def test_longer_than_the_context(workbook):
    assert "longer than" not in workbook("gpt2")[1]
    _, out, _ = workbook("gpt2", "--seq", 1025)
    assert "these sequences are longer than the model's context of 1,024 tokens" in out


def test_a_device_on_which_it_fits(workbook, answers):
    found = answers("tinystories", "--batch-size", 32, "--device", "m4")
    on = found["device"]
    assert (on["name"], on["memory_bytes"], on["fits"]) == ("Apple M4 (10-core GPU)", 32 * 2**30, True)
    assert found["peak_bytes"] <= 32 * 2**30
    assert on["peak_flop_per_s"] == pytest.approx(10 * 128 * 2 * 1.578e9)
    for size, fits in ((on["largest_batch_size"], True), (on["largest_batch_size"] + 1, False)):
        assert answers("tinystories", "--batch-size", size, "--device", "m4")["device"]["fits"] is fits
    for size, fits in ((on["largest_seq"], True), (on["largest_seq"] + 1, False)):
        assert answers("tinystories", "--batch-size", 32, "--seq", size, "--device", "m4")["device"]["fits"] is fits
    _, out, _ = workbook("tinystories", "--batch-size", 32, "--device", "m4")
    assert "on Apple M4 (10-core GPU) (32.0 GiB):" in out
    assert "fits                  yes" in out
    assert f"largest batch         {on['largest_batch_size']:,} x 256 tokens" in out
    assert f"longest sequence      {on['largest_seq']:,} tokens at batch 32" in out
    assert f"MFU {on['mfu_noncausal_roofline']:.1%} non-causal, {on['mfu_causal_roofline']:.1%} causal" in out
    assert f"{on['tokens_per_s_roofline']:,.0f} tokens/s" in out


def test_a_device_on_which_it_does_not_fit(workbook, answers):
    found = answers("llama-3-405b", "--device", "h100-sxm")["device"]
    assert (found["fits"], found["largest_batch_size"], found["largest_seq"]) == (False, 0, 0)
    _, out, _ = workbook("llama-3-405b", "--device", "h100-sxm")
    assert re.search(r"^fits +no: this step does not fit \([\d.]+ TiB at the peak\)$", out, re.M)
    assert "largest batch         none: even one sequence of 131,072 tokens does not fit" in out
    assert "longest sequence      none: even one token does not fit at batch 1" in out
    # Too large a batch alone: a smaller one would fit.
    _, out, _ = workbook("gpt2", "--batch-size", 1000, "--device", "h100-sxm")
    assert "this step does not fit" in out
    assert re.search(r"^largest batch +\d+ x 1,024 tokens$", out, re.M)


def test_a_whole_run(workbook, answers):
    words = ["gpt2", "--device", "a100-80gb", "--precision", "bfloat16-autocast"]
    words += ["--tokens", 300_000_000_000, "--mfu-noncausal", 0.4, "--devices", 8, "--price", 2.5]
    run = answers(*words)["run"]
    flop = 3 * GPT2_FORWARD * 300_000_000_000 // 1024
    seconds = flop / (8 * 312e12 * 0.4)
    assert run == pytest.approx(
        {
            "tokens": 300_000_000_000,
            "training_flop": flop,
            "devices": 8,
            "mfu_noncausal": 0.4,
            "seconds": seconds,
            "cost_usd": 2.5 * 8 * seconds / 3600,
        }
    )
    _, out, _ = workbook(*words)
    assert "a run of 300 G tokens  2.563e+20 FLOP" in out
    price = f"{2.5 * 8 * seconds / 3600:,.2f}"
    assert f"the run               3.0 days on 8 devices at MFU 40.0% (non-causal), {price} USD" in out


def test_a_run_at_the_roofline(answers):
    found = answers("gpt2", "--device", "h100-sxm", "--tokens", 1_024_000)
    on, run = found["device"], found["run"]
    assert run["seconds"] == pytest.approx(1000 * on["step_roofline_s"])
    assert run["mfu_noncausal"] == on["mfu_noncausal_roofline"]
    assert run["cost_usd"] is None
    halved = answers("gpt2", "--device", "h100-sxm", "--tokens", 1_024_000, "--devices", 2)["run"]
    assert halved["seconds"] == pytest.approx(run["seconds"] / 2)


def test_a_measured_device(answers, workbook, tmp_path):
    shared = {"device_id": "box", "device": "cpu", "device_name": "A box", "num_threads": 3, "torch_version": "2"}
    shared |= {"git_commit": None, "utc": "2026-01-01", "median_s": 1.0, "iqr_s": 0.0}
    shared |= {"best_s": None, "blocks": 1, "size": 1}
    values = {
        "gemm": (7e9, "FLOP/s", "float32"),
        "copy": (3e9, "B/s", None),
        "launch": (1e-6, "s", None),
        "memory": (2e9, "B", None),
    }
    rows = [
        DeviceRow(quantity=quantity, value=value, unit=unit, dtype=dtype, accumulate_dtype=dtype, **shared)
        for quantity, (value, unit, dtype) in values.items()
    ]
    write_rows(tmp_path, "devices", "box", rows)
    found = answers("quickstart", "--device", "box", "--results", tmp_path)
    assert found["device"]["name"] == "A box (3 threads)"
    assert found["device"]["peak_flop_per_s"] == 7e9
    assert found["device"]["memory_bytes"] == 2_000_000_000
    assert found["device"]["step_arithmetic_s"] > found["training_step_flop_causal"] / 7e9
    code, out, err = workbook("quickstart", "--device", "boxx", "--results", tmp_path)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "device is 'boxx': it is not known" in err


def test_files(answers, tmp_path):
    (tmp_path / "changes.yaml").write_text("preset: gpt2\nname: mine\nmodel: {num_layers: 5}\n")
    (tmp_path / "whole.yaml").write_text(to_yaml(preset("gpt2")))
    (tmp_path / "whole.json").write_text(json.dumps(yaml.safe_load(to_yaml(preset("gpt2")))))
    found = answers(tmp_path / "changes.yaml")
    layer = 4 * (768 * 768 + 768) + 2 * 768 * 3072 + 3072 + 768 + 4 * 768
    assert (found["name"], found["parameters"]) == ("mine", 124_439_808 - 7 * layer)
    whole = answers("gpt2")
    assert whole["forward_flop"] == GPT2_FORWARD
    for name in ("whole.yaml", "whole.json"):
        assert answers(tmp_path / name) == whole
    assert answers(tmp_path / "changes.yaml", "model.num_layers=12")["parameters"] == 124_439_808


NEAR = "is neither a preset nor a file"
ERRORS = {
    "gtp2": f"'gtp2' {NEAR}; did you mean gpt2?",
    "llama3-8b": f"'llama3-8b' {NEAR}; did you mean llama-3-8b?",
    "gone.yaml": "gone.yaml: no such file",
    "gpt2 model.d_modle=3": "there is no field 'model.d_modle'; did you mean model.d_model?",
    "gpt2 --set d_model=3": "there is no field 'd_model'; did you mean model.d_model?",
    "gpt2 --set model.num_heads=5": "d_model 768 is not divisible by num_heads 5",
    "gpt2 model.experts.num_experts=3": "model.experts.experts_per_token: field required",
    "gpt2 llama-3-8b": "'llama-3-8b': a field is set with name=value",
    "gpt2 --batch-size 0": "batch_size is 0: it must be a whole number from 1",
    "gpt2 --batch-size=-3": "batch_size is -3: it must be a whole number from 1",
    "gpt2 --batch-size 1.5": "Invalid value for '--batch-size'",
    "gpt2 --seq 0": "seq is 0: it must be a whole number from 1",
    "gpt2 --seq 99999999999999999999": "seq is 99999999999999999999: it must be a whole number from 1 to 2^63 - 1",
    "gpt2 --precision bf16": "precision is 'bf16': there is float32, tf32, float64, bfloat16-autocast, bfloat16; "
    "did you mean bfloat16?",
    "gpt2 --optimizer adam": "optimizer is 'adam': there is adamw",
    "gpt2 --device h100": "device is 'h100': it is not known; did you mean h100-sxm or h100-pcie?",
    "gpt2 --device tpu": "device is 'tpu': it is not known; There are rtx-4090,",
    "gpt2 --device=": "device is '': it is not known",
    "gpt2 --device m4 --precision tf32": "Apple M4 (10-core GPU) has no known peak for tf32",
    "gpt2 --price 2": "--price is 2.0: it needs a --device",
    "gpt2 --mfu-noncausal 0.4": "--mfu-noncausal is 0.4: it needs a --device",
    "gpt2 --devices 8": "--devices is 8: it needs a --device",
    "gpt2 --device m4 --price=-1": "Invalid value for '--price'",
    "gpt2 --device m4 --price nan": "Invalid value for '--price'",
    "gpt2 --device m4 --price inf": "--price is inf: it must be finite",
    "gpt2 --device m4 --devices 0": "Invalid value for '--devices'",
    "gpt2 --device m4 --mfu-noncausal 1.5": "utilisation is 1.5: it must be above 0 and at most 1",
    "gpt2 --device m4 --mfu-noncausal 0": "utilisation is 0.0: it must be above 0 and at most 1",
    "gpt2 --device m4 --mfu-noncausal nan": "utilisation is nan: it must be above 0 and at most 1",
    "gpt2 --tokens 0": "Invalid value for '--tokens'",
    "gpt2 --jsn": "No such option: --jsn",
    "": "Missing argument 'PRESET|FILE'",
}


@pytest.mark.parametrize("as_json", [False, True], ids=["table", "json"])
@pytest.mark.parametrize("words", ERRORS)
def test_errors_are_one_line(workbook, words, as_json):
    code, out, err = workbook(*words.split(), *(["--json"] if as_json else []))
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert ERRORS[words] in err
    assert "Traceback" not in err


def test_errors_of_files_name_the_file(workbook, tmp_path):
    path = tmp_path / "mine.yaml"
    for text, message in {
        "preset: gpt2\nmodel: {d_modle: 3}\n": "there is no field 'model.d_modle'; did you mean model.d_model?",
        "preset: gpt2\nmodel: {num_heads: 5}\n": "d_model 768 is not divisible by num_heads 5",
        "preset: gtp2\n": f"'gtp2' {NEAR}; did you mean gpt2?",
        "- 1\n": "not list",
        "name: x\n": "model: field required",
    }.items():
        path.write_text(text)
        code, out, err = workbook(path)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert message in err
        assert str(path) in err or "gtp2" in err


def test_a_device_is_named_by_its_id(answers):
    for device_id, known in DEVICES.items():
        assert answers("quickstart", "--device", device_id)["device"]["name"] == known.name


def test_the_command_needs_neither_torch_nor_polars():
    code = "import sys; sys.argv = ['workbook', 'account', 'gpt2', '--device', 'h100-sxm', '--json']\n"
    code += "from core.cli.app import main\ntry: main()\nexcept SystemExit: pass\n"
    code += "print([name for name in ('torch', 'polars', 'numpy', 'altair') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    printed, _, modules = done.stdout.rpartition("\n}\n")
    assert json.loads(printed + "}")["parameters"] == 124_439_808
    assert (modules, done.stderr) == ("[]\n", "")


def test_help_names_every_precision_and_optimizer():
    done = subprocess.run(
        [sys.executable, "-m", "core", "account", "--help"], capture_output=True, text=True, check=True
    )
    text = "".join(done.stdout.split())  # lines may break at a dash
    assert [name for name in (*PRECISIONS, *OPTIMIZERS) if name not in text] == []
