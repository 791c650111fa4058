"""JSON objects to frozen dataclasses, by their type hints.

Members that a newer server adds are left alone; those a field has a default for may be missing. Every model keeps
the object it was made from in `raw`.
"""

import dataclasses
import types
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Self, Union, get_args, get_origin, get_type_hints

_known_hints: dict[type, dict[str, Any]] = {}


class Mismatch(ValueError):
    """The JSON is not what the model says; the message names the place."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Model:
    """A JSON object of the API; `raw` is all of it, also what this version has no field for."""

    raw: Mapping[str, Any] = dataclasses.field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(cls, data: Any) -> Self:
        """The model of a JSON object. Raises Mismatch."""
        if not isinstance(data, Mapping):
            raise Mismatch(f"{cls.__name__}: an object was expected, not {_kind(data)}")
        hints = _hints(cls)
        values: dict[str, Any] = {"raw": data}
        for field in dataclasses.fields(cls):
            if field.name == "raw":
                continue
            if field.name in data:
                values[field.name] = value(
                    hints[field.name], data[field.name], f"{cls.__name__}.{field.name}"
                )
            elif field.default is field.default_factory is dataclasses.MISSING:
                raise Mismatch(f"{cls.__name__}.{field.name} is missing")
        return cls(**values)


def _hints(cls: type) -> dict[str, Any]:
    """The types of the fields; found once, for a page has hundreds of one model."""
    if cls not in _known_hints:
        _known_hints[cls] = get_type_hints(cls)
    return _known_hints[cls]


def value(hint: Any, data: Any, place: str) -> Any:
    """The data as the hint says. Raises Mismatch."""
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is Any:
        return data
    if origin in (Union, types.UnionType):
        return None if data is None else value(_of_optional(arguments), data, place)
    if origin is tuple:
        return tuple(value(arguments[0], item, place) for item in _expect(list, data, place))
    if origin is not None:  # Mapping[str, X]
        members = _expect(dict, data, place)
        return {name: value(arguments[1], item, f"{place}.{name}") for name, item in members.items()}
    if issubclass(hint, Model):
        return hint.of(data)
    if hint is datetime:
        return _moment(data, place)
    if hint is float:
        return _number(data, place)
    return _expect(hint, data, place)


def _of_optional(arguments: tuple[Any, ...]) -> Any:
    [hint] = [item for item in arguments if item is not types.NoneType]
    return hint


def _expect(kind: Any, data: Any, place: str) -> Any:
    # JSON's true is no number, though Python's is.
    if isinstance(data, kind) and (kind is bool or not isinstance(data, bool)):
        return data
    raise Mismatch(f"{place}: {_kind(data)} was not expected")


def _number(data: Any, place: str) -> float:
    try:
        return float(_expect((int, float), data, place))
    except OverflowError:
        raise Mismatch(f"{place}: a number of too many digits") from None


def _moment(data: Any, place: str) -> datetime:
    try:
        found = datetime.fromisoformat(_expect(str, data, place))
        utc = found.astimezone(UTC)
    except (ValueError, OverflowError):  # the second: UTC's year would be 0 or 10000
        raise Mismatch(f"{place}: {data!r} is no time") from None
    if found.tzinfo is None:
        raise Mismatch(f"{place}: {data!r} is a time of no zone")
    return utc


def _kind(data: Any) -> str:
    return "null" if data is None else type(data).__name__
