"""Heartbeats that change no row: a connected device without work, as it was. They cost no transaction.

A fleet at rest says little else, and all the time: a thousand devices would be thirty transactions a second.
"""

from collections.abc import Sequence
from dataclasses import fields
from datetime import datetime
from typing import Any

from devices import presence, samples
from devices import services as devices
from retire_cluster.gateway.inputs import Effects, Input, Received
from retire_cluster.gateway.sessions import Session, Sessions
from retire_cluster.protocol import messages as wire

_METRICS = tuple(field.name for field in fields(wire.Metrics))


def measured(metrics: wire.Metrics) -> dict[str, Any]:
    """What of it the device knows."""
    return {name: value for name in _METRICS if (value := getattr(metrics, name)) is not None}


def take_out(inputs: Sequence[Input], sessions: Sessions, now: datetime, effects: Effects) -> list[Input]:
    """Answer the quiet heartbeats among the inputs; returns the others, in order."""
    left: list[Input] = []
    busy: set[int] = set()  # links with something before, whose order counts
    for item in inputs:
        session = None if id(item.link) in busy else sessions.of(item.link)
        if session is None or not isinstance(item, Received) or not _is_quiet(session, item.messages):
            busy.add(id(item.link))
            left.append(item)
            continue
        for message in item.messages:
            assert isinstance(message, wire.Heartbeat)
            _note(session, message, now)
            effects.say(item.link, wire.HeartbeatAck())
        effects.answered.append(item.link)
    return left


def _is_quiet(session: Session, messages: Sequence[wire.Message]) -> bool:
    if session.attempts or not session.secret_confirmed or session.paused != session.stored_pause:
        return False
    return all(
        isinstance(message, wire.Heartbeat)
        and not message.held
        and devices.pause_words(message.paused_reason) == session.paused
        for message in messages
    )


def _note(session: Session, message: wire.Heartbeat, now: datetime) -> None:
    values = measured(message.metrics)
    session.note_metrics(values)
    presence.note(session.device_id, values, now=now, heartbeat=True)
    samples.note(session.device_id, values, running=0, now=now)
