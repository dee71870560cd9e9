import json
from pathlib import Path

import pytest

from core.config import canonical_json, to_dict, with_fields
from core.config.difference import NOT_RECORDED, differences, flat, recorded, recorded_config
from core.presets import preset

ROOT = Path(__file__).parents[2]


def test_only_fields_that_differ_are_told():
    base = preset("quickstart")
    other = with_fields(base, {"seed": 3, "optimizer.kind": "muon", "optimizer.betas": (0.5, 0.25)})
    rows = differences({"a": to_dict(base), "b": to_dict(other)})
    assert [(row["field"], row["values"]) for row in rows] == [
        ("optimizer.kind", {"a": "adamw", "b": "muon"}),
        ("optimizer.betas", {"a": [0.9, 0.95], "b": [0.5, 0.25]}),
        ("seed", {"a": 0, "b": 3}),
    ]
    assert all(row["recorded"] for row in rows)


def test_equal_configurations_and_a_single_one_do_not_differ():
    values = to_dict(preset("quickstart"))
    assert differences({"a": values, "b": values}) == []
    assert differences({"a": values}) == []
    assert differences({}) == []


def test_what_an_older_version_did_not_record_is_said_so_and_comes_last():
    rows = differences({"old": {"seed": 0, "lr": 0.1}, "new": {"z_loss": 0.0, "seed": 5, "lr": 0.1}})
    assert rows == [
        {"field": "seed", "recorded": True, "values": {"old": 0, "new": 5}},
        {"field": "z_loss", "recorded": False, "values": {"old": NOT_RECORDED, "new": 0.0}},
    ]


def test_a_field_that_differs_among_those_that_recorded_it_comes_first():
    rows = differences({"old": {"seed": 0}, "b": {"z_loss": 0.5, "seed": 0}, "c": {"z_loss": 0.25, "seed": 1}})
    assert [(row["field"], row["recorded"]) for row in rows] == [("seed", True), ("z_loss", False)]


def test_a_part_that_one_has_and_the_other_has_not():
    rows = differences({"dense": {"model": {"experts": None}}, "sparse": {"model": {"experts": {"d_ff": 7}}}})
    assert rows == [{"field": "model.experts.d_ff", "recorded": True, "values": {"dense": None, "sparse": 7}}]


def test_a_part_unknown_to_an_older_version_is_not_recorded():
    rows = differences({"old": {"model": {}}, "sparse": {"model": {"experts": {"d_ff": 7}}}})
    assert rows[0]["values"] == {"old": NOT_RECORDED, "sparse": 7}


def test_none_is_not_missing():
    rows = differences({"a": {"ema_decay": None}, "b": {"ema_decay": 0.5}})
    assert rows == [{"field": "ema_decay", "recorded": True, "values": {"a": None, "b": 0.5}}]


def test_the_old_name_of_a_field_is_todays():
    old = {"dtype": "float64", "seed": 1}
    assert recorded(json.dumps(old)) == {"precision": "float64", "seed": 1}
    assert differences({"old": recorded(json.dumps(old)), "new": {"precision": "float64", "seed": 1}}) == []
    assert recorded(None) == {}


def test_flat_names_are_dotted():
    names = flat(to_dict(preset("quickstart")))
    assert names["optimizer.max_grad_norm"] == 1.0
    assert names["model.experts"] is None
    assert not any(isinstance(value, dict) for value in names.values())


def test_a_recorded_configuration_comes_back(replace):
    config = replace(preset("quickstart"), optimizer__kind="muon", precision="bfloat16-autocast")
    assert recorded_config(canonical_json(config)) == config


def test_a_row_of_an_older_version_comes_back_with_defaults():
    config = preset("quickstart")
    values = to_dict(config)
    del values["compile"], values["loss_chunk"], values["optimizer"]["kind"]
    values["dtype"] = values.pop("precision")
    assert recorded_config(json.dumps(values)) == config


def test_a_row_of_a_newer_version_is_refused_by_the_field():
    values = to_dict(preset("quickstart")) | {"telepathy": True}
    with pytest.raises(ValueError, match="there is no field 'telepathy'"):
        recorded_config(json.dumps(values))


def test_every_committed_run_can_be_read():
    from core.results import read_table

    runs, problems = read_table(ROOT / "results", "runs")
    assert problems == []
    for row in runs.iter_rows(named=True):
        config = recorded_config(row["config_json"])
        assert (config.name, config.seed) == (row["name"], row["seed"])
