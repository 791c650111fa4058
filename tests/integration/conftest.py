"""A database whose tests commit, and which is emptied after each of them."""

import pytest
from django.contrib.auth.management import create_permissions
from django.contrib.contenttypes.management import create_contenttypes
from django.db.models.signals import post_migrate

from tasks import profiles

PERMISSIONS = "django.contrib.auth.management.create_permissions"  # the name Django connects it under


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None) -> None:
    """Django makes permissions and content types anew each time: longer than most tests, and none reads them."""
    assert post_migrate.disconnect(create_contenttypes)
    assert post_migrate.disconnect(create_permissions, dispatch_uid=PERMISSIONS)


@pytest.fixture(autouse=True)
def _no_profile_of_another_test() -> None:
    """Each test has a database of its own, as a process has only one."""
    profiles.forget()
