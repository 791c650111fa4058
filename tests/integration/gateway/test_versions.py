"""Agents whose protocol the server does not speak are refused, and the operator sees why."""

import pytest
from django.test import Client

from devices.models import Device
from retire_cluster.events import numbering
from retire_cluster.gateway.inputs import Opened
from retire_cluster.protocol import messages as wire
from tests.integration.gateway.cluster import Cluster, FakeLink, sent

pytestmark = pytest.mark.django_db(transaction=True)

OLD = wire.PROTOCOL_VERSION - 1
REASON = f"the agent speaks protocol {OLD}, the server {wire.PROTOCOL_VERSION}; update the agent"


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


def secret_of(link: FakeLink) -> str:
    (welcome,) = sent(link, wire.Welcome)
    assert welcome.secret
    return welcome.secret


def refused(cluster: Cluster, device_id: str, secret: str | None, protocol: int = OLD) -> wire.Goodbye:
    link = FakeLink()
    cluster.step(Opened(link, cluster.register(device_id, slots=1, secret=secret, protocol=protocol)))
    assert link.goodbye
    return link.goodbye


def state(device_id: str) -> tuple[bool, str]:
    row = Device.objects.get(pk=device_id)
    return row.online, row.status_reason


def activity() -> str:
    """The page, with what was told until now."""
    while numbering.number():
        pass
    return Client(SERVER_NAME="localhost").get("/activity/").content.decode()


def test_a_known_device_that_is_too_old_shows_it(cluster: Cluster) -> None:
    link = cluster.join("nuc")
    secret = secret_of(link)
    cluster.drop(link)

    goodbye = refused(cluster, "nuc", secret)

    assert (goodbye.code, goodbye.reason) == ("too_old", REASON)
    assert state("nuc") == (False, REASON)
    assert f"nuc was refused: {REASON}" in activity()


def test_an_agent_that_is_too_new_asks_for_another_server(cluster: Cluster) -> None:
    goodbye = refused(cluster, "nuc", None, protocol=wire.PROTOCOL_VERSION + 1)

    assert goodbye.code == "too_old"
    assert goodbye.reason.endswith("update the server")


@pytest.mark.parametrize("secret", [None, "rcd_" + "0" * 64])
def test_who_is_not_the_device_changes_nothing_of_it(cluster: Cluster, secret: str | None) -> None:
    cluster.drop(cluster.join("nuc"))
    before = state("nuc")

    assert refused(cluster, "nuc", secret).code == "too_old"
    assert state("nuc") == before


def test_a_device_that_works_is_not_said_to_be_refused(cluster: Cluster) -> None:
    secret = secret_of(cluster.join("nuc"))

    assert refused(cluster, "nuc", secret).code == "too_old"
    assert state("nuc") == (True, "")


def test_one_that_tries_again_and_again_is_told_of_once(cluster: Cluster) -> None:
    link = cluster.join("nuc")
    secret = secret_of(link)
    cluster.drop(link)

    for _ in range(3):
        refused(cluster, "nuc", secret)

    tales = activity().partition('id="events"')[2].partition("<footer")[0]
    assert tales.count("nuc was refused") == 1
