"""`apikey create | list | revoke`: API keys from a terminal on the server."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db.models import Q
from django.utils import timezone

from clusterconfig import audit, keys, serializers
from clusterconfig.management.operator import parsed, seconds, table, words
from clusterconfig.models import ApiKey


class Command(BaseCommand):
    help = "Make, list and revoke API keys."

    def add_arguments(self, parser: CommandParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True)
        create = actions.add_parser("create", help="make a key; its text is printed once")
        create.add_argument("name", help="what it is for")
        create.add_argument(
            "--scopes", required=True, help="of read, submit, execute, operate, admin; by commas"
        )
        create.add_argument("--task-types", default="", help="with execute: only these types, by commas")
        create.add_argument("--rate-limits", default="", help="such as 600/minute;10000/hour, or off")
        create.add_argument("--expires-in", default="", help="such as 12h or 30d; without it the key lasts")
        actions.add_parser("list", help="all keys, newest first")
        revoke = actions.add_parser("revoke", help="end a key for good")
        revoke.add_argument("key", help="its id or its prefix, as in the list")

    def handle(self, *args: Any, **options: Any) -> None:
        {"create": self._create, "list": self._list, "revoke": self._revoke}[options["action"]](options)

    def _create(self, options: dict[str, Any]) -> None:
        now = timezone.now()
        body = {
            "name": options["name"],
            "scopes": words(options["scopes"]),
            "task_types": words(options["task_types"]),
            "rate_limits": options["rate_limits"],
            "expires_in_seconds": seconds(options["expires_in"]) if options["expires_in"] else None,
        }
        new = parsed(serializers.parse_key, body, now=now)
        key, row = keys.create(
            new.name,
            new.scopes,
            now=now,
            expires_at=new.expires_at,
            task_types=new.task_types,
            rate_limits=new.rate_limits,
            actor=audit.COMMAND,
        )
        self.stdout.write(key)
        self.stderr.write(f"key {row.prefix}… of {row.name!r}: shown only now, keep it safe")

    def _list(self, options: dict[str, Any]) -> None:
        names = ("id", "prefix", "name", "scopes", "is_active", "last_used_at", "expires_at")
        rows = [
            serializers.key_row(row, now=timezone.now())
            for row in ApiKey.objects.order_by("-created_at", "-id")
        ]
        self.stdout.write(table(names, ([row[name] for name in names] for row in rows)))

    def _revoke(self, options: dict[str, Any]) -> None:
        row = keys.revoke(_find(options["key"]).pk, now=timezone.now(), actor=audit.COMMAND)
        self.stdout.write(f"revoked {row.prefix}… of {row.name!r}")


def _find(text: str) -> ApiKey:
    """The one key with this id or prefix; never by its text, which `ps` would show. Raises CommandError."""
    prefix = text.removesuffix("…")
    by_id = Q(pk=text) if serializers.is_uuid(text) else Q(pk=None)
    found = list(ApiKey.objects.filter(by_id | Q(prefix=prefix))[:2]) if prefix else []
    if len(found) != 1:
        raise CommandError(f"no key has the id or prefix {prefix[:16]!r}; `apikey list` shows them")
    return found[0]
