"""The Python SDK against a real cluster: its calls, its events, and what it does when the network fails."""

import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from retire_cluster.sdk import ConnectionFailed, DeadlinePassed, Requirements, RetireClusterAPI, Submission
from retire_cluster.sdk.errors import (
    Conflict,
    DeviceNotFound,
    IdempotencyMismatch,
    NotFound,
    PayloadTooLarge,
    PreconditionFailed,
    ResultNotReady,
    TaskNotFound,
    Unauthorized,
    ValidationFailed,
)
from retire_cluster.sdk.events import DeviceEvent, Event, Snapshot, TaskEvent, TasksSubmitted
from tests.architecture.code import ROOT
from tests.e2e.cluster import Cluster, running, until
from tests.e2e.cutting import cutting
from tests.e2e.snippets import PYTHON, at
from tests.e2e.test_certificates import SecureCluster

LONG_S = 60.0
DEVICE = "alice"


def key_of(cluster: Cluster) -> str:
    return (cluster.data_dir / "api-key").read_text().strip()


def client(cluster: Cluster, port: int = 0, *, retries: int = 5) -> RetireClusterAPI:
    address = f"http://127.0.0.1:{port or cluster.port}/api/v1"
    return RetireClusterAPI(address, key_of(cluster), retries=retries)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with running(tmp_path_factory.mktemp("sdk") / "cluster", "--no-local-node") as found:
        found.join(DEVICE)
        found.online(DEVICE)
        yield found


@pytest.fixture
def api(cluster: Cluster) -> Iterator[RetireClusterAPI]:
    with client(cluster) as found:
        yield found


def test_the_specification_s_snippet_works_with_the_sdk_s_class(cluster: Cluster) -> None:
    _, usage, lines = PYTHON.partition("# Usage\n")
    assert usage
    names: dict[str, Any] = {}
    exec(at(cluster.port, f"from retire_cluster.sdk import RetireClusterAPI\n{usage}{lines}"), names)

    assert names["status"]["status"] == "success"
    assert names["status"]["data"]["cluster_stats"]["online_devices"] == 1
    task = cluster.ended(names["task"]["data"]["task_id"])
    assert task["result"] == {"echo": {"message": "Hello"}}


Use = Callable[[Any], Any]
USES: dict[str, Use] = {
    "status": lambda api: api.get_cluster_status(),
    "task": lambda api: api.submit_task("echo", {"message": "Hello"}, priority="high"),
    "unknown type": lambda api: api.submit_task("no-such-type", {}),
    "bad priority": lambda api: api.submit_task("echo", {}, priority="no such priority"),
    "unknown member": lambda api: api.submit_task("echo", {}, no_such_member=1),
}


@pytest.mark.parametrize("key", [None, "wrong"])
@pytest.mark.parametrize("use", USES)
def test_its_two_methods_answer_what_the_snippet_answers(cluster: Cluster, use: str, key: str | None) -> None:
    theirs: dict[str, Any] = {}
    exec(at(cluster.port, PYTHON), theirs)
    snippets: Any = theirs["RetireClusterAPI"]
    address = f"http://127.0.0.1:{cluster.port}/api/v1"
    ours, wanted = USES[use](RetireClusterAPI(address, key)), USES[use](snippets(address, key))
    assert shape(ours) == shape(wanted)
    assert wanted["status"] == ("error" if key or use not in ("status", "task") else "success")


def shape(value: Any) -> Any:
    """The members of an answer and the words that do not change from call to call."""
    if isinstance(value, dict):
        return {name: shape(item) for name, item in value.items()}
    return type(value) if not isinstance(value, str) or any(map(str.isdigit, value)) else value


