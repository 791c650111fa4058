"""What one of our child programs tells at its descriptor 3: one JSON object, or one a line, up to a limit."""

import json
from collections.abc import Callable, Mapping
from typing import Any


class Answer:
    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.size = 0
        self._data = bytearray()

    def write(self, data: bytes) -> None:
        self.size += len(data)
        if self.size <= self.limit:
            self._data += data

    @property
    def is_too_long(self) -> bool:
        return self.size > self.limit

    def parsed(self) -> Mapping[str, Any]:
        """What was said; nothing, when the child was ended in the middle of it."""
        try:
            found = json.loads(self._data) if self._data.endswith(b"\n") else {}
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}


class Lines:
    """JSON objects, one a line, handed over as they come. A line over the limit ends the listening."""

    def __init__(self, limit: int, hear: Callable[[Mapping[str, Any]], None]) -> None:
        self.limit = limit
        self.is_too_long = False
        self._hear = hear
        self._begun = bytearray()

    def write(self, data: bytes) -> None:
        if self.is_too_long:
            return
        *ended, begun = data.split(b"\n")
        for line in ended:
            self._line(bytes(self._begun) + line)
            self._begun.clear()
        self._begun += begun
        if len(self._begun) > self.limit:
            self.is_too_long = True
            self._begun.clear()

    def _line(self, line: bytes) -> None:
        try:
            words = json.loads(line)
        except ValueError:  # the handler wrote there itself: nothing anybody waits for
            return
        if isinstance(words, dict):
            self._hear(words)
