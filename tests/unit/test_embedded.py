"""What the server hands to the parts it runs in its own process."""

import socket
from pathlib import Path

import pytest

from retire_cluster.agent.address import Address
from retire_cluster.embedded import Shape, local_node_config
from retire_cluster.listeners import Listener
from retire_cluster.protocol.states import Role


@pytest.mark.parametrize(
    ("bound", "reached"),
    [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("192.0.2.7", "192.0.2.7")],
)
def test_the_local_node_is_a_worker_that_joins_over_loopback_where_it_can(
    bound: str, reached: str, tmp_path: Path
) -> None:
    with socket.socket() as held:
        gateway = Listener(held, bound, 8080)
        shape = Shape(data_dir=tmp_path, join_token="rcj1_x", gateway=gateway, local_node="server-1")
        config = local_node_config(shape, gateway)

    assert config.role is Role.WORKER
    assert config.join == (Address(reached, 8080),)
    assert (config.device_id, config.token) == ("server-1", "rcj1_x")
