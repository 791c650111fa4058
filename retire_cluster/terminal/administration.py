"""Configuration, API keys and join tokens from the terminal; for administrators."""

import argparse
import json
from collections.abc import Iterable, Mapping
from typing import Any

from retire_cluster.sdk import Client
from retire_cluster.sdk.errors import NotFound
from retire_cluster.sdk.models import JoinToken, Key
from retire_cluster.terminal import advice, shown
from retire_cluster.terminal.exits import Exit, Trouble

KEY_COLUMNS = ("id", "name", "begins", "may", "active", "used", "expires", "by")
TOKEN_COLUMNS = ("id", "name", "uses", "of", "active", "role", "tags", "expires", "by")
_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


def config(client: Client, arguments: argparse.Namespace) -> int:
    """`config`, `config SECTION`, `config SECTION NAME=VALUE…`, `config reset`."""
    if arguments.section == "reset":
        if not arguments.yes:
            raise Trouble("this sets every setting to its default; repeat the command with --yes", Exit.USAGE)
        return _settings(client.reset_config(), arguments)
    if arguments.section is None:
        return _settings(client.config(), arguments)
    try:
        section = client.config_section(arguments.section)
    except NotFound:
        known = ", ".join(client.config())
        raise Trouble(f"there is no section {arguments.section!r}; the sections are {known}") from None
    if arguments.change:
        # Only as it was read: two who change at once would undo each other.
        changes = dict(map(_assignment, arguments.change))
        section = client.change_config(section.name, changes, etag=section.etag)
    return _settings({section.name: section.values}, arguments)


def _settings(sections: Mapping[str, Mapping[str, Any]], arguments: argparse.Namespace) -> int:
    if arguments.json:
        shown.as_json(sections)
    else:
        rows = [(name, key, value) for name, values in sections.items() for key, value in values.items()]
        shown.table(("section", "setting", "value"), rows)
    return Exit.OK


def _assignment(text: str) -> tuple[str, Any]:
    """NAME=VALUE; the value is JSON, or else text."""
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise Trouble(f"{text!r} must be NAME=VALUE, as interval=30", Exit.USAGE)
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def duration(text: str) -> int:
    """Seconds of `90s`, `15m`, `12h`, `30d`. Raises argparse.ArgumentTypeError."""
    number, unit = text[:-1], text[-1:]
    if not number.isdecimal() or unit not in _UNITS:
        raise argparse.ArgumentTypeError(f"must be like 90s, 15m, 12h or 30d, is {text!r}")
    return int(number) * _UNITS[unit]


def keys(client: Client, arguments: argparse.Namespace) -> int:
    """`keys`: all of them."""
    return _say_keys(list(client.keys()), arguments)


def create_key(client: Client, arguments: argparse.Namespace) -> int:
    """`keys create NAME`: its text goes to standard output, alone, and is shown only now."""
    made = client.create_key(
        arguments.name,
        arguments.scopes,
        task_types=arguments.task_types,
        rate_limits=arguments.rate_limits,
        expires_in_seconds=arguments.expires,
    )
    if arguments.json:
        shown.as_json(made.raw)
        return Exit.OK
    shown.note(f"key {made.name} ({', '.join(made.scopes)}); keep it now, it is not shown again:")
    shown.say(made.key)
    return Exit.OK


def revoke_key(client: Client, arguments: argparse.Namespace) -> int:
    """`keys revoke ID`."""
    with advice.where_missing("`retire-cluster keys` lists those there are"):
        revoked = client.revoke_key(arguments.id, own=arguments.own)
    return _say_keys([revoked], arguments)


def _say_keys(found: Iterable[Key], arguments: argparse.Namespace) -> int:
    if arguments.json:
        shown.as_json([key.raw for key in found])
        return Exit.OK
    rows = [
        (
            key.id,
            key.name,
            key.prefix,
            key.scopes,
            key.is_active,
            key.last_used_at,
            key.expires_at,
            key.created_by,
        )
        for key in found
    ]
    shown.table(KEY_COLUMNS, rows, empty="no keys")
    return Exit.OK


def tokens(client: Client, arguments: argparse.Namespace) -> int:
    """`tokens`: all join tokens."""
    return _say_tokens(list(client.join_tokens()), arguments)


def create_token(client: Client, arguments: argparse.Namespace) -> int:
    """`tokens create NAME`: the line that joins a device, on standard output, alone."""
    made = client.create_join_token(
        arguments.name,
        max_uses=arguments.uses,
        role=arguments.role,
        tags=arguments.tag,
        task_types=arguments.task_types,
        max_slots=arguments.slots,
        expires_in_seconds=arguments.expires,
    )
    if arguments.json:
        shown.as_json(made.raw)
        return Exit.OK
    shown.note("run this on the device; the token in it is not shown again:")
    shown.say(f" {made.join_command}")  # by the blank most shells keep it out of their history
    return Exit.OK


def revoke_token(client: Client, arguments: argparse.Namespace) -> int:
    """`tokens revoke ID`: devices that joined with it stay."""
    with advice.where_missing("`retire-cluster tokens` lists those there are"):
        revoked = client.revoke_join_token(arguments.id)
    return _say_tokens([revoked], arguments)


def _say_tokens(found: Iterable[JoinToken], arguments: argparse.Namespace) -> int:
    if arguments.json:
        shown.as_json([token.raw for token in found])
        return Exit.OK
    rows = [
        (
            token.id,
            token.name,
            token.uses,
            token.max_uses or "any",
            token.is_active,
            token.role,
            token.tags,
            token.expires_at,
            token.created_by,
        )
        for token in found
    ]
    shown.table(TOKEN_COLUMNS, rows, empty="no join tokens")
    return Exit.OK
