"""The gateway's own certificate: made at first start, recognised by its fingerprint, which join tokens carry."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from retire_cluster import datadir
from retire_cluster.tls import Certificate

CERTIFICATE_FILE = "gateway-certificate.pem"
KEY_FILE = "gateway-key.pem"
# Agents compare the fingerprint and never the dates: a device without a clock must be able to join.
VALID = timedelta(days=365 * 50)


def ensure(directory: Path) -> Certificate:
    """The one in the data directory, made when there is none."""
    certificate, key = directory / CERTIFICATE_FILE, directory / KEY_FILE
    if not (certificate.exists() and key.exists()):
        certificate_pem, key_pem = _make()
        datadir.write_private(key, key_pem)
        datadir.write_private(certificate, certificate_pem)
    return Certificate(certificate, key)


def _make() -> tuple[str, str]:
    # Here, because it is needed once in a cluster's life, and never on loopback.
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "retire-cluster gateway")])
    start = datetime(2020, 1, 1, tzinfo=UTC)  # a fixed past date: this machine's clock may be wrong as well
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + VALID)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("retire-cluster")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    key_pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return certificate.public_bytes(serialization.Encoding.PEM).decode(), key_pem.decode()
