"""Which server and which key a command takes."""

from pathlib import Path

import pytest

from retire_cluster.terminal import server
from retire_cluster.terminal.exits import Exit, Trouble


@pytest.fixture(autouse=True)
def _own_variables(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("API", "API_HOST", "API_PORT", "API_KEY"):
        monkeypatch.delenv(f"RETIRE_CLUSTER_{name}", raising=False)
    monkeypatch.setenv("RETIRE_CLUSTER_DATA_DIR", str(tmp_path))


def connect(address: str | None = None, key: str | None = None) -> tuple[str, str | None]:
    """The address and the key of the client."""
    import argparse

    with server.connect(argparse.Namespace(api_key=key, ca=None), address) as client:
        return client.base_url, client.headers.get("X-API-Key")


@pytest.mark.parametrize(
    ("address", "root"),
    [
        ("nas", "http://nas:8081"),
        ("nas:9000", "http://nas:9000"),
        ("192.168.1.7", "http://192.168.1.7:8081"),
        ("[::1]", "http://[::1]:8081"),
        ("[::1]:9000", "http://[::1]:9000"),
        ("https://cluster.example", "https://cluster.example"),
        ("http://nas:8081/api/v1/", "http://nas:8081"),
        (" nas ", "http://nas:8081"),
    ],
)
def test_an_address_is_a_host_a_port_or_a_url(address: str, root: str) -> None:
    assert server.root_of(address) == root


@pytest.mark.parametrize(
    "address", ["", "ftp://nas", "http://", "nas:port", "nas:70000", "nas/elsewhere", "::1"]
)
def test_what_is_no_address_is_said(address: str) -> None:
    with pytest.raises(Trouble, match="is no address") as found:
        server.root_of(address)
    assert found.value.code == Exit.USAGE


def test_this_machine_is_the_default() -> None:
    assert connect()[0] == "http://127.0.0.1:8081/api/v1"


def test_the_variable_beats_the_servers_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RETIRE_CLUSTER_API_HOST", "0.0.0.0")
    monkeypatch.setenv("RETIRE_CLUSTER_API_PORT", "9000")
    assert connect()[0] == "http://127.0.0.1:9000/api/v1"
    monkeypatch.setenv("RETIRE_CLUSTER_API", "nas")
    assert connect()[0] == "http://nas:8081/api/v1"
    assert connect("attic")[0] == "http://attic:8081/api/v1"


def test_a_port_that_is_none_is_usage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RETIRE_CLUSTER_API_PORT", "high")
    with pytest.raises(Trouble, match="RETIRE_CLUSTER_API_PORT"):
        connect()


def test_the_key_is_the_flags_the_variables_or_the_kept_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert connect()[1] is None
    (tmp_path / "api-key").write_text("kept\n")
    assert connect()[1] == "kept"
    monkeypatch.setenv("RETIRE_CLUSTER_API_KEY", "first, second")
    assert connect()[1] == "first"
    assert connect(key="given")[1] == "given"


def test_the_kept_key_is_never_sent_to_another_machine(tmp_path: Path) -> None:
    (tmp_path / "api-key").write_text("kept")
    assert connect("nas")[1] is None
    assert connect("localhost.example")[1] is None
    assert connect("localhost")[1] == "kept"


def test_a_certificate_that_is_not_there_is_usage() -> None:
    import argparse

    with pytest.raises(Trouble) as found:
        server.connect(argparse.Namespace(api_key=None, ca="/nowhere.pem"), "https://nas")
    assert found.value.code == Exit.USAGE
