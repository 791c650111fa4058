"""How passwords are checked: the one place all sign-in pages pass (dashboard, admin, browsable API)."""

from typing import Any

from django.contrib.auth.backends import ModelBackend
from django.contrib.auth.models import User
from django.http import HttpRequest
from django.utils import timezone

from clusterconfig import guessing, signin
from clusterconfig.audit import Actor
from retire_cluster.api import client
from retire_cluster.api.envelope import request_id


class PasswordBackend(ModelBackend):
    """Django's, with a limit on guessing, and each right password on record."""

    def authenticate(
        self,
        request: HttpRequest | None,
        username: str | None = None,
        password: str | None = None,
        **more: Any,
    ) -> User | None:
        """The user, or None. Raises TooManyTriesError."""
        if request is None or username is None:  # no page asks: there is no address to count
            return super().authenticate(request, username, password, **more)
        tried = guessing.password(request, username)
        user = super().authenticate(request, username, password, **more)
        if user is not None:
            tried.was_right()
            actor = Actor(f"user:{username}", client.address(request), request_id(request))
            signin.note_password(user, actor=actor, now=timezone.now())
        return user
