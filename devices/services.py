"""What happens to devices: joining, connecting, leaving. Callers hold a write transaction where it says so."""

from collections.abc import Collection
from dataclasses import asdict, dataclass, fields
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db.models import QuerySet

from clusterconfig import audit, tokens
from clusterconfig import services as config
from clusterconfig.models import JoinToken
from devices import links, tales
from devices.capacity import Signature, allocatable_memory_mb
from devices.models import Device, Gateway
from retire_cluster import db
from retire_cluster.credentials import DEVICE_SECRET_PREFIX, digest, matches, new_secret
from retire_cluster.protocol.messages import PROTOCOL_VERSION, Capabilities, Register

GATEWAY_SILENCE = timedelta(seconds=15)  # a gateway that said nothing for so long is dead
MAX_PAUSE_WORDS = 500  # characters
COPIED = (
    "a second agent used a copy of this device's data, or the data was restored from a backup, and was refused: "
    "find out which machine is the real one, then uncordon, or remove the device and join anew"
)
OLDER = (
    "its data is older than what this device last connected with: it is a copy, or was restored from a backup"
)


class Refused(Exception):
    """A device may not connect; `code` is a goodbye code, the message says what to do next."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Registration:
    """An accepted connection. `secret` is set when the device just joined."""

    device: Device
    secret: str | None
    new_run: bool


class Room:
    """How many devices may be connected, and how many are. For the registrations of one transaction."""

    def __init__(self) -> None:
        self._online: int | None = None
        self._limit = 0

    def admit(self, device: Device) -> None:
        """Count a device that connects. Raises Refused."""
        counted_now = self._online is None
        if counted_now:
            self._count()
        if self._others(device) >= self._limit and not counted_now:
            self._count()  # some may have left since
        if self._others(device) >= self._limit:
            raise Refused("full", f"the cluster takes {self._limit} devices at once (server.max_connections)")
        self._online = self._others(device) + 1

    def _others(self, device: Device) -> int:
        return (self._online or 0) - device.online

    def _count(self) -> None:
        # As stored now, not as remembered: whoever lowered it expects the very next device to be kept out.
        self._limit = config.section("server").values["max_connections"]
        self._online = Device.objects.filter(online=True).count()


class Registrar:
    """The registrations of one transaction: what they have in common is read and counted once."""

    def __init__(self, *, gateway_id: UUID, now: datetime, reusable_token: str = "") -> None:
        self._gateway_id, self._now = gateway_id, now
        self._room = Room()
        self._uses = tokens.Uses(reusable_token)
        self._read: dict[str, Device | None] = {}

    def expect(self, device_ids: Collection[str]) -> None:
        """Read the rows of devices that nothing in this transaction changes before they register. One query."""
        if device_ids:
            self._read = dict.fromkeys(device_ids) | _locked(device_ids)

    def register(self, message: Register, *, address: str) -> Registration:
        """Prove who connects, then open a new session for it. Inside a write transaction. Raises Refused."""
        name = message.device_id
        device = self._read.pop(name) if name in self._read else _locked([name]).get(name)
        return _register(message, device, self._room, self._uses, address, self._gateway_id, self._now)

    def store(self) -> None:
        """Write what was only counted. Call it once all are registered."""
        self._uses.store()


def _locked(device_ids: Collection[str]) -> dict[str, Device]:
    """The rows, in the order in which everybody locks devices."""
    return {
        row.id: row for row in Device.objects.select_for_update().filter(id__in=device_ids).order_by("id")
    }


def _register(
    message: Register,
    device: Device | None,
    room: Room,
    uses: tokens.Uses,
    address: str,
    gateway_id: UUID,
    now: datetime,
) -> Registration:
    _check_version(message, device)
    is_known, secret = device is not None, None
    if device is not None and _proved(device, message):
        _check_link(device, message, address=address, now=now)
        token = device.join_token
        device.secret_confirmed = True
    else:
        token = _admit(device, message, uses, now=now)
        secret = new_secret(DEVICE_SECRET_PREFIX)
        device = device or Device(id=message.device_id, registered_at=now)
        device.secret_digest, device.secret_confirmed = digest(secret), False
        device.join_token, device.removed_at, device.left, device.link_no = token, None, False, 0
        device.cordoned, device.draining, device.drain_deadline = False, False, None
    room.admit(device)
    new_run = device.run_id != message.run_id
    _describe(device, message, token)
    device.session = links.following(device.session, message.link_no)
    device.run_id, device.ip_address, device.gateway_id = message.run_id, address, gateway_id
    device.online, device.status_reason, device.connected_at = True, "", now
    device.paused_reason = pause_words(message.paused_reason)
    device.save(force_insert=not is_known)
    tales.online(device, joined=secret is not None)
    return Registration(device, secret, new_run)


def confirm_secret(device_id: str) -> None:
    """The device answered after its welcome, so it has stored its secret."""
    if Device.objects.filter(id=device_id, secret_confirmed=False).update(secret_confirmed=True):
        tales.changed(device_id, verified=True)  # who adds a device waits to see it


def proof_key(device_id: str) -> str:
    """The key with which this server proves itself to a device; a random one, which proves nothing, for others."""
    known = Device.objects.filter(id=device_id[:64], removed_at=None).values_list("secret_digest", flat=True)
    return known.first() or digest(new_secret(DEVICE_SECRET_PREFIX))


def confirm_link(device_id: str, session: int) -> None:
    """The device stored the number of this session: older ones are a copy's from now on."""
    Device.objects.filter(id=device_id, session=session).update(link_no=session)


