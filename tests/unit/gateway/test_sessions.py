from devices.capacity import Signature
from retire_cluster.gateway.sessions import LONGEST_HOLD_S, Session
from tasks.scheduling.planner import DeviceView
from tests.integration.gateway.cluster import FakeLink

SIGNATURE = Signature(
    task_types=frozenset({"echo"}),
    platform="linux",
    role="worker",
    tags=frozenset(),
    cpu_count=1,
    memory_mb=None,
    storage_mb=None,
    has_gpu=None,
    has_internet=None,
)
ALICE = DeviceView(
    id="alice",
    session=1,
    signature=SIGNATURE,
    slots=1,
    free_slots=1,
    free_memory_mb=None,
    free_storage_mb=None,
)


def test_a_device_that_declines_again_and_again_is_left_alone_for_longer_and_longer() -> None:
    session = Session(FakeLink(), ALICE)
    holds = []
    for _ in range(10):
        session.hold(100.0)
        holds.append(session.hold_until - 100.0)
    assert holds[:4] == [1.0, 2.0, 4.0, 8.0]
    assert holds[-1] == LONGEST_HOLD_S
