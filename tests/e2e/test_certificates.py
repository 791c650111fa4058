"""The operator's own certificate on both listeners, and its renewal: no restart, and no device joins anew."""

import hashlib
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from retire_cluster.gateway.certificate import ensure
from retire_cluster.tls import Certificate
from tests.e2e.cluster import Cluster, Process, until


class Pki:
    """A certificate and its key, as files that get renewed."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.certificate, self.key = directory / "cluster.pem", directory / "cluster.key"
        self._made = 0
        self.renew()

    def renew(self) -> str:
        """New files in place of the old ones; the new fingerprint."""
        self._made += 1
        place = self.directory / f"made-{self._made}"
        place.mkdir()
        made: Certificate = ensure(place)
        made.key.replace(self.key)
        made.certificate.replace(self.certificate)
        return made.fingerprint

    @property
    def flags(self) -> tuple[str, ...]:
        return ("--tls-cert", str(self.certificate), "--tls-key", str(self.key))


class SecureCluster(Cluster):
    """Its API and gateway speak TLS."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.api.close()
        import httpx

        self.api = httpx.Client(base_url=f"https://127.0.0.1:{self.port}", timeout=70, verify=False)


def shown(port: int) -> str:
    """The fingerprint of the certificate that is shown there."""
    pem = ssl.get_server_certificate(("127.0.0.1", port))
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest()


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return Pki(tmp_path_factory.mktemp("pki"))


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, pki: Pki) -> Iterator[SecureCluster]:
    found = SecureCluster(tmp_path_factory.mktemp("secure") / "cluster")
    try:
        found.start("--no-local-node", *pki.flags)
        yield found
    finally:
        found.stop()


def both(cluster: Cluster) -> set[str]:
    return {shown(cluster.port), shown(cluster.gateway_port)}


def test_a_renewed_certificate_is_taken_without_a_restart(cluster: SecureCluster, pki: Pki) -> None:
    token = cluster.data_dir / "join-token"
    assert token.read_text().strip().split("_")[-1] in both(cluster)
    cluster.join("first")
    cluster.online("first")

    new = pki.renew()

    until(lambda: both(cluster) == {new}, "both listeners to show the new certificate")
    until(lambda: new in token.read_text(), "the standing token to name it")
    cluster.join("second")
    cluster.online("second")
    assert cluster.ended(cluster.submit("echo"))["status"] == "success"
    cluster.online("first")


def test_a_broken_certificate_changes_nothing(cluster: SecureCluster, pki: Pki) -> None:
    old = both(cluster)
    pki.key.write_text("no key\n")
    until(lambda: "cannot be used, the old one stays" in cluster.server.said(), "a warning")
    assert both(cluster) == old
    new = pki.renew()
    until(lambda: both(cluster) == {new}, "the repaired pair to be taken")


def test_a_device_that_missed_the_renewal_comes_back_without_joining_anew(
    cluster: SecureCluster, pki: Pki
) -> None:
    agent = cluster.join("away")
    cluster.online("away")
    agent.kill()
    new = pki.renew()
    until(lambda: both(cluster) == {new}, "the new certificate")
    old_token = cluster.join("away", token="rcj1_0000000000000000_" + "0" * 64 + "_" + "0" * 64)
    cluster.online("away")
    assert "has a new certificate and proved that it knows this device" in old_token.said()


def test_somebody_in_between_is_not_trusted(cluster: SecureCluster, pki: Pki, tmp_path: Path) -> None:
    """A second cluster at the first one's address: it shows another certificate and knows no device of it."""
    agent = cluster.join("wary")
    cluster.online("wary")
    cluster.server.kill()
    impostor = SecureCluster(tmp_path / "impostor")
    impostor.gateway_port = cluster.gateway_port
    other = Pki(_made(tmp_path / "other"))
    try:
        impostor.start("--no-local-node", *other.flags)
        until(lambda: "is not the one the token names" in agent.said(), "the agent to refuse it")
        assert impostor.get("devices") == []
    finally:
        impostor.stop()
        cluster.start("--no-local-node", *pki.flags)
    cluster.online("wary")


def _made(directory: Path) -> Path:
    directory.mkdir()
    return directory


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--tls-cert", "{cert}"], "--tls-cert needs --tls-key beside it"),
        (["--tls-key", "{key}"], "--tls-key needs --tls-cert beside it"),
        (["--tls-cert", "/nonexistent.pem", "--tls-key", "{key}"], "No such file"),
        (["--tls-cert", "{key}", "--tls-key", "{key}"], "--tls-cert"),
        (["--tls-cert", "{cert}", "--tls-key", "{other}"], "the key does not belong to the certificate"),
    ],
)
def test_an_unusable_pair_is_one_line(tmp_path: Path, pki: Pki, flags: list[str], words: str) -> None:
    other = Pki(_made(tmp_path / "other"))
    files = {"cert": pki.certificate, "key": pki.key, "other": other.key}
    arguments = [flag.format(**files) for flag in flags]
    process = Process(
        tmp_path / "said", "retire-cluster-main", "--port", "0", "--data-dir", str(tmp_path), *arguments
    )
    assert process.wait() == 2
    assert len(process.said().splitlines()) == 1
    assert words in process.said()
