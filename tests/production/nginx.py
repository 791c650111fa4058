"""A real nginx with the configuration that users get: other ports, files and servers, all else as it is."""

import datetime
import ipaddress
import os
import pwd
import re
import shutil
import signal
import ssl
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.architecture.code import ROOT
from tests.e2e.cluster import free_port, until

CONFIGURATION = ROOT / "deploy" / "nginx" / "retire-cluster.conf"
NAME = "cluster.example.com"
_ASKED = " 127.0.0.1:"
_UNPRIVILEGED = "nobody"  # whom nginx runs as when we are root
_PEM = serialization.Encoding.PEM
_SIGNS = x509.KeyUsage(False, False, False, False, False, True, True, False, False)  # certificates and lists


@dataclass(frozen=True)
class Upstreams:
    """Ports on this machine."""

    api: Sequence[int]
    live: Sequence[int] = ()
    gateways: Sequence[int] = ()


@dataclass(frozen=True)
class Answer:
    """A line of the log: what nginx answered, and the ports of the servers it asked, the last one last."""

    ended: float  # time of day, in whole seconds
    took_s: float
    status: int
    asked: tuple[int, ...]


class Nginx:
    """Listens on loopback; `ca` is what its certificate is verified by."""

    def __init__(self, home: Path, upstreams: Upstreams) -> None:
        self.home = home
        self.port, self.plain_port = free_port(), free_port()
        self.ca = home / "ca.pem"
        _make_certificates(home)
        (home / "retire-cluster.conf").write_text(self._adapted(upstreams))
        (home / "nginx.conf").write_text(_main(home))
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [*self._command(), "-g", "daemon off;"]
        self._process = subprocess.Popen(command, stderr=subprocess.DEVNULL, **_account())
        with httpx.Client() as client:
            plain = f"http://127.0.0.1:{self.plain_port}/"
            until(lambda: self._ended() or client.get(plain).status_code == 308, "nginx")
        assert not self._ended(), self.said()

    def _ended(self) -> bool:
        return self._process is not None and self._process.poll() is not None

    def kill(self) -> None:
        """Without a goodbye to anybody: the workers too."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def test(self) -> subprocess.CompletedProcess[str]:
        """`nginx -t`: whether it would take the configuration, and what it says."""
        command = [*self._command(), "-t"]
        return subprocess.run(command, capture_output=True, text=True, check=False, **_account())

    def client(self, source: str = "127.0.0.2", **headers: str) -> httpx.Client:
        """Somebody who knows the cluster by its name, at an address of their own."""
        context = ssl.create_default_context(cafile=str(self.ca))
        return httpx.Client(
            base_url=f"https://127.0.0.1:{self.port}",
            headers={"Host": f"{NAME}:{self.port}", **headers},
            transport=httpx.HTTPTransport(verify=context, local_address=source),
            timeout=90,
        )

    def answers(self) -> list[Answer]:
        """What it answered so far that came from a server."""
        return [
            _answer(line)
            for line in (self.home / "retire-cluster.log").read_text().splitlines()
            if _ASKED in line
        ]

    def said(self) -> str:
        file = self.home / "error.log"
        return file.read_text() if file.exists() else ""

    def _command(self) -> list[str]:
        program = shutil.which("nginx") or "/usr/sbin/nginx"
        return [program, "-p", str(self.home), "-e", "error.log", "-c", str(self.home / "nginx.conf")]

    def _adapted(self, upstreams: Upstreams) -> str:
        text = CONFIGURATION.read_text()
        for name in ("api", "live", "gateways"):
            ports = getattr(upstreams, name) or [free_port()]
            servers = "".join(f"    server 127.0.0.1:{port} max_fails=0;\n" for port in ports)
            text, found = re.subn(
                rf"(upstream retire_cluster_{name} {{\n)[^}}]*", rf"\g<1>{servers}", text, count=1
            )
            assert found == 1, name
        text = re.sub(r"^\s*listen \[::\].*\n", "", text, flags=re.MULTILINE)  # not every machine has IPv6
        text = text.replace("listen 80;", f"listen 127.0.0.1:{self.plain_port};")
        text = text.replace("listen 443 ", f"listen 127.0.0.1:{self.port} ")
        text = text.replace("/etc/ssl/retire-cluster/", f"{self.home}/")
        return text.replace("/var/log/nginx/", f"{self.home}/")


def _answer(line: str) -> Answer:
    """A line in the format of the configuration's `log_format`."""
    # Several servers, and what each said, stand in one place with ", " between them.
    _, moment, _, _, status, _, took_s, asked, *_ = line.replace(", ", ",").split(" ")
    ports = tuple(int(address.rpartition(":")[2]) for address in asked.split(","))
    return Answer(datetime.datetime.fromisoformat(moment).timestamp(), float(took_s), int(status), ports)


def _main(home: Path) -> str:
    """What a distribution's nginx.conf does around ours."""
    temporary = "\n".join(
        f"    {kind}_temp_path {home}/{kind};"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    return f"""pid {home}/nginx.pid;
worker_processes 1;
events {{ worker_connections 512; }}
http {{
{temporary}
    access_log off;
    include {home}/retire-cluster.conf;
}}
"""


def _account() -> dict[str, Any]:
    """Arguments of subprocess: a group of its own, and without root's rights if we have them."""
    if os.geteuid() != 0:
        return {"start_new_session": True}
    entry = pwd.getpwnam(_UNPRIVILEGED)
    return {"start_new_session": True, "user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


@contextmanager
def home() -> Iterator[Path]:
    """A directory that the account nginx runs as may use; pytest's own are closed to it."""
    with tempfile.TemporaryDirectory(prefix="rc-nginx-") as name:
        if os.geteuid() == 0:
            shutil.chown(name, _UNPRIVILEGED)
        yield Path(name)


@contextmanager
def running(upstreams: Upstreams) -> Iterator[Nginx]:
    with home() as directory:
        nginx = Nginx(directory, upstreams)
        try:
            nginx.start()
            yield nginx
        finally:
            nginx.kill()


def _make_certificates(directory: Path) -> None:
    """An authority, and what it signed for the cluster's name and for this machine."""
    authority, own = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "An authority for tests")])
    names = [x509.DNSName(NAME), x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    identifier = x509.SubjectKeyIdentifier.from_public_key(authority.public_key())
    ca = (
        _unsigned(issuer, issuer, authority.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(identifier, critical=False)
        .add_extension(_SIGNS, critical=True)
    )
    signed_by = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)
    leaf = (
        _unsigned(issuer, x509.Name([]), own.public_key())
        .add_extension(x509.SubjectAlternativeName(names), critical=True)
        .add_extension(signed_by, critical=False)
    )
    for name, certificate in (("ca.pem", ca), ("fullchain.pem", leaf)):
        (directory / name).write_bytes(certificate.sign(authority, hashes.SHA256()).public_bytes(_PEM))
    key = own.private_bytes(_PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (directory / "key.pem").write_bytes(key)


def _unsigned(
    issuer: x509.Name, subject: x509.Name, key: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .issuer_name(issuer)
        .subject_name(subject)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
    )
