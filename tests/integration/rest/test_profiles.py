"""Requirement profiles that this process knows without asking."""

from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from tasks import profiles
from tasks.models import Profile
from tasks.scheduling.profiles import ProfileKey, Requirements
from tests.factories import START

pytestmark = pytest.mark.django_db

ECHO = ProfileKey("echo", Requirements())


@pytest.fixture(autouse=True)
def _for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profiles, "REMEMBERED_S", 3600.0)  # however slow this machine is


def test_one_in_use_is_asked_for_once() -> None:
    made = profiles.ensure([ECHO], now=START)
    profiles.ensure([ECHO], now=START)
    with CaptureQueriesContext(connection) as queries:
        assert profiles.ensure([ECHO], now=START) == made
    assert len(queries) == 0


def test_a_new_one_beside_it_is_made() -> None:
    other = ProfileKey("echo", Requirements(min_cpu_cores=2))
    for _ in range(2):
        profiles.ensure([ECHO], now=START)

    found = profiles.ensure([ECHO, other], now=START)

    assert found == {key: Profile.objects.get(digest=key.digest()).pk for key in (ECHO, other)}


def test_one_whose_making_was_undone_is_made_again() -> None:
    with transaction.atomic():
        profiles.ensure([ECHO], now=START)
        transaction.set_rollback(True)

    found = profiles.ensure([ECHO], now=START)

    assert Profile.objects.get().pk == found[ECHO]


def test_an_idle_one_is_in_use_from_now_on() -> None:
    """Before it is remembered: those that nobody used for a week may be deleted."""
    later = START + timedelta(days=8)
    profiles.ensure([ECHO], now=START)

    profiles.ensure([ECHO], now=later)

    assert Profile.objects.get().last_used_at == later


def test_after_a_while_it_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profiles, "REMEMBERED_S", 0.0)
    for _ in range(2):
        profiles.ensure([ECHO], now=START)
    with CaptureQueriesContext(connection) as queries:
        profiles.ensure([ECHO], now=START)
    assert len(queries) == 1
