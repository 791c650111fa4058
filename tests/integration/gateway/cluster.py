"""A gateway without sockets: real database, real batches, agents whose messages a test writes itself."""

import time
from dataclasses import dataclass, field
from typing import TypeVar
from uuid import UUID, uuid4

from clusterconfig import services as config
from clusterconfig import tokens
from clusterconfig.audit import Actor
from devices import services as devices
from devices.models import Gateway
from retire_cluster import db
from retire_cluster.gateway.committer import Committer
from retire_cluster.gateway.ingest import Identity
from retire_cluster.gateway.inputs import Closed, Effects, Input, Opened, Received
from retire_cluster.protocol import messages as wire
from retire_cluster.protocol.states import Platform
from tasks import services
from tasks.models import Task
from tasks.scheduling.profiles import Requirements

M = TypeVar("M", bound=wire.Message)


@dataclass
class FakeLink:
    """Collects what an agent would be sent."""

    address: str = "192.0.2.7"
    last_heard: float = field(default_factory=time.monotonic)
    sent: list[wire.Message] = field(default_factory=list)
    goodbye: wire.Goodbye | None = None
    frames_done: int = 0

    def send(self, messages: list[wire.Message]) -> None:
        self.sent += messages

    def close(self, goodbye: wire.Goodbye) -> None:
        self.goodbye = goodbye

    def frame_done(self) -> None:
        self.frames_done += 1


class Cluster:
    """One committer driven step by step in the test's own thread."""

    def __init__(self) -> None:
        config.forget_cached()
        row = Gateway(id=uuid4(), host="127.0.0.1", port=1, tls=False, started_at=db.now())
        devices.start_gateway(row, alone=True, now=db.now())
        self.token, _ = tokens.create("test", now=db.now())
        self._deaths: list[BaseException] = []
        self.committer = Committer(Identity(row.id, config.incarnation()), self._deliver, self._deaths.append)

    def _deliver(self, effects: Effects) -> None:
        for link in effects.answered:
            link.frame_done()
        for link, messages in effects.send.values():
            link.send(messages)
        for link, goodbye in effects.close:
            link.close(goodbye)

    def step(self, *inputs: Input) -> None:
        """One batch, placement and intents included, without the clock's part."""
        self.committer._persist(inputs, tick=False, place=True, intents=True)

    def tick(self) -> None:
        """One pass of the clock, as each second."""
        self.committer._persist(self.committer._silent(), tick=True, place=True, intents=True)

    def join(self, device_id: str, *, slots: int = 2, secret: str | None = None, **more: object) -> FakeLink:
        """Connect an agent; its first welcome is in link.sent."""
        link = FakeLink()
        self.step(Opened(link, self.register(device_id, slots=slots, secret=secret, **more)))
        return link

    def register(self, device_id: str, *, slots: int, secret: str | None, **more: object) -> wire.Register:
        values: dict[str, object] = {
            "protocol": wire.PROTOCOL_VERSION,
            "device_id": device_id,
            "run_id": uuid4().hex,
            "agent_version": "test",
            "capabilities": wire.Capabilities(platform=Platform.LINUX, cpu_count=4, memory_total_mb=8192),
            "secret": secret,
            "join_token": None if secret else self.token,
            "task_types": ("echo", "sleep", "system_info"),
            "slots": slots,
        }
        return wire.Register(**{**values, **more})  # type: ignore[arg-type]

    def say(self, link: FakeLink, *messages: wire.Message) -> None:
        """One frame of an agent, in a batch of its own."""
        self.step(Received(link, messages))

    def drop(self, link: FakeLink, *, orderly: bool = False) -> None:
        self.step(Closed(link, "the connection was lost", orderly=orderly))


def sent(link: FakeLink, kind: type[M]) -> list[M]:
    """The messages of a kind the agent was sent, taken out of the list."""
    found = [message for message in link.sent if isinstance(message, kind)]
    link.sent = [message for message in link.sent if not isinstance(message, kind)]
    return found


def submit(
    count: int = 1, *, priority: str = "normal", loss: str = "requeue", retries: int = 0, **need: object
) -> list[UUID]:
    """Queue echo tasks with the given placement requirements; their ids."""
    submission = services.Submission(
        task_type="echo",
        payload_json='{"message": "hi"}',
        priority=priority,
        requirements=Requirements(**need),  # type: ignore[arg-type]
        requirements_json={},
        timeout_s=300,
        max_retries=retries,
        on_device_loss=loss,
        metadata={},
    )
    return [task.id for task in services.submit([submission] * count, actor=Actor("test")).tasks]


def status(task_id: UUID) -> str:
    return Task.objects.get(id=task_id).status
