import json
import re
from pathlib import Path

import pytest

from retire_cluster.agent.identity import Identity, IdentityStore, new_device_id

IDENTITY = Identity("nuc-3f2a", secret="rcd_1", incarnation="1" * 32, pin="ab" * 32, plain=False)


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    store = IdentityStore(tmp_path)
    assert store.load() is None
    store.save(IDENTITY)
    assert store.load() == IDENTITY
    store.save(IDENTITY.forgotten())
    assert store.load() == Identity("nuc-3f2a")


def test_the_file_is_private_and_nothing_else_is_left(tmp_path: Path) -> None:
    IdentityStore(tmp_path).save(IDENTITY)
    (file,) = tmp_path.iterdir()
    assert file.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"device_id": 1}', '{"device_id": "a", "secret": 5}', "\x00"]
)
def test_a_damaged_file_is_no_identity(
    tmp_path: Path, content: str, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "agent.json").write_text(content)
    assert IdentityStore(tmp_path).load() is None
    assert "made anew" in caplog.text


def test_keys_of_a_newer_version_are_ignored(tmp_path: Path) -> None:
    (tmp_path / "agent.json").write_text(json.dumps({"device_id": "a", "next_secret": "x"}))
    assert IdentityStore(tmp_path).load() == Identity("a")


@pytest.mark.parametrize(
    ("hostname", "slug"),
    [
        *(("NUC.lan", "nuc"), ("My Phone", "my-phone"), ("x" * 90, "x" * 40)),
        *(("", "device"), ("___", "device"), ("ü", "device")),
    ],
)
def test_a_device_id_reads_like_the_hostname(hostname: str, slug: str) -> None:
    assert re.fullmatch(rf"{slug}-[0-9a-f]{{4}}", new_device_id(hostname))
