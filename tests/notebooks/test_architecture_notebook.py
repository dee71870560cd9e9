"""`notebooks/architecture.py` driven with models of our own: what it shows is what the accounting says, and torch."""

import json
from pathlib import Path

import pytest
from test_notebooks import load

from core.cli.configuration import load_config
from core.config import ExpertsConfig, LatentConfig, ModelConfig
from core.model.transformer import Transformer
from core.presets import PRESETS

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "architecture.py"
SIZES = {"vocab_size": 53, "context_length": 17, "num_layers": 3, "num_heads": 6, "d_ff": 37}
MODEL = ModelConfig(d_model=30, head_dim=14, num_kv_heads=2, attention="written_out", **SIZES)


@pytest.fixture(scope="module")
def notebook():
    return load(NOTEBOOK)


def shown(notebook, model):
    outputs, definitions = notebook.app.run(defs={"base_model": model, "uploaded": {}})
    return " ".join(getattr(output, "text", "") for output in outputs), definitions


def test_shows_the_parameters_of_the_built_model(notebook):
    text, definitions = shown(notebook, MODEL)
    held = sum(parameter.numel() for parameter in Transformer(MODEL).parameters())
    assert definitions["costs"].parameters == held
    assert f"{held:,}" in text
    assert definitions["model"] == MODEL
    assert {row["operation"] for row in definitions["operation_rows"]} >= {"embedding", "q_proj", "softmax", "loss"}


def test_a_mixture_with_latent_attention_is_shown(notebook):
    model = ModelConfig(
        d_model=30,
        experts=ExpertsConfig(num_experts=7, experts_per_token=2, d_ff=11, num_shared=1, num_dense_layers=1),
        latent=LatentConfig(query_rank=5, key_value_rank=7, d_nope=4, d_rope=2, d_value=3),
        **SIZES,
    )
    text, definitions = shown(notebook, model)
    assert definitions["costs"].active_parameters < definitions["costs"].parameters
    assert "active" in text
    assert "experts gate_proj" in definitions["diagram"]


def test_the_controls_have_every_size_of_the_model(notebook):
    _, definitions = shown(notebook, MODEL)
    sizes = definitions["shape"].value
    assert sizes == {
        **{"num_layers": 3, "d_model": 30, "num_heads": 6, "num_kv_heads": 2, "head_dim": 14, "d_ff": 37},
        **{"vocab_size": 53, "seq": 17, "batch_size": 1},
    }


def test_what_does_not_go_together_stops_the_page_with_the_reason(notebook):
    outputs, definitions = notebook.app.run(defs={"base_model": MODEL, "uploaded": {"precision": "float64"}})
    text = " ".join(getattr(output, "text", "") for output in outputs)
    assert "NVIDIA H100 SXM has no known peak for float64" in text
    assert not [name for name in definitions if name.endswith("_chart")]


def test_every_preset_opens(notebook):
    for name in ("gpt2", "deepseek-v3", "qwen3-30b-a3b", "quickstart"):
        _, definitions = shown(notebook, PRESETS[name]().model)
        assert definitions["model"] == PRESETS[name]().model


def test_a_downloaded_configuration_is_read_back_by_the_command_line(notebook, tmp_path):
    _, definitions = shown(notebook, MODEL)
    (tmp_path / "mine.json").write_text(definitions["configuration_file"])
    config = load_config(str(tmp_path / "mine.json"))
    assert (config.model, config.batch_size) == (MODEL, 1)
    uploaded = json.loads(definitions["configuration_file"])
    assert definitions["from_dict"](ModelConfig, uploaded["model"]) == MODEL
