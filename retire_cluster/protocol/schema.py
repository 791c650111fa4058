"""Validation of untrusted JSON objects against frozen dataclasses.

Pure Python because agents run where nothing can be compiled. A type hint is the whole schema:
`str`, `int`, `float`, `bool`, `X | None`, `Literal`, `StrEnum`, `tuple[X, ...]`, `dict[str, X]`, nested
dataclasses, and `Annotated[..., Length | Range | Pattern | OneLine]` for bounds. Unknown keys are ignored, so
that neighbouring versions understand each other; a missing key takes the dataclass default.
"""

import dataclasses
import math
import re
import types
from collections.abc import Callable
from enum import StrEnum
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from retire_cluster.protocol import jsontext
from retire_cluster.protocol.text import one_line

T = TypeVar("T")
Check = Callable[[Any, str], Any]
MAX_INTEGER = 2**53  # what every JSON reader keeps exactly


class SchemaError(ValueError):
    """A value does not fit; `field` is a dotted path, `reason` a sentence without the path."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}" if field else reason)
        self.field = field
        self.reason = reason


@dataclasses.dataclass(frozen=True, slots=True)
class Length:
    """Bounds of a string (characters), list or object (entries), both inclusive."""

    low: int
    high: int

    def check(self, value: Any, path: str) -> None:
        if not self.low <= len(value) <= self.high:
            raise SchemaError(path, f"length must be {self.low} to {self.high}, is {len(value)}")


@dataclasses.dataclass(frozen=True, slots=True)
class Range:
    """Bounds of a number, both inclusive."""

    low: float
    high: float

    def check(self, value: Any, path: str) -> None:
        if not self.low <= value <= self.high:
            raise SchemaError(path, f"must be {self.low:g} to {self.high:g}, is {value:g}")


@dataclasses.dataclass(frozen=True, slots=True)
class Pattern:
    """A regular expression the whole string must match; `words` says it to a person."""

    regex: str
    words: str

    def check(self, value: Any, path: str) -> None:
        if not re.fullmatch(self.regex, value):
            raise SchemaError(path, f"must be {self.words}")


@dataclasses.dataclass(frozen=True, slots=True)
class OneLine:
    """Text for people: what could forge a line, drive a terminal or reorder words is replaced, never refused.

    An honest device may have an odd name; it must work all the same.
    """

    def clean(self, value: str) -> str:
        return one_line(value)


_plans: dict[type, list[tuple[str, Check, bool]]] = {}


def _plan(cls: type) -> list[tuple[str, Check, bool]]:
    """(name, check, required) per field of a dataclass, resolved once."""
    plan = _plans.get(cls)
    if plan is None:
        plan = _plans[cls] = _resolve(cls)
    return plan


def _resolve(cls: Any) -> list[tuple[str, Check, bool]]:
    hints = get_type_hints(cls, include_extras=True)
    return [
        (
            field.name,
            _compile(hints[field.name]),
            field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING,
        )
        for field in dataclasses.fields(cls)
        if field.init
    ]


def decode(cls: type[T], value: Any, path: str = "") -> T:
    """Build a dataclass from a parsed JSON object. Raises SchemaError naming the field and the reason."""
    if not isinstance(value, dict):
        raise SchemaError(path, "must be an object")
    prefix = f"{path}." if path else ""
    arguments: dict[str, Any] = {}
    for name, check, required in _plan(cls):
        if name in value:
            arguments[name] = check(value[name], prefix + name)
        elif required:
            raise SchemaError(prefix + name, "is missing")
    return cls(**arguments)


def encode(value: Any) -> Any:
    """The JSON object of a dataclass; fields that hold their default None are left out."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            field.name: encode(item)
            for field in dataclasses.fields(value)
            if (item := getattr(value, field.name)) is not None or field.default is not None
        }
    if isinstance(value, tuple):
        return [encode(item) for item in value]
    if isinstance(value, dict):
        return {key: encode(item) for key, item in value.items()}
    return value


def _compile(hint: Any) -> Check:
    origin = get_origin(hint)
    if origin is Annotated:
        return _bounded(hint.__metadata__, _compile(hint.__origin__))
    if origin in (Union, types.UnionType):
        return _optional(hint)
    if origin is Literal:
        return _one_of(get_args(hint))
    if origin is tuple:
        return _sequence(_compile(get_args(hint)[0]))
    if origin is dict:
        return _mapping(_compile(get_args(hint)[1]))
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return _enum(hint)
    if dataclasses.is_dataclass(hint):
        return lambda value, path: decode(hint, value, path)  # type: ignore[arg-type]
    return _SCALARS[hint]


def _bounded(bounds: tuple[Any, ...], inner: Check) -> Check:
    def check(value: Any, path: str) -> Any:
        result = inner(value, path)
        for bound in bounds:
            if isinstance(bound, OneLine):
                result = bound.clean(result)
            else:
                bound.check(result, path)
        return result

    return check


def _optional(hint: Any) -> Check:
    (wanted,) = [arm for arm in get_args(hint) if arm is not type(None)]
    inner = _compile(wanted)
    return lambda value, path: None if value is None else inner(value, path)


def _one_of(choices: tuple[Any, ...]) -> Check:
    words = {str(choice): choice for choice in choices}  # every Literal here is of strings

    def check(value: Any, path: str) -> Any:
        if not isinstance(value, str) or value not in words:
            raise SchemaError(path, f"must be one of {', '.join(words)}")
        return words[value]

    return check


def _enum(cls: type[StrEnum]) -> Check:
    words = ", ".join(cls)

    def check(value: Any, path: str) -> Any:
        try:
            return cls(value)
        except ValueError:
            raise SchemaError(path, f"must be one of {words}") from None

    return check


def _sequence(inner: Check) -> Check:
    def check(value: Any, path: str) -> Any:
        if not isinstance(value, list):
            raise SchemaError(path, "must be a list")
        return tuple(inner(item, f"{path}[{index}]") for index, item in enumerate(value))

    return check


def _mapping(inner: Check) -> Check:
    def check(value: Any, path: str) -> Any:
        if not isinstance(value, dict):
            raise SchemaError(path, "must be an object")
        return {_string(key, path): inner(item, f"{path}.{key}"[:200]) for key, item in value.items()}

    return check


def _string(value: Any, path: str) -> Any:
    if not isinstance(value, str):
        raise SchemaError(path, "must be a string")
    try:
        jsontext.check_value(value)
    except jsontext.UnstorableJSON as error:
        raise SchemaError(path, str(error)) from None
    return value


def _integer(value: Any, path: str) -> Any:
    if isinstance(value, bool) or not isinstance(value, int):
        raise SchemaError(path, "must be an integer")
    if abs(value) > MAX_INTEGER:
        raise SchemaError(path, "is too large")
    return value


def _number(value: Any, path: str) -> Any:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise SchemaError(path, "must be a number")
    if abs(value) > MAX_INTEGER or not math.isfinite(value):
        raise SchemaError(path, "is too large")
    return float(value)


def _boolean(value: Any, path: str) -> Any:
    if not isinstance(value, bool):
        raise SchemaError(path, "must be true or false")
    return value


_SCALARS: dict[Any, Check] = {str: _string, int: _integer, float: _number, bool: _boolean}
