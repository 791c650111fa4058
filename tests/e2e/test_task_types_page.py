"""The reference of task types: every built-in type has an example, and each gives the result shown beside it."""

import json
from pathlib import Path
from typing import Any

from retire_cluster.protocol.tasktypes import BUILTIN_TYPES, problems
from tests.documented import DOCS, Block, fits, found_in
from tests.e2e.cluster import Cluster, running

PAGE = DOCS / "reference" / "task-types.md"


def examples() -> dict[str, tuple[Any, Any]]:
    """Payload and result by task type."""
    _, *sections = PAGE.read_text().split("\n## `")
    found = {}
    for section in sections:
        name, _, text = section.partition("`")
        payload, result = [_read(block) for block in found_in(PAGE, text) if block.language == "json"]
        found[name] = (payload, result)
    return found


def _read(block: Block) -> Any:
    return json.loads(block.text)


def ended(cluster: Cluster, task_type: str, payload: dict[str, Any]) -> Any:
    if task_type == "http_request":  # no test asks a host of others
        payload = {**payload, "url": f"http://127.0.0.1:{cluster.port}/health", "allow_private": True}
    return cluster.ended(cluster.submit(task_type, payload))


def test_every_example_gives_what_the_page_shows(tmp_path: Path) -> None:
    assert tuple(examples()) == BUILTIN_TYPES
    with running(tmp_path, "--no-local-node") as cluster:
        cluster.join("attic", "--allow-private-http")
        cluster.online("attic")
        for task_type, (payload, result) in examples().items():
            assert problems(task_type, payload) == []
            task = ended(cluster, task_type, payload)
            assert task["status"] == "success", task
            assert fits(result, task["result"]), task["result"]
