"""What every configuration shares: fields of the right type, errors that name the value, JSON and an id."""

import dataclasses
import difflib
import hashlib
import json
import sys
import types
import typing
from collections.abc import Iterable
from typing import Any, Literal

LARGEST_SIZE = 2**63 - 1


def require(condition: bool, message: str) -> None:
    """Raise ValueError with this message unless the condition holds."""
    if not condition:
        raise ValueError(message)


def did_you_mean(name: object, among: Iterable[str]) -> str:
    """The end of a message about a name that does not exist: the nearest that does, or nothing.

    >>> did_you_mean("adamx", ["sgd", "adamw"])
    '; did you mean adamw?'
    >>> did_you_mean("x", ["sgd", "adamw"])
    ''
    """
    near = difflib.get_close_matches(str(name).lower(), list(among), n=1, cutoff=0.4)
    return f"; did you mean {near[0]}?" if near else ""


def check_name(name: str, what: str) -> None:
    """Raise ValueError unless a name can be that of one folder or file."""
    require(
        bool(name) and not set(name) & set("/\\\0") and not name.startswith("."),
        f"{what} is {name!r}: it must be a plain name, not a path, and not begin with a dot",
    )


def normalise(config: Any) -> None:
    """Refuse values that are not of their field's type; make whole numbers in float fields floats.

    Otherwise `lr=1` and `lr=1.0` would be equal configurations with different canonical JSON.
    """
    for entry in dataclasses.fields(config):
        value = getattr(config, entry.name)
        kind = inner_type(entry.type)
        if value is None and kind is not entry.type:
            continue
        numbers = value if kind == tuple[float, float] and isinstance(value, tuple | list) else (value,)
        if kind in (float, tuple[float, float]):
            ok = all(type(number) in (int, float) and abs(number) <= sys.float_info.max for number in numbers)
            require(ok, f"{entry.name} is {value!r}: it must be finite")
            numbers = tuple(float(number) for number in numbers)
            object.__setattr__(config, entry.name, numbers[0] if kind is float else numbers)
        elif typing.get_origin(kind) is Literal:
            choices = typing.get_args(kind)
            require(value in choices, f"{entry.name} is {value!r}: it must be {' or '.join(choices)}")
        elif isinstance(kind, type):
            require(type(value) is kind, f"{entry.name} is {value!r}: it must be of type {kind.__name__}")
        if kind is int:
            require(value <= LARGEST_SIZE, f"{entry.name} is {value}: it must be below 2^63")


def inner_type(hint: Any) -> Any:
    """The type that is not None of `X | None`; any other hint as it is."""
    if isinstance(hint, types.UnionType):
        return next(option for option in typing.get_args(hint) if option is not types.NoneType)
    return hint


def require_at_least(config: object, minimum: float, *names: str) -> None:
    """Raise ValueError that names the first of these fields that is too small; a field that is None is passed over."""
    for name in names:
        value = getattr(config, name)
        require(value is None or value >= minimum, f"{name} is {value}: it must be at least {minimum}")


def to_dict(config: Any) -> dict[str, Any]:
    """A configuration as nested plain dictionaries in the order of its fields, ready for JSON or YAML."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


def from_dict(kind: type, values: dict[str, Any], prefix: str = "") -> Any:
    """The configuration that `to_dict` made this of; what has a default may be missing.

    Raises:
        ValueError: For a field that does not exist or is missing, or a value that is not of its field's type.
    """
    what = prefix.removesuffix(".") or kind.__name__
    require(isinstance(values, dict), f"{what} is {values!r}: fields and values were expected")
    fields = {entry.name: entry for entry in dataclasses.fields(kind)}
    for name in values:
        require(name in fields, f"there is no field {f'{prefix}{name}'!r} (fields: {', '.join(fields)})")
    for name, entry in fields.items():
        optional = entry.default is not dataclasses.MISSING or entry.default_factory is not dataclasses.MISSING
        require(optional or name in values, f"{prefix}{name} is missing")
    built = {}
    for name, value in values.items():
        hint = inner_type(fields[name].type)
        nested = dataclasses.is_dataclass(hint) and value is not None
        pair = hint == tuple[float, float] and isinstance(value, list)
        built[name] = from_dict(hint, value, f"{prefix}{name}.") if nested else tuple(value) if pair else value
    return kind(**built)


def canonical_json(config: Any) -> str:
    """The one JSON text of a configuration: sorted keys, no spaces."""
    return json.dumps(dataclasses.asdict(config), sort_keys=True, separators=(",", ":"))


def config_id(config: Any) -> str:
    """SHA-256 of the canonical JSON, in hexadecimal."""
    return hashlib.sha256(canonical_json(config).encode()).hexdigest()


def with_fields(config: Any, values: dict[str, Any]) -> Any:
    """A configuration with fields, named by their dotted names, replaced: `with_fields(model, {"experts.d_ff": 5})`.

    Raises:
        ValueError: For a field that does not exist, or one of a part that the configuration has not.
    """
    own: dict[str, Any] = {}
    inner: dict[str, dict[str, Any]] = {}
    names = {entry.name for entry in dataclasses.fields(config)}
    for name, value in values.items():
        part, _, rest = name.partition(".")
        require(part in names, f"there is no field {name!r} (fields: {', '.join(sorted(names))})")
        if rest:
            require(getattr(config, part) is not None, f"{name} is given, but {part} is None")
            require(dataclasses.is_dataclass(getattr(config, part)), f"there is no field {name!r}: {part} is no group")
            inner.setdefault(part, {})[rest] = value
        else:
            own[name] = value
    own |= {part: with_fields(own.get(part, getattr(config, part)), fields) for part, fields in inner.items()}
    return dataclasses.replace(config, **own)
