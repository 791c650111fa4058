"""Counts what crosses a connection: a listening port in front of a port of this machine."""

import contextlib
import socket
import threading

_CHUNK = 64 * 1024


class Relay:
    """Passes connections on, and counts the bytes that TCP carries; its headers are not among them."""

    def __init__(self, target: int) -> None:
        self.carried = 0  # both ways
        self._target = target
        self._counting = threading.Lock()
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        """Take no more connections; those there are end with their ends."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                client, _ = self._socket.accept()
                target = socket.create_connection(("127.0.0.1", self._target))
                for way in ((client, target), (target, client)):
                    threading.Thread(target=self._pump, args=way, daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(_CHUNK):
                with self._counting:
                    self.carried += len(data)
                sink.sendall(data)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)
