"""Query parameters of the device list."""

import django_filters
from django.db.models import QuerySet

from devices.models import Device
from devices.querysets import DeviceQuerySet
from retire_cluster.api.filters import ListFilter, matching, one_of
from retire_cluster.protocol.states import Platform, Role

NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
NAME_MEANING = "1 to 64 letters, digits, '.', '_' or '-', starting with a letter or digit"


class DeviceFilter(django_filters.FilterSet):
    """Several values of one parameter: any of them; of tags: all of them."""

    status = ListFilter(check=one_of(["online", "offline", "all"]), method="by_status")
    role = ListFilter(check=one_of(Role))
    platform = ListFilter(check=one_of(Platform))
    tags = ListFilter(check=matching(NAME, NAME_MEANING), method="by_tags")

    class Meta:
        model = Device
        fields: list[str] = []

    def by_status(self, queryset: QuerySet[Device], name: str, value: list[str]) -> QuerySet[Device]:
        wanted = set(value)
        if "all" in wanted or wanted == {"online", "offline"}:
            return queryset
        return queryset.filter(online="online" in wanted)

    def by_tags(self, queryset: DeviceQuerySet, name: str, value: list[str]) -> DeviceQuerySet:
        return queryset.with_tags(value)
