"""Query parameters of the device list. Several values of one: any of them; of tags: all of them."""

from collections.abc import Sequence

from django_filters import FilterSet

from devices.querysets import DeviceQuerySet
from retire_cluster.api.filters import Values, matching, words
from retire_cluster.protocol.states import Platform, Role

NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
NAME_MEANING = "1 to 64 letters, digits, '.', '_' or '-', starting with a letter or digit"


class DeviceFilter(FilterSet):  # type: ignore[misc]  # django-filter has no types
    """`status=all` is the same as none."""

    status = words(["online", "offline", "all"], method="by_status")
    role = words(Role)
    platform = words(Platform)
    tags = Values(check=matching(NAME, NAME_MEANING), method="by_tags")

    def by_status(self, queryset: DeviceQuerySet, name: str, values: Sequence[str]) -> DeviceQuerySet:
        wanted = set(values)
        if "all" in wanted or wanted == {"online", "offline"}:
            return queryset
        return queryset.filter(online="online" in wanted)

    def by_tags(self, queryset: DeviceQuerySet, name: str, values: Sequence[str]) -> DeviceQuerySet:
        return queryset.with_tags(values)
