import pytest

from retire_cluster.agent.config import Timing
from retire_cluster.agent.errors import ExitCode
from retire_cluster.agent.verdict import Verdict, judge
from retire_cluster.protocol.messages import GOODBYE_CODES, Goodbye

FINAL = {
    "bad_token": 3,
    "bad_secret": 3,
    "revoked": 4,
    "device_id_taken": 5,
    "too_old": 6,
    "cloned": 7,
    "left": 0,
}


@pytest.mark.parametrize("code", GOODBYE_CODES)
def test_every_goodbye_has_a_verdict_with_the_gateways_reason(code: str) -> None:
    verdict = judge(Goodbye(code=code, reason="because"), Timing())  # type: ignore[arg-type]
    assert verdict.exit_code == FINAL.get(code)
    assert verdict.reason.endswith("(because)")
    assert verdict.forget is (code in ("revoked", "unknown_device", "left"))


def test_an_agent_that_was_replaced_comes_back_late() -> None:
    assert judge(Goodbye(code="replaced"), Timing(replaced_s=60)).least_delay_s == 60


def test_a_lost_connection_is_tried_again() -> None:
    assert judge("reset", Timing()) == Verdict("reset", same_address=True)


def test_exit_codes_are_distinct_from_usage_errors() -> None:
    assert {code.value for code in ExitCode} == {0, 2, 3, 4, 5, 6, 7}
