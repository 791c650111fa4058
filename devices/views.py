"""The devices of the cluster."""

import re
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, TypeVar
from uuid import UUID

from django.db.models import QuerySet
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import GenericViewSet

from clusterconfig.keys import Scope
from clusterconfig.permissions import actor, needs
from devices import operations, pings, serializers
from devices.filters import NAME, DeviceFilter
from devices.models import Device
from retire_cluster import db
from retire_cluster.api.errors import ApiError, ErrorCode, not_found
from retire_cluster.api.parameters import whole
from retire_cluster.api.pending import Pending, attach
from retire_cluster.api.validation import ObjectReader
from retire_cluster.middleware import BRIDGED

T = TypeVar("T")
OFFLINE = "the device is offline"
MAX_HOURS = 7 * 24  # of metrics in one answer
Operate = needs(Scope.OPERATE)


class DeviceViewSet(GenericViewSet[Device]):
    """Devices, newest first. Filters: status, role, platform, tags; `page`, `page_size`."""

    lookup_value_regex = "[^/]+"
    filterset_class = DeviceFilter

    def get_permissions(self) -> list[Any]:
        return [Operate()] if self.action == "destroy" else list(super().get_permissions())

    def get_queryset(self) -> QuerySet[Device]:
        return Device.objects.members().newest()

    def list(self, request: Request) -> Response:
        page = self.paginate_queryset(self.filter_queryset(self.get_queryset()))
        return self.get_paginated_response(serializers.device_rows(page or []))

    def retrieve(self, request: Request, pk: str) -> Response:
        return Response(serializers.device_detail(find(pk)))

    def destroy(self, request: Request, pk: str) -> Response:
        """Remove the device for good: its credential is revoked, its tasks go to others, its agent ends."""
        ObjectReader(request.data).finish()
        device = find(pk)
        removal = _existing(pk, lambda: operations.remove(device.pk, actor=actor(request)))
        return Response(serializers.device_removal(removal))

    @action(detail=False)
    def summary(self, request: Request) -> Response:
        """Counts of all devices; `resource_totals` sums those online."""
        return Response(Device.objects.members().summary())

    @action(detail=True)
    def status(self, request: Request, pk: str) -> Response:
        """How the device is now."""
        return Response(serializers.device_status(find(pk)))

    @action(detail=True)
    def metrics(self, request: Request, pk: str) -> Response:
        """What the device measured in the last `hours` (24; at most 168), by quarters of an hour."""
        hours = whole(request, "hours", 24, low=1, high=MAX_HOURS)
        return Response(serializers.device_metrics(find(pk), hours=hours, now=db.now()))

    @action(detail=True, methods=["post"], permission_classes=(Operate,))
    def ping(self, request: Request, pk: str) -> Response:
        """A round trip to the agent; waits at most five seconds for it."""
        ObjectReader(request.data).finish()
        device = find(pk)
        if not device.online:
            return Response(serializers.device_ping(device.pk, db.now(), None, _why_offline(device)))
        ping_id = pings.new_id()
        with ExitStack() as interest:
            # Before the row exists: a gateway in this process may have the answer before this thread goes on.
            waiter = interest.enter_context(pings.waiters.register(ping_id))
            pings.request(ping_id, device.pk, now=db.now())
            produce = _ping_answer(request, device.pk, ping_id)
            return attach(Response(None), Pending(waiter, pings.ANSWER_WITHIN_S, produce, interest.pop_all()))

    @action(detail=True, methods=["post"], permission_classes=(Operate,))
    def cordon(self, request: Request, pk: str) -> Response:
        """Place nothing new on the device; what runs there goes on. Body: `reason`."""
        reason = _reason(request)
        return _service(pk, lambda: operations.cordon(find(pk).pk, reason=reason, actor=actor(request)))

    @action(detail=True, methods=["post"], permission_classes=(Operate,))
    def uncordon(self, request: Request, pk: str) -> Response:
        """Back in service, after cordon or drain. Body: `reason`."""
        reason = _reason(request)
        return _service(pk, lambda: operations.uncordon(find(pk).pk, reason=reason, actor=actor(request)))

    @action(detail=True, methods=["post"], permission_classes=(Operate,))
    def drain(self, request: Request, pk: str) -> Response:
        """Cordon, and requeue what still runs after `deadline_seconds` (without it: never). Body: also `reason`."""
        reader = ObjectReader(request.data)
        reason = reader.optional_text("reason", longest=operations.MAX_REASON)
        deadline_s = reader.integer("deadline_seconds", 0, operations.MAX_DRAIN_S, None)
        reader.finish()
        return _service(
            pk,
            lambda: operations.drain(find(pk).pk, reason=reason, deadline_s=deadline_s, actor=actor(request)),
        )


def find(device_id: str) -> Device:
    """A member of the cluster by its id. Raises the API's 404."""
    known = re.fullmatch(NAME, device_id)  # nothing else can be an id, and Postgres refuses some of it
    device = Device.objects.members().filter(pk=device_id).first() if known else None
    if device is None:
        raise _missing(device_id)
    return device


def _missing(device_id: str) -> ApiError:
    shown = device_id[:64]
    return not_found(ErrorCode.DEVICE_NOT_FOUND, f"there is no device {shown!r}", device_id=shown)


def _existing(device_id: str, act: Callable[[], T]) -> T:
    """What the action returns; the API's 404 when the device was removed at this very moment."""
    try:
        return act()
    except Device.DoesNotExist:
        raise _missing(device_id) from None


def _service(device_id: str, act: Callable[[], Device]) -> Response:
    return Response(serializers.device_service(_existing(device_id, act)))


def _reason(request: Request) -> str:
    reader = ObjectReader(request.data)
    reason = reader.optional_text("reason", longest=operations.MAX_REASON)
    reader.finish()
    return reason


def _why_offline(device: Device) -> str:
    return f"{OFFLINE}: {device.status_reason}" if device.status_reason else OFFLINE


def _ping_answer(request: Request, device_id: str, ping_id: UUID) -> Callable[[], Any]:
    """What completes the response once somebody waited, or a server that cannot wait wants it now."""
    deadline = time.monotonic() + pings.ANSWER_WITHIN_S
    waits_itself = BRIDGED in request.META

    def answer() -> dict[str, Any]:
        patience_s = 0.0 if waits_itself else max(0.0, deadline - time.monotonic())
        ended = pings.outcome(ping_id, patience_s=patience_s, now=db.now())
        return serializers.device_ping(device_id, ended.requested_at, ended.response_time_ms, ended.failure)

    return answer
