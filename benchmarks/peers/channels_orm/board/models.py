from django.db import models


class Note(models.Model):
    """Something that happened."""

    id = models.UUIDField(primary_key=True)
    data = models.JSONField()
    created_at = models.DateTimeField(auto_now_add=True)


class Device(models.Model):
    """A device that sends heartbeats."""

    id = models.CharField(primary_key=True, max_length=64)
    capabilities = models.JSONField(default=dict)
    metrics = models.JSONField(default=dict)
    online = models.BooleanField(default=False)
    last_seen = models.DateTimeField(null=True)
