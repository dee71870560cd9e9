import json
import re
import shutil
import subprocess
import sys

import numpy as np
import polars as pl
import pytest
import yaml
from tiny_run import TINY_FIELDS

from core.tokenizer import Tokenizer

TINY = [*TINY_FIELDS, "num_steps=6", "eval_every=3", "checkpoint_every=3"]


def printed(text: str) -> str:
    """Letters and digits alone: a terminal shows control characters and tabs of an untrained model otherwise."""
    return "".join(sign for sign in text if sign.isalnum())


def test_help_shows_commands_and_defaults(workbook):
    code, out, _ = workbook("--help")
    assert code == 0
    for command in ("quickstart", "train", "generate", "data", "tokenizer"):
        assert re.search(rf"^  {command} ", out, re.M)
    code, out, _ = workbook("generate", "--help")
    assert code == 0
    assert re.search(r"--temperature.*\[default: 0\.8\]", out, re.S)
    code, out, _ = workbook("train", "--help")
    assert re.search(r"--results.*\[default:\s+results\]", out, re.S)


def test_help_imports_nothing_heavy():
    code = "import sys; sys.argv = ['workbook', '--help']\nfrom core.cli.app import main\n"
    code += "try: main()\nexcept SystemExit: pass\n"
    code += "print([name for name in ('torch', 'polars', 'numpy', 'wandb', 'altair') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_dry_run_prints_everything_and_writes_nothing(workbook, tmp_path):
    code, out, err = workbook(
        "train", "tinystories", "optimizer.lr=3e-4", "--set", "seed=7", "--dry-run", "--device", "cpu",
        "--data", tmp_path / "data", "--results", tmp_path / "results",
    )  # fmt: skip
    assert (code, err) == (0, "")
    config, _, cost = out.partition("\n\n")
    values = yaml.safe_load(config)
    assert (float(values["optimizer"]["lr"]), values["seed"], values["device"]) == (3e-4, 7, "cpu")
    assert "parameters              22,696,448" in cost
    in_products = 22_696_448 - 10_000 * 512 - 9 * 512  # all but the embedding and the norms' gains
    per_token = 6 * in_products + 3 * 4 * 256 * 512 * 4  # and two products of T x d_model a layer for attention
    assert re.search(r"training FLOP per token +([\d,]+)", cost)[1] == f"{per_token:,}"
    assert list(tmp_path.iterdir()) == []


BAD_CONFIGURATIONS = {
    "optimizer.lrr=1": "no field 'optimizer.lrr'; did you mean optimizer.lr?",
    "optimiser.lr=1": "no field 'optimiser.lr'; did you mean optimizer.lr?",
    "d_model=4": "no field 'd_model'; did you mean model.d_model?",
    "optimizer=1": "'optimizer' is a group of fields",
    "optimizer.lr": "set with name=value",
    "optimizer.lr=fast": "optimizer.lr is 'fast'",
    "optimizer.lr=-1": "lr is -1.0: it must be positive",
    "optimizer.lr=.nan": "lr is nan: it must be finite",
    "batch_size=1.5": "batch_size is 1.5",
    "batch_size=0": "batch_size is 0: it must be at least 1",
    "model.num_heads=3": "d_model 128 is not divisible by num_heads 3",
    "schedule.kind=step": "schedule.kind is 'step'",
    "schedule.warmup_steps=99999": "schedule.warmup_steps 99999",
    "data.dataset=../x": "dataset is '../x'",
    "model.num_kv_heads=3": "num_heads 4 is not divisible by num_kv_heads 3",
    "model.num_kv_heads=all": "model.num_kv_heads is 'all'",
    "model.num_kv_heads=true": "model.num_kv_heads is true: a number was expected",
    "model.num_kv_head=2": "no field 'model.num_kv_head'; did you mean model.num_kv_heads?",
    "model.d_ff=null": "model.d_ff is None",
    "model.d_ff=9223372036854775808": "d_ff is 9223372036854775808: it must be below 2^63",
    "model.norm_placement=2024-13-45": "'2024-13-45' is not a value",
    "model.experts=8": "'model.experts' is a group of fields: set one of them, such as model.experts.num_experts",
    "model.experts.num_experts=8": "model.experts.experts_per_token: field required",
    "model.experts.num_expert=8": "no field 'model.experts.num_expert'; did you mean model.experts.num_experts?",
    "experts_per_token=2": "no field 'experts_per_token'; did you mean model.experts.experts_per_token?",
    "latent.d_rope=4": "no field 'latent.d_rope'; did you mean model.latent.d_rope?",
    "model.d_ff.width=4": "no field 'model.d_ff.width'; did you mean model.d_ff?",
}


