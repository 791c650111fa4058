"""Hiding members of a JSON object while every other character of its text stays as it was written."""

import json
import re
from collections.abc import Collection

HIDDEN = '"[hidden]"'
_SPACE = re.compile(r"[ \t\n\r]*")
_decode = json.JSONDecoder().raw_decode


def hide_members(text: str, names: Collection[str]) -> str:
    """The text of an object with the values of these members replaced; other text is returned as it is."""
    position = _skip(text, 0)
    if text[position : position + 1] != "{":
        return text
    parts, copied = [], 0
    position = _skip(text, position + 1)
    while text[position] != "}":
        name, end = _decode(text, position)
        start = _skip(text, _skip(text, end) + 1)  # past the colon
        _, end = _decode(text, start)
        if name in names:
            parts += [text[copied:start], HIDDEN]
            copied = end
        position = _skip(text, end)
        if text[position] == ",":
            position = _skip(text, position + 1)
    return "".join([*parts, text[copied:]])


def _skip(text: str, position: int) -> int:
    """The position after white space."""
    space = _SPACE.match(text, position)
    return space.end() if space else position
