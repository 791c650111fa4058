"""Query parameters of the device list: one value each, of tags several, all of which a device must carry."""

from collections.abc import Sequence

from django_filters import FilterSet

from devices.querysets import DeviceQuerySet
from retire_cluster.api.filters import Values, matching, words
from retire_cluster.protocol.states import Platform, Role

NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
NAME_MEANING = "1 to 64 letters, digits, '.', '_' or '-', starting with a letter or digit"


class DeviceFilter(FilterSet):  # type: ignore[misc]  # django-filter has no types
    """`status=all` is the same as none."""

    status = words(["online", "offline", "all"], once=True, method="by_status")
    role = words(Role, once=True)
    platform = words(Platform, once=True)
    tags = Values(check=matching(NAME, NAME_MEANING), method="by_tags")

    def by_status(self, queryset: DeviceQuerySet, name: str, values: Sequence[str]) -> DeviceQuerySet:
        [wanted] = values
        return queryset if wanted == "all" else queryset.filter(online=wanted == "online")

    def by_tags(self, queryset: DeviceQuerySet, name: str, values: Sequence[str]) -> DeviceQuerySet:
        return queryset.with_tags(values)