@pytest.mark.parametrize("word", BAD_CONFIGURATIONS)
def test_bad_field_is_one_line(workbook, word):
    code, out, err = workbook("train", "quickstart", word, "--dry-run")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert BAD_CONFIGURATIONS[word] in err


def test_bad_words_are_one_line(workbook, tmp_path):
    (tmp_path / "list.yaml").write_text("- 1\n")
    (tmp_path / "broken.yaml").write_text("a: [1\n")
    (tmp_path / "unknown.yaml").write_text("preset: quickstart\nmodel: {d_modle: 3}\n")
    (tmp_path / "short.yaml").write_text("name: x\n")
    (tmp_path / "empty.txt").write_text("")
    (tmp_path / "blank.yaml").write_text("\n")
    (tmp_path / "file").write_text("")
    (tmp_path / "latin.txt").write_bytes("naïve".encode("latin-1"))
    data = ["--data", tmp_path / "data"]
    cases = {
        "is neither a preset nor a file; did you mean quickstart?": ["train", "quickstrat"],
        "gone.yaml: no such file": ["train", tmp_path / "gone.yaml"],
        "not list": ["train", tmp_path / "list.yaml"],
        "neither YAML nor JSON": ["train", tmp_path / "broken.yaml"],
        "no field 'model.d_modle'; did you mean model.d_model?": ["train", tmp_path / "unknown.yaml"],
        "model: field required": ["train", tmp_path / "short.yaml"],
        "core is a folder: a preset's name or": ["train", "core"],
        "blank.yaml: the file is empty": ["train", tmp_path / "blank.yaml"],
        "'optimizer.lr=': the value is missing": ["train", "quickstart", "optimizer.lr="],
        "'zero' is not one of": ["train", "quickstart", "--parallel", "zero"],
        "--parallel fsdp divides the model among processes: start them with torchrun": [
            "train", "quickstart", "--parallel", "fsdp", *data,
        ],
        "file is a file: a folder is needed there": ["train", "quickstart", "--data", tmp_path / "file"],
        "exceed num_steps 9: lower them, or raise it": ["train", "quickstart", "num_steps=9"],
        "No such command 'trian'. Did you mean 'train'?": ["trian"],
        "No such option": ["train", "quickstart", "--sedd", "1"],
        "device is 'tpu': this machine has": ["train", "quickstart", "device=tpu"],
        "no data set there": ["train", "tinystories", *data],
        "gone.txt: no such file": ["data", "prepare", tmp_path / "gone.txt", *data],
        "a folder; name files": ["data", "prepare", tmp_path, *data],
        "empty.txt: the file is empty": ["data", "prepare", tmp_path / "empty.txt", *data],
        "latin.txt: not UTF-8 at byte 2": ["data", "prepare", tmp_path / "latin.txt", *data],
        "vocab_size is 256: it must be at least 257": [
            "tokenizer", "train", __file__, "--vocab-size", 256, "--out", tmp_path / "t",
        ],
        "no such tokenizer folder": ["tokenizer", "encode", __file__, "--tokenizer", tmp_path / "t", "--out", "o"],
        "no trained run there": ["generate", *data],
        "'wikipedia' is not a corpus that can be fetched: tinystories or owt": ["data", "download", "wikipedia"],
        "not a text of this grammar": ["data", "floor", __file__],
    }  # fmt: skip
    for message, words in cases.items():
        code, _, err = workbook(*words)
        assert code == 2, (words, code)
        assert message in err, (words, err)
        assert err.count("\n") == 1, err
        assert "Value error" not in err
        assert "Errno" not in err
    assert not (tmp_path / "t").exists()
    left = [path.name for path in (tmp_path / "data").rglob("*") if path.is_file()]
    assert left == []


