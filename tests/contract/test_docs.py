"""Examples in the documentation parse, and what it names exists: commands, flags, variables, paths, goals."""

import ast
import json
import re
import subprocess
import tomllib
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.core.management import get_commands, load_command_class

from tests.architecture.code import PRODUCT, ROOT, sources
from tests.architecture.test_reference import PARSERS, VARIABLE, flags, flags_of, variables
from tests.documented import PAGES, every_block, home_assistant_yaml

# Pages that tell of the past, of messages and of measurements name what may not be there any more.
HISTORY = ("docs/decisions/", "docs/explanation/benchmarks.md", "docs/explanation/performance.md")
PRESENT = [page for page in PAGES if not str(page.relative_to(ROOT)).startswith(HISTORY)]
# The bare name is a directory and an image, too: it is a program only where a command begins.
PROGRAM = re.compile(
    r"^ *(?:sudo )?(?:\S*/)?(retire-cluster)(?= |$)|(?<![\w/.-])(?:\S*/)?(retire-cluster-\w+)(?= |$)"
)
FLAG = re.compile(r"(?<![\w-])--[a-z][a-z-]+")
API_PATH = re.compile(r"/api/v1(?:/[\w.{}$-]+)*(?![\w{$])")
# Flags in backticks by themselves that belong to another program, which the sentence names.
OF_OTHERS = {"--no-healthcheck": "docker", "--no-proxy-headers": "uvicorn"}


def complaint_of_bash(text: str) -> str:
    """What bash says of the text without running it."""
    done = subprocess.run(["bash", "-n"], input=text, capture_output=True, text=True, check=False)
    return done.stderr


def complaint_of(read: Callable[[str], Any], text: str) -> str:
    try:
        read(text)
    except (ValueError, SyntaxError, yaml.YAMLError) as error:
        return str(error)
    return ""


READERS: dict[str, Callable[[str], str]] = {
    "bash": complaint_of_bash,
    "json": lambda text: complaint_of(json.loads, text),
    "yaml": lambda text: complaint_of(home_assistant_yaml, text),
    "toml": lambda text: complaint_of(tomllib.loads, text),
    "python": lambda text: complaint_of(ast.parse, text),
}


@pytest.mark.parametrize("language", READERS)
def test_examples_are_of_their_language(language: str) -> None:
    examples = every_block(language)
    assert examples
    assert {str(block): said for block in examples if (said := READERS[language](block.text))} == {}


@pytest.mark.parametrize(
    ("language", "text"),
    [("bash", "if true"), ("json", "{"), ("yaml", "a: [b"), ("toml", "a ="), ("python", "def f(")],
)
def test_an_example_of_no_language_is_found(language: str, text: str) -> None:
    assert READERS[language](text)


@cache
def known_flags(program: str, command: str) -> frozenset[str]:
    """The flags of a program of ours; of `retire-cluster-manage` those of the command."""
    if program in PARSERS:
        return frozenset(flags_of(PARSERS[program]()) | {"--help"})
    if program == "retire-cluster-manage":
        return _of_command(command)
    every = {flag for source in sources(*PRODUCT) for flag in flags(source)}
    return frozenset(every | {"--help"})


def _of_command(name: str) -> frozenset[str]:
    application = get_commands().get(name)
    assert application, f"there is no command {name!r}"
    loaded = load_command_class(application, name) if isinstance(application, str) else application
    found: set[str] = set()
    parsers = [loaded.create_parser("retire-cluster-manage", name)]
    while parsers:
        for action in parsers.pop()._actions:
            found.update(flag for flag in action.option_strings if flag.startswith("--"))
            if isinstance(action.choices, dict):
                parsers += [item for item in action.choices.values() if hasattr(item, "_actions")]
    return frozenset(found)


def commands_in(text: str) -> Iterator[tuple[str, str, list[str]]]:
    """Program, its first word and its flags, of each command line of ours. Continued lines are one."""
    for line in text.replace("\\\n", " ").splitlines():
        for part in re.split(
            r"[|;&()`]|\$\(", line.partition(" # ")[0].replace("python manage.py", "retire-cluster-manage")
        ):
            if found := PROGRAM.search(part):
                rest = part[found.end() :].split()
                yield found[1] or found[2], rest[0] if rest else "", FLAG.findall(" ".join(rest))


def wrong_commands(where: str, text: str, scripts: Iterable[str]) -> list[str]:
    found = []
    for program, command, used in commands_in(text):
        if program not in scripts:
            continue  # a directory, an image, a unit
        if program == "retire-cluster-manage" and not command:
            continue  # the program as such
        if program == "retire-cluster-manage" and command not in get_commands():
            found.append(f"{where}: {program} has no command {command!r}")
            continue
        known = known_flags(program, command)
        found += [f"{where}: {program} {command} has no {flag}" for flag in used if flag not in known]
    return found


