"""The outbox: one row for each transaction that changed something people follow."""

from django.db import models
from django.db.models import Q


class EventBatch(models.Model):
    """The events of one transaction, stored beside the changes they tell of.

    Sequence numbers are without a gap and in the order of commits. On SQLite a row gets its numbers when it is
    written; on Postgres, where ids are not in the order of commits, afterwards: see `numbering`.
    """

    id = models.BigAutoField(primary_key=True)
    seq_from = models.BigIntegerField(null=True, unique=True, help_text="Of its first event; null = not yet")
    count = models.PositiveIntegerField()
    events = models.TextField(help_text="JSON: a list of [type, data]")
    created_at = models.DateTimeField()

    class Meta:
        indexes = [models.Index(fields=["id"], condition=Q(seq_from=None), name="events_unnumbered")]

    def __str__(self) -> str:
        return f"{self.count} events from {self.seq_from}"