def test_tasks_are_submitted_waited_for_and_read(api: RetireClusterAPI) -> None:
    task = api.submit(
        "echo", {"n": 1}, priority="high", requirements=Requirements(max_retries=1), metadata={"m": 1}
    )
    assert (task.status, task.is_terminal) == ("queued", False)
    assert api.wait(task, LONG_S).status == "success"
    result = api.result(task)
    assert (result.ok, result.result_data, result.worker_device_id) == (True, {"echo": {"n": 1}}, DEVICE)
    detail = api.task(task.task_id)
    assert (detail.payload, detail.metadata, detail.priority) == ({"n": 1}, {"m": 1}, "high")
    assert (detail.requirements.max_retries, detail.result) == (1, {"echo": {"n": 1}})
    assert [attempt.outcome for attempt in detail.attempts] == ["success"]
    assert api.status(task).assigned_device_id == DEVICE
    assert next(iter(api.tasks(device_id=DEVICE, created_after=task.created_at))).is_terminal
    assert api.tasks(status=["success", "failed"]).page(page_size=1).items[0].status == "success"
    assert api.explain(task).devices[0].device_id == DEVICE
    assert api.dry_run("echo").dry_run
    assert api.statistics().queue_stats.total_tasks >= 1
    assert "echo" in api.types().supported_types
    assert api.run("echo", {"n": 2}, timeout=LONG_S).result_data == {"echo": {"n": 2}}


def test_a_running_task_is_cancelled_and_one_that_was_can_be_retried(api: RetireClusterAPI) -> None:
    task = api.submit("sleep", {"duration": 600})
    with pytest.raises(DeadlinePassed) as late:
        api.wait(task, timeout=0.2)
    assert late.value.task.task_id == task.task_id
    with pytest.raises(ResultNotReady):
        api.result(task)
    until(lambda: api.status(task).status == "running", "the task to run")
    assert api.cancel(task).cancel_requested
    assert api.wait(task, LONG_S).status == "cancelled"
    assert not api.result(task).ok
    assert api.retry(task).status in ("queued", "pending")
    api.cancel(task)
    assert api.wait(task, LONG_S).status == "cancelled"
    with pytest.raises(Conflict):
        api.cancel(task)


def test_many_tasks_are_submitted_and_waited_for(api: RetireClusterAPI) -> None:
    tasks = api.submit_many(Submission("echo", {"n": number}) for number in range(1100))
    assert len({task.task_id for task in tasks}) == 1100
    ended = api.wait_all(tasks, LONG_S)
    assert [task.task_id for task in ended] == [task.task_id for task in tasks]
    assert {task.status for task in ended} == {"success"}
    assert api.result(tasks[1099]).result_data == {"echo": {"n": 1099}}
    few = api.results(tasks[:3], timeout=LONG_S)
    assert [result.result_data for result in few] == [{"echo": {"n": n}} for n in range(3)]
    assert len(api.wait_all([task.task_id for task in tasks], timeout=LONG_S)) == len(tasks)


