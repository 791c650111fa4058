"""JSON kept as text: one definition of what is storable, for payloads, results and metadata.

Payloads and results travel and rest as the text their author wrote (a database's own JSON type reorders
keys and rewrites numbers). Storable means: finite numbers, no NUL, no lone surrogate, at most 64 levels.
"""

import json
from typing import Any

MAX_DEPTH = 64


class UnstorableJSON(ValueError):
    """The text is not JSON, or holds something no database here can keep; the message says which."""


def _refuse_constant(name: str) -> Any:
    raise UnstorableJSON(f"{name} is not a JSON number")


# json.loads and json.dumps would make one for each text.
_decoder = json.JSONDecoder(parse_constant=_refuse_constant)
_encoder = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def loads(text: str | bytes) -> Any:
    """Parse strictly. Raises UnstorableJSON with the reason, never anything else."""
    try:
        if isinstance(text, str):
            return _decoder.decode(text)
        return json.loads(text, parse_constant=_refuse_constant)
    except RecursionError:
        raise UnstorableJSON(f"nested deeper than {MAX_DEPTH} levels") from None
    except UnicodeDecodeError as error:
        raise UnstorableJSON(f"not UTF-8 at byte {error.start}") from None
    except ValueError as error:
        raise UnstorableJSON(str(error)) from None


def check_value(value: Any) -> None:
    """Raise UnstorableJSON unless the parsed value is storable. Iterative: depth cannot hurt it."""
    stack: list[tuple[Any, int]] = [(value, 1)]
    while stack:
        item, depth = stack.pop()
        if isinstance(item, str):
            _check_string(item)
        elif isinstance(item, float):
            # 1e999 parses to infinity without passing parse_constant.
            if item != item or item in (float("inf"), float("-inf")):
                raise UnstorableJSON("a number is not finite")
        elif isinstance(item, (list, dict)):
            if depth > MAX_DEPTH:
                raise UnstorableJSON(f"nested deeper than {MAX_DEPTH} levels")
            children = item
            if isinstance(item, dict):
                for key in item:
                    _check_string(key)
                children = list(item.values())
            stack.extend((child, depth + 1) for child in children)


def _check_string(text: str) -> None:
    if "\x00" in text:
        raise UnstorableJSON("a string contains the NUL character")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise UnstorableJSON("a string contains half of a surrogate pair") from None


def check_text(text: str) -> None:
    """Raise UnstorableJSON unless the text is storable JSON."""
    check_value(loads(text))


def dumps(value: Any) -> str:
    """Compact text of a value that is already storable."""
    return _encoder.encode(value)


def dumps_lossy(value: Any) -> str:
    """Compact text of any value a task produced: what cannot be stored is replaced, never refused.

    NUL and lone surrogates become U+FFFD, non-finite numbers their names, foreign types their repr(),
    levels beyond the limit the text "…". So no output of a task can block the delivery of its result.
    """
    return dumps(_clean(value, 1))


def _clean(value: Any, depth: int) -> Any:
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, float):
        return value if value == value and abs(value) != float("inf") else str(value)
    if isinstance(value, str):
        return value.replace("\x00", "\ufffd").encode(errors="surrogatepass").decode(errors="replace")
    if depth > MAX_DEPTH:
        return "…"
    if isinstance(value, dict):
        return {_clean(str(key), depth): _clean(item, depth + 1) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_clean(item, depth + 1) for item in value]
    return _clean(repr(value), depth)
