"""Query parameters of the device list. Several values of one: any of them; of tags: all of them."""

from collections.abc import Sequence
from typing import Any

from devices.querysets import DeviceQuerySet
from retire_cluster.api.filters import QueryFilter, any_of, matching, one_of
from retire_cluster.protocol.states import Platform, Role

NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
NAME_MEANING = "1 to 64 letters, digits, '.', '_' or '-', starting with a letter or digit"


def _by_status(queryset: DeviceQuerySet, values: Sequence[str]) -> DeviceQuerySet:
    wanted = set(values)
    if "all" in wanted or wanted == {"online", "offline"}:
        return queryset
    return queryset.filter(online="online" in wanted)


def _by_tags(queryset: DeviceQuerySet, values: Sequence[str]) -> DeviceQuerySet:
    return queryset.with_tags(values)


DEVICE_FILTERS: tuple[QueryFilter[Any], ...] = (
    QueryFilter("status", one_of(["online", "offline", "all"]), _by_status),
    QueryFilter("role", one_of(Role), any_of("role")),
    QueryFilter("platform", one_of(Platform), any_of("platform")),
    QueryFilter("tags", matching(NAME, NAME_MEANING), _by_tags),
)
