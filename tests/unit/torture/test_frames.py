"""A connection's bytes are cut exactly where its frames end, however they arrive."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode

from retire_cluster.torture.frames import Splitter, frame_size

HEAD = b"GET /node HTTP/1.1\r\nUpgrade: websocket\r\n\r\n"


def frame(content: bytes, opcode: Opcode = Opcode.TEXT, *, mask: bool = False, fin: bool = True) -> bytes:
    return Frame(opcode, content, fin).serialize(mask=mask)


@given(
    contents=st.lists(st.sampled_from([0, 1, 125, 126, 127, 65_535, 65_536]), max_size=4),
    mask=st.booleans(),
    step=st.integers(1, 5000),
)
def test_frames_of_every_length_come_out_as_they_went_in(contents: list[int], mask: bool, step: int) -> None:
    frames = [frame(b"x" * size, mask=mask) for size in contents]
    stream = HEAD + b"".join(frames)
    splitter = Splitter()
    pieces = [piece for at in range(0, len(stream), step) for piece in splitter.feed(stream[at : at + step])]
    assert [piece for piece, _ in pieces] == [HEAD, *frames]
    assert [is_text for _, is_text in pieces] == [False, *(True for _ in frames)]


@pytest.mark.parametrize(
    "other",
    [
        frame(b"", Opcode.PING),
        frame(b"\x03\xe8", Opcode.CLOSE),
        frame(b"part", fin=False),
        frame(b"rest", Opcode.CONT),
    ],
)
def test_only_a_text_frame_that_stands_alone_may_be_repeated(other: bytes) -> None:
    splitter = Splitter()
    assert list(splitter.feed(HEAD + other)) == [(HEAD, False), (other, False)]


def test_the_size_of_a_frame_is_known_as_soon_as_its_length_is() -> None:
    assert frame_size(b"\x81") is None
    assert frame_size(b"\x81\x05") == 7
    assert frame_size(b"\x81\x85") == 11
    assert frame_size(b"\x81\x7e\x01") is None
    assert frame_size(b"\x81\x7e\x01\x00") == 4 + 256
