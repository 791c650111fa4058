"""`/ws` as an iterator of events: it connects again, goes on where it was, and says when something is missing.

The protocol is in docs/reference/events.md.
"""

import json
import ssl
import threading
from collections import deque
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlencode

from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from retire_cluster.sdk import errors
from retire_cluster.sdk.calls import BAD_CERTIFICATE, Calls, log, printable
from retire_cluster.sdk.errors import ConnectionFailed, SdkError, UnexpectedAnswer
from retire_cluster.sdk.events import Event, event
from retire_cluster.sdk.pausing import LONGEST_RETRY_AFTER_S, retry_after

SILENCE_S = 60.0  # the server says something every 15 s; after a minute the connection is lost
LARGEST_FRAME = 16 * 1024 * 1024  # bytes; a snapshot of a thousand devices has some hundred thousand
CLOSE_S = 5.0
STEADY_S = 5.0  # a connection that held for so long was no fault of this server
SHOWN = ("X-API-Key", "Authorization")  # headers that say who listens
NOT_ALLOWED: Mapping[int, tuple[type[errors.ApiError], int]] = {
    4401: (errors.Unauthorized, 401),
    4403: (errors.Forbidden, 403),
}


class _Here(ClientConnection):
    """A connection to this server and no other: a redirect would take the key along, to whomever it names."""

    def handshake(self, *arguments: Any, **more: Any) -> None:
        try:
            super().handshake(*arguments, **more)
        except InvalidStatus as error:
            if not 300 <= error.response.status_code < 400:
                raise
            to = ", ".join(error.response.headers.get_all("Location"))
            raise UnexpectedAnswer(f"its /ws redirects to {to or 'another address'!r}") from error