def test_tokenizer_commands(workbook, tmp_path):
    text = "Lots of low, lower, lowest words.<|endoftext|>And newlines\r\n\r\n, emoji 🙂 too.<|endoftext|>" * 20
    (tmp_path / "text.txt").write_bytes(text.encode())
    folder, tokens, back = tmp_path / "tok", tmp_path / "out.bin", tmp_path / "back.txt"
    code, out, _ = workbook("tokenizer", "train", tmp_path / "text.txt", "--vocab-size", 300, "--out", folder)
    assert code == 0
    assert sorted(path.name for path in folder.iterdir()) == [
        "merges.txt",
        "pre_tokenization.json",
        "special_tokens.json",
        "vocab.json",
    ]
    assert json.loads((folder / "vocab.json").read_text())["<|endoftext|>"] == 256
    assert json.loads((folder / "special_tokens.json").read_text()) == ["<|endoftext|>"]
    code, out, _ = workbook("tokenizer", "encode", tmp_path / "text.txt", "--tokenizer", folder, "--out", tokens)
    ids = np.fromfile(tokens, dtype="<u2")
    assert ids.tolist() == Tokenizer.load(folder).encode(text)
    assert f"{ids.size:,} uint16 tokens of {len(text.encode()):,} bytes" in out
    assert "40 documents" in out
    assert workbook("tokenizer", "decode", tokens, "--tokenizer", folder, "--out", back)[0] == 0
    assert back.read_bytes() == text.encode()
    code, out, _ = workbook("tokenizer", "stats", tmp_path / "text.txt", "--tokenizer", folder)
    assert f"{len(text.encode()):,} bytes, {ids.size:,} tokens" in out


def test_train_then_generate_then_skip(workbook, stories_folder, own_data, tmp_path):
    data, results = own_data, tmp_path / "results"
    command = ["train", "quickstart", "name=mini", *TINY, "--data", data, "--results", results]
    code, out, err = workbook(*command)
    assert code == 0
    # Progress goes to standard error: without a terminal the evaluations alone.
    assert [line.split()[:2] for line in err.splitlines()] == [["step", "0"], ["step", "3"], ["step", "6"]]
    assert "finished after 6 steps" in out
    assert "corpus floor" in out
    assert out.count("--- sample") == 3
    run_id = next((results / "runs").glob("*.parquet")).stem
    row = pl.read_parquet(results / "runs" / f"{run_id}.parquet").row(0, named=True)
    assert (row["status"], row["steps"], row["name"]) == ("finished", 6, "mini")
    samples = pl.read_parquet(results / "samples" / f"{run_id}.parquet")
    assert samples["sample"].to_list() == [0, 1, 2]
    assert printed(samples["text"][0]) in printed(out)

    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    code, out, _ = workbook(*command)
    assert "already finished" in out
    assert printed(samples["text"][0]) in printed(out)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()} == before

    row_alone = tmp_path / "fresh-clone"
    shutil.copytree(stories_folder, row_alone)
    code, out, _ = workbook(*command[:-4], "--data", row_alone, "--results", results)
    assert "finished after 6 steps" in out
    assert "already" not in out  # rows that came with the repository do not keep a newcomer from training

    greedy = ["generate", run_id, "--data", data, "--temperature", 0, "--prompt", "Once upon", "--max-new-tokens", 9]
    first, again = workbook(*greedy)[1], workbook(*greedy)[1]
    assert first == again
    assert first.startswith("Once upon")
    assert workbook("generate", "--data", data, *greedy[4:])[1] == first  # the latest run is the default

    code, _, err = workbook("generate", "gone", "--data", data)
    assert (code, err.count("\n")) == (2, 1)
    assert f"no such run; there is {run_id}" in err or f"no such run; there are {run_id}" in err
    for word, message in {
        "--temperature=-1": "temperature is -1.0",
        "--top-p=2": "top_p is 2.0",
        "--top-k=0": "top_k is 0",
    }.items():
        code, _, err = workbook("generate", run_id, "--data", data, word)
        assert (code, err.count("\n")) == (2, 1)
        assert message in err

    code, _, err = workbook(*command, "optimizer.lr=0.5", "--run-id", run_id)
    assert (code, err.count("\n")) == (2, 1)
    assert "stands with another configuration" in err


