"""A network that loses answers: a TCP proxy that lets requests through and cuts connections before the answer."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

PIECE = 65_536


class Cutter:
    """A port in front of a server on this machine. The first `cuts` answers are lost, later ones pass."""

    def __init__(self, target: int, cuts: int) -> None:
        self.lost: list[bytes] = []  # what the server answered and nobody heard
        self._target = target
        self._cuts = cuts
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._threads = [threading.Thread(target=self._accept)]
        self._open: list[socket.socket] = []
        self._threads[0].start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for one in self._open:
            _end(one)
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return  # closed
            server = socket.create_connection(("127.0.0.1", self._target))
            self._open += [client, server]
            for run in (self._up, self._down):
                thread = threading.Thread(target=run, args=(client, server))
                self._threads.append(thread)
                thread.start()

    def _up(self, client: socket.socket, server: socket.socket) -> None:
        while data := _received(client):
            server.sendall(data)
        _end(server)

    def _down(self, client: socket.socket, server: socket.socket) -> None:
        while data := _received(server):
            if len(self.lost) < self._cuts:
                self.lost.append(data)
                break
            client.sendall(data)
        _end(client)


def _received(one: socket.socket) -> bytes:
    """What came; nothing at the end, however it came."""
    try:
        return one.recv(PIECE)
    except OSError:
        return b""


def _end(one: socket.socket) -> None:
    with suppress(OSError):  # the other side was first
        one.shutdown(socket.SHUT_RDWR)
    one.close()


@contextmanager
def cutting(target: int, cuts: int) -> Iterator[Cutter]:
    cutter = Cutter(target, cuts)
    try:
        yield cutter
    finally:
        cutter.close()