class Events:
    """Iterate over it; close() ends it, from any thread. `cursor` is where it is: pass it as since= to go on later.

    The first connection is tried as often as calls are; once it stood, it is made again for as long as it takes.
    Raises ApiError when the server does not let us listen (any more), ConnectionFailed when it was never reached.
    """

    def __init__(
        self, calls: Calls, *, topics: Iterable[str], task_id: str | None, since: str | None
    ) -> None:
        self.cursor = since
        self._calls = calls
        self._wanted = {"topics": ",".join(topics), "task_id": task_id or ""}
        self._connection: ClientConnection | None = None
        self._entered = ExitStack()  # closes the connection
        self._heard: deque[Event] = deque()
        self._stood = False
        self._tries = 0
        self._said = False  # that the server is away
        self._began = 0.0  # when the connection stood
        self._closed = threading.Event()

    def begin(self) -> Self:
        """Connect and hear the first frame: from here on nothing is missed. Raises SdkError."""
        try:
            while not (self._stood or self._closed.is_set()):
                self._hear()
        except BaseException:
            self.close()
            raise
        return self

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Event:
        while not (self._heard or self._closed.is_set()):
            self._hear()
        if self._closed.is_set():
            raise StopIteration
        return self._heard.popleft()

    def close(self) -> None:
        """End the iteration."""
        self._closed.set()
        self._entered.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _hear(self) -> None:
        """Take the next frame, or wait a while before the next try."""
        text = self._text()
        found = self._event(text) if text is not None else None
        if found is not None:
            self._heard.append(found)

    def _text(self) -> str | None:
        """The next frame; None where there is none before the next try."""
        connection = self._connection or self._connect()
        if connection is None:
            return None
        try:
            frame = connection.recv(timeout=SILENCE_S)
        except (ConnectionClosed, TimeoutError) as error:
            self._lost(error)
            return None
        if not isinstance(frame, str):
            raise UnexpectedAnswer(f"{self._calls.root}/ws sends what is no text")
        return frame

    def _event(self, text: str) -> Event | None:
        """The event of a frame; None for those that are only for the connection."""
        try:
            found = event(json.loads(text))
        except (ValueError, RecursionError) as error:
            raise UnexpectedAnswer(
                f"{self._calls.root}/ws sends what this SDK does not know: {error}"
            ) from None
        self._stood = True
        if self._said:
            self._said = False
            log.info("%s/ws is back", self._calls.root)
        # Behind a reset comes a snapshot: who loses the connection in between must get both again.
        if found.type != "reset":
            self.cursor = found.cursor
        return None if found.type in ("resumed", "heartbeat") else found

    def _connect(self) -> ClientConnection | None:
        """A connection; None after a pause, if it may be tried again. Raises SdkError."""
        self._tries += 1
        try:
            found = connect(
                self._address(),
                ssl=self._calls.tls if self._calls.root.startswith("https:") else None,
                additional_headers=self._shown(),
                open_timeout=self._calls.timeout,
                close_timeout=CLOSE_S,
                max_size=LARGEST_FRAME,
                create_connection=_Here,
            )
        except InvalidStatus as error:
            self._again(*_refused(error))
            return None
        except ssl.SSLCertVerificationError as error:
            words = f"the certificate of {self._calls.root} is not trusted: {error}"
            raise ConnectionFailed(words, advice=BAD_CERTIFICATE) from error
        except (OSError, InvalidHandshake) as error:
            self._again(ConnectionFailed(f"{self._calls.root}/ws cannot be reached: {error}"), None, error)
            return None
        self._connection, self._began = self._entered.enter_context(found), self._calls.clock.now()
        if self._closed.is_set():  # by another thread, perhaps before there was something to close
            self._entered.close()
            return None
        return self._connection

    def _shown(self) -> dict[str, str]:
        return {name: self._calls.headers[name] for name in SHOWN if name in self._calls.headers}

    def _address(self) -> str:
        params = {name: value for name, value in self._wanted.items() if value}
        if self.cursor:
            params["since"] = self.cursor
        query = f"?{urlencode(params)}" if params else ""
        return f"ws{self._calls.root.removeprefix('http')}/ws{query}"

    def _again(self, failure: SdkError, wanted: float | None, cause: Exception) -> None:
        """Wait before the next try, or raise the failure."""
        retries = self._calls.retries
        if self._stood:
            if self._tries > retries.most and not self._said:
                self._said = True
                log.warning("%s; trying again until it is back", printable(failure.message))
            retries = replace(retries, most=self._tries)
            wanted = None if wanted is None else min(wanted, LONGEST_RETRY_AFTER_S)
        pause = retries.pause(self._tries, wanted)
        if pause is None:
            raise failure from cause
        self._closed.wait(pause)

    def _lost(self, error: Exception) -> None:
        """The connection ended; one that held for a while is made again at once, any other after a pause.

        Raises ApiError.
        """
        self._connection = None
        self._entered.close()
        close = error.rcvd if isinstance(error, ConnectionClosed) else None
        if close is not None and close.code in NOT_ALLOWED:
            kind, status = NOT_ALLOWED[close.code]
            raise kind(close.reason or "the server does not let us listen any more", status=status) from error
        if self._stood and self._calls.clock.now() - self._began >= STEADY_S:
            self._tries = 0
        if self._tries:  # it broke soon, perhaps again and again
            self._again(ConnectionFailed(f"{self._calls.root}/ws ends the connection: {error}"), None, error)


def _refused(error: InvalidStatus) -> tuple[SdkError, float | None, Exception]:
    """What a refused handshake means, and how long to wait for the next. Raises what is final."""
    response = error.response
    asked = response.headers.get_all("Retry-After")  # a plain get() fails where a server says it twice
    wanted = retry_after(asked[0] if asked else None, datetime.now(UTC))
    status = response.status_code
    failure = errors.from_body(status, _body(response.body), wanted)
    if status != 429 and status < 500:
        raise failure from error
    return failure, wanted, error


def _body(content: bytes | bytearray | None) -> dict[str, Any]:
    try:
        body = json.loads(content or b"")
    except (ValueError, RecursionError):
        return {}
    return body if isinstance(body, dict) else {}
