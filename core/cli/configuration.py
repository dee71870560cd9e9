"""From PRESET or FILE and `field=value` words to one checked configuration.

Reading YAML and JSON is PyYAML's work (JSON is YAML), typing the values pydantic's; `core.config` needs neither.
"""

import dataclasses
import difflib
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pydantic
import yaml

from core.config import RunConfig, to_dict
from core.config.checks import inner_type
from core.files import binary_blocks
from core.presets import PRESETS, preset


def load_config(source: str, overrides: Sequence[str] = ()) -> RunConfig:
    """A preset's or a file's configuration with single fields replaced.

    Args:
        source: A preset's name, or the path of a YAML or JSON file; a file may start from a preset by naming it under
            `preset` and change only some fields.
        overrides: Words such as `optimizer.lr=3e-4`.

    Raises:
        ValueError: For what does not exist, is not of its field's type or does not fit together.
    """
    if Path(source).is_dir() and source not in PRESETS:
        raise ValueError(f"{source} is a folder: a preset's name or a YAML or JSON file was expected")
    if source.endswith((".yaml", ".yml", ".json")) or Path(source).is_file():
        values, origin = _read(source), f"{source}: "
    else:
        values, origin = to_dict(preset(source)), ""
    for word in overrides:
        _override(values, word)
    return _build(values, origin)


def to_yaml(config: RunConfig) -> str:
    """A configuration as a file that `load_config` reads back to an equal one."""
    return yaml.safe_dump(to_dict(config), sort_keys=False)


def _read(path: str) -> dict[str, Any]:
    try:
        values = yaml.safe_load(b"".join(binary_blocks(path)))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: neither YAML nor JSON ({' '.join(str(error).split())})") from None
    if values is None:
        raise ValueError(f"{path}: the file is empty; fields and their values were expected")
    if not isinstance(values, dict):
        raise ValueError(f"{path}: fields and their values were expected, not {type(values).__name__}")
    if "preset" in values:
        base = to_dict(preset(str(values.pop("preset"))))
        _check_keys(values, RunConfig, f"{path}: ")
        values = _merged(base, values)
    return values


def _merged(base: Any, changes: Any) -> Any:
    """Changes carried into groups of fields, however deep; anything else takes the place of what was there."""
    if not (isinstance(base, dict) and isinstance(changes, dict)):
        return changes
    return {**base, **{key: _merged(base.get(key), value) for key, value in changes.items()}}


def _override(values: dict[str, Any], word: str) -> None:
    """Carry out one `dotted.name=value`, the value written as in YAML."""
    name, equals, text = word.partition("=")
    if equals and not text.strip():
        raise ValueError(f"{word!r}: the value is missing; none at all is written null")
    if not equals:
        raise ValueError(f"{word!r}: a field is set with name=value, such as optimizer.lr=3e-4")
    hint = _field_type(name)
    kind = inner_type(hint)
    *path, last = name.split(".")
    target = values
    for part in path:
        if target.get(part) is None:
            target[part] = {}
        target = target[part]
        if not isinstance(target, dict):
            raise ValueError(f"{part} is {target!r} in the file: a group of fields was expected")
    try:
        target[last] = text if kind is str else yaml.safe_load(text)
    except (yaml.YAMLError, ValueError):  # ValueError: a date that there is not, a number of thousands of digits
        raise ValueError(f"{word!r}: {text!r} is not a value") from None
    if dataclasses.is_dataclass(kind) and (kind is hint or target[last] is not None):
        raise ValueError(f"{name!r} is a group of fields: set one of them, such as {_names(kind, name + '.')[0]}")
    if kind in (int, float) and isinstance(target[last], bool):
        raise ValueError(f"{name} is {text}: a number was expected")


def _field_type(name: str) -> Any:
    """The type of a dotted field, `X | None` where it may be None; an unknown one is refused with the nearest name."""
    hint: Any = RunConfig
    for part in name.split("."):
        hints = _fields(hint)
        if part not in hints:
            raise ValueError(f"there is no field {name!r}{_nearest(name)}")
        hint = hints[part]
    return hint


def _fields(hint: Any) -> dict[str, Any]:
    """Names and types of the fields of a configuration, also one that may be None; nothing for any other type."""
    kind = inner_type(hint)
    return typing.get_type_hints(kind) if dataclasses.is_dataclass(kind) else {}


def _names(hint: Any, prefix: str = "") -> list[str]:
    """The dotted names of all fields of a configuration."""
    names = []
    for name, inner in _fields(hint).items():
        names += _names(inner, f"{prefix}{name}.") or [f"{prefix}{name}"]
    return names


def _nearest(name: str) -> str:
    names = _names(RunConfig)
    last = name.rpartition(".")[2]
    by_last = [full for full in names if full.rpartition(".")[2] == last]
    near = by_last or difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    if not near:
        near = [
            full
            for full in names
            if full.rpartition(".")[2] in difflib.get_close_matches(last, [n.rpartition(".")[2] for n in names], n=1)
        ]
    return f"; did you mean {near[0]}?" if near else ""


def _check_keys(values: dict[str, Any], hint: Any, origin: str, prefix: str = "") -> None:
    hints = _fields(hint)
    for key, value in values.items():
        if key not in hints:
            raise ValueError(f"{origin}there is no field {f'{prefix}{key}'!r}{_nearest(f'{prefix}{key}')}")
        if _fields(hints[key]) and isinstance(value, dict):
            _check_keys(value, hints[key], origin, f"{prefix}{key}.")


_WANTED = {
    **dict.fromkeys(["int_parsing", "int_type", "int_from_float"], "a whole number was expected"),
    **dict.fromkeys(["float_parsing", "float_type"], "a number was expected"),
}


def _build(values: dict[str, Any], origin: str) -> RunConfig:
    _check_keys(values, RunConfig, origin)
    try:
        return pydantic.TypeAdapter(RunConfig).validate_python(values)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        if first["type"] == "value_error":  # our own check: its message says it all
            raise ValueError(f"{origin}{name + ': ' if name else ''}{first['ctx']['error']}") from None
        given = "" if first["type"] == "missing" else f" is {first['input']!r}"
        said = first["msg"][:1].lower() + first["msg"][1:]
        raise ValueError(f"{origin}{name}{given}: {_WANTED.get(first['type'], said)}") from None
