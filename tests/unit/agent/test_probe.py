import asyncio
import socket
from pathlib import Path
from typing import Any

import pytest

from retire_cluster.agent import gpu, guess, host, memory, power, probe
from retire_cluster.agent.address import Address
from retire_cluster.agent.host import Host, Unknown
from retire_cluster.agent.internet import has_internet
from retire_cluster.agent.metrics import Sampler
from retire_cluster.protocol.messages import Capabilities
from retire_cluster.protocol.states import Platform, Role

MEMINFO = "MemTotal:        3884360 kB\nMemFree: 1 kB\nMemAvailable:    2048000 kB\n"


class Machine:
    """A file system to probe."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def write(self, path: str, text: str = "") -> "Machine":
        file = self.root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return self

    def host(self, **settings: Any) -> Host:
        defaults: dict[str, Any] = {
            "platform": "linux",
            "environ": {},
            "has_android_api": False,
            "affinity": lambda: 4,
        }
        return Host(root=self.root, **{**defaults, **settings})


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path / "root")


@pytest.fixture
def pi(machine: Machine) -> Machine:
    machine.write("/proc/device-tree/model", "Raspberry Pi 4 Model B Rev 1.4\x00")
    machine.write("/proc/meminfo", MEMINFO)
    machine.write("/etc/os-release", 'NAME="Debian"\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n')
    machine.write("/dev/dri/renderD128")
    machine.write("/dev/dri/card0")
    machine.write("/sys/class/drm/renderD128/device/uevent", "DRIVER=v3d")
    machine.write("/sys/class/thermal/thermal_zone0/temp", "48312\n")
    machine.write("/sys/class/thermal/thermal_zone0/type", "cpu-thermal\n")
    (machine.root / "sys/class/power_supply").mkdir(parents=True)
    return machine


@pytest.fixture
def phone(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> Host:
    """Termux: /proc/stat, /dev and most of /sys cannot be read."""
    machine.write("/proc/meminfo", MEMINFO)
    tool = machine.root / "bin/termux-battery-status"
    machine.write("/bin/termux-battery-status")
    tool.chmod(0o755)
    monkeypatch.setattr(
        power, "run", lambda arguments: '{"percentage": 81, "plugged": "UNPLUGGED", "temperature": 25.1}'
    )
    return machine.host(environ={"TERMUX_VERSION": "0.118", "PATH": "/bin"})


def test_a_raspberry_pi(pi: Machine, tmp_path: Path) -> None:
    found = probe.detect(pi.host(), tmp_path)
    assert found.platform is Platform.LINUX
    assert found.cpu_model == "Raspberry Pi 4 Model B Rev 1.4"
    assert found.os_version == "Debian GNU/Linux 12 (bookworm)"
    assert (found.cpu_count, found.memory_total_mb) == (4, 3793)
    assert found.has_battery is False
    assert found.has_gpu is False
    assert found.gpu_names == ("renderD128 (not on PCI)",)
    assert (found.storage_total_mb or 0) > 0
    assert found.has_internet is None
    assert found.unknown == {"has_internet": "not checked yet"}
    assert "raspberry-pi" in guess.tags(found)
    assert guess.role(found) is Role.WORKER


def test_a_phone_knows_what_it_cannot_know(phone: Host, tmp_path: Path) -> None:
    found = probe.detect(phone, tmp_path)
    assert found.platform is Platform.ANDROID
    assert found.has_battery is True
    assert found.has_gpu is None
    assert set(found.unknown) == {"has_internet", "has_gpu", "cpu_model"}
    assert all(found.unknown.values())
    assert guess.role(found) is Role.MOBILE
    assert {"battery", "termux"} <= set(guess.tags(found, termux=True))


def test_a_phones_metrics_come_without_proc_stat(phone: Host, tmp_path: Path) -> None:
    metrics = Sampler(phone, tmp_path).sample()
    assert metrics.battery_percent == 81
    assert metrics.charging is False
    assert metrics.cpu_percent is not None, "from the load"
    assert metrics.temperature_c == 25.1, "the battery's, where no other can be read"


@pytest.mark.parametrize("said", ['"hot"', "null", "0", "4000", "true"])
def test_a_phone_that_tells_no_sane_temperature_tells_none(
    phone: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str
) -> None:
    answer = f'{{"percentage": 81, "plugged": "UNPLUGGED", "temperature": {said}}}'
    monkeypatch.setattr(power, "run", lambda arguments: answer)
    metrics = Sampler(phone, tmp_path).sample()
    assert (metrics.battery_percent, metrics.temperature_c) == (81, None)


def test_nothing_readable_is_unknown_never_zero(machine: Machine, tmp_path: Path) -> None:
    found = probe.detect(machine.host(affinity=lambda: None), tmp_path)
    assert (found.cpu_count, found.memory_total_mb, found.has_gpu, found.has_battery) == (None,) * 4
    assert set(found.unknown) >= {"cpu_count", "memory_total_mb", "has_gpu", "has_battery", "has_internet"}


def test_garbage_in_proc_is_unknown_not_a_crash(machine: Machine, tmp_path: Path) -> None:
    for path in ("/proc/meminfo", "/proc/stat", "/proc/cpuinfo", "/etc/os-release", "/proc/self/cgroup"):
        machine.write(path, "MemTotal: many\nPRETTY_NAME\n\xff")
    for path in ("/sys/fs/cgroup/cpu.max", "/sys/fs/cgroup/memory.max"):
        machine.write(path, "a few")
    found = probe.detect(machine.host(), tmp_path)
    assert found.memory_total_mb is None
    assert found.cpu_count == 4
    assert Sampler(machine.host(), tmp_path).sample().memory_percent is None


def test_a_container_counts_its_share(machine: Machine) -> None:
    machine.write("/proc/meminfo", MEMINFO).write("/proc/self/cgroup", "0::/docker/abc\n")
    machine.write("/sys/fs/cgroup/docker/cpu.max", "250000 100000\n")
    machine.write("/sys/fs/cgroup/docker/abc/cpu.max", "max 100000\n")
    machine.write("/sys/fs/cgroup/docker/abc/memory.max", "536870912\n")
    machine.write("/sys/fs/cgroup/docker/abc/memory.current", "134217728\n")
    assert probe.cpu_count(machine.host()) == 2
    assert memory.total_mb(machine.host()) == 512
    assert memory.available_mb(machine.host()) == 384


def test_a_fraction_of_a_core_is_one_core(machine: Machine) -> None:
    machine.write("/sys/fs/cgroup/cpu.max", "50000 100000\n")
    assert probe.cpu_count(machine.host()) == 1


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"platform": "linux"}, Platform.LINUX),
        ({"platform": "freebsd14"}, Platform.LINUX),
        ({"platform": "darwin"}, Platform.DARWIN),
        ({"platform": "win32"}, Platform.WINDOWS),
        ({"platform": "android"}, Platform.ANDROID),
        ({"has_android_api": True}, Platform.ANDROID),
        ({"environ": {"ANDROID_ROOT": "/system"}}, Platform.ANDROID),
    ],
)
def test_platforms(machine: Machine, settings: dict[str, Any], expected: Platform) -> None:
    assert probe.platform_of(machine.host(**settings)) is expected


def card(machine: Machine, vendor: str, slot: str = "0000:01:00.0", vram_mb: int | None = None) -> gpu.Gpus:
    device = machine.root / "sys/devices" / slot
    device.mkdir(parents=True)
    (device / "vendor").write_text(vendor)
    (device / "device").write_text("0x1234")
    if vram_mb is not None:
        (device / "mem_info_vram_total").write_text(str(vram_mb * 2**20))
    machine.write("/dev/dri/renderD128")
    node = machine.root / "sys/class/drm/renderD128"
    node.mkdir(parents=True)
    (node / "device").symlink_to(device)
    return gpu.find(machine.host())


def test_dedicated_cards_count_integrated_and_virtual_ones_do_not(tmp_path: Path) -> None:
    cases = [
        ({"vendor": "0x10de"}, True),
        ({"vendor": "0x1002", "vram_mb": 8192}, True),
        ({"vendor": "0x1002", "vram_mb": 512}, False),
        ({"vendor": "0x1002"}, False),
        ({"vendor": "0x8086", "slot": "0000:00:02.0"}, False),
        ({"vendor": "0x8086", "slot": "0000:03:00.0"}, True),
        ({"vendor": "0x1af4"}, False),
    ]
    for number, (settings, expected) in enumerate(cases):
        found = card(Machine(tmp_path / str(number)), **settings)  # type: ignore[arg-type]
        assert found.usable is expected, settings
        assert len(found.names) == 1


def test_a_loaded_nvidia_driver_is_a_gpu_with_its_name(machine: Machine) -> None:
    machine.write("/dev/null")
    machine.write(
        "/proc/driver/nvidia/gpus/0000:01:00.0/information", "Model: \t\t NVIDIA GeForce GTX 1060\n"
    )
    assert gpu.find(machine.host()) == gpu.Gpus(True, ("NVIDIA GeForce GTX 1060",))


def test_an_nvidia_device_node_alone_is_one_too(machine: Machine) -> None:
    assert gpu.find(machine.write("/dev/nvidia0").host()).usable


def supply(machine: Machine, name: str, **files: str) -> None:
    for file, text in files.items():
        machine.write(f"/sys/class/power_supply/{name}/{file}", text + "\n")


def test_a_laptops_battery(machine: Machine) -> None:
    supply(machine, "AC", type="Mains", online="1")
    supply(machine, "BAT0", type="Battery", capacity="57", status="Discharging")
    assert power.has_battery(machine.host(), Platform.LINUX)
    assert power.battery(machine.host()) == power.Battery(57.0, False)
    supply(machine, "BAT0", status="Not charging", capacity="100")
    assert power.battery(machine.host()) == power.Battery(100.0, True)


def test_a_mouse_is_not_the_devices_battery(machine: Machine) -> None:
    supply(machine, "hidpp_battery_0", type="Battery", scope="Device", capacity="5")
    assert not power.has_battery(machine.host(), Platform.LINUX)
    assert power.battery(machine.host()) is None


def test_the_processors_sensor_wins_and_dead_sensors_do_not_count(machine: Machine) -> None:
    zones = [("acpitz", "27800"), ("x86_pkg_temp", "61000"), ("iwlwifi", "80000"), ("cpu-dead", "-274000")]
    for number, (kind, temp) in enumerate(zones):
        machine.write(f"/sys/class/thermal/thermal_zone{number}/type", kind)
        machine.write(f"/sys/class/thermal/thermal_zone{number}/temp", temp)
    assert power.temperature_c(machine.host()) == 61.0


def test_no_sensor_is_unknown(machine: Machine) -> None:
    with pytest.raises(Unknown):
        power.temperature_c(machine.host())


def test_a_silent_termux_tool_is_asked_seldom(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[list[str]] = []
    now = [0.0]

    def silent(arguments: list[str]) -> str:
        calls.append(arguments)
        raise Unknown("did not answer")

    machine.write("/bin/termux-battery-status")
    (machine.root / "bin/termux-battery-status").chmod(0o755)
    monkeypatch.setattr(power, "run", silent)
    tool = power.TermuxBattery(machine.host(environ={"PATH": "/bin"}), lambda: now[0])
    assert [tool.read() for _ in range(3)] == [None] * 3
    assert len(calls) == 1
    now[0] += power.TERMUX_PAUSE_S
    tool.read()
    assert len(calls) == 2


def test_a_helper_that_hangs_fails_or_is_missing_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "COMMAND_TIMEOUT_S", 0.05)
    for arguments in (["sleep", "10"], ["false"], ["no-such-program-here"]):
        with pytest.raises(Unknown, match=arguments[0]):
            host.run(arguments)
    assert host.run(["echo", "x"]) == "x"


def test_processor_load_is_the_share_since_the_last_look(machine: Machine, tmp_path: Path) -> None:
    machine.write("/proc/stat", "cpu  100 0 100 800 0 0 0 0 0 0\ncpu0 1\n")
    sampler = Sampler(machine.host(), tmp_path)
    machine.write("/proc/stat", "cpu  150 0 125 825 0 0 0 0 0 0\ncpu0 1\n")
    assert sampler.sample().cpu_percent == 75.0
    assert sampler.sample().cpu_percent is None, "no time has passed"


def test_memory_in_percent(machine: Machine, tmp_path: Path) -> None:
    machine.write("/proc/meminfo", MEMINFO)
    metrics = Sampler(machine.host(), tmp_path).sample()
    assert (metrics.memory_available_mb, metrics.memory_percent) == (2000, 47.3)


def test_this_machine_can_be_probed(tmp_path: Path) -> None:
    found = probe.detect(Host(), tmp_path / "not" / "yet")
    assert (found.cpu_count or 0) >= 1
    assert (found.storage_total_mb or 0) > 0
    metrics = Sampler(Host(), tmp_path).sample()
    assert (metrics.uptime_s or 0) > 0


def capabilities(**facts: Any) -> Capabilities:
    return Capabilities(**{"platform": Platform.LINUX, **facts})


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({"cpu_count": 8, "memory_total_mb": 15_800}, Role.COMPUTE),
        ({"cpu_count": 8, "memory_total_mb": 8_000}, Role.WORKER),
        ({"cpu_count": 4, "storage_total_mb": 4 * 2**20}, Role.STORAGE),
        ({"cpu_count": 16, "memory_total_mb": 64_000, "storage_total_mb": 4 * 2**20}, Role.COMPUTE),
        ({"hostname": "my-nas"}, Role.STORAGE),
        ({"hostname": "nasa-pc"}, Role.WORKER),
        ({"os_version": "TrueNAS SCALE"}, Role.STORAGE),
        ({}, Role.WORKER),
    ],
)
def test_roles(facts: dict[str, Any], expected: Role) -> None:
    assert guess.role(capabilities(**facts)) is expected


def test_tags() -> None:
    found = capabilities(has_gpu=True, architecture="aarch64", has_battery=False)
    assert guess.tags(found) == ("gpu-capable", "arm64")


def test_the_internet_is_there_as_soon_as_one_address_answers() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening, socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        answers = Address("127.0.0.1", listening.getsockname()[1])
        refuses = Address("127.0.0.1", unused.getsockname()[1])
        assert asyncio.run(has_internet([refuses, answers])) is True
        assert asyncio.run(has_internet([refuses])) is False
        assert asyncio.run(has_internet([])) is None
