"""Agents outlive their server: they come before it, stay through its restart, and return when forgotten."""

from pathlib import Path

from tests.e2e.cluster import Cluster, running, until

TOKEN = "a-token-of-the-operator"


def test_an_agent_that_came_first_joins_when_the_server_comes_and_stays_through_a_restart(
    tmp_path: Path,
) -> None:
    cluster = Cluster(tmp_path)
    cluster.variables["RETIRE_CLUSTER_JOIN_TOKEN"] = TOKEN
    try:
        agent = cluster.join("early", token=TOKEN)
        until(lambda: agent.said(), "the agent to say something")
        server = cluster.start("--no-local-node")
        cluster.online("early")
        assert cluster.ended(cluster.submit("echo", {"n": 1}))["assigned_device_id"] == "early"

        assert server.interrupt() == 0
        cluster.start("--no-local-node")
        cluster.online("early")
        assert cluster.ended(cluster.submit("echo", {"n": 2}))["assigned_device_id"] == "early"
        assert agent.alive()
    finally:
        cluster.stop()


def test_an_agent_the_server_forgot_joins_anew(tmp_path: Path) -> None:
    with running(tmp_path / "first", "--no-local-node") as cluster:
        cluster.variables["RETIRE_CLUSTER_JOIN_TOKEN"] = TOKEN
        agent = cluster.join("loyal")
        cluster.online("loyal")
        cluster.processes[0].kill()
        # Another life of the server: an empty database, which knows neither the device nor its token.
        cluster.lives += 1
        cluster.start("--no-local-node")
        until(lambda: not agent.alive() or cluster.get("devices"), "the agent's answer to being forgotten")
        if not agent.alive():
            # Its own token is void there: it says so, and comes back with the new one.
            agent = cluster.join("loyal")
        cluster.online("loyal")
        assert cluster.ended(cluster.submit("echo"))["assigned_device_id"] == "loyal"
