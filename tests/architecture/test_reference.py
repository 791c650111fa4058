"""docs/reference says what the code says: messages, states, flags, variables, settings, codes, events."""

import argparse
import ast
import dataclasses
import re
import types
from collections.abc import Callable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import pytest

from clusterconfig import registry
from retire_cluster.agent.doctor.checks import CHECKS
from retire_cluster.agent.errors import ExitCode
from retire_cluster.api import errors
from retire_cluster.api.schema import CODES
from retire_cluster.cli import api, gateway, worker
from retire_cluster.events import outbox
from retire_cluster.protocol import messages, states
from retire_cluster.protocol.schema import Length, OneLine, Pattern, Range
from tests.architecture.code import PRODUCT, ROOT, Source, dotted, sources

REFERENCE = ROOT / "docs" / "reference"
PARTS = (messages.Capabilities, messages.Metrics, messages.Held, messages.Pulse)
MESSAGES = tuple(dict.fromkeys([*messages.FROM_AGENT, *messages.FROM_GATEWAY]))
SERVER_COMMANDS = ("retire_cluster/cli",)
# Types the reference defines once.
NAMED: tuple[tuple[Any, str], ...] = (
    (messages.Identifier, "identifier"),
    (messages.Name, "name"),
    (messages.Seconds, "seconds"),
    (messages.Megabytes, "megabytes"),
    (messages.Percent, "percent"),
)
VARIABLE = re.compile(r"RETIRE_CLUSTER_[A-Z][A-Z_]*[A-Z]")
ENV_READERS = frozenset({"text", "integer", "flag", "optional_flag", "choice", "items", "path"})


def sections(text: str) -> dict[str, str]:
    """Text by its level-3 heading, without the backticks around it."""
    parts = re.split(r"^(##|###) (.+)$", text, flags=re.MULTILINE)
    found = zip(parts[1::3], parts[2::3], parts[3::3], strict=True)
    return {title.strip("` "): body for level, title, body in found if level == "###"}


def rows(text: str) -> dict[str, str]:
    """Second cell by the first one, which is in backticks, of every table row."""
    found = re.findall(r"^\| `([^`]+)` \| (.*?) \|", text, re.MULTILINE)
    return dict(found)


def form(hint: Any) -> str:
    """A field's type and bounds in the words of the reference."""
    for named, word in NAMED:
        if hint == named:
            return word
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return " ".join([form(arguments[0]), *map(_bound, arguments[1:])]).strip()
    if origin in (Union, types.UnionType):
        return f"{form(arguments[0])}, or null"
    if origin is Literal:
        return "one of " + ", ".join(f"`{item}`" for item in arguments)
    if origin is tuple:
        return f"list of {form(arguments[0])}"
    if origin is dict:
        return f"object of {form(arguments[1])}"
    if dataclasses.is_dataclass(hint):
        return f"[{hint.__name__}](#{hint.__name__.lower()})"  # type: ignore[union-attr]  # a class here
    if issubclass(hint, StrEnum):
        return "one of " + ", ".join(f"`{item}`" for item in hint)
    return {str: "text", int: "integer", float: "number", bool: "true or false"}[hint]


def _required(field: dataclasses.Field[Any]) -> str:
    no_default = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    return "; required" if no_default else ""


def _bound(bound: Length | Range | Pattern | OneLine) -> str:
    if isinstance(bound, Pattern):
        return f"of {bound.words}"
    if isinstance(bound, OneLine):
        return ""  # described once, for all short texts
    return f"({bound.low:,} to {bound.high:,})"


def missing_fields(title: str, cls: type, text: str) -> Iterator[str]:
    """Differences between a dataclass and its section."""
    section = sections(text).get(title)
    if section is None:
        yield f"docs/reference/protocol.md has no section `{title}`"
        return
    documented = rows(section)
    hints = get_type_hints(cls, include_extras=True)
    fields = {field.name: form(hints[field.name]) + _required(field) for field in dataclasses.fields(cls)}
    for name in documented.keys() - fields.keys():
        yield f"{title}.{name} does not exist"
    for name, wanted in fields.items():
        if documented.get(name) != wanted:
            yield f"{title}.{name} is {wanted!r}, documented as {documented.get(name)!r}"


