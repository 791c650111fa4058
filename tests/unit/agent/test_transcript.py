"""What a task prints on its way: complete while it fits, bounded always, and honest about what is missing."""

from hypothesis import given
from hypothesis import strategies as st

from retire_cluster.agent.execution.transcript import LIMIT, TAIL, Transcript
from retire_cluster.protocol.messages import MAX_CHUNK, Output
from retire_cluster.protocol.states import Stream

A = "a" * 32
OUT, ERR = Stream.STDOUT, Stream.STDERR


def text(pieces: list[Output]) -> str:
    return "".join(piece.text for piece in pieces)


def printed(*parts: tuple[Stream, bytes]) -> Transcript:
    transcript = Transcript(A)
    for stream, data in parts:
        transcript.write(stream, data)
    return transcript


def test_lines_of_one_stream_travel_together_and_streams_stay_in_order() -> None:
    transcript = printed((OUT, b"one\n"), (OUT, b"two\n"), (ERR, b"oh\n"), (OUT, b"three\n"))
    assert [(piece.number, piece.stream, piece.text) for piece in transcript.pieces()] == [
        (0, OUT, "one\ntwo\n"),
        (1, ERR, "oh\n"),
        (2, OUT, "three\n"),
    ]
    assert list(transcript.pieces()) == []


def test_a_character_cut_in_two_becomes_whole() -> None:
    euro = "€".encode()
    transcript = printed((OUT, euro[:1]), (ERR, b"x"), (OUT, euro[1:]))
    assert [piece.text for piece in transcript.pieces()] == ["x", "€"]


def test_what_is_no_text_is_replaced_and_a_cut_character_at_the_end_too() -> None:
    transcript = printed((OUT, b"a\xffb\0c\xe2"))
    transcript.close()
    assert text(list(transcript.pieces())) == "a\ufffdb\ufffdc\ufffd"


def test_pieces_are_kept_until_they_are_acknowledged() -> None:
    transcript = printed((OUT, b"x" * (MAX_CHUNK + 1)))
    sent = list(transcript.pieces())
    assert transcript.unacknowledged() == sent
    transcript.acknowledged(1)
    assert transcript.unacknowledged() == sent[1:]
    transcript.acknowledged(2)
    assert transcript.is_empty
    assert transcript.size == 0


def test_a_call_sends_about_as_much_as_it_may() -> None:
    transcript = printed((OUT, b"x" * 10 * MAX_CHUNK))
    assert len(list(transcript.pieces(3 * MAX_CHUNK))) == 3
    assert transcript.has_news


def test_of_too_much_the_beginning_and_the_end_arrive_and_the_gap_is_told() -> None:
    transcript = Transcript(A)
    for number in range(1_000_000):
        transcript.write(OUT, b"line %07d\n" % number)
    assert transcript.size <= LIMIT + TAIL
    transcript.close()
    pieces = list(transcript.pieces())
    assert pieces[0].text.startswith("line 0000000\n")
    assert pieces[-1].text.endswith("line 0999999\n")
    assert len(text(pieces)) + sum(piece.left_out for piece in pieces) == 13_000_000


def test_what_waits_follows_when_there_is_room_again() -> None:
    transcript = printed((OUT, b"a" * LIMIT), (OUT, b"b" * 100))
    sent = list(transcript.pieces())
    assert text(sent) == "a" * LIMIT
    transcript.acknowledged(sent[-1].number + 1)
    assert text(list(transcript.pieces())) == "b" * 100


steps = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.sampled_from(Stream), st.integers(0, 90_000)),
        st.tuples(st.just("send"), st.just(OUT), st.integers(0, 40_000)),
        st.tuples(st.just("acknowledge"), st.just(OUT), st.integers(0, 30)),
    ),
    max_size=40,
)


@given(steps)
def test_nothing_is_lost_unsaid_and_memory_is_bounded(todo: list[tuple[str, Stream, int]]) -> None:
    transcript, total = Transcript(A), 0
    received: list[Output] = []
    for what, stream, amount in todo:
        if what == "write":
            transcript.write(stream, b"x" * amount)
            total += amount
        elif what == "send":
            received += transcript.pieces(amount)
        else:
            transcript.acknowledged(min(amount, len(received)))
        assert transcript.size <= LIMIT + TAIL + MAX_CHUNK
    transcript.close()
    received += transcript.pieces()
    assert [piece.number for piece in received] == list(range(len(received)))
    assert all(1 <= len(piece.text) <= MAX_CHUNK for piece in received)
    assert sum(len(piece.text) + piece.left_out for piece in received) == total
    transcript.acknowledged(len(received))
    assert transcript.is_empty
    assert transcript.size == 0
