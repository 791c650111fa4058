"""Signing in without a password: links that work once, for the first administrator and for lost passwords.

A link is as good as a password until it is used, so it lives for hours only, and with the first one used all others
of its user end.
"""

from dataclasses import replace
from datetime import datetime, timedelta

from django.contrib.auth.hashers import UNUSABLE_PASSWORD_PREFIX
from django.contrib.auth.models import User
from django.db.models import QuerySet

from clusterconfig import audit
from clusterconfig.audit import Actor
from clusterconfig.models import SignInLink
from retire_cluster.credentials import SIGN_IN_PREFIX, digest, new_secret
from retire_cluster.db import write_transaction

FIRST_ADMINISTRATOR = "admin"
FIRST_LIFE = timedelta(hours=24)  # printed by a server that may have been started in the evening
LIFE = timedelta(hours=1)  # asked for by somebody who sits there
PATH = "/sign-in/once/"


class LinkRefusedError(Exception):
    """The link signs nobody in; the message says what to do."""


class UnknownUserError(Exception):
    """There is nobody of that name whom a link could sign in; the message says what to do."""


def path(secret: str) -> str:
    """The link, without the server's own address."""
    return f"{PATH}?secret={secret}"


def nobody_can_sign_in() -> bool:
    """Whether there is no administrator yet: no member of staff has a password or ever signed in."""
    staff = User.objects.filter(is_active=True, is_staff=True)
    return not staff.exclude(last_login=None, password__startswith=UNUSABLE_PASSWORD_PREFIX).exists()


def first_link(*, now: datetime) -> str:
    """The secret of a link for the first administrator, as long as nobody could sign in otherwise; else empty."""
    if not nobody_can_sign_in():
        return ""
    namesake = User.objects.filter(username=FIRST_ADMINISTRATOR).first()
    if namesake is not None and not (namesake.is_active and namesake.is_staff):
        return ""  # somebody's decision: createsuperuser is left
    return issue(FIRST_ADMINISTRATOR, now=now, life=FIRST_LIFE)


def issue(username: str, *, now: datetime, life: timedelta = LIFE, actor: Actor = audit.SYSTEM) -> str:
    """The secret of a new link. Those that expired go with it. Raises UnknownUserError."""
    secret = new_secret(SIGN_IN_PREFIX)
    with write_transaction():
        _require_somebody(username)
        SignInLink.objects.filter(expires_at__lte=now).delete()
        SignInLink.objects.create(digest=digest(secret), username=username, expires_at=now + life)
        audit.record("user.link", username, actor=actor, now=now)
    return secret


def owner(secret: str, *, now: datetime) -> str:
    """Whom the link would sign in; it stays good. Raises LinkRefusedError."""
    row = SignInLink.objects.filter(digest=digest(secret), expires_at__gt=now).first()
    if row is None:
        raise LinkRefusedError(
            "This link was used, has expired or is not known here. "
            "Get a new one on the server: retire-cluster-manage signinlink (after make run: in .venv/bin)"
        )
    return row.username


def redeem(secret: str, *, caller: Actor, now: datetime) -> User:
    """The user whom the link signs in; it and all other links of that user are used up. Raises LinkRefusedError."""
    with write_transaction():
        username = owner(secret, now=now)
        actor = replace(caller, principal=f"user:{username}")
        _use_up(secret, username)
        user = _user(username, actor=actor, now=now)
        audit.record("user.sign_in", username, actor=actor, now=now, details={"by": "link"})
    return user


def note_password(user: User, *, actor: Actor, now: datetime) -> None:
    """Put on record that somebody gave the user's right password."""
    with write_transaction():
        audit.record("user.sign_in", user.username, actor=actor, now=now, details={"by": "password"})


def set_password(user: User, password: str, *, actor: Actor, now: datetime) -> None:
    """Give the user another password. Links of the user end: who sets a password may mean to lock others out."""
    user.set_password(password)
    with write_transaction():
        user.save(update_fields=["password"])
        _links(user.username).delete()
        audit.record("user.password", user.username, actor=actor, now=now)


def _require_somebody(username: str) -> None:
    if username == FIRST_ADMINISTRATOR and nobody_can_sign_in():
        return  # made when the link is used
    if not User.objects.filter(username=username, is_active=True).exists():
        raise UnknownUserError(
            f"there is no active user {username[:150]!r}; make one with: retire-cluster-manage createsuperuser"
        )


def _use_up(secret: str, username: str) -> None:
    """Delete all links of the user, if this one is still among them when it is this transaction's turn."""
    # Locked in one order, so that two links used at once do not wait for each other.
    locked = list(_links(username).select_for_update().order_by("id"))
    if digest(secret) not in [row.digest for row in locked]:
        raise LinkRefusedError("This link was used just now.")
    _links(username).filter(pk__in=[row.pk for row in locked]).delete()


def _links(username: str) -> QuerySet[SignInLink]:
    return SignInLink.objects.filter(username=username)


def _user(username: str, *, actor: Actor, now: datetime) -> User:
    user = User.objects.filter(username=username).first()
    if user is None and username == FIRST_ADMINISTRATOR and nobody_can_sign_in():
        user = User.objects.create_superuser(username)  # without a password: nobody can guess it
        audit.record("user.create", username, actor=actor, now=now, details={"by": "first link"})
    if user is None or not user.is_active:
        raise LinkRefusedError(f"The user {username} is gone or was switched off; ask an administrator.")
    return user