def disconnect(device_id: str, session: int, *, reason: str, now: datetime) -> bool:
    """Mark offline, unless the device has connected anew since (then the verdict is void)."""
    gone = Device.objects.filter(id=device_id, session=session, online=True).update(
        online=False, status_reason=reason[:500], paused_reason="", disconnected_at=now
    )
    if gone:
        tales.offline([device_id], reason[:500])
    return bool(gone)


def note_pause(device_id: str, session: int, words: str) -> None:
    """The device takes no new task for this reason, or, with "", takes them again. Void for an old session."""
    if Device.objects.filter(id=device_id, session=session, online=True).update(paused_reason=words):
        tales.changed(device_id, paused_reason=words or None)


def pause_words(reason: str | None) -> str:
    """An agent's reason to take no new task, as one printable line; "" exactly when it takes them."""
    if reason is None:
        return ""
    line = " ".join("".join(char if char.isprintable() else " " for char in reason).split())
    return line[:MAX_PAUSE_WORDS] or "the device gives no reason"


def take_out_of_service(
    device_id: str, *, reason: str, now: datetime, action: str = "device.cordon", address: str = ""
) -> None:
    """Cordon a device because of what it did; the reason tells an operator. On record, once for each reason."""
    reason = reason[:500]
    known = Device.objects.filter(id=device_id).exclude(cordoned=True, cordon_reason=reason)
    if known.update(cordoned=True, cordon_reason=reason):
        tales.changed(device_id, cordoned=True, cordon_reason=reason)
        details = {"reason": reason, **({"from": address} if address else {})}
        audit.record(action, device_id, actor=audit.SYSTEM, now=now, details=details)


def is_member(device_id: str) -> bool:
    """Whether the device still belongs to the cluster: not once an operator removed it."""
    return Device.objects.members().filter(id=device_id).exists()


def to_dismiss(gateway_id: UUID) -> list[str]:
    """Devices that were removed while this gateway held their connection, until `dismissed`. One query."""
    removed = Device.objects.filter(removed_at__isnull=False, gateway_id=gateway_id)
    return list(removed.values_list("id", flat=True))


def dismissed(device_ids: list[str]) -> None:
    """Their agents are told, or were not connected any more."""
    Device.objects.filter(id__in=device_ids, removed_at__isnull=False).update(gateway=None)


def overdue_drains(gateway_id: UUID, *, now: datetime) -> list[str]:
    """Devices of this gateway whose time to run empty is over. One query."""
    over = Device.objects.filter(draining=True, drain_deadline__lte=now, gateway_id=gateway_id, online=True)
    return list(over.values_list("id", flat=True))


