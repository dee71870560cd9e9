"""From a preset or a file and `field=value` words to one configuration; mistakes are tested in `test_cli.py`."""

import dataclasses
import json

import pytest
import yaml

from core.cli.configuration import load_config, to_yaml
from core.config import ExpertsConfig, LatentConfig
from core.presets import PRESETS, preset


@pytest.mark.parametrize("name", PRESETS)
def test_configuration_survives_yaml_and_json(name, tmp_path):
    config = preset(name)
    (tmp_path / "run.yaml").write_text(to_yaml(config))
    assert load_config(str(tmp_path / "run.yaml")) == config
    (tmp_path / "run.json").write_text(json.dumps(yaml.safe_load(to_yaml(config))))
    assert load_config(str(tmp_path / "run.json")) == config


def test_file_may_start_from_a_preset(tmp_path):
    (tmp_path / "mine.yaml").write_text("preset: tinystories\nname: mine\noptimizer:\n  lr: 2e-3\n")
    config = load_config(str(tmp_path / "mine.yaml"), ["model.num_layers=2", "optimizer.betas=[0.8, 0.9]"])
    assert (config.name, config.optimizer.lr, config.model.num_layers) == ("mine", 2e-3, 2)
    assert config.optimizer.betas == (0.8, 0.9)
    assert config.optimizer.weight_decay == preset("tinystories").optimizer.weight_decay


def quickstart_model(**changes):
    return dataclasses.replace(preset("quickstart").model, **changes)


EXPERTS = ["model.experts.num_experts=8", "model.experts.experts_per_token=2", "model.experts.d_ff=64"]
WORDS = {
    "a number where there was None": (["model.num_kv_heads=2"], {"num_kv_heads": 2}),
    "None again": (["model.num_kv_heads=2", "model.num_kv_heads=null"], {}),
    "two that may be None": (["model.head_dim=64", "model.num_kv_heads=1"], {"head_dim": 64, "num_kv_heads": 1}),
    "a choice": (
        ["model.norm_placement=none", "model.positions=none"],
        {"norm_placement": "none", "positions": "none"},
    ),
    "a switch": (["model.tie_embeddings=true"], {"tie_embeddings": True}),
    "a group where there was None": (EXPERTS, {"experts": ExpertsConfig(num_experts=8, experts_per_token=2, d_ff=64)}),
    "a group that goes again": ([*EXPERTS, "model.experts=null"], {}),
    "a group from nothing after all": (["model.experts=null", *EXPERTS, "model.experts=null"], {}),
    "latent attention": (
        [f"model.latent.{name}=8" for name in ("query_rank", "key_value_rank", "d_nope", "d_rope", "d_value")],
        {"latent": LatentConfig(query_rank=8, key_value_rank=8, d_nope=8, d_rope=8, d_value=8)},
    ),
}


@pytest.mark.parametrize("case", WORDS)
def test_words_set_what_may_be_absent(case):
    words, changes = WORDS[case]
    assert load_config("quickstart", words).model == quickstart_model(**changes)


def test_words_change_a_group_that_is_there():
    mixtral = preset("mixtral-8x7b").model
    assert load_config("mixtral-8x7b", ["model.experts.experts_per_token=3"]).model == dataclasses.replace(
        mixtral, experts=dataclasses.replace(mixtral.experts, experts_per_token=3)
    )
    assert load_config("mixtral-8x7b", ["model.experts=null"]).model == dataclasses.replace(mixtral, experts=None)
    assert load_config("llama-3-8b", ["model.num_kv_heads=null"]).model.kv_heads == 32


def test_a_file_changes_single_fields_of_a_presets_groups(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("preset: mixtral-8x7b\nmodel:\n  num_kv_heads:\n  experts: {num_shared: 1}\n")
    mixtral = preset("mixtral-8x7b").model
    assert load_config(str(path)).model == dataclasses.replace(
        mixtral, num_kv_heads=None, experts=dataclasses.replace(mixtral.experts, num_shared=1)
    )
    path.write_text("preset: mixtral-8x7b\nmodel: {experts: null}\n")
    assert load_config(str(path)).model == dataclasses.replace(mixtral, experts=None)
    path.write_text("preset: quickstart\nmodel: {experts: {num_experts: 8, experts_per_token: 2}}\n")
    assert load_config(str(path), ["model.experts.d_ff=64"]).model.experts == ExpertsConfig(
        num_experts=8, experts_per_token=2, d_ff=64
    )
    with pytest.raises(ValueError, match=r"mine.yaml: model.experts.d_ff: field required$"):
        load_config(str(path))


def test_an_unknown_field_of_a_group_in_a_file_is_answered_with_the_nearest(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("preset: quickstart\nmodel: {experts: {num_expert: 8}}\n")
    with pytest.raises(
        ValueError, match=r"no field 'model.experts.num_expert'; did you mean model.experts.num_experts\?"
    ):
        load_config(str(path))
