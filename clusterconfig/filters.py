"""Query parameters of the lists of this app."""

from django_filters import FilterSet

from retire_cluster.api.filters import Values, matching, moment

_text = matching(r"(?s).{1,200}", "1 to 200 characters")


class AuditFilter(FilterSet):  # type: ignore[misc]  # django-filter has no types
    """Several values of one parameter: any of them. Times: from `since` to `until`, both included."""

    action = Values(check=_text)
    actor = Values(check=_text)
    target = Values(check=_text)
    since = Values(check=moment, field_name="at", lookup="gte")
    until = Values(check=moment, field_name="at", lookup="lte")
