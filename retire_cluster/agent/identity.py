"""Who this device is to its gateway: `agent.json`, private, written whole or not at all."""

import contextlib
import json
import logging
import os
import re
import secrets
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import get_args

from retire_cluster.agent.address import Trust
from retire_cluster.protocol.messages import LinkNumber

MAX_LINK_NO = get_args(LinkNumber)[1].high

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Identity:
    """The device's id, and once it has joined, its secret and what it knows of the gateway."""

    device_id: str
    secret: str | None = None
    incarnation: str | None = None  # of the cluster that gave the secret
    pin: str | None = None
    plain: bool = False
    link_no: int = 0  # the newest the gateway gave; who shows an older one uses a copy of this file

    @property
    def trust(self) -> Trust:
        return Trust(pin=self.pin, plain=self.plain)

    def forgotten(self) -> "Identity":
        """The same device without its credential."""
        return replace(self, secret=None, incarnation=None, pin=None, plain=False, link_no=0)


class IdentityStore:
    """The identity file of one agent."""

    def __init__(self, directory: Path) -> None:
        self._file = directory / "agent.json"

    def load(self) -> Identity | None:
        """The stored identity; None if there is none or it is damaged (which is logged)."""
        try:
            found = json.loads(self._file.read_text(encoding="utf-8"))
            identity = _identity(found)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError) as error:
            logger.warning("%s cannot be used and is made anew: %s", self._file, error)
            return None
        # What is shown to the gateway must not be undone by a power cut: whoever wrote it may not have come so far.
        with contextlib.suppress(OSError):
            _sync_directory(self._file.parent)
        return identity

    def save(self, identity: Identity) -> None:
        """Replace the file; when this returns, the new one survives a power cut. Raises OSError."""
        draft = self._file.with_suffix(".tmp")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            json.dump(asdict(identity), stream)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(draft, self._file)
        _sync_directory(self._file.parent)


def _identity(found: object) -> Identity:
    if not (isinstance(found, dict) and isinstance(found.get("device_id"), str)):
        raise TypeError("it has no device_id")
    known = {field.name: found[field.name] for field in fields(Identity) if field.name in found}
    for name, value in known.items():
        wanted = bool if name == "plain" else str
        fits = value is None or isinstance(value, wanted)
        if not (_is_link_no(value) if name == "link_no" else fits):
            raise TypeError(f"{name} has the wrong type")
    return Identity(**known)


def _is_link_no(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_LINK_NO


def _sync_directory(directory: Path) -> None:
    """Make the rename durable; Windows has no such call and needs none."""
    if os.name == "nt":
        return
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def new_device_id(hostname: str) -> str:
    """`<slug of hostname>-<4 hex>`: readable, and two phones named localhost do not collide."""
    slug = re.sub(r"[^a-z0-9]+", "-", hostname.partition(".")[0].lower()).strip("-")[:40].strip("-")
    return f"{slug or 'device'}-{secrets.token_hex(2)}"