def test_the_output_of_a_running_task_is_followed_to_its_end(api: RetireClusterAPI, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    script = f"echo first; while [ ! -e {gate} ]; do sleep 0.05; done; echo second; echo third >&2"
    task = api.submit("command", {"command": script})
    output = api.logs(task, follow=True)
    assert next(output).text.startswith("first")
    assert not api.status(task).is_terminal
    gate.touch()
    rest = list(output)
    assert "second" in "".join(chunk.text for chunk in rest if chunk.stream == "stdout")
    assert "third" in "".join(chunk.text for chunk in rest if chunk.stream == "stderr")
    api.wait(task, LONG_S)
    everything = "".join(chunk.text for chunk in api.logs(task))
    assert everything.split() == ["first", "second", "third"] or everything.split() == [
        "first",
        "third",
        "second",
    ]
    assert api.logs_page(task, limit=1).chunks[0].text.startswith("first")


def test_devices_are_read_and_operated(api: RetireClusterAPI) -> None:
    [device] = api.devices(status="online", platform="linux")
    assert device.device_id == DEVICE
    assert api.device(device).agent_version
    assert api.device_status(DEVICE).is_online
    assert api.device_metrics(DEVICE, hours=1).device_id == DEVICE
    assert api.devices_summary().online_devices == 1
    assert api.ping(DEVICE).ping_successful
    assert api.cordon(DEVICE, "a look inside").status_reason == "cordoned: a look inside"
    assert api.drain(DEVICE, "tired", deadline_seconds=60).cordoned
    assert not api.uncordon(DEVICE).cordoned
    with pytest.raises(DeviceNotFound):
        api.device("nobody")


def test_a_device_is_removed(cluster: Cluster, api: RetireClusterAPI) -> None:
    cluster.join("bob")
    cluster.online("bob")
    assert api.remove("bob").was_online
    with pytest.raises(DeviceNotFound):
        api.remove("bob")


def test_the_cluster_says_how_it_is(api: RetireClusterAPI) -> None:
    assert api.health().ok
    assert api.index()["tasks"] == "/api/v1/tasks"
    assert api.cluster_status().cluster_stats.online_devices == 1
    assert api.metrics().resources.slots_total >= 1
    assert api.cluster_config().features.websocket


def test_the_configuration_is_changed_by_who_saw_it_last(api: RetireClusterAPI) -> None:
    seen = api.config_section("retention")
    assert seen.values == api.config()["retention"]
    changed = api.change_config("retention", {"tasks_days": 12}, etag=seen.etag)
    assert (changed.values["tasks_days"], changed.etag != seen.etag) == (12, True)
    with pytest.raises(PreconditionFailed):
        api.change_config("retention", {"tasks_days": 13}, etag=seen.etag)
    assert api.change_config("retention", {"tasks_days": 14}).values["tasks_days"] == 14
    assert api.reset_config()["retention"] == seen.values
    assert next(iter(api.audit(action=["config.reset", "config.change"]))).action == "config.reset"
    with pytest.raises(NotFound):
        api.config_section("no-such-section")


def test_keys_and_join_tokens_are_made_and_revoked(cluster: Cluster, api: RetireClusterAPI) -> None:
    made = api.create_key("reader", ["read"], expires_in_seconds=600, rate_limits="off")
    with RetireClusterAPI(api.base_url, made.key) as reader:
        assert reader.cluster_config().features.api_enabled
        assert api.revoke_key(made.id).is_active is False
        with pytest.raises(Unauthorized, match="api_key="):
            reader.cluster_status()
    assert made.id in [key.id for key in api.keys().page().items]
    assert api.key(made.id).revoked_at is not None

    token = api.create_join_token(
        "phones", max_uses=3, tags=["phone"], expires_at=datetime.now(UTC) + timedelta(1)
    )
    assert token.token in token.join_command
    assert token.id in {item.id for item in api.join_tokens()}
    assert api.join_token(token.id).tags == ("phone",)
    assert api.revoke_join_token(token.id).revoked_at is not None
    assert api.ws_ticket().expires_at > datetime.now(UTC)


def test_what_the_server_refuses_says_why_and_what_to_do(api: RetireClusterAPI) -> None:
    with pytest.raises(ValidationFailed, match="correct what it names") as caught:
        api.submit("echo", priority="no such priority")
    assert (caught.value.field, caught.value.status) == ("priority", 400)
    assert caught.value.request_id
    with pytest.raises(PayloadTooLarge):
        api.submit("echo", {"text": "x" * 300_000})
    with pytest.raises(TaskNotFound):
        api.task("no-such-task")
    api.submit("echo", {"n": 1}, idempotency_key="once")
    with pytest.raises(IdempotencyMismatch):
        api.submit("echo", {"n": 2}, idempotency_key="once")


def test_one_client_serves_many_threads(api: RetireClusterAPI) -> None:
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda n: api.run("echo", {"n": n}, timeout=LONG_S).result_data, range(40)))
    assert results == [{"echo": {"n": n}} for n in range(40)]