@pytest.fixture(scope="module")
def protocol() -> str:
    return (REFERENCE / "protocol.md").read_text()


@pytest.mark.parametrize("cls", MESSAGES, ids=lambda cls: cls.type)
def test_every_message_is_described_with_its_fields(cls: type[messages.Message], protocol: str) -> None:
    assert list(missing_fields(cls.type, cls, protocol)) == []


@pytest.mark.parametrize("cls", PARTS, ids=lambda cls: cls.__name__)
def test_every_part_of_a_message_is_described(cls: type, protocol: str) -> None:
    assert list(missing_fields(cls.__name__, cls, protocol)) == []


def test_no_message_is_described_that_does_not_exist(protocol: str) -> None:
    known = {cls.type for cls in MESSAGES} | {cls.__name__ for cls in PARTS}
    assert set(sections(protocol)) - known == set()


def test_every_goodbye_code_is_described(protocol: str) -> None:
    _, _, text = protocol.partition("## Goodbye codes")
    assert set(rows(text)) == set(messages.GOODBYE_CODES)


def test_a_missing_field_message_or_bound_is_found() -> None:
    sample = "### `go`\n| `attempts` | text | x |\n| `extra` | text | x |\n"
    found = list(missing_fields("go", messages.Go, sample))
    assert len(found) == 2
    assert list(missing_fields("stop", messages.Stop, sample))


@pytest.mark.parametrize(
    ("title", "words"),
    [
        ("Task", states.TaskStatus),
        ("Attempt", states.AttemptState),
        ("Outcome", states.Outcome),
        ("Held", states.HeldState),
        ("Verdict", states.Verdict),
    ],
)
def test_every_state_is_described(title: str, words: type[StrEnum]) -> None:
    assert set(rows(sections((REFERENCE / "states.md").read_text())[title])) == set(words)


def flags(source: Source) -> set[str]:
    """Command-line flags a file defines."""
    return {
        argument.value
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Call)
        and dotted(node.func).rpartition(".")[2] in {"add_argument", "option", "switch"}
        for argument in node.args
        if isinstance(argument, ast.Constant)
        and isinstance(argument.value, str)
        and argument.value.startswith("--")
    }


def variables(source: Source) -> set[str]:
    """RETIRE_CLUSTER_* variables a file reads or names."""
    found: set[str] = set()
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.update(VARIABLE.findall(node.value))
        elif isinstance(node, ast.Call):
            found.update(f"RETIRE_CLUSTER_{name}" for name in _names_read(node))
    return found


def _names_read(call: ast.Call) -> list[str]:
    reader, _, method = dotted(call.func).rpartition(".")
    words = [
        item.value for item in call.args if isinstance(item, ast.Constant) and isinstance(item.value, str)
    ]
    if reader == "env" and method in ENV_READERS:
        return words[:1]
    if reader == "options" and method in {
        "get",
        "is_set",
    }:  # the agent's flags: the last word is the variable
        return [words[-1].upper()]
    return []


def undescribed(names: set[str], text: str) -> list[str]:
    return sorted(name for name in names if not re.search(rf"{re.escape(name)}(?![\w-])", text))


@pytest.fixture(scope="module")
def configuration() -> str:
    return (REFERENCE / "configuration.md").read_text()


def test_every_flag_is_described(configuration: str) -> None:
    wanted = {flag for source in sources(*SERVER_COMMANDS) for flag in flags(source)}
    assert len(wanted) > 20
    assert undescribed(wanted, configuration) == []


def test_every_variable_is_described(configuration: str) -> None:
    wanted = {name for source in sources(*PRODUCT) for name in variables(source)}
    assert len(wanted) > 20
    assert undescribed(wanted, configuration) == []


def test_no_variable_is_described_that_nothing_reads(configuration: str) -> None:
    read = {name for source in sources(*PRODUCT) for name in variables(source)}
    assert set(VARIABLE.findall(configuration)) - read == set()


def settings_rows(text: str) -> dict[str, tuple[str, str]]:
    """Default and bounds by the setting's name; bounds without thousands separators, units and further rules."""
    _, _, text = text.partition("## Cluster settings")
    found = re.findall(r"^\| `([^`]+)` \| ([^|]*) \| ([\d,]+ to [\d,]+)[^|]* \|", text, re.MULTILINE)
    return {name: (default, bounds.replace(",", "")) for name, default, bounds in found}


