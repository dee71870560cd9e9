"""A benchmark grid from a preset's name or a YAML file: reading is PyYAML's work, typing the values pydantic's."""

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pydantic
import yaml

from core.config.checks import did_you_mean
from core.config.grid import GridConfig, GridPart
from core.experiments.grid_presets import grid_preset
from core.files import binary_blocks


def load_grid(source: str) -> GridConfig:
    """A preset's or a file's grid.

    A file holds `parts`, each with `axes` and what else a part has, or the fields of one part at its top; its `name` is
    the file's unless given.

    Raises:
        ValueError: For what does not exist, is not of its field's type or does not fit together.
    """
    if not (source.endswith((".yaml", ".yml", ".json")) or Path(source).is_file()):
        return grid_preset(source)
    origin = f"{source}: "
    try:
        values = yaml.safe_load(b"".join(binary_blocks(source)))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{origin}neither YAML nor JSON ({' '.join(str(error).split())})") from None
    if not isinstance(values, dict):
        raise ValueError(f"{origin}fields and their values were expected, not {type(values).__name__}")
    own, of_parts = (_names(kind) for kind in (GridConfig, GridPart))
    alone = "parts" not in values
    if alone:
        _check_names(values, {*own, *of_parts} - {"parts"}, origin)
        part = {key: values[key] for key in of_parts if key in values}
        values = {key: value for key, value in values.items() if key in own} | {"parts": [part]}
    _check_names(values, own, origin)
    for part in values["parts"] if isinstance(values["parts"], list) else ():
        _check_names(part if isinstance(part, dict) else {}, of_parts, origin)
    return _build({"name": Path(source).name.split(".")[0]} | values, origin, alone)


def _build(values: dict[str, Any], origin: str, alone: bool) -> GridConfig:
    """The grid; `alone`: its one part stood at the file's top, where messages look for it."""
    try:
        return pydantic.TypeAdapter(GridConfig).validate_python(values)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        place = first["loc"][2:] if alone and first["loc"][:1] == ("parts",) else first["loc"]
        name = ".".join(str(part + 1) if isinstance(part, int) else part for part in place)
        if first["type"] == "value_error":  # our own check: its message says it all
            raise ValueError(f"{origin}{name + ': ' if name else ''}{first['ctx']['error']}") from None
        given = "" if first["type"] == "missing" else f" is {first['input']!r}"
        said = "missing" if first["type"] == "missing" else first["msg"][:1].lower() + first["msg"][1:]
        raise ValueError(f"{origin}{name}{given}: {said}") from None


def _names(kind: type) -> list[str]:
    return [entry.name for entry in dataclasses.fields(kind)]


def _check_names(values: Iterable[str], names: Iterable[str], origin: str) -> None:
    names = sorted(names)
    for name in values:
        if name not in names:
            raise ValueError(
                f"{origin}there is no field {name!r} (fields: {', '.join(names)}){did_you_mean(name, names)}"
            )