def test_a_submission_whose_answer_is_lost_runs_once(cluster: Cluster, api: RetireClusterAPI) -> None:
    began = datetime.now(UTC)
    with cutting(cluster.port, cuts=2) as cutter, client(cluster, cutter.port) as far:
        task = far.submit("echo", {"n": "single"})
        assert len(cutter.lost) == 2
    assert b" 201 " in cutter.lost[0]
    with cutting(cluster.port, cuts=2) as cutter, client(cluster, cutter.port) as far:
        batch = far.submit_many([Submission("echo", {"n": number}) for number in range(3)])
        assert len(cutter.lost) == 2
    with cutting(cluster.port, cuts=1) as cutter, client(cluster, cutter.port) as far:
        raw = far.submit_task("echo", {"n": "as specified"})
    known = [task.task_id, *(item.task_id for item in batch), raw["data"]["task_id"]]
    api.wait_all(known, LONG_S)
    assert sorted(item.task_id for item in api.tasks(created_after=began)) == sorted(known)


def test_what_may_have_been_done_is_not_sent_twice(cluster: Cluster, api: RetireClusterAPI) -> None:
    cutter = cutting(cluster.port, cuts=1)
    with cutter as network, client(cluster, network.port) as far, pytest.raises(ConnectionFailed):
        far.create_key("lost", ["read"])
    names = [key.name for key in api.keys().page().items]
    assert names.count("lost") == 1


def test_events_tell_what_happens(api: RetireClusterAPI) -> None:
    with api.events(topics=["task"]) as events:
        first = next(events)
        assert isinstance(first, Snapshot)
        assert (first.devices, first.tasks is not None) == (None, True)
        task = api.submit("echo")
        found = up_to_the_end(events, task.task_id)
    assert isinstance(found[0], TasksSubmitted)
    assert found[0].task_ids == (task.task_id,)
    assert [item.seq for item in found] == sorted({item.seq for item in found})
    with api.events(task_id=task.task_id, since=first.cursor) as events:
        assert [item.seq for item in up_to_the_end(events, task.task_id)] == [item.seq for item in found]


def up_to_the_end(events: Iterator[Event], task_id: str) -> list[Event]:
    """The events until the task has ended."""
    found: list[Event] = []
    for event in events:
        found.append(event)
        if isinstance(event, TaskEvent) and event.task_id == task_id and event.is_terminal:
            break
    return found


def test_events_outlive_a_restart_of_the_server_and_miss_nothing(tmp_path: Path) -> None:
    heard: list[Event] = []
    with running(tmp_path / "cluster", "--no-local-node") as cluster, client(cluster) as api:
        events = api.events()
        listener = threading.Thread(target=lambda: heard.extend(events))
        listener.start()
        try:
            until(lambda: heard, "the snapshot")
            assert cluster.server.interrupt() == 0
            cluster.start("--no-local-node")
            cluster.join("late")
            until(lambda: any(isinstance(item, DeviceEvent) for item in heard), "the device to be told of")
        finally:
            events.close()
            listener.join(LONG_S)
    assert not listener.is_alive()
    kinds = [item.type for item in heard]
    assert kinds.count("snapshot") == 1, "it went on, and did not begin anew"
    assert "cluster.gateway_stopped" in kinds
    seqs = [item.seq for item in heard]
    assert seqs == list(range(seqs[0], seqs[0] + len(seqs)))


def test_a_wait_outlives_a_restart_of_the_server(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Also one that takes longer than the tries of a call, which are used up at once here."""
    with running(tmp_path / "cluster", "--no-local-node") as cluster, client(cluster, retries=0) as api:
        cluster.join("steady")
        cluster.online("steady")
        with ThreadPoolExecutor(1) as pool:
            result = pool.submit(api.run, "sleep", {"duration": 4}, timeout=LONG_S)
            until(lambda: cluster.get("tasks?status=running"), "the task to run")
            assert cluster.server.interrupt() == 0
            until(lambda: "asking again for up to" in caplog.text or result.done(), "the outage to be said")
            cluster.start("--no-local-node")
            assert result.result(LONG_S).ok


def usage(*, is_ca: bool) -> x509.KeyUsage:
    """What a certificate's key may do; Python 3.13 wants it said."""
    unused = ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "crl_sign")
    never = dict.fromkeys((*unused, "encipher_only", "decipher_only"), False)
    return x509.KeyUsage(digital_signature=not is_ca, key_cert_sign=is_ca, **never)


