"""One attempt's output on its way to the gateway, within bounds: no task can fill the agent's memory with it.

What is printed becomes numbered pieces, kept until they are acknowledged. While more waits than LIMIT, only the end
of the rest is kept, and the next piece says how much was left out.
"""

import codecs
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from retire_cluster.protocol.messages import MAX_CHUNK, MAX_CHUNKS, Output
from retire_cluster.protocol.states import Stream

LIMIT = 256 * 1024  # characters that wait to be sent or acknowledged
TAIL = 64 * 1024  # characters of the end, beyond the limit


@dataclass(slots=True)
class _Piece:
    stream: Stream
    text: str
    left_out: int = 0  # bytes before it

    @property
    def bytes(self) -> int:
        return len(self.text.encode())


class Transcript:
    """Output in, messages out. No clock, no I/O."""

    def __init__(self, attempt: str) -> None:
        self._attempt = attempt
        self._decoders = {
            stream: codecs.getincrementaldecoder("utf-8")(errors="replace") for stream in Stream
        }
        self._waiting: deque[_Piece] = deque()
        self._sent: deque[Output] = deque()  # not acknowledged
        self._tail: deque[_Piece] = deque()
        self._number = 0
        self.size = 0  # characters kept, the tail included
        self._tail_size = 0

    def write(self, stream: Stream, data: bytes, *, final: bool = False) -> None:
        """Take what was printed; a character may be spread over two calls."""
        text = self._decoders[stream].decode(data, final).replace("\0", "\ufffd")
        for start in range(0, len(text), MAX_CHUNK):
            piece = _Piece(stream, text[start : start + MAX_CHUNK])
            self.size += len(piece.text)
            if self._tail or self.size > LIMIT:
                self._keep_end(piece)
            else:
                _append(self._waiting, piece)

    def close(self) -> None:
        """Nothing more is printed: the end is to be sent too."""
        for stream in Stream:
            self.write(stream, b"", final=True)
        self._waiting += self._tail
        self._tail.clear()
        self._tail_size = 0

    def pieces(self, most: int | None = None) -> Iterator[Output]:
        """What is to be sent now, in order; about `most` characters, or all there is."""
        sent = 0
        while self._waiting and (most is None or sent < most) and self._number < MAX_CHUNKS:
            piece = self._waiting.popleft()
            message = Output(
                attempt=self._attempt,
                number=self._number,
                stream=piece.stream,
                text=piece.text,
                left_out=piece.left_out,
            )
            self._number += 1
            self._sent.append(message)
            sent += len(piece.text)
            yield message

    def unacknowledged(self) -> list[Output]:
        """What was sent and may be lost: to be sent again on a new connection."""
        return list(self._sent)

    def acknowledged(self, number: int) -> None:
        """Let go of the pieces below the number; what waited behind the limit may follow."""
        while self._sent and self._sent[0].number < number:
            self.size -= len(self._sent.popleft().text)
        while self._tail and self.size - self._tail_size + len(self._tail[0].text) <= LIMIT:
            piece = self._tail.popleft()
            self._tail_size -= len(piece.text)
            _append(self._waiting, piece)

    @property
    def has_news(self) -> bool:
        return bool(self._waiting) and self._number < MAX_CHUNKS

    @property
    def is_empty(self) -> bool:
        return not self.has_news and not self._sent

    def _keep_end(self, piece: _Piece) -> None:
        _append(self._tail, piece)
        self._tail_size += len(piece.text)
        left_out = 0
        while self._tail_size > TAIL:
            oldest = self._tail.popleft()
            self._tail_size -= len(oldest.text)
            self.size -= len(oldest.text)
            left_out += oldest.left_out + oldest.bytes
        self._tail[0].left_out += left_out


def _append(pieces: "deque[_Piece]", piece: _Piece) -> None:
    """Add a piece, as part of the last one where that still fits."""
    last = pieces[-1] if pieces else None
    joins = last is not None and last.stream is piece.stream and not piece.left_out
    if last is not None and joins and len(last.text) + len(piece.text) <= MAX_CHUNK:
        last.text += piece.text
    else:
        pieces.append(piece)
