"""`retention`: delete now what is older than the configuration wants it kept."""

from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from clusterconfig.management.operator import table
from retire_cluster import db
from tasks import retention


class Command(BaseCommand):
    help = (
        "Delete finished tasks, output, metrics, audit entries and the like that are older than the configuration "
        "wants them kept, and say how many. Celery's beat does so each hour; the cluster may run meanwhile."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="only count, delete nothing")

    def handle(self, *args: Any, **options: Any) -> None:
        now = db.now()
        counts = retention.count(now) if options["dry_run"] else retention.run(now)
        self.stdout.write(table(("kind", "due" if options["dry_run"] else "deleted"), counts.items()))
