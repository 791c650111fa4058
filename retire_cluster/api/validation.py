"""Reading a JSON object field by field, collecting everything that is wrong with it."""

import math
from collections.abc import Iterable
from typing import Any

from retire_cluster.api.errors import FieldError, invalid

_ABSENT = object()


class ObjectReader:
    """Reads one object. Every reader returns a usable value even for an invalid field, and notes the error.

    null counts as absent. Call `finish()` at the end: it adds unknown keys and raises if anything was noted.
    """

    def __init__(self, value: Any, path: str = "", parent: "ObjectReader | None" = None) -> None:
        self._path = path
        self.errors: list[FieldError] = parent.errors if parent else []
        self._known: set[str] = set()
        if not isinstance(value, dict):
            self.fail("", "must be an object")
            value = {}
        self._value: dict[str, Any] = value

    @property
    def as_text(self) -> str:
        """The object as text. Two objects of one text are the same: 1, 1.0 and true are written differently."""
        return repr(self._value)

    def fail(self, name: str, reason: str) -> None:
        """Note that a field is wrong."""
        self.errors.append(FieldError(self.path_of(name) or "body", reason))

    def path_of(self, name: str) -> str:
        """A field's dotted path from the body."""
        return ".".join(filter(None, (self._path, name)))

    def text(self, name: str, *, longest: int, default: str | None = None) -> str:
        """A string of 1 to `longest` characters; required without a default."""
        value = self._take(name, default)
        if value is _ABSENT:
            return ""
        if not isinstance(value, str):
            self.fail(name, "must be a string")
            return ""
        if not 1 <= len(value) <= longest:
            self.fail(name, f"must have 1 to {longest} characters")
        return value

    def optional_text(self, name: str, *, longest: int) -> str:
        """A string of 1 to `longest` characters; empty when absent."""
        return self.text(name, longest=longest) if self._value.get(name) is not None else self._absent(name)

    def choice(self, name: str, choices: Iterable[str], default: str | None) -> str | None:
        """One of some words."""
        value = self._take(name, default, required=False)
        if value is None:
            return None
        known = list(choices)
        if not isinstance(value, str) or value not in known:
            self.fail(name, f"must be one of {', '.join(map(str, known))}")
            return default
        return str(value)

    def integer(self, name: str, low: int, high: int, default: int | None) -> int | None:
        """A whole number within [low, high]."""
        value = self._take(name, default, required=False)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            self.fail(name, f"must be a whole number from {low} to {high}")
            return default
        return value

    def number(
        self, name: str, low: float, high: float, default: float | None, *, above: bool = False
    ) -> float | None:
        """A number within [low, high]; with `above` more than low."""
        value = self._take(name, default, required=False)
        if value is None:
            return None
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not is_number or not (low < value if above else low <= value) or value > high or math.isnan(value):
            start = f"more than {low:g} and at most" if above else f"from {low:g} to"
            self.fail(name, f"must be a number {start} {high:g}")
            return default
        return float(value)

    def boolean(self, name: str) -> bool:
        """true or false; false when absent."""
        value = self._take(name, False, required=False)
        if not isinstance(value, bool):
            self.fail(name, "must be true or false")
            return False
        return value

    def strings(self, name: str, *, most: int) -> list[str]:
        """A list of strings, without repetitions."""
        value = self._take(name, [], required=False)
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            self.fail(name, "must be a list of strings")
            return []
        if len(value) > most:
            self.fail(name, f"may have {most} entries")
            return []
        return list(dict.fromkeys(value))

    def objects(self, name: str, *, fewest: int, most: int) -> list[Any]:
        """A required list, whose entries the caller reads."""
        value = self._take(name, None)
        if value is _ABSENT:
            return []
        if not isinstance(value, list) or not fewest <= len(value) <= most:
            self.fail(name, f"must be a list of {fewest} to {most} objects")
            return []
        return value

    def free_object(self, name: str, *, required: bool) -> dict[str, Any]:
        """An object whose keys are the client's own."""
        value = self._take(name, None if required else {}, required=required)
        if value is _ABSENT:
            return {}
        if not isinstance(value, dict):
            self.fail(name, "must be an object")
            return {}
        return value

    def child(self, name: str) -> "ObjectReader":
        """A reader of a nested object that notes its errors here; an absent one is empty."""
        return ObjectReader(self._take(name, {}, required=False), self.path_of(name), self)

    def check_keys(self) -> None:
        """Note every key that no reader asked for."""
        for key in self._value:
            if key not in self._known:
                self.fail(key[:100], f"is unknown; known are {', '.join(sorted(self._known))}")

    def finish(self) -> None:
        """Raise the API's 400 with every error noted."""
        self.check_keys()
        if self.errors:
            raise invalid(*self.errors)

    def _absent(self, name: str) -> str:
        self._known.add(name)
        return ""

    def _take(self, name: str, default: Any, *, required: bool | None = None) -> Any:
        self._known.add(name)
        value = self._value.get(name)
        if value is not None:
            return value
        if required if required is not None else default is None:
            self.fail(name, "is required")
            return _ABSENT
        return default
