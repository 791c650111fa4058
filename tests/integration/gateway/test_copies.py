"""A copy of a device's data directory: let in once, noticed, refused; the device waits for its operator."""

from typing import Any

import pytest

from clusterconfig.audit import SYSTEM, Actor
from clusterconfig.models import AuditEntry
from devices import operations
from devices.models import Device
from retire_cluster.protocol import messages as wire
from retire_cluster.protocol.states import HeldState
from tests.integration.gateway.cluster import Cluster, FakeLink, sent, status
from tests.integration.gateway.test_removal import run_one

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


class Copy:
    """One agent with the data of the device `alice`, as far as it is on its disk."""

    def __init__(self, cluster: Cluster, secret: str | None = None, link_no: int = 0) -> None:
        self.cluster, self.secret, self.link_no = cluster, secret, link_no
        self.link = FakeLink()

    def connect(self, *, stores: bool = True, confirms: bool = True, **more: Any) -> "Copy":
        self.link = self.cluster.join("alice", secret=self.secret, link_no=self.link_no, **more)
        for welcome in sent(self.link, wire.Welcome):
            assert isinstance(welcome, wire.Welcome)
            assert welcome.link_no is not None
            self.secret = welcome.secret or self.secret
            if stores:
                self.link_no = welcome.link_no
            if stores and confirms:
                self.cluster.say(self.link, wire.LinkStored(link_no=self.link_no))
        return self

    def copied(self) -> "Copy":
        return Copy(self.cluster, self.secret, self.link_no)

    @property
    def goodbye(self) -> str:
        return self.link.goodbye.code if self.link.goodbye else ""


def device() -> Device:
    return Device.objects.get(id="alice")


def test_a_copy_that_comes_second_is_refused_and_the_original_works_on(cluster: Cluster) -> None:
    original = Copy(cluster).connect()
    copy = original.copied()
    original.connect()
    task_id, attempt = run_one(cluster, original.link)
    session = device().session

    copy.connect()

    assert (copy.goodbye, original.goodbye) == ("cloned", "")
    assert (device().online, device().session, device().cordoned) == (True, session, True)
    assert "copy" in device().cordon_reason
    cluster.say(original.link, wire.Result(attempt=attempt, outcome="success", result_json="1"))  # type: ignore[arg-type]
    assert status(task_id) == "success"


def test_it_is_on_record_once_however_often_the_copy_tries(cluster: Cluster) -> None:
    original = Copy(cluster).connect()
    copy = original.copied()
    original.connect()
    for _ in range(3):
        copy.connect()
    entry = AuditEntry.objects.get(action="device.copied")
    assert (entry.actor, entry.target, entry.details["from"]) == ("system", "alice", "192.0.2.7")
    operations.uncordon("alice", reason="", actor=SYSTEM)
    copy.connect()
    assert (device().cordoned, AuditEntry.objects.filter(action="device.copied").count()) == (True, 2)


def test_a_copy_that_comes_first_is_the_device_and_the_original_is_refused(cluster: Cluster) -> None:
    original = Copy(cluster).connect()
    cluster.drop(original.link)
    copy = original.copied().connect()
    original.connect()
    assert (copy.goodbye, original.goodbye) == ("", "cloned")


def test_of_two_that_race_the_one_that_confirms_stays(cluster: Cluster) -> None:
    original = Copy(cluster).connect()
    copy = original.copied()
    original.connect(confirms=False)
    copy.connect()
    assert (original.goodbye, copy.goodbye) == ("replaced", "")
    cluster.say(original.link, wire.LinkStored(link_no=original.link_no))  # of a session that is over
    assert device().link_no == copy.link_no
    original.connect()
    assert original.goodbye == "cloned"


def test_an_agent_that_stores_nothing_goes_on_with_its_confirmed_number(cluster: Cluster) -> None:
    full = Copy(cluster).connect()
    for _ in range(3):
        full.connect(stores=False)
        assert full.goodbye == ""
    assert not device().cordoned


def test_an_agent_whose_confirmation_was_lost_shows_what_it_was_given_last(cluster: Cluster) -> None:
    agent = Copy(cluster).connect()
    for _ in range(3):
        agent.connect(confirms=False)
        assert agent.goodbye == ""
    assert device().link_no == agent.link_no - 1


def test_only_the_number_of_the_current_session_is_confirmed(cluster: Cluster) -> None:
    agent = Copy(cluster).connect()
    for number in (0, agent.link_no - 1, agent.link_no + 1, 2**50):
        cluster.say(agent.link, wire.LinkStored(link_no=number))
    assert device().link_no == agent.link_no


def test_a_server_whose_database_was_restored_takes_newer_numbers_and_goes_on_from_them(
    cluster: Cluster,
) -> None:
    agent = Copy(cluster).connect()
    agent.link_no += 100
    agent.connect()
    assert (agent.goodbye, device().session, device().cordoned) == ("", agent.link_no, False)


def test_an_agent_without_link_numbers_is_let_in(cluster: Cluster) -> None:
    agent = Copy(cluster).connect()
    agent.connect()
    old = cluster.join("alice", secret=agent.secret)
    assert old.goodbye is None
    agent.connect()
    assert agent.goodbye == ""


def test_a_late_registration_of_the_same_process_is_no_copy(cluster: Cluster) -> None:
    agent = Copy(cluster).connect()
    before = agent.copied()
    agent.connect(run_id="7" * 32)
    before.connect(run_id="7" * 32)
    assert (before.goodbye, agent.goodbye, device().cordoned) == ("replaced", "", False)


def test_a_refused_device_is_removed_and_joins_anew(cluster: Cluster) -> None:
    original = Copy(cluster).connect()
    copy = original.copied().connect()
    original.connect()
    operations.remove("alice", actor=Actor("ann"))
    cluster.step()
    assert copy.goodbye == "revoked"
    again = Copy(cluster).connect(rejoin=True)
    assert (again.goodbye, device().cordoned, device().link_no) == ("", False, again.link_no)
    original.connect()
    assert original.goodbye == "bad_secret"


def test_a_copy_with_another_id_of_its_own_gets_nothing_of_the_original_s_work(cluster: Cluster) -> None:
    original = Copy(cluster).connect()
    task_id, attempt = run_one(cluster, original.link)
    held = (wire.Held(attempt=attempt, state=HeldState.RUNNING),)
    other = cluster.join("bob", held=held)
    assert [stop.attempts for stop in sent(other, wire.Stop)] == [(attempt,)]
    assert status(task_id) == "running"
