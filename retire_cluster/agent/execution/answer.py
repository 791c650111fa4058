"""What one of our child programs tells at its descriptor 3: one JSON object, up to a limit."""

import json
from collections.abc import Mapping
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