def test_diverged_run_says_so(workbook, own_data, tmp_path):
    code, _, err = workbook(
        "train", "quickstart", *TINY, "optimizer.lr=1e30", "schedule.warmup_steps=0",
        "--data", own_data, "--results", tmp_path / "results",
    )  # fmt: skip
    assert code == 1
    assert "the run diverged" in err
    assert "optimizer.lr" in err
    row = pl.read_parquet(next((tmp_path / "results" / "runs").glob("*.parquet"))).row(0, named=True)
    assert row["status"] == "diverged"


def test_results_that_cannot_be_written(workbook, own_data, tmp_path):
    (tmp_path / "results").write_text("")
    code, _, err = workbook("train", "quickstart", *TINY, "--data", own_data, "--results", tmp_path / "results")
    assert (code, err.count("\n")) == (2, 1)
    assert f"{tmp_path / 'results'} is a file: a folder is needed there" in err
    assert not (own_data / "runs").exists()


def test_of_several_processes_one_says_what_all_find_wrong(workbook, monkeypatch):
    for rank, lines in (("0", 1), ("1", 0)):
        monkeypatch.setenv("RANK", rank)
        code, out, err = workbook("train", "quickstrat")
        assert (code, out, err.count("\n")) == (2, "", lines)


def test_a_slow_precision_and_a_faster_one_are_named(workbook, own_data, tmp_path, monkeypatch):
    words = ["train", "quickstart", *TINY, "--samples", 0, "--data", own_data, "--results", tmp_path / "results"]
    monkeypatch.setattr("core.training.numerics.bfloat16_is_fast", lambda device: False)
    _, out, _ = workbook(*words, "precision=bfloat16-autocast")
    assert "cpu has no instructions for bfloat16: precision=float32 is many times faster here" in out
    monkeypatch.setattr("core.training.numerics.bfloat16_is_fast", lambda device: True)
    _, out, _ = workbook(*words, "precision=float32", "seed=3")
    assert "cpu multiplies faster in bfloat16: precision=bfloat16-autocast (workbook bench train" in out


def test_floor_command_agrees_with_the_rows(workbook, stories_folder, dataset):
    from core.training.evaluation import evaluation_set

    folder = stories_folder / "datasets" / "stories"
    code, out, _ = workbook("data", "floor", folder / "valid.txt", "--tokenizer", folder / "tokenizer")
    assert code == 0
    whole = evaluation_set(dataset, dataset.valid.info.num_tokens)
    per_token = float(re.search(r"([\d.]+) nats per token \(([\d,]+) tokens\)", out)[1])
    assert per_token == pytest.approx(whole.floor_loss_nats, abs=1e-6)
    assert f"{len(whole.tokens):,} tokens" in out


def test_prepare_own_text(workbook, tmp_path):
    (tmp_path / "mine.txt").write_text("A sentence about the sea. " * 400)
    code, out, err = workbook("data", "prepare", tmp_path / "mine.txt", "--data", tmp_path / "d", "--vocab-size", 270)
    assert (code, err) == (0, "")
    assert "workbook train quickstart name=mine data.dataset=mine model.vocab_size=270" in out
    assert (
        "already there"
        in workbook("data", "prepare", tmp_path / "mine.txt", "--data", tmp_path / "d", "--vocab-size", 270)[1]
    )


def test_a_group_without_a_command_shows_its_help(workbook):
    code, _, err = workbook("tokenizer")
    assert code == 2
    assert re.search(r"^  encode ", err, re.M)


def test_tokens_never_replace_their_text(workbook, tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("some words, some more words")
    assert workbook("tokenizer", "train", text, "--vocab-size", 260, "--out", tmp_path / "tok")[0] == 0
    for out, message in ((text, "to be read and to be written"), (tmp_path / "tok", "a folder; name the file")):
        code, _, err = workbook("tokenizer", "encode", text, "--tokenizer", tmp_path / "tok", "--out", out)
        assert (code, err.count("\n")) == (2, 1)
        assert message in err
    assert text.read_text() == "some words, some more words"
