"""The page about a lost admin key: its commands, in their order, on a real server."""

import subprocess
from pathlib import Path

import httpx

from tests.documented import DOCS, blocks
from tests.e2e.cluster import BIN, Cluster, clean_environment, running

PAGE = DOCS / "howto" / "lost-admin-key.md"


def run(cluster: Cluster, text: str) -> str:
    """A block of the page, in a shell of the server's account."""
    environment = {
        **clean_environment(),
        "RETIRE_CLUSTER_DATA_DIR": str(cluster.data_dir),
        "PATH": f"{BIN}:/usr/bin:/bin",
    }
    text = text.replace("~/.retire-cluster", str(cluster.data_dir))
    done = subprocess.run(["bash", "-ec", text], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def status_with(cluster: Cluster, key: str) -> int:
    return httpx.get(f"{cluster.api.base_url}/api/v1/keys", headers={"X-API-Key": key}).status_code


def test_the_page_gives_a_key_back_and_takes_the_old_one_away(tmp_path: Path) -> None:
    look, make, show, revoke = [block.text for block in blocks(PAGE) if block.language == "bash"]
    with running(tmp_path, "--no-local-node") as cluster:
        old = run(cluster, look).strip()
        assert status_with(cluster, old) == 200

        new = run(cluster, make).strip()
        assert status_with(cluster, new) == 200

        prefix = old[:16]
        assert prefix in run(cluster, show)
        assert "revoked" in run(cluster, revoke.replace("rck_0123456789ab", prefix))
        assert status_with(cluster, old) == 401
        assert status_with(cluster, new) == 200

        cluster.server.kill()
        cluster.start("--no-local-node")
        kept = run(cluster, look).strip()
        assert kept != old
        assert status_with(cluster, kept) == 200
        assert kept in cluster.server.said()
