"""Between the words of the wire and those of the life cycle. Pure."""

from collections.abc import Iterable, Sequence
from uuid import UUID

from clusterconfig.registry import ClusterSettings
from retire_cluster.protocol import jsontext
from retire_cluster.protocol import messages as wire
from retire_cluster.protocol.states import HeldState, Outcome
from tasks import rules
from tasks.placement import Claim

RESULT_UNSTORABLE = "RESULT_UNSTORABLE"


def assign(claim: Claim) -> wire.Assign:
    """The message that hands a claimed task to its device."""
    return wire.Assign(
        attempt=claim.attempt_id.hex,
        task=claim.task_id.hex,
        task_type=claim.task_type,
        payload_json=claim.payload,
        timeout_s=claim.timeout_s,
        wait_for_go=claim.wait_for_go,
    )


def pulse(settings: ClusterSettings) -> wire.Pulse:
    """The heartbeat settings agents are told."""
    return wire.Pulse(interval_s=settings.heartbeat.interval, silence_s=settings.heartbeat.silence)


def held_list(items: Iterable[wire.Held]) -> dict[UUID, HeldState]:
    return {UUID(item.attempt): item.state for item in items}


def attempts_in(message: wire.Message) -> Sequence[str]:
    """Every attempt a message names."""
    match message:
        case wire.Heartbeat():
            return [item.attempt for item in message.held]
        case wire.Accepted() | wire.Stopped():
            return message.attempts
        case wire.Declined() | wire.Result() | wire.Progress() | wire.Output():
            return [message.attempt]
    return ()


def report(message: wire.Result) -> rules.Report:
    """The agent's words as the life cycle takes them; a result no database can keep fails the task."""
    try:
        if message.result_json is not None:
            jsontext.check_text(message.result_json)
    except jsontext.UnstorableJSON as error:
        return unstorable(message, str(error))
    return rules.Report(
        outcome=Outcome(message.outcome),
        ran_s=message.ran_s,
        result=message.result_json,
        error_message=message.error_message or "",
        error_traceback=message.error_traceback or "",
        survivors=message.survivors,
    )


def unstorable(message: wire.Result, reason: str) -> rules.Report:
    """What is recorded instead of a result that cannot be."""
    return rules.Report(
        outcome=Outcome.FAILED,
        ran_s=message.ran_s,
        error_code=RESULT_UNSTORABLE,
        error_message=f"the result cannot be stored: {reason}",
    )
