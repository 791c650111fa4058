"""What is said of a request body in headers: how large it may be, by path, and of which type it is.

Said once for every server in front of the views.
"""

import sys

from django.conf import settings
from django.utils.http import parse_header_parameters

BATCH_PATH = "/api/v1/tasks/batch"
UTF_8 = ("utf-8", "utf8", "us-ascii")
UNREADABLE = "application/x-unreadable"
# A client that is still sending when the connection ends gets a reset, not the answer, and nginx says 502: so what
# is too large is read to its end and thrown away first, up to here.
MOST_DISCARDED = 16 * 1024 * 1024  # bytes


def limit(path: str) -> int:
    """Bytes a body may have; beyond it is 413."""
    if path.rstrip("/") == BATCH_PATH:
        return int(settings.BATCH_UPLOAD_MAX_MEMORY_SIZE)
    return int(settings.DATA_UPLOAD_MAX_MEMORY_SIZE)


def declared(content_length: str) -> int:
    """Bytes a Content-Length announces; 0 where it is no number."""
    digits = content_length.lstrip("0")
    if not (digits.isascii() and digits.isdigit()):
        return 0
    return int(digits) if len(digits) <= 18 else sys.maxsize


def is_heard_out(declared_bytes: int, expect: str) -> bool:
    """Whether a body of that size is read to its end, be it too large; who asks with Expect first sends nothing."""
    return declared_bytes <= MOST_DISCARDED and expect.lower() != "100-continue"


def readable_type(content_type: str) -> str:
    """The Content-Type as Django may see it: one it cannot read becomes one that no parser takes.

    Django reads it while it makes its request object, before any code that could answer an error runs. It decodes
    even the query with the charset named there, which may be no encoding of text at all, so only UTF-8 is left.
    """
    try:
        media_type, parameters = parse_header_parameters(content_type)
    except ValueError:
        return UNREADABLE
    return content_type if parameters.get("charset", "utf-8").lower() in UTF_8 else media_type
