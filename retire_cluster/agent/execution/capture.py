"""The output of a process within bounds: head and tail are kept, the middle is counted."""

from collections.abc import Callable

from retire_cluster.agent.execution.work import Work
from retire_cluster.protocol.states import Stream

_CONTINUES = range(0x80, 0xC0)  # a byte of UTF-8 that begins no character


class Capture:
    """Takes a stream's bytes as they come; costs at most one and a half times `limit` bytes of memory."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.total = 0
        self._head = bytearray()
        self._tail = bytearray()

    def write(self, data: bytes) -> None:
        self.total += len(data)
        half = self.limit // 2
        if (room := half - len(self._head)) > 0:
            self._head += data[:room]
            data = data[room:]
        self._tail += data
        if len(self._tail) > 2 * half:
            del self._tail[:-half]

    def text(self, limit: int | None = None) -> str:
        """All of it as text, or head and tail of together `limit` bytes with a line between that says so."""
        limit = self.limit if limit is None else min(limit, self.limit)
        if self.total <= limit:
            return (self._head + self._tail).decode(errors="replace")
        half = limit // 2
        head, tail = bytes(self._head[:half]), bytes((self._head + self._tail)[-half:] if half else b"")
        left_out = self.total - len(head) - len(tail)
        return f"{_whole(head)}\n[... {left_out} bytes left out ...]\n{_from_start(tail)}"

    def is_cut(self, limit: int | None = None) -> bool:
        """Whether text(limit) leaves something out."""
        return self.total > (self.limit if limit is None else min(limit, self.limit))


def watched(work: Work, stream: Stream, capture: Capture) -> Callable[[bytes], None]:
    """A sink that keeps what comes for the result and shows it to whoever watches."""

    def write(data: bytes) -> None:
        capture.write(data)
        work.show(stream, data)

    return write


def _whole(data: bytes) -> str:
    """Without the character the cut went through."""
    for back in range(1, min(4, len(data)) + 1):
        if data[-back] not in _CONTINUES:
            lead = data[-back]
            length = 1 if lead < 0x80 else 2 if lead < 0xE0 else 3 if lead < 0xF0 else 4
            return (data if length <= back else data[:-back]).decode(errors="replace")
    return data.decode(errors="replace")


def _from_start(data: bytes) -> str:
    start = next((i for i, byte in enumerate(data[:4]) if byte not in _CONTINUES), 0)
    return data[start:].decode(errors="replace")
