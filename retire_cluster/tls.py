"""A server's certificate and key as files that may be renewed while it runs."""

import hashlib
import os
import ssl
from pathlib import Path

from retire_cluster.startup import StartupError

_BEGIN, _END = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"


class Certificate:
    """The pair in use. `fingerprint` is the SHA-256 of the first certificate: what agents compare."""

    def __init__(self, certificate: Path, key: Path, *, flag: str = "") -> None:
        """Raises StartupError, naming the flag, when the pair cannot be used."""
        self.certificate = certificate
        self.key = key
        try:
            self.fingerprint = self._check()
        except (OSError, ValueError) as error:
            raise StartupError(f"{flag or certificate}: {_words(error)}") from None
        self._seen = self._stamp()

    def is_renewed(self) -> bool:
        """Whether the files changed, and can be used. Raises OSError or ValueError when they cannot."""
        return self._stamp() != self._seen and bool(self._check())

    def load(self, context: ssl.SSLContext) -> None:
        """Use the files for new connections from now on.

        In the thread that does the handshakes: between certificate and key a context serves nobody.
        """
        stamp = self._stamp()
        context.load_cert_chain(self.certificate, self.key, password=_no_password)
        self.fingerprint = fingerprint(self.certificate.read_text())
        self._seen = stamp

    def _check(self) -> str:
        """The fingerprint of the pair on disk."""
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(
            self.certificate, self.key, password=_no_password
        )
        return fingerprint(self.certificate.read_text())

    def _stamp(self) -> tuple[tuple[int, int, int], ...]:
        """Changes when a file is replaced or written."""
        found = (os.stat(file) for file in (self.certificate, self.key))
        return tuple((facts.st_ino, facts.st_mtime_ns, facts.st_size) for facts in found)


def given(certificate: str, key: str) -> Certificate | None:
    """The pair that --tls-cert and --tls-key name, a new object for each listener. Raises StartupError."""
    if not (certificate or key):
        return None
    if not (certificate and key):
        named, missing = ("--tls-cert", "--tls-key") if certificate else ("--tls-key", "--tls-cert")
        raise StartupError(f"{named} needs {missing} beside it")
    files = (Path(certificate).expanduser(), Path(key).expanduser())
    return Certificate(*files, flag=f"--tls-cert {certificate}")


def fingerprint(pem: str) -> str:
    """SHA-256 of the first certificate's DER form, in hexadecimal. Raises ValueError where there is none."""
    begin = pem.find(_BEGIN)
    end = pem.find(_END, begin)
    if begin < 0 or end < 0:
        raise ValueError("it holds no certificate")
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem[begin : end + len(_END)])).hexdigest()


def _no_password() -> str:
    raise ValueError("the key is encrypted; give one without a passphrase, readable by this account only")


def _words(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        known = {
            "KEY_VALUES_MISMATCH": "the key does not belong to the certificate",
            "NO_START_LINE": "this is no PEM file",
        }
        return known.get(error.reason or "", f"cannot be used ({error.reason or error})")
    if isinstance(error, OSError):
        return f"cannot read {error.filename}: {error.strerror}"
    return str(error)
