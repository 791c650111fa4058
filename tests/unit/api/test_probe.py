"""Asking a gateway over its port, plain or TLS, present or not."""

import json
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from retire_cluster import ops
from retire_cluster.ops import asking, probe

PATIENCE_S = 30.0
HEALTHY = {"status": "healthy", "scheduler": "degraded", "devices_connected": 3, "uptime_s": 61.5}


class _Server(ThreadingHTTPServer):
    asked = 0

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A plain request on the TLS port is expected here."""


@contextmanager
def gateway(answer: bytes, tls: ssl.SSLContext | None = None) -> Iterator[_Server]:
    """A server on loopback that answers every GET with these bytes."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            server.asked += 1
            assert self.path == "/node/health"
            self.send_response(200)
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *args: Any) -> None:
            """Nothing on standard error."""

    server = _Server(("127.0.0.1", 0), Handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=[0.01], daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(ops, "local_gateway", None)
    monkeypatch.setattr(probe, "TIMEOUT_S", PATIENCE_S)
    for name in ("PATIENCE_S", "FIRST_S", "KEPT_S"):
        monkeypatch.setattr(asking, name, PATIENCE_S)
    probe.forget_cached()
    yield
    probe.forget_cached()


def _ask(settings: Any, port: int) -> probe.GatewayFacts:
    settings.CLUSTER_HOST, settings.CLUSTER_PORT = "127.0.0.1", port
    return probe.gateway()


def test_a_plain_gateway_is_asked_once_for_a_while(settings: Any) -> None:
    with gateway(json.dumps(HEALTHY).encode()) as server:
        facts = [_ask(settings, server.server_port) for _ in range(5)]
        asked = server.asked

    assert asked == 1
    assert (facts[0].status, facts[0].scheduler, facts[0].uptime_s) == ("healthy", "degraded", 61.5)
    assert facts[0].details == {"devices_connected": 3}


def test_a_gateway_with_its_own_certificate_is_asked_over_tls(settings: Any, tmp_path: Path) -> None:
    with gateway(json.dumps(HEALTHY).encode(), _own_certificate(tmp_path)) as server:
        facts = _ask(settings, server.server_port)

    assert (facts.status, server.asked) == ("healthy", 1)


def test_nobody_there_is_unhealthy_and_says_what_to_start(settings: Any) -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))  # bound, not listening: refused, and nobody else's
        facts = _ask(settings, reserved.getsockname()[1])

    assert (facts.status, facts.scheduler) == ("unhealthy", "unhealthy")
    assert "retire-cluster-main" in facts.reason


@pytest.mark.parametrize("answer", [b"", b"<html>", b"[]", b'{"status":"fine"}', b'"healthy"', b"\xff"])
def test_something_else_on_the_port_is_unhealthy(settings: Any, answer: bytes) -> None:
    with gateway(answer) as server:
        facts = _ask(settings, server.server_port)

    assert facts.status == "unhealthy"
    assert facts.reason


def test_a_gateway_that_never_answers_costs_a_bounded_time(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe, "TIMEOUT_S", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        facts = _ask(settings, silent.getsockname()[1])

    assert facts.status == "unhealthy"
    assert "timed out" in facts.reason


def test_the_gateway_of_this_process_is_called_not_probed(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ops, "local_gateway", lambda: {"status": "healthy"})

    facts = _ask(settings, 1)

    assert (facts.status, facts.scheduler) == ("healthy", "unhealthy")


def _own_certificate(directory: Path) -> ssl.SSLContext:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "gateway")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    pem = directory / "pem"
    pem.write_bytes(
        certificate.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    return context
