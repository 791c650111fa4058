"""A running server held against its OpenAPI document: what that says it takes and answers is what it does."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import CHECKS
from schemathesis.core.result import Ok

from tests.e2e.cluster import Cluster, running

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "reference" / "openapi.yaml"
FOUND = list(schemathesis.openapi.from_path(DOCUMENT).get_all_operations())
OPERATIONS = [found.ok() for found in FOUND if isinstance(found, Ok)]
EXAMPLES = 30  # for each operation, with a key and without
# What a document cannot promise: whether a task type exists, a moment is in the future, sums of bytes stay small.
NOT_PROMISED = ("positive_data_acceptance",)
LONGEST_WAIT_S = 0.1  # waiting is for other tests


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with running(tmp_path_factory.mktemp("fuzz")) as found:
        yield found


def test_every_operation_of_the_document_can_be_tried() -> None:
    assert len(OPERATIONS) == len(FOUND) > 30


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.label)
@pytest.mark.parametrize("has_key", [True, False], ids=["with a key", "without a key"])
def test_the_server_keeps_to_its_document(operation: Any, has_key: bool, cluster: Cluster) -> None:
    key = (cluster.data_dir / "api-key").read_text().strip()
    headers = {"X-API-Key": key} if has_key else {}
    excluded = CHECKS.get_by_names(list(NOT_PROMISED))

    @settings(max_examples=EXAMPLES, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(case=operation.as_strategy())
    def attack(case: Any) -> None:
        wait = case.query.get("wait") if case.query else None
        if isinstance(wait, (int, float)) and wait > LONGEST_WAIT_S:
            case.query["wait"] = LONGEST_WAIT_S
        case.call_and_validate(
            base_url=f"http://127.0.0.1:{cluster.port}", headers=headers, excluded_checks=excluded
        )

    attack()
    assert cluster.processes[0].alive()
