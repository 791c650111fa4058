"""The client: all calls of the API, the stream of events, and the specification's two methods."""

import ssl
import uuid
from collections.abc import Iterable
from os import PathLike
from types import TracebackType
from typing import Any, Self

import httpx

from retire_cluster.sdk.administration import ClusterCalls, ConfigCalls, KeyCalls
from retire_cluster.sdk.calls import Calls, envelope, get
from retire_cluster.sdk.devices import DeviceCalls
from retire_cluster.sdk.pausing import Clock, Retries
from retire_cluster.sdk.stream import Events
from retire_cluster.sdk.tasks import TaskCalls, submission


class Client(TaskCalls, DeviceCalls, ClusterCalls, ConfigCalls, KeyCalls):
    """A cluster, from here. Thread safe; one client keeps its connections, so keep the client.

    Every method raises SdkError: ApiError of a class for each error code, ConnectionFailed, Timeout.
    """

    def __init__(
        self,
        base_url: str,
        api_key: str | None = None,
        *,
        timeout: float = 30.0,
        retries: int = 5,
        verify: bool | ssl.SSLContext = True,
        ca: str | PathLike[str] | None = None,
        transport: httpx.BaseTransport | None = None,
        clock: Clock | None = None,
    ) -> None:
        """`base_url`: as http://HOST:8081/api/v1. `timeout`: seconds for an answer. `retries`: further tries.

        `ca`: a PEM file of the authority that signed the server's certificate; `verify`: an SSL context, or False
        to believe every server. `transport` and `clock` replace network and time. Raises ValueError.
        """
        self.base_url = base_url
        self._calls = Calls(
            base_url,
            api_key,
            timeout=timeout,
            retries=Retries(retries),
            verify=verify,
            ca=ca,
            transport=transport,
            clock=clock or Clock(),
        )

    @property
    def headers(self) -> httpx.Headers:
        """Sent with every call; may be changed."""
        return self._calls.headers

    def events(
        self, *, topics: str | Iterable[str] = (), task_id: str | None = None, since: str | None = None
    ) -> Events:
        """What happens in the cluster from now on: an iterator that outlives lost connections.

        `topics`: task, device, cluster, config. `since`: the `cursor` of the last event seen.
        """
        wanted = (topics,) if isinstance(topics, str) else topics
        return Events(self._calls, topics=wanted, task_id=task_id, since=since).begin()

    def close(self) -> None:
        """Give the connections back. Streams of events are closed on their own."""
        self._calls.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class RetireClusterAPI(Client):
    """The client with the two methods of the REST API's specification.

    These return the whole envelope as a dict, of errors too: nothing is raised for a 4xx or 5xx, and nothing but a
    lost connection is tried again.
    """

    def get_cluster_status(self) -> dict[str, Any]:
        """The envelope of GET cluster/status."""
        return envelope(self._calls.send(get("/cluster/status"), as_is=True))

    def submit_task(self, task_type: str, payload: Any, **kwargs: Any) -> dict[str, Any]:
        """The envelope of POST tasks; `kwargs` are further members of the body, as priority or requirements."""
        body = {"task_type": task_type, "payload": payload, **kwargs}
        return envelope(self._calls.send(submission("/tasks", body, str(uuid.uuid4())), as_is=True))
