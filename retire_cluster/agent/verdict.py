"""What the end of a connection means. Pure."""

from dataclasses import dataclass

from retire_cluster.agent.config import Timing
from retire_cluster.agent.errors import ExitCode
from retire_cluster.protocol.messages import Goodbye

_FINAL = {
    "bad_token": ExitCode.REFUSED,
    "bad_secret": ExitCode.REFUSED,
    "revoked": ExitCode.REVOKED,
    "left": ExitCode.STOPPED,
    "device_id_taken": ExitCode.ID_TAKEN,
    "too_old": ExitCode.TOO_OLD,
    "cloned": ExitCode.CLONED,
}
_ADVICE = {
    "bad_token": "the gateway refuses the join token; copy the one it prints when it starts",
    "bad_secret": "the gateway refuses this device's secret; remove agent.json from its data directory "
    "and join anew with --token",
    "revoked": "an operator removed this device; it comes back only with --rejoin and a token",
    "device_id_taken": "another device has this id; choose one with --device-id",
    "too_old": "agent and gateway do not understand each other; run the server's join line on this device, "
    "as its pages show it: it fetches the agent that fits",
    "left": "this device is no longer part of the cluster",
    "unknown_device": "the gateway does not know this device any more",
    "full": "the gateway has no room for more devices",
    "unavailable": "the gateway cannot work at the moment",
    "stopping": "the gateway is stopping",
    "replaced": "another connection of this device took over; does a second agent use a copy of its data?",
    "cloned": "the gateway refuses this data directory as a copy of another device's: join as a device of its own "
    "with --device-id NAME and --token; or, if this is the real one, have the operator remove the device, then "
    "start with --rejoin and --token",
    "protocol_error": "the gateway did not understand this agent",
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """Why it ended, and what follows: exit, or another try after at least `least_delay_s`."""

    reason: str
    exit_code: ExitCode | None = None
    forget: bool = False  # the credential is void
    least_delay_s: float = 0.0
    same_address: bool = False  # the gateway did not send us away


def judge(ending: Goodbye | str, timing: Timing) -> Verdict:
    """The gateway's last word, or the reason why the connection was lost, as a decision."""
    if isinstance(ending, str):
        return Verdict(ending, same_address=True)
    advice = _ADVICE[ending.code]
    return Verdict(
        f"{advice} ({ending.reason})" if ending.reason else advice,
        exit_code=_FINAL.get(ending.code),
        forget=ending.code in ("revoked", "unknown_device", "left"),
        least_delay_s=timing.replaced_s if ending.code == "replaced" else 0.0,
    )
