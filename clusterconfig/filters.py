"""Query parameters of the lists of this app."""

from typing import Any

from retire_cluster.api.filters import QueryFilter, any_of, compared, matching, moment

_TEXT = matching(r"(?s).{1,200}", "1 to 200 characters")

AUDIT_FILTERS: tuple[QueryFilter[Any], ...] = (
    QueryFilter("action", _TEXT, any_of("action")),
    QueryFilter("actor", _TEXT, any_of("actor")),
    QueryFilter("target", _TEXT, any_of("target")),
    QueryFilter("since", moment, compared("at__gte")),
    QueryFilter("until", moment, compared("at__lte")),
)
