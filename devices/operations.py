"""What operators do with devices: take them out of service, bring them back, remove them for good.

Each is a level, not an event: gateways read the rows on the hint, and again each second.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from clusterconfig import audit
from clusterconfig.audit import Actor
from devices import signals, tales
from devices.models import Device
from retire_cluster import db, hints

LEFT = "the device left the cluster"
MAX_REASON = 500  # characters
MAX_DRAIN_S = 86_400
NO_SECRET = ""  # no secret has this digest


@dataclass(frozen=True, slots=True)
class Removal:
    """A device that left for good."""

    device_id: str
    removed_at: datetime
    was_online: bool


def cordon(device_id: str, *, reason: str, actor: Actor) -> Device:
    """Place nothing new on the device; what runs goes on, and a drain ends. Raises Device.DoesNotExist."""
    state = {"cordoned": True, "cordon_reason": reason, "draining": False, "drain_deadline": None}
    return _change(device_id, "device.cordon", state, actor=actor, now=db.now())


def cordon_failing(device_id: str, *, reason: str, able: Collection[str]) -> bool:
    """Cordon by the cluster itself; whether it did.

    Not where an operator was first, and not unless one of the `able` devices is in service: else the tasks may
    be to blame, and a cluster without devices helps nobody.
    """
    with db.write_transaction():
        device = Device.objects.members().select_for_update().filter(id=device_id).first()
        others = Device.objects.in_service().filter(id__in=able).exclude(id=device_id)
        if device is None or device.cordoned or not others.exists():
            return False
        cordon(device_id, reason=reason, actor=audit.SYSTEM)
    return True


def uncordon(device_id: str, *, reason: str, actor: Actor) -> Device:
    """Back in service. Raises Device.DoesNotExist."""
    state = {"cordoned": False, "cordon_reason": "", "draining": False, "drain_deadline": None}
    return _change(device_id, "device.uncordon", state, actor=actor, now=db.now(), reason=reason)


def drain(device_id: str, *, reason: str, deadline_s: int | None, actor: Actor) -> Device:
    """Cordon, and have it run empty: after the deadline what still runs goes back to the queue.

    Without a deadline everything may end by itself. Raises Device.DoesNotExist.
    """
    now = db.now()
    deadline = None if deadline_s is None else now + timedelta(seconds=deadline_s)
    state = {"cordoned": True, "cordon_reason": reason, "draining": True, "drain_deadline": deadline}
    return _change(device_id, "device.drain", state, actor=actor, now=now, deadline_seconds=deadline_s)


def remove(device_id: str, *, actor: Actor) -> Removal:
    """Take the device out of the cluster for good: its secret is dead, its work goes to others.

    Its name stays in the history. The gateway tells the agent, which then ends. Raises Device.DoesNotExist.
    """
    with db.write_transaction():
        now = db.now()
        # Before the device is locked: everybody locks tasks first.
        signals.leaving.send(
            Device, device_id=device_id, reason="the device was removed from the cluster", now=now
        )
        removal = _take_out(
            _locked(device_id), "device.remove", "removed from the cluster", actor=actor, now=now
        )
    _tell_gateways()
    return removal


def leave(device_id: str, *, address: str) -> None:
    """The device itself left for good; void when an operator was faster.

    Inside the transaction in which its gateway gave its work back, and after which it says goodbye.
    """
    actor = Actor(f"device:{device_id}", address)
    try:
        device = _locked(device_id)
    except Device.DoesNotExist:
        return
    device.left = True
    _take_out(device, "device.leave", LEFT, actor=actor, now=db.now())
    _tell_gateways()


def _take_out(device: Device, action: str, reason: str, *, actor: Actor, now: datetime) -> Removal:
    removal = Removal(device.id, now, device.online)
    device.disconnected_at = now if device.online else device.disconnected_at
    device.online, device.status_reason = False, reason
    device.paused_reason = ""
    device.secret_digest, device.removed_at = NO_SECRET, now
    device.save()
    tales.removed(device.id)
    audit.record(action, device.id, actor=actor, now=now, details={"was_online": removal.was_online})
    return removal


def _change(
    device_id: str, action: str, state: dict[str, Any], *, actor: Actor, now: datetime, **details: Any
) -> Device:
    """Set the device's fields; nothing is recorded when they are so already."""
    with db.write_transaction():
        device = _locked(device_id)
        changed = [name for name, value in state.items() if getattr(device, name) != value]
        if changed:
            for name in changed:
                setattr(device, name, state[name])
            device.save(update_fields=changed)
            tales.changed(device_id, **{name: state[name] for name in changed if name != "drain_deadline"})
            facts = {"reason": state["cordon_reason"], **details}
            audit.record(action, device.id, actor=actor, now=now, details=facts)
    _tell_gateways()
    return device


def _locked(device_id: str) -> Device:
    return Device.objects.members().select_for_update().get(id=device_id)


def _tell_gateways() -> None:
    """After the commit: for drains and removals an intent, for what may be placed now work."""
    hints.notify(hints.INTENT)
    hints.notify(hints.WORK)
