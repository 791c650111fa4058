"""HTTP load that costs little CPU: requests are bytes made beforehand, answers are read after the clock."""

import selectors
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

_HEAD_END = b"\r\n\r\n"
_LENGTH = b"\r\ncontent-length:"
TIMEOUT_S = 120.0


@dataclass(frozen=True, slots=True)
class Answer:
    """A status and a body."""

    status: int
    body: bytes


def request(method: str, path: str, body: bytes = b"", headers: Sequence[str] = ()) -> bytes:
    """A whole request on a connection that is kept."""
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", *headers, f"Content-Length: {len(body)}"]
    if body:
        lines.append("Content-Type: application/json")
    return "\r\n".join(lines).encode() + _HEAD_END + body


class Line:
    """One kept connection to a port of this machine, opened anew for each block."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = b""
        self._whole: int | None = None  # bytes of the answer that arrives, once its head is here

    def __enter__(self) -> "Line":
        return self

    def __exit__(self, *_: Any) -> None:
        self.socket.close()

    def ask(self, data: bytes) -> Answer:
        """Send a request and wait for its answer. Raises OSError."""
        self.socket.sendall(data)
        while (answer := self.receive()) is None:
            pass
        return answer

    def receive(self) -> Answer | None:
        """Read what is there; the answer once it is whole. Raises OSError, ConnectionError at its end."""
        piece = self.socket.recv(1 << 18)
        if not piece:
            raise ConnectionError(f"the server closed the connection after {self._buffer[:200]!r}")
        self._buffer += piece
        if self._whole is None:
            end = self._buffer.find(_HEAD_END)
            if end < 0:
                return None
            self._whole = end + len(_HEAD_END) + _content_length(self._buffer[:end])
        if len(self._buffer) < self._whole:
            return None
        answer = Answer(int(self._buffer[9:12]), self._buffer[self._buffer.find(_HEAD_END) + 4 : self._whole])
        self._buffer, self._whole = self._buffer[self._whole :], None
        return answer


def _content_length(head: bytes) -> int:
    name = head.lower().find(_LENGTH)
    if name < 0:
        raise ConnectionError(f"an answer without Content-Length: {head[:200]!r}")
    return int(head[name + len(_LENGTH) :].partition(b"\r\n")[0])


def flood(port: int, requests: Sequence[bytes], clients: int) -> list[Answer]:
    """Send all requests over so many connections, each with one after the other. Answers are in the same order."""
    answers: list[Answer] = [Answer(0, b"")] * len(requests)
    numbers = iter(range(len(requests)))
    asked: dict[Line, int] = {}
    with selectors.DefaultSelector() as selector:
        try:
            for _, number in zip(range(clients), numbers, strict=False):
                line = Line(port)
                asked[line] = number
                selector.register(line.socket, selectors.EVENT_READ, line)
                line.socket.sendall(requests[number])
            while asked:
                for key, _ in selector.select(TIMEOUT_S) or _nothing():
                    line = key.data
                    answer = line.receive()
                    if answer is None:
                        continue
                    answers[asked[line]] = answer
                    following = next(numbers, None)
                    if following is None:
                        del asked[line]
                        selector.unregister(line.socket)
                        line.socket.close()
                    else:
                        asked[line] = following
                        line.socket.sendall(requests[following])
        finally:
            for line in asked:
                line.socket.close()
    return answers


def _nothing() -> Any:
    raise TimeoutError(f"no answer for {TIMEOUT_S:g} s")
