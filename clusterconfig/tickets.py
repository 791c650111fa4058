"""Tickets for `/ws`: browsers cannot send a key there, and a key has no business in an address.

A ticket opens one connection within half a minute, for a page of the origin that asked for it. It is a name for
the key or user behind it: a connection that was opened with it lasts no longer than their right to read.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from clusterconfig.models import StreamTicket
from retire_cluster.credentials import TICKET_PREFIX, digest, new_secret
from retire_cluster.db import write_transaction

LIFE = timedelta(seconds=30)


class TicketRefusedError(Exception):
    """The ticket opens nothing; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Bearer:
    """Who a ticket stands for: a key, by its id, or a user."""

    key_id: str = ""
    user_id: str = ""


def issue(bearer: Bearer, *, origin: str, now: datetime) -> tuple[str, datetime]:
    """A new ticket and when it expires. Those nobody used go with it."""
    ticket, expires_at = new_secret(TICKET_PREFIX), now + LIFE
    with write_transaction():
        StreamTicket.objects.filter(expires_at__lte=now).delete()
        StreamTicket.objects.create(
            digest=digest(ticket),
            key_id=bearer.key_id,
            user_id=bearer.user_id,
            origin=origin[:300],
            expires_at=expires_at,
        )
    return ticket, expires_at


def redeem(ticket: str, *, origin: str, now: datetime) -> Bearer:
    """Who the ticket stands for; it is used up. Raises TicketRefusedError."""
    with write_transaction():
        row = StreamTicket.objects.filter(digest=digest(ticket)).first()
        used = row is not None and StreamTicket.objects.filter(pk=row.pk).delete()[0] == 1
    if row is None or not used or row.expires_at <= now:
        raise TicketRefusedError(
            "this ticket was used, has expired or is not known here; get a new one: POST /api/v1/ws-tickets"
        )
    if row.origin != origin[:300]:
        raise TicketRefusedError("this ticket was given to a page of another origin")
    return Bearer(row.key_id, row.user_id)
