"""The devices of the cluster."""

import re

from django.db.models import QuerySet
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import GenericViewSet

from devices import serializers
from devices.filters import DEVICE_FILTERS, NAME
from devices.models import Device
from retire_cluster.api.errors import ErrorCode, not_found


class DeviceViewSet(GenericViewSet[Device]):
    """Devices, newest first. Filters: status, role, platform, tags; `page`, `page_size`."""

    lookup_value_regex = "[^/]+"
    filters = DEVICE_FILTERS

    def get_queryset(self) -> QuerySet[Device]:
        return Device.objects.members().newest()

    def list(self, request: Request) -> Response:
        page = self.paginate_queryset(self.filter_queryset(self.get_queryset()))
        return self.get_paginated_response(serializers.device_rows(page or []))

    def retrieve(self, request: Request, pk: str) -> Response:
        return Response(serializers.device_detail(find(pk)))


def find(device_id: str) -> Device:
    """A member of the cluster by its id. Raises the API's 404."""
    known = re.fullmatch(NAME, device_id)  # nothing else can be an id, and Postgres refuses some of it
    device = Device.objects.members().filter(pk=device_id).first() if known else None
    if device is None:
        raise not_found(
            ErrorCode.DEVICE_NOT_FOUND, f"there is no device {device_id[:64]!r}", device_id=device_id[:64]
        )
    return device