def test_every_cluster_setting_is_described_with_its_default_and_bounds(configuration: str) -> None:
    assert settings_rows(configuration) == {
        f"{section}.{field.name}": (
            str(field.default),
            f"{field.metadata['low']} to {field.metadata['high']}",
        )
        for section, cls in registry.SECTIONS.items()
        for field in dataclasses.fields(cls)
    }


def test_a_settings_default_and_bounds_are_read() -> None:
    table = "| `a.b` | 60 | 1 to 3,600 s, above the interval | x |\n| `a.c` | none | any | x |\n"
    assert settings_rows(f"## Cluster settings\n{table}") == {"a.b": ("60", "1 to 3600")}


PARSERS: dict[str, Callable[[], argparse.ArgumentParser]] = {
    "retire-cluster-api": api._parser,
    "retire-cluster-main": gateway._parser,
    "retire-cluster-worker": worker.build_parser,
}
COMMON = "Common to both servers"


def flags_of(parser: argparse.ArgumentParser) -> set[str]:
    found = {flag for action in parser._actions for flag in action.option_strings if flag.startswith("--")}
    return found - {"--help"}


def described_flags(text: str, heading: str) -> set[str]:
    """The flags that begin a row of a level-2 section's tables."""
    _, _, section = text.partition(f"## {heading}\n")
    section = re.split(r"^## ", section, flags=re.MULTILINE)[0]
    first_cells = re.findall(r"^\| (`--[^|]*) \|", section, re.MULTILINE)
    return {flag for cell in first_cells for flag in re.findall(r"`(--[a-z-]+)", cell)}


@pytest.mark.parametrize("program", PARSERS)
def test_each_command_is_described_with_its_flags_and_no_other(program: str, configuration: str) -> None:
    described = described_flags(configuration, f"`{program}`")
    if program != "retire-cluster-worker":
        described |= described_flags(configuration, COMMON)
    assert described == flags_of(PARSERS[program]())


def test_flags_are_read_from_their_own_section() -> None:
    sample = "## `one`\n| `--a`, `--no-a` | x |\n| x | `--c` |\n\n## `two`\n| `--b N` | x |\n"
    assert described_flags(sample, "`one`") == {"--a", "--no-a"}
    assert described_flags(sample, "`two`") == {"--b"}


def test_every_exit_code_of_the_agent_is_described(configuration: str) -> None:
    _, _, text = configuration.partition("## Exit codes")
    text, _, _ = text.partition("\n## ")
    way_blocked = 1  # of --test
    assert {int(code) for code in rows(text)} == {*map(int, ExitCode), way_blocked}


def statuses() -> dict[str, str]:
    """HTTP status by error code."""
    found = {code.value: str(status) for status, code in errors.BY_STATUS.items()}
    return found | {code.value: str(status) for status, codes in CODES.items() for code in codes}


def test_every_error_code_is_described_with_its_status() -> None:
    text = (REFERENCE / "errors.md").read_text().partition("## Of requests")[2].partition("## ")[0]
    assert rows(text) == statuses()
    assert statuses().keys() == set(errors.ErrorCode)


def first_cells(text: str) -> list[str]:
    """What stands in backticks in the first cells of a text's tables."""
    cells = re.findall(r"^\| (`[^|]*) \|", text, re.MULTILINE)
    return [word for cell in cells for word in re.findall(r"`([^`]+)`", cell)]


def texts(*paths: str) -> set[str]:
    """Every literal text of these files; of a formatted one, its pieces."""
    return {
        node.value
        for source in sources(*paths)
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }


def recorded() -> set[str]:
    """Actions of the audit trail, as they are written where it is written to."""
    word = re.compile(r"(task|device|config|key|token|user)\.[a-z_]+")
    callers = [source for source in sources(*PRODUCT) if _records(source)]
    return {text for source in callers for text in texts(source.path) if word.fullmatch(text)}


def _records(source: Source) -> bool:
    calls = (node for node in ast.walk(source.tree) if isinstance(node, ast.Call))
    return any(dotted(call.func) == "audit.record" for call in calls)


def test_every_action_of_the_audit_trail_is_described() -> None:
    page = (REFERENCE / "keys.md").read_text().partition("## Audit trail")[2].partition("\n## ")[0]
    assert sorted(first_cells(page)) == sorted(recorded() - set(outbox.TYPES))  # the same files tell events


