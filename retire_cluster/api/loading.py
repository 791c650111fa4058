"""What a server process does before its first request."""

import gc

from django.urls import get_resolver


def settle() -> None:
    """Load every view, and leave what is loaded out of the searches for garbage.

    Such a search takes 80 ms among all of Django's objects, and came amid some request every few seconds.
    """
    get_resolver().url_patterns  # noqa: B018  asking loads them
    gc.freeze()
