"""`signinlink [USERNAME]`: a link that signs in once, from a terminal on the server."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from clusterconfig import audit, signin


class Command(BaseCommand):
    help = (
        "Make a link that signs a user in to the dashboard once: for the first visit, and for lost passwords."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "username", nargs="?", default=signin.FIRST_ADMINISTRATOR, help="whom; without it admin"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            secret = signin.issue(options["username"], now=timezone.now(), actor=audit.COMMAND)
        except signin.UnknownUserError as error:
            raise CommandError(str(error)) from None
        self.stdout.write(signin.path(secret))
        self.stderr.write(
            f"signs {options['username']} in once, within an hour; keep it to yourself. Open it in a browser,\n"
            "with the address of your dashboard before it: http://127.0.0.1:8081/sign-in/once/?secret=…"
        )