def scripts() -> set[str]:
    return set(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"])


def spans(page: Path) -> list[str]:
    """What stands in backticks in running text."""
    text = re.sub(r"^ *```.*?^ *```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", text)]


def test_every_command_in_an_example_exists_with_its_flags() -> None:
    examples = every_block("bash", "")
    assert sum(len(list(commands_in(block.text))) for block in examples) > 20
    assert [line for block in examples for line in wrong_commands(str(block), block.text, scripts())] == []


def test_every_command_in_a_sentence_exists_with_its_flags() -> None:
    named = [(page.name, span) for page in PRESENT for span in spans(page) if " " in span]
    assert len(named) > 100
    assert [line for name, span in named for line in wrong_commands(name, span, scripts())] == []


def test_every_flag_by_itself_is_one_of_ours() -> None:
    every = {flag for source in sources(*PRODUCT, "benchmarks", "tests/production") for flag in flags(source)}
    ours = (
        every | {flag for command in get_commands() for flag in _of_command(command)} | {"--help", *OF_OTHERS}
    )
    ours |= {flag for parser in PARSERS.values() for flag in flags_of(parser())}
    named = {
        (page.name, flag)
        for page in PRESENT
        for span in spans(page)
        if span.startswith("--")
        for flag in FLAG.findall(span)
    }
    assert len(named) > 50
    assert sorted(item for item in named if item[1] not in ours) == []


@pytest.mark.parametrize(
    "text",
    [
        "retire-cluster-api --hots x",
        "x | ~/rc/bin/retire-cluster-worker --join a \\\n  --tokn b",
        "retire-cluster-manage backup a.zip --scopes x",
        "retire-cluster-manage bakcup a.zip",
        'KEY="$(python manage.py apikey create x --scope read)"',
    ],
)
def test_a_wrong_command_is_found(text: str) -> None:
    assert len(wrong_commands("sample", text, scripts())) == 1
    assert not wrong_commands(
        "sample", "git clone retire-cluster --x && docker run retire-cluster --y", scripts()
    )


def make_goals(text: str) -> list[str]:
    """The goals of command lines that begin with make."""
    return re.findall(r"^make(?: [A-Z]+=\S*)* ([a-z-]+)", text, re.MULTILINE)


def test_every_goal_of_make_exists() -> None:
    there = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    texts = [text for page in PRESENT for text in spans(page)] + [
        block.text for block in every_block("bash", "")
    ]
    named = [goal for text in texts for goal in make_goals(text)]
    assert len(set(named)) > 10
    assert set(named) - there == set()


def test_goals_of_make_are_found() -> None:
    assert make_goals("make run     # x\nmake PYTHON=python3.12 test ARGS=a\nremake it") == ["run", "test"]


def test_every_variable_named_anywhere_is_read_somewhere() -> None:
    read = {name for source in sources(*PRODUCT) for name in variables(source)}
    named = {(page.name, name) for page in PRESENT for name in VARIABLE.findall(page.read_text())}
    assert len(named) > 30
    assert sorted(item for item in named if item[1] not in read) == []


@cache
def templates() -> frozenset[tuple[str, ...]]:
    document = yaml.safe_load((ROOT / "docs" / "reference" / "openapi.yaml").read_text())
    return frozenset(tuple(path.strip("/").split("/")) for path in document["paths"])


def exists(path: str) -> bool:
    """Whether a path leads somewhere; `{id}`, `$TASK` and words in capitals stand for any value."""
    parts = tuple(path.strip("/").split("/"))
    alike = [item for item in templates() if len(item) >= len(parts)]
    return any(all(map(_meets, parts, item)) for item in alike)


def _meets(part: str, template: str) -> bool:
    if template.startswith("{"):
        return part.startswith(("{", "$")) or part.isupper() or template == "{section}"
    return part == template


def test_every_path_of_the_api_exists() -> None:
    named = {(page.name, path) for page in PRESENT for path in API_PATH.findall(page.read_text())}
    assert len(named) > 10
    assert sorted(item for item in named if not exists(item[1])) == []


def test_a_path_that_does_not_exist_is_found() -> None:
    assert exists("/api/v1/tasks/{task_id}/result")
    assert exists("/api/v1/tasks/$TASK/cancel")
    assert exists("/api/v1/keys/ID")
    assert exists("/api/v1")
    assert not exists("/api/v1/task")
    assert not exists("/api/v1/tasks/{task_id}/resutl")
    assert not exists("/api/v1/tasks/latest")


def test_every_body_in_a_curl_call_is_json() -> None:
    bodies = [
        (str(block), body)
        for block in every_block("bash")
        if "curl" in block.text
        for body in re.findall(r"(?:-d|--data) '([^']*)'", block.text)
    ]
    assert len(bodies) > 3
    assert {where: said for where, body in bodies if (said := complaint_of(json.loads, body))} == {}
