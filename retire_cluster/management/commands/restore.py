"""`restore FILE`: the cluster as it was when the backup was made, in place of what there is."""

from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError

from devices.models import Gateway
from retire_cluster import backup, datadir, db, startup

GATEWAY_LOCK = "gateway.lock"


class Command(BaseCommand):
    help = (
        "Put a backup in place of all rows and secrets there are, or into an empty database; on SQLite or "
        "Postgres, whichever it came from. Stop the cluster's processes first. Devices come back by themselves."
    )
    requires_system_checks: list[str] = []  # the database may be empty
    requires_migrations_checks = False

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", type=Path, help="a file that `backup` wrote")
        parser.add_argument("--yes", action="store_true", help="do not ask")
        parser.add_argument(
            "--force", action="store_true", help="although a gateway seems to run on this database"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        file: Path = options["file"].expanduser()
        if not file.is_file():
            raise CommandError(f"there is no file {file}")
        if not options["yes"] and not self._agreed():
            raise CommandError("nothing was changed")
        try:
            done = self._restore(file, force=options["force"])
        except (backup.BackupError, startup.StartupError, datadir.DataDirError) as error:
            raise CommandError(str(error)) from None
        rows, tasks = sum(done.counts.values()), done.counts.get("tasks.task", 0)
        self.stdout.write(f"restored {rows} rows, {tasks} of them tasks")
        if done.kept is not None:
            self.stdout.write(
                f"the database of before is kept in {done.kept}; delete it when you need it no more"
            )
        self.stdout.write("now start the cluster again; its devices come back by themselves")

    def _agreed(self) -> bool:
        where = settings.DATABASES["default"]["NAME"]
        try:
            return input(f"This replaces everything in {where}. Type yes to go on: ").strip() == "yes"
        except EOFError:
            raise CommandError("nobody answers here; nothing was changed. Agree to it with --yes") from None

    def _restore(self, file: Path, *, force: bool) -> backup.Restored:
        directory = datadir.ensure(settings.DATA_DIR)
        with (
            startup.exclusive(directory / GATEWAY_LOCK, wait=False),
            startup.exclusive(directory / "migrate.lock", wait=True),
        ):
            if not force and _gateway_seems_to_run():
                raise CommandError(
                    "a gateway uses this database; stop all processes of the cluster first (--force if none runs)"
                )
            return backup.restore(file, directory)


def _gateway_seems_to_run() -> bool:
    """On Postgres the lock of this data directory says nothing about other machines."""
    if db.is_sqlite():
        return False
    try:
        return Gateway.objects.filter(stopped_at=None).exists()
    except DatabaseError:  # not even the tables are there
        return False
