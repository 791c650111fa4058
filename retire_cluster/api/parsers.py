"""Request bodies: strict JSON for everybody; forms only for operators signed in to the browsable API."""

import json
import sys
from collections.abc import Mapping
from typing import IO, Any

from rest_framework.exceptions import UnsupportedMediaType
from rest_framework.parsers import BaseParser, FormParser

from retire_cluster.api.errors import FieldError, invalid
from retire_cluster.protocol import jsontext


class StrictJSONParser(BaseParser):
    """UTF-8 JSON that is storable as it is: finite numbers, no NUL, no half surrogate, no duplicate key."""

    media_type = "application/json"

    def parse(
        self,
        stream: IO[Any],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> Any:
        return loads(stream.read())


def loads(raw: bytes) -> Any:
    """Parse a body; an empty one is an empty object. Raises the API's 400 saying what is wrong and where."""
    if not raw.strip():
        return {}
    try:
        value = json.loads(
            raw.decode(), parse_constant=_refuse_constant, object_pairs_hook=_refuse_duplicates
        )
        jsontext.check_value(value)
    except RecursionError:
        raise _malformed(f"nested deeper than {jsontext.MAX_DEPTH} levels") from None
    except UnicodeDecodeError as error:
        raise _malformed(f"not UTF-8 at byte {error.start}") from None
    except (json.JSONDecodeError, jsontext.UnstorableJSON) as error:
        raise _malformed(str(error)) from None
    except ValueError:  # Python's own bound: reading a number costs the square of its digits
        raise _malformed(f"a number has more than {sys.get_int_max_str_digits()} digits") from None
    return value


def _malformed(reason: str) -> Exception:
    return invalid(FieldError("body", f"must be valid JSON: {reason}"))


def _refuse_constant(name: str) -> Any:
    raise jsontext.UnstorableJSON(f"{name} is not a JSON number")


def _refuse_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    # The last one would win silently here and the first one in another reader: two meanings of one body.
    value = dict(pairs)
    if len(value) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise jsontext.UnstorableJSON(f"the key {twice[:100]!r} appears twice in one object")
    return value


class SessionFormParser(FormParser):
    """Form fields, each a JSON value or plain text; only for a signed-in session.

    A page of another site can send forms without asking the browser's permission, so strangers may not use them.
    """

    def parse(
        self,
        stream: IO[Any],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> Any:
        request = (parser_context or {})["request"]
        if not getattr(request.user, "is_authenticated", False) or request.auth is not None:
            raise UnsupportedMediaType(media_type or self.media_type)
        form = super().parse(stream, media_type, parser_context)
        return {
            key: _form_value(value)
            for key, value in form.items()
            if value != "" and key != "csrfmiddlewaretoken"
        }


def _form_value(text: Any) -> Any:
    """Objects and lists are written as JSON; anything else is the text itself."""
    text = str(text)
    if text.lstrip().startswith(("{", "[")):
        return loads(text.encode(errors="replace"))
    return text.replace("\x00", "\ufffd")