def test_every_check_of_the_doctor_is_described() -> None:
    page = (ROOT / "docs" / "howto" / "keep-a-device-running.md").read_text()
    described = first_cells(page.partition("## What is wrong on this device?")[2].partition("\n## ")[0])
    assert sorted(described) == sorted(CHECKS)


def test_every_reason_to_wait_on_its_page_is_in_the_words_of_the_code() -> None:
    page = (ROOT / "docs" / "howto" / "waiting-task.md").read_text()
    said = texts("tasks/explain.py", "tasks/scheduling/feasibility.py")
    quoted = first_cells(page)
    assert len(quoted) > 10
    assert [words for words in quoted if not any(words in text for text in said)] == []


def test_every_file_on_its_page_is_named_in_the_code() -> None:
    page = (REFERENCE / "ports-and-files.md").read_text().partition("## Files of a server")[2]
    named = [part.rstrip("/") for word in first_cells(page) for part in word.split("…")]
    assert len(named) > 15
    said = texts(*PRODUCT)
    assert [name for name in named if not any(name in text for text in said)] == []


def task_error_codes() -> set[str]:
    """Names of constants that hold themselves and are given to `error_code=`."""
    found: set[str] = set()
    for source in sources(*PRODUCT):
        given = {
            keyword.value.id
            for node in ast.walk(source.tree)
            if isinstance(node, ast.Call)
            for keyword in node.keywords
            if keyword.arg == "error_code" and isinstance(keyword.value, ast.Name)
        }
        found |= {name for name in given if name.isupper()}
    return found


def test_every_error_code_of_a_task_is_described() -> None:
    text = (REFERENCE / "errors.md").read_text().partition("## Of tasks")[2]
    assert len(task_error_codes()) > 1
    assert rows(text).keys() == task_error_codes()


def commands() -> set[str]:
    """The project's own management commands."""
    found = [path.stem for path in ROOT.glob("*/management/commands/*.py") if path.stem != "__init__"]
    assert len(found) > 5
    return set(found)


def test_every_command_of_the_server_is_described() -> None:
    page = (REFERENCE / "commands.md").read_text()
    named = {line.split("`")[1].split()[0] for line in page.splitlines() if line.startswith("| `")}
    assert commands() <= named


def test_every_check_of_ours_is_described() -> None:
    ids = set(
        re.findall(r'"(retire_cluster\.[EW]\d{3})"', (ROOT / "retire_cluster" / "checks.py").read_text())
    )
    assert len(ids) > 5
    assert set(re.findall(r"retire_cluster\.[EW]\d{3}", (REFERENCE / "commands.md").read_text())) == ids


def test_a_flag_and_a_variable_are_found() -> None:
    sample = Source.parse(
        "sample.py",
        "parser.add_argument('-x', '--extra')\nenv.text('EXTRA_THING', '')\n"
        "options.get('data_dir', Path)\noptions.get('token', check, 'JOIN_TOKEN')\nsay('set RETIRE_CLUSTER_MORE')",
    )
    assert flags(sample) == {"--extra"}
    assert variables(sample) == {
        f"RETIRE_CLUSTER_{name}" for name in ("EXTRA_THING", "DATA_DIR", "JOIN_TOKEN", "MORE")
    }
    assert undescribed({"--extra", "--ex"}, "| `--extra` |") == ["--ex"]


def dead_links(path: Path, text: str) -> list[str]:
    """Relative links of a page that lead nowhere."""
    targets = [
        target.partition("#")[0] for target in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in target
    ]
    return [f"{path}: {target}" for target in targets if target and not (path.parent / target).exists()]


def test_no_link_leads_nowhere() -> None:
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    assert len(pages) > 10
    assert [line for page in pages for line in dead_links(page, page.read_text())] == []


def test_a_dead_link_is_found() -> None:
    page = ROOT / "README.md"
    assert dead_links(page, "[x](nowhere.md#part)")
    assert not dead_links(page, "[x](https://example.org/x) [y](README.md) [z](#part)")


def test_every_event_is_described() -> None:
    described = rows((REFERENCE / "events.md").read_text().partition("## Types")[2])
    assert described.keys() == outbox.TYPES