def start_gateway(gateway: Gateway, *, alone: bool, now: datetime) -> None:
    """Record a gateway's start. `alone`: no other gateway can live on this database, so no device is connected."""
    if alone:
        Gateway.objects.filter(stopped_at=None).update(stopped_at=now)
        _all_offline(Device.objects.filter(online=True), "the gateway was restarted", now)
    gateway.save(force_insert=True)
    tales.gateway(gateway, started=True)


def gateway_lives(gateway_id: UUID, *, now: datetime) -> bool:
    """Note that a gateway lives. False when others had given it up: then it counts as started anew."""
    if gateway_is_seen(gateway_id, now=now):
        return True
    Gateway.objects.filter(id=gateway_id).update(stopped_at=None, seen_at=now)
    return False


def gateway_is_seen(gateway_id: UUID, *, now: datetime) -> bool:
    """Note that a gateway lives, unless others had given it up: then nothing is stored. One statement."""
    return bool(Gateway.objects.filter(id=gateway_id, stopped_at=None).update(seen_at=now))


def silent_gateways(*, now: datetime) -> dict[UUID, dict[str, int]]:
    """Gateways that died without a word, each with the devices and sessions it still seems to hold."""
    silent = Gateway.objects.filter(stopped_at=None, seen_at__lt=now - GATEWAY_SILENCE)
    held: dict[UUID, dict[str, int]] = {gateway_id: {} for gateway_id in silent.values_list("id", flat=True)}
    rows = Device.objects.filter(gateway_id__in=held, online=True) if held else Device.objects.none()
    for gateway_id, device_id, session in rows.values_list("gateway_id", "id", "session"):
        held[gateway_id][device_id] = session
    return held


def is_connected(device: Device, *, now: datetime) -> bool:
    """Whether a gateway that lives holds the device's connection, as far as the rows tell."""
    gateway = device.gateway if device.online else None
    if gateway is None or gateway.stopped_at is not None:
        return False
    return gateway.seen_at is None or gateway.seen_at >= now - GATEWAY_SILENCE


def bury_gateway(gateway_id: UUID, *, now: datetime) -> None:
    """Record that a gateway died, and that its devices are not connected."""
    _end_gateway(Gateway.objects.filter(id=gateway_id, stopped_at=None), "its gateway died", now)


def stop_gateway(gateway_id: UUID, *, now: datetime) -> None:
    """Record a gateway's orderly end."""
    _end_gateway(Gateway.objects.filter(id=gateway_id), "the gateway was stopped", now)


def _end_gateway(found: QuerySet[Gateway], reason: str, now: datetime) -> None:
    for gateway in list(found):
        if not found.filter(pk=gateway.pk).update(stopped_at=now):
            continue  # another gateway was first
        _all_offline(Device.objects.filter(gateway_id=gateway.pk, online=True), reason, now)
        tales.gateway(gateway, started=False, reason=reason)


def _all_offline(devices: QuerySet[Device], reason: str, now: datetime) -> None:
    """These devices lost their connections at once."""
    with db.write_transaction():
        gone = list(devices.order_by("id").select_for_update().values_list("id", flat=True))
        devices.filter(id__in=gone).update(
            online=False, status_reason=reason, paused_reason="", disconnected_at=now
        )
        tales.offline(gone, reason)


def signature(device: Device) -> Signature:
    """What static requirements look at."""
    return Signature(
        task_types=frozenset(device.task_types),
        platform=device.platform,
        role=device.role,
        tags=frozenset(device.tags),
        cpu_count=device.cpu_count,
        memory_mb=device.allocatable_memory_mb,
        storage_mb=device.storage_mb,
        has_gpu=device.has_gpu,
        has_internet=device.has_internet,
    )


def offered_task_types() -> set[str]:
    """Every type a registered device offers, online or not."""
    offered: set[str] = set()
    for types in Device.objects.filter(removed_at=None).values_list("task_types", flat=True):
        offered.update(types)
    return offered


