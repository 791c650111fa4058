"""What an operator sets: configuration sections, API keys and join tokens. Secrets are stored as hashes only."""

import uuid

from django.db import models
from django.db.models import Q


class ClusterIdentity(models.Model):
    """One row: which life of the database this is. `restore` gives it a new incarnation."""

    id = models.PositiveSmallIntegerField(primary_key=True, default=1)
    incarnation = models.UUIDField(default=uuid.uuid4)
    created_at = models.DateTimeField()

    class Meta:
        constraints = [models.CheckConstraint(condition=Q(id=1), name="clusteridentity_single_row")]


class ConfigSection(models.Model):
    """Stored overrides of one section of the registry; a section without a row has its defaults."""

    name = models.CharField(max_length=32, primary_key=True)
    values = models.JSONField(default=dict)
    version = models.PositiveIntegerField(default=1)
    changed_at = models.DateTimeField()

    def __str__(self) -> str:
        return self.name


class ConfigChange(models.Model):
    """Who changed which section of the configuration, when, from what to what. Append-only."""

    id = models.BigAutoField(primary_key=True)
    section = models.CharField(max_length=32)
    version = models.PositiveIntegerField(help_text="Of the section, after the change")
    changed_at = models.DateTimeField()
    changed_by = models.CharField(max_length=100, default="", blank=True)
    old = models.JSONField(help_text="Of the keys that changed")
    new = models.JSONField()

    class Meta:
        indexes = [models.Index(fields=["section", "-id"], name="configchange_by_section")]

    def __str__(self) -> str:
        return f"{self.section} {self.version}"


class AuditEntry(models.Model):
    """One change of state that somebody asked for: who, from where, what, on what. Append-only."""

    id = models.BigAutoField(primary_key=True)
    at = models.DateTimeField()
    actor = models.CharField(max_length=100, blank=True, help_text="Empty: a stranger, where that is allowed")
    address = models.CharField(max_length=45, blank=True, default="")
    action = models.CharField(max_length=50, help_text="Such as task.cancel")
    target = models.CharField(max_length=200, blank=True, default="", help_text="An id, or several by comma")
    details = models.JSONField(default=dict)
    request_id = models.CharField(max_length=36, blank=True, default="")

    class Meta:
        indexes = [
            models.Index(fields=["-at", "-id"], name="audit_newest"),
            models.Index(fields=["target", "-id"], name="audit_by_target"),
        ]

    def __str__(self) -> str:
        return f"{self.action} {self.target}"


class ApiKey(models.Model):
    """A client's right to call the API. `scopes` is a comma-separated list."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = models.CharField(max_length=100)
    prefix = models.CharField(max_length=16, help_text="The first characters, to recognise the key by")
    digest = models.CharField(max_length=64, unique=True)
    scopes = models.CharField(max_length=100, default="admin")
    task_types = models.JSONField(
        default=list, blank=True, help_text="With `execute`: only these types; empty means all"
    )
    rate_limits = models.CharField(
        max_length=100,
        blank=True,
        default="",
        help_text="Such as 600/minute;10000/hour, or off; empty: the default",
    )
    created_by = models.CharField(max_length=100, blank=True, default="")
    created_at = models.DateTimeField()
    expires_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return f"{self.name} ({self.prefix}…)"


class StreamTicket(models.Model):
    """A right to open `/ws` once, for clients that cannot send headers there: of a key or of a user."""

    id = models.BigAutoField(primary_key=True)
    digest = models.CharField(max_length=64, unique=True)
    key_id = models.CharField(max_length=36, blank=True, default="", help_text="As in KeyHolder")
    user_id = models.CharField(max_length=36, blank=True, default="", help_text="Where no key was used")
    origin = models.CharField(max_length=300, blank=True, default="", help_text="Whose page may use it")
    expires_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"ticket of {self.key_id or self.user_id}"


class SignInLink(models.Model):
    """A right to sign in once without a password. The row goes when it is used."""

    id = models.BigAutoField(primary_key=True)
    digest = models.CharField(max_length=64, unique=True)
    username = models.CharField(max_length=150, help_text="Whom it signs in")
    expires_at = models.DateTimeField()

    class Meta:
        indexes = [models.Index(fields=["username", "id"], name="signinlink_by_user")]

    def __str__(self) -> str:
        return f"sign-in link of {self.username}"


class JoinToken(models.Model):
    """A right to bring new devices into the cluster, with what they are preset to."""

    id = models.CharField(max_length=16, primary_key=True)
    name = models.CharField(max_length=100)
    digest = models.CharField(max_length=64, unique=True)
    role = models.CharField(max_length=10, blank=True, default="")
    tags = models.JSONField(default=list, blank=True)
    max_slots = models.PositiveIntegerField(null=True, blank=True)
    task_types = models.JSONField(default=list, blank=True, help_text="Empty: whatever the device offers")
    uses = models.PositiveIntegerField(default=0)
    max_uses = models.PositiveIntegerField(null=True, blank=True)
    created_by = models.CharField(max_length=100, blank=True, default="")
    created_at = models.DateTimeField()
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(max_uses=None) | Q(uses__lte=models.F("max_uses")),
                name="jointoken_uses_within_limit",
            )
        ]

    def __str__(self) -> str:
        return self.name
