"""Queries on tasks."""

from typing import TYPE_CHECKING

from django.db import models

if TYPE_CHECKING:
    from tasks.models import Task  # noqa: F401  named in the base class below


class TaskQuerySet(models.QuerySet["Task"]):
    """Tasks."""

    def newest(self) -> "TaskQuerySet":
        """Newest first, the same way at every look: the id breaks ties."""
        return self.order_by("-created_at", "-id")

    def for_list(self) -> "TaskQuerySet":
        """Without the texts a list does not show: a payload may have 256 KiB."""
        return self.defer("payload", "requirements", "metadata")
