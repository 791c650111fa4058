"""How PostgreSQL keeps the tables that change all the time: set by migrations, and it helps."""

import pytest
from django.apps import apps
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.recorder import MigrationRecorder
from django.utils import timezone

from devices import presence
from devices.models import Presence
from tests.factories import make_device

pytestmark = pytest.mark.django_db(transaction=True)

OFTEN = {
    "autovacuum_vacuum_scale_factor=0.01",
    "autovacuum_vacuum_threshold=1000",
    "autovacuum_analyze_scale_factor=0.02",
    "autovacuum_analyze_threshold=1000",
}
WANTED = {
    "tasks_task": OFTEN,
    "tasks_attempt": OFTEN,
    "tasks_tally": {"autovacuum_vacuum_scale_factor=0", "autovacuum_vacuum_threshold=1000"},
    "devices_presence": {
        "fillfactor=50",
        "autovacuum_vacuum_scale_factor=0.05",
        "autovacuum_vacuum_threshold=500",
    },
}


def stored() -> dict[str, set[str]]:
    """Settings by table, of those that have any; SQLite has no such thing."""
    if connection.vendor == "sqlite":
        return {}
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT relname, reloptions FROM pg_class WHERE reloptions IS NOT NULL AND relkind = 'r'"
        )
        ours = {model._meta.db_table for model in apps.get_models()}
        return {name: set(options) for name, options in cursor.fetchall() if name in ours}


def test_tables_that_change_are_vacuumed_often_and_the_setting_can_be_taken_back() -> None:
    wanted = WANTED if connection.vendor == "postgresql" else {}
    assert stored() == wanted
    recorder = MigrationRecorder(connection)
    MigrationExecutor(connection).migrate(
        [("devices", "0007_metrics_samples"), ("tasks", "0004_list_indexes")]
    )
    try:
        assert ("tasks", "0005_storage_on_postgres") not in recorder.applied_migrations()
        assert stored() == {}
    finally:
        executor = MigrationExecutor(connection)
        executor.migrate(executor.loader.graph.leaf_nodes())
    assert ("tasks", "0005_storage_on_postgres") in recorder.applied_migrations()
    assert stored() == wanted


def rewritten() -> tuple[int, int]:
    """Rows of the table updated so far, and how many of them stayed on their page, so that no index was touched."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_stat_force_next_flush(), pg_stat_clear_snapshot()")
        cursor.execute(
            "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'devices_presence'"
        )
        updated, on_their_page = cursor.fetchone()
    return updated, on_their_page


def test_a_sign_of_life_written_again_touches_no_index() -> None:
    """The first time a row of the same size has room on its page; later it also takes a page that was tidied up."""
    devices = [make_device() for _ in range(400)]

    def write() -> None:
        for device in devices:
            presence.note(device.pk, {}, now=timezone.now(), heartbeat=True)
        presence.flush(only=[device.pk for device in devices])

    write()
    before = rewritten() if connection.vendor == "postgresql" else (0, 0)
    write()
    assert set(Presence.objects.values_list("heartbeats", flat=True)) == {2}
    if connection.vendor == "sqlite":
        return
    updated, on_their_page = (after - then for after, then in zip(rewritten(), before, strict=True))
    assert updated == len(devices)
    assert on_their_page > 0.8 * updated