def _check_version(message: Register, device: Device | None) -> None:
    """Raises Refused; a known device that stays away for this shows the reason."""
    if message.protocol == PROTOCOL_VERSION:
        return
    side = "agent" if message.protocol < PROTOCOL_VERSION else "server"
    reason = f"the agent speaks protocol {message.protocol}, the server {PROTOCOL_VERSION}; update the {side}"
    if device is not None and message.secret is not None and matches(message.secret, device.secret_digest):
        away = Device.objects.members().filter(id=device.id, online=False)
        if away.exclude(status_reason=reason).update(status_reason=reason):
            tales.changed(device.id, refused=reason)
    raise Refused("too_old", reason)


def _proved(device: Device, message: Register) -> bool:
    """Whether a known device showed its secret. Raises Refused where a wrong one was shown."""
    if device.removed_at is not None:
        if message.join_token and (message.rejoin or device.left):
            return False
        raise Refused(
            "revoked", "this device was removed from the cluster; join anew with --rejoin and a token"
        )
    if message.secret is not None:
        if matches(message.secret, device.secret_digest):
            return True
        raise Refused("bad_secret", f"the credential of {device.id} is not the one the server knows")
    if device.secret_confirmed:
        raise Refused(
            "device_id_taken",
            f"a device {device.id!r} is already in the cluster; choose another --device-id, or remove that one",
        )
    return False  # it joined, but the answer with its secret never arrived


def _check_link(device: Device, message: Register, *, address: str, now: datetime) -> None:
    """Tell a copy of the device's data from the original. A copy is refused and the device cordoned: one of the two
    is not what the operator thinks it is. Raises Refused."""
    shown, same_run = message.link_no, message.run_id == device.run_id
    verdict = links.judge(shown, confirmed=device.link_no, same_run=same_run)
    if verdict is links.LinkVerdict.COPIED:
        take_out_of_service(device.id, reason=COPIED, now=now, action="device.copied", address=address)
        raise Refused("cloned", OLDER)
    if verdict is links.LinkVerdict.LATE:
        raise Refused("replaced", "this very agent has a newer connection")
    if shown:
        device.link_no = shown


def _admit(device: Device | None, message: Register, uses: tokens.Uses, *, now: datetime) -> JoinToken | None:
    if message.join_token is None:
        if message.secret is not None and device is None:
            raise Refused("unknown_device", "the server does not know this device; join again with a token")
        raise Refused(
            "bad_token", "a new device needs a join token: --token, as the server printed it at its start"
        )
    try:
        return uses.redeem(message.join_token, now=now)
    except tokens.TokenRefused as error:
        raise Refused("bad_token", str(error)) from None


def _describe(device: Device, message: Register, token: JoinToken | None) -> None:
    """Take over what the device says of itself, within what its token allows."""
    seen: Capabilities = message.capabilities
    allowed_types = set(token.task_types) if token and token.task_types else None
    device.role = (token.role if token else "") or message.role
    device.platform = seen.platform
    device.tags = sorted({*message.tags, *(token.tags if token else [])})
    device.task_types = sorted(t for t in message.task_types if allowed_types is None or t in allowed_types)
    device.slots = min(message.slots, token.max_slots) if token and token.max_slots else message.slots
    device.capabilities = _capabilities(seen)
    device.cpu_count = seen.cpu_count
    device.memory_mb = seen.memory_total_mb
    device.allocatable_memory_mb = allocatable_memory_mb(seen.memory_total_mb, message.max_memory_mb)
    device.storage_mb = seen.storage_total_mb
    device.has_gpu, device.has_internet = seen.has_gpu, seen.has_internet
    device.agent_version = message.agent_version


def _capabilities(seen: Capabilities) -> dict[str, Any]:
    named = {field.name for field in fields(Capabilities)}
    unknown = {name: why for name, why in seen.unknown.items() if name in named}
    return {**asdict(seen), "gpu_names": list(seen.gpu_names), "unknown": unknown}