class Authority:
    """A certificate authority of one's own, and a server's certificate from it."""

    def __init__(self, directory: Path) -> None:
        self.ca, self.certificate, self.key = (
            directory / name for name in ("ca.pem", "server.pem", "server.key")
        )
        now = datetime.now(UTC)
        root_key, server_key = (
            ec.generate_private_key(ec.SECP256R1()),
            ec.generate_private_key(ec.SECP256R1()),
        )
        root = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "home")])
        server = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "cluster")])

        def certificate(subject: x509.Name, key: ec.EllipticCurvePrivateKey, *, is_ca: bool) -> bytes:
            public = key.public_key()
            identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(root_key.public_key())
            builder = x509.CertificateBuilder(root, subject, public, x509.random_serial_number())
            builder = builder.not_valid_before(now - timedelta(1)).not_valid_after(now + timedelta(1))
            builder = builder.add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
            builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            builder = builder.add_extension(identifier, critical=False)
            builder = builder.add_extension(usage(is_ca=is_ca), critical=True)
            names = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
            builder = builder.add_extension(names, critical=False)
            return builder.sign(root_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

        self.ca.write_bytes(certificate(root, root_key, is_ca=True))
        self.certificate.write_bytes(certificate(server, server_key, is_ca=False))
        form = serialization.PrivateFormat.PKCS8
        self.key.write_bytes(
            server_key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
        )
        self.key.chmod(0o600)


def test_a_server_is_believed_by_the_authority_it_has_its_certificate_from(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    cluster = SecureCluster(tmp_path / "cluster")
    try:
        cluster.start("--tls-cert", str(authority.certificate), "--tls-key", str(authority.key))
        address = f"https://127.0.0.1:{cluster.port}/api/v1"
        with RetireClusterAPI(address, key_of(cluster), ca=authority.ca) as api:
            until(lambda: list(api.devices(status="online")), "the local node")
            assert api.run("echo", timeout=LONG_S).ok
            with api.events() as events:
                assert next(events).type == "snapshot"
        with RetireClusterAPI(address) as api:
            for ask in (api.cluster_status, lambda: next(api.events())):
                with pytest.raises(ConnectionFailed, match="ca="):
                    ask()
        with RetireClusterAPI(address, verify=False) as api:
            assert api.health().ok
    finally:
        cluster.stop()


def test_a_program_on_a_device_needs_nothing_of_the_server(cluster: Cluster) -> None:
    """In an interpreter of its own, as users have it: the server's packages are not even loaded."""
    program = (
        "import sys; from retire_cluster.sdk import RetireClusterAPI\n"
        "with RetireClusterAPI(sys.argv[1]) as api:\n"
        "    tasks = api.submit_many([{'task_type': 'echo', 'payload': {}}] * 3)\n"
        "    print(*[task.status for task in api.wait_all(tasks, 60)])\n"
        "print(sorted({'django', 'rest_framework', 'celery', 'channels', 'cryptography'} & set(sys.modules)))"
    )
    command = [sys.executable, "-W", "error", "-c", program, f"http://127.0.0.1:{cluster.port}/api/v1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("success success success\n[]\n", "")


def test_the_examples_of_the_reference_work(cluster: Cluster, api: RetireClusterAPI) -> None:
    page = (ROOT / "docs" / "reference" / "sdk-python.md").read_text()
    examples = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(examples) >= 5
    names: dict[str, Any] = {"KEY": key_of(cluster)}
    for example in examples:
        exec(at(cluster.port, example), names)
    assert names["result"].result_data == {"echo": {"message": "Hello"}}
    assert names["event"].task_id == names["task"].task_id
    assert not api.key(names["key"].id).is_active
    api.reset_config()
