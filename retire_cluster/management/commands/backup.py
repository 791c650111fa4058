"""`backup FILE`: all rows and secrets of the cluster in one file, while it goes on working."""

from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from retire_cluster import backup


class Command(BaseCommand):
    help = (
        "Write all rows and secrets into one file that only this account can read. The cluster may run meanwhile. "
        "Whoever has the file has the cluster: keep it as safe as the cluster itself."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", type=Path, help="where to write it, such as cluster.zip")
        parser.add_argument("--force", action="store_true", help="replace the file if it exists")

    def handle(self, *args: Any, **options: Any) -> None:
        file: Path = options["file"].expanduser()
        try:
            counts = backup.write(file, settings.DATA_DIR, now=timezone.now(), replace=options["force"])
        except backup.BackupError as error:
            raise CommandError(str(error)) from None
        size = file.stat().st_size / 2**20
        self.stdout.write(
            f"{file}: {sum(counts.values())} rows, {counts['tasks.task']} of them tasks; {size:.1f} MB"
        )
