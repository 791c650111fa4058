"""Devices: look, test, take out of service and back."""

from collections.abc import Sequence
from typing import Any

from retire_cluster.sdk.calls import Call, Calls, get, segment
from retire_cluster.sdk.listing import Listing
from retire_cluster.sdk.models import (
    Device,
    DeviceDetail,
    DeviceMetrics,
    DevicePing,
    DeviceRemoval,
    DeviceService,
    DeviceStatus,
    Summary,
)


class DeviceCalls:
    """The part of the client about devices. A device is given as a `Device` or by its id."""

    _calls: Calls

    def devices(
        self,
        *,
        status: str | None = None,
        role: str | None = None,
        platform: str | None = None,
        tags: Sequence[str] | None = None,
    ) -> Listing[Device]:
        """All devices, newest first. `status`: online, offline or all; a device must carry all the tags."""
        params = {"status": status, "role": role, "platform": platform, "tags": tags}
        return Listing(self._calls, "/devices", Device, params, by_cursor=False)

    def device(self, device: Device | str) -> DeviceDetail:
        """Everything about a device."""
        return self._calls.answer(get(_path(device))).to(DeviceDetail)

    def device_status(self, device: Device | str) -> DeviceStatus:
        """Its state and load."""
        return self._calls.answer(get(_path(device, "status"))).to(DeviceStatus)

    def device_metrics(self, device: Device | str, hours: int = 24) -> DeviceMetrics:
        """What it measured in the last hours (at most 168), by quarters of an hour."""
        return self._calls.answer(get(_path(device, "metrics"), hours=hours)).to(DeviceMetrics)

    def devices_summary(self) -> Summary:
        """Counts and sums over all devices."""
        return self._calls.answer(get("/devices/summary")).to(Summary)

    def ping(self, device: Device | str) -> DevicePing:
        """A round trip to its agent."""
        return self._calls.answer(Call("POST", _path(device, "ping"), repeatable=True)).to(DevicePing)

    def cordon(self, device: Device | str, reason: str | None = None) -> DeviceService:
        """Give it no new tasks; those it has go on."""
        return self._serve(device, "cordon", reason=reason)

    def drain(
        self, device: Device | str, reason: str | None = None, *, deadline_seconds: int | None = None
    ) -> DeviceService:
        """Cordon it; what still runs after the deadline is requeued elsewhere."""
        return self._serve(device, "drain", reason=reason, deadline_seconds=deadline_seconds)

    def uncordon(self, device: Device | str, reason: str | None = None) -> DeviceService:
        """Give it tasks again."""
        return self._serve(device, "uncordon", reason=reason)

    def remove(self, device: Device | str) -> DeviceRemoval:
        """Remove it for good: its secret is void, its tasks are requeued, it comes back only with --rejoin."""
        return self._calls.answer(Call("DELETE", _path(device))).to(DeviceRemoval)

    def _serve(self, device: Device | str, action: str, **wanted: Any) -> DeviceService:
        body = {name: value for name, value in wanted.items() if value is not None}
        # A drain that is sent again would begin its deadline anew.
        call = Call("POST", _path(device, action), body=body, repeatable=action != "drain")
        return self._calls.answer(call).to(DeviceService)


def _path(device: Device | str, what: str = "") -> str:
    device_id = device.device_id if isinstance(device, Device) else str(device)
    place = f"/devices/{segment(device_id)}"
    return f"{place}/{what}" if what else place
