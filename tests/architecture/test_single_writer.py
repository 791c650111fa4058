"""Only tasks/lifecycle.py writes a task's or attempt's status, and only tasks/rules.py decides one."""

import ast
import re
from collections.abc import Iterator

import pytest

from tests.architecture.code import PRODUCT, Source, dotted, sources

WRITERS = frozenset({"tasks/lifecycle.py", "tasks/rules.py"})
FIELDS = frozenset({"status", "state", "outcome"})
MODELS = frozenset({"Task", "Attempt", "TaskRow", "AttemptRow"})
WRITING_CALLS = frozenset(
    [
        "update",
        "create",
        "get_or_create",
        "update_or_create",
        "aupdate",
        "acreate",
        "bulk_create",
        "bulk_update",
        "save",
        "replace",
        "_replace",
        "setattr",
    ]
)
BATCH_CALLS = frozenset({"insert_rows", "store_rows", "update_rows"})
RAW_SQL = re.compile(
    r"\b(insert\s+into|update|delete\s+from|merge\s+into)\s+\W?tasks_(task|attempt)\b", re.IGNORECASE
)


def writes(source: Source) -> Iterator[str]:
    """Places that could change a status; reading and filtering are free."""
    for node in ast.walk(source.tree):
        if isinstance(node, (ast.Assign, ast.AugAssign, ast.AnnAssign)) and _assigns(node):
            yield f"{source.at(node)} assigns a status"
        elif isinstance(node, ast.Call) and _writes(node):
            yield f"{source.at(node)} writes through {dotted(node.func) or 'a call'}()"
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and RAW_SQL.search(node.value):
            yield f"{source.at(node)} writes with SQL of its own"


def _assigns(node: ast.Assign | ast.AugAssign | ast.AnnAssign) -> bool:
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    flat = [item for target in targets for item in ast.walk(target)]
    return any(
        isinstance(item, ast.Attribute)
        and isinstance(item.ctx, ast.Store)
        and item.attr in FIELDS
        and dotted(item.value) != "self"  # an object's own affair
        for item in flat
    )


def _writes(call: ast.Call) -> bool:
    name = dotted(call.func).rpartition(".")[2] or getattr(call.func, "attr", "")
    if name in BATCH_CALLS:
        return bool(call.args) and dotted(call.args[0]) in MODELS
    if name in MODELS or (name == "replace" and dotted(call.func) != "datetime.replace"):
        return _names_field(call)
    return name in WRITING_CALLS and _names_field(call)


def _names_field(call: ast.Call) -> bool:
    """Whether a field of ours is a keyword, a key of a `defaults` or a name in a list of columns."""
    if any(keyword.arg in FIELDS for keyword in call.keywords):
        return True
    values = [*call.args, *(keyword.value for keyword in call.keywords)]
    inner = [
        item
        for value in values
        for item in ast.walk(value)
        if isinstance(value, (ast.Dict, ast.List, ast.Tuple, ast.Constant))
    ]
    return any(isinstance(item, ast.Constant) and item.value in FIELDS for item in inner)


def test_nobody_else_writes_a_status() -> None:
    found = [line for source in sources(*PRODUCT) if source.path not in WRITERS for line in writes(source)]
    assert found == []


def test_the_writers_are_seen_writing() -> None:
    assert {source.path for source in sources(*WRITERS) if list(writes(source))} == WRITERS


@pytest.mark.parametrize(
    "text",
    [
        "task.status = 'failed'",
        "task.status, task.rank = 'queued', 3",
        "Task.objects.filter(id=1).update(status='failed')",
        "Task.objects.create(status='queued')",
        "Attempt.objects.update_or_create(id=1, defaults={'state': 'ended'})",
        "Attempt.objects.bulk_update(rows, ['state', 'outcome'])",
        "task.save(update_fields=['status'])",
        "setattr(task, 'status', 'failed')",
        "Task(status='queued')",
        "replace(row, status=TaskStatus.QUEUED)",
        "dataclasses.replace(row, outcome=None)",
        "update_rows(Task, ('rank',), ('id',), rows)",
        "cursor.execute('UPDATE tasks_task SET rank = 1')",
        "cursor.execute('''insert into \"tasks_attempt\" values (1)''')",
    ],
)
def test_a_write_is_found(text: str) -> None:
    assert list(writes(Source.parse("sample.py", text)))


@pytest.mark.parametrize(
    "text",
    [
        "Task.objects.filter(status='queued').update(rank=1)",
        "cursor.execute('SELECT 1 FROM tasks_task WHERE status = %s')",
        "self.state = 3",
        "task.status == 'queued'",
        "text.replace('a', 'b')",
        "moment.replace(tzinfo=None)",
    ],
)
def test_reading_is_free(text: str) -> None:
    assert list(writes(Source.parse("sample.py", text))) == []
