"""docs/reference/logs.md lists the fields, actions and loggers of the log as the code has them."""

import ast
import json
import logging
import re
from collections.abc import Iterator

import pytest

from retire_cluster import logs
from tests.architecture.code import PRODUCT, ROOT, Source, dotted, sources

PAGE = ROOT / "docs" / "reference" / "logs.md"
COMPLAINTS = ("complaints.log", "_complain")  # calls whose keywords become fields
PASSED_ON = {"retire_cluster/gateway/complaints.py"}  # where they do

Facts = dict[str, ast.expr]  # value by field


def documented(heading: str) -> set[str]:
    """First cells of a section's table."""
    _, _, rest = PAGE.read_text().partition(f"## {heading}\n")
    return set(re.findall(r"^\| `([^`]+)` \|", rest.partition("\n## ")[0], re.MULTILINE))


def facts(source: Source) -> Iterator[Facts]:
    """The fields each call adds to its line."""
    for call in (node for node in ast.walk(source.tree) if isinstance(node, ast.Call)):
        if dotted(call.func).endswith(COMPLAINTS):
            yield {item.arg: item.value for item in call.keywords if item.arg}
        elif source.path not in PASSED_ON or not any(
            isinstance(item.value, ast.Name) for item in call.keywords if item.arg == "extra"
        ):
            yield from (_literal(source, item.value) for item in call.keywords if item.arg == "extra")


def _literal(source: Source, value: ast.expr) -> Facts:
    """The dictionary a call is given, written there or assigned to a name in the same file."""
    if isinstance(value, ast.Name):
        assigned = [
            node.value
            for node in ast.walk(source.tree)
            if isinstance(node, ast.Assign) and any(dotted(target) == value.id for target in node.targets)
        ]
        assert len(assigned) == 1, f"{source.at(value)}: `{value.id}` is no single dictionary"
        value = assigned[0]
    assert isinstance(value, ast.Dict), f"{source.at(value)}: write the fields of a log line as a dictionary"
    pairs = zip(value.keys, value.values, strict=True)
    return {str(key.value): item for key, item in pairs if isinstance(key, ast.Constant)}


def everything() -> list[Facts]:
    found = [item for source in sources(*PRODUCT) for item in facts(source)]
    assert len(found) > 20
    return found


def of_every_line() -> set[str]:
    """What the formatter itself writes."""
    error = ValueError("x")
    record = logging.makeLogRecord({"exc_info": (ValueError, error, None)})
    return set(json.loads(logs.JSONFormatter().format(record)))


def loggers(source: Source) -> Iterator[str]:
    """Names of the loggers a file makes."""
    module = source.path.removesuffix(".py").replace("/", ".")
    for call in (node for node in ast.walk(source.tree) if isinstance(node, ast.Call)):
        if dotted(call.func) == "logging.getLogger" and call.args:
            (name,) = call.args
            if isinstance(name, ast.Constant):
                yield str(name.value)
            elif dotted(name) == "__name__":
                yield module


def test_every_field_is_described() -> None:
    always = of_every_line()
    assert documented("Every line") == always - {"exception"}
    assert documented("Where they apply") == {"exception"} | {name for item in everything() for name in item}


def test_every_action_is_described() -> None:
    values = [item["action"] for item in everything() if "action" in item]
    named = {value.value for value in values if isinstance(value, ast.Constant)}
    passed = {value.id for value in values if isinstance(value, ast.Name)}
    assert passed == {"action"}, "only `_complain` passes on the action of its own callers"
    assert documented("Actions") == named


def test_every_logger_is_described() -> None:
    assert documented("Loggers") == {name for source in sources(*PRODUCT) for name in loggers(source)}


def test_the_fields_of_a_call_are_found() -> None:
    text = (
        "facts = {'one': 1}\nlogger.info('x', extra=facts)\nlogger.info('x', extra={'two': 2})\n"
        "self._complain('x', action='three')\nlogging.getLogger('four')\nlogging.getLogger(__name__)\n"
    )
    sample = Source.parse("a/b.py", text)
    assert [set(item) for item in facts(sample)] == [{"one"}, {"two"}, {"action"}]
    assert set(loggers(sample)) == {"four", "a.b"}


@pytest.mark.parametrize("text", ["logger.info('x', extra=made())", "logger.info('x', extra=nowhere)"])
def test_fields_that_cannot_be_read_are_refused(text: str) -> None:
    with pytest.raises(AssertionError):
        list(facts(Source.parse("sample.py", text)))
