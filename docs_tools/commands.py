"""The page of every command's `--help`, from its own parser; words that a command takes have one of their own."""

import argparse
import os
from collections.abc import Iterator
from pathlib import Path

WIDTH = "100"  # of the help texts, in characters
ROOT = Path(__file__).parents[1]
INTRODUCTION = """\
# Command line

What each command says of itself with `--help`, made from its parser when these pages are built. Defaults and
variables are in [configuration](configuration.md), more about the commands on the server in
[commands](commands.md), about `retire-cluster` and `retire-cluster-status` in [the terminal](terminal.md).
"""


def page() -> str:
    """Markdown. Loads Django with the present environment."""
    os.environ["COLUMNS"] = WIDTH
    return INTRODUCTION + "".join(_section(parser) for parser in every_parser())


def every_parser() -> Iterator[argparse.ArgumentParser]:
    """Of the commands, each followed by those of its words."""
    waiting = list(parsers())
    while waiting:
        parser = waiting.pop(0)
        yield parser
        waiting[:0] = _of_words(parser)


def _of_words(parser: argparse.ArgumentParser) -> list[argparse.ArgumentParser]:
    found = [
        choice
        for action in parser._actions
        if isinstance(action, argparse._SubParsersAction)
        for choice in action.choices.values()
    ]
    return list(dict.fromkeys(found))  # a word may have two spellings


def parsers() -> Iterator[argparse.ArgumentParser]:
    """Of the programs, then of the project's management commands."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "retire_cluster.settings")
    import django
    from django.core.management import get_commands, load_command_class

    from retire_cluster.cli import api, gateway, worker
    from retire_cluster.terminal import main, status

    yield from (api._parser(), gateway._parser(), worker.build_parser(), main.build_parser())
    yield status.build_parser()
    django.setup()
    ours = {file.stem for file in ROOT.glob("*/management/commands/*.py")}
    for name, application in sorted(get_commands().items()):
        if name in ours and isinstance(application, str):
            yield load_command_class(application, name).create_parser("retire-cluster-manage", name)


def _section(parser: argparse.ArgumentParser) -> str:
    return f"\n## `{parser.prog}`\n\n```text\n{parser.format_help().rstrip()}\n```\n"
