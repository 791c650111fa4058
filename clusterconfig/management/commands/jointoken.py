"""`jointoken create | list | revoke`: join tokens from a terminal on the server."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from clusterconfig import audit, joining, serializers, tokens
from clusterconfig.management.operator import parsed, seconds, table, words
from clusterconfig.models import JoinToken


class Command(BaseCommand):
    help = "Make, list and revoke join tokens."

    def add_arguments(self, parser: CommandParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True)
        create = actions.add_parser(
            "create", help="make a token; it is printed once, with the command to run"
        )
        create.add_argument("name", help="what it is for")
        create.add_argument(
            "--max-uses", type=int, help="devices that may join with it; without it any number"
        )
        create.add_argument("--expires-in", default="", help="such as 12h or 30d; without it the token lasts")
        create.add_argument("--role", default="", help="given to every device that joins with it")
        create.add_argument("--tags", default="", help="given to every device that joins with it, by commas")
        create.add_argument("--task-types", default="", help="all that such a device may run, by commas")
        create.add_argument("--max-slots", type=int, help="most tasks at the same time on such a device")
        actions.add_parser("list", help="all tokens, newest first")
        revoke = actions.add_parser("revoke", help="admit no further device with it")
        revoke.add_argument("id", help="as in the list")

    def handle(self, *args: Any, **options: Any) -> None:
        {"create": self._create, "list": self._list, "revoke": self._revoke}[options["action"]](options)

    def _create(self, options: dict[str, Any]) -> None:
        now = timezone.now()
        body = {
            **{name: options[name] for name in ("name", "max_uses", "role", "max_slots")},
            "tags": words(options["tags"]),
            "task_types": words(options["task_types"]),
            "expires_in_seconds": seconds(options["expires_in"]) if options["expires_in"] else None,
        }
        new = parsed(serializers.parse_token, body, now=now)
        text, row = tokens.create(
            new.name,
            now=now,
            max_uses=new.max_uses,
            expires_at=new.expires_at,
            preset=new.preset,
            actor=audit.COMMAND,
        )
        shown = joining.as_device_needs_it(text)
        self.stdout.write(shown)
        # By the blank before the line most shells keep it out of their history.
        self.stderr.write(
            f"token {row.pk} of {row.name!r}: shown only now. On a device:\n {joining.command(shown)}"
        )

    def _list(self, options: dict[str, Any]) -> None:
        names = ("id", "name", "role", "tags", "uses", "max_uses", "is_active", "expires_at")
        rows = [
            serializers.token_row(row, now=timezone.now())
            for row in JoinToken.objects.order_by("-created_at", "-id")
        ]
        self.stdout.write(table(names, ([row[name] for name in names] for row in rows)))

    def _revoke(self, options: dict[str, Any]) -> None:
        try:
            row = tokens.revoke(options["id"], now=timezone.now(), actor=audit.COMMAND)
        except JoinToken.DoesNotExist:
            raise CommandError(
                f"there is no join token {options['id'][:16]!r}; `jointoken list` shows them"
            ) from None
        self.stdout.write(f"revoked {row.pk} of {row.name!r}")
