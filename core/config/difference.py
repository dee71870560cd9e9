"""Configurations as results recorded them, also by older versions, and in which fields they differ."""

import json
from collections.abc import Mapping
from typing import Any

from core.config.checks import from_dict
from core.config.run import RunConfig

RENAMED = {"dtype": "precision"}
"""Fields of a run's configuration that have had another name: the old one, and today's."""

NOT_RECORDED = "not recorded"
"""What stands where a row was written before the field was there."""

_MISSING = object()


def recorded(config_json: str | None) -> dict[str, Any]:
    """The configuration of a row of `runs`, its fields under today's names; empty where there is none.

    >>> recorded('{"dtype":"float32","name":"tiny"}')
    {'precision': 'float32', 'name': 'tiny'}
    """
    values = json.loads(config_json or "{}")
    return {RENAMED.get(name, name): value for name, value in values.items()}


def recorded_config(config_json: str | None) -> RunConfig:
    """The same as a configuration; a field that was not recorded has its default.

    Raises:
        ValueError: For a field of a newer version, or one that is missing and has no default.
    """
    return from_dict(RunConfig, recorded(config_json))


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested fields under their dotted names, in order.

    >>> flat({"seed": 0, "optimizer": {"lr": 0.1}})
    {'seed': 0, 'optimizer.lr': 0.1}
    """
    fields: dict[str, Any] = {}
    for name, value in values.items():
        fields |= flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return fields


def differences(configs: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The fields in which configurations differ, and what each has there.

    A field that some did not record differs, too, since what it would have been is not known: such fields come last,
    unless what was recorded already differs. Of a part that a configuration says it has not (`experts: null`), every
    field is None.

    Args:
        configs: Nested dictionaries, by the name of their run.

    Returns:
        A row a field: `field` (its dotted name), `recorded` (whether all recorded it) and `values` by run, with
        `NOT_RECORDED` where there is none.
    """
    by_run = {run: flat(config) for run, config in configs.items()}
    names = dict.fromkeys(name for fields in by_run.values() for name in fields)
    groups = {name.rpartition(".")[0] for name in names}
    rows = []
    for name in names:
        if name in groups:  # None here, a group of fields there: these have rows of their own
            continue
        values = {run: _value(fields, name) for run, fields in by_run.items()}
        known = [value for value in values.values() if value is not _MISSING]
        if any(value != known[0] for value in known) or len(known) < len(values):
            shown = {run: NOT_RECORDED if value is _MISSING else value for run, value in values.items()}
            rows.append((any(value != known[0] for value in known), len(known) == len(values), name, shown))
    rows.sort(key=lambda row: not row[0])  # stable: within both kinds the order of the configuration stays
    return [{"field": name, "recorded": complete, "values": shown} for _, complete, name, shown in rows]


def _value(fields: Mapping[str, Any], name: str) -> Any:
    """What a configuration has in a field: None where it has none of the groups that hold it."""
    if name in fields:
        return fields[name]
    while "." in name:
        name = name.rpartition(".")[0]
        if name in fields and fields[name] is None:
            return None
    return _MISSING
