"""Every check of the doctor, on facts as devices have them."""

from typing import Any

import pytest

from retire_cluster.agent.doctor.checks import CHECKS, Level, as_json, as_text, examine
from retire_cluster.agent.doctor.clock import difference
from retire_cluster.agent.doctor.facts import Facts, Gateway, Keeping
from retire_cluster.protocol.states import Platform

OK, WARN, FAIL = Level.OK, Level.WARN, Level.FAIL
GOOD = Gateway("nuc:8080", families=frozenset({4}), clock_ahead_s=1.0, clock_within_s=2.0)
KNOWING, FORGETFUL = Gateway("nuc:8080", knows_device=True), Gateway("nuc:8081", knows_device=False)
CRON = Keeping("cron")
IDLE_CRON = Keeping("cron", trouble="its loop does not run; it starts at the next boot")
PHONE: dict[str, Any] = {"platform": Platform.ANDROID, "termux": True, "termux_api": True}
NOT_REACHED = Gateway("nuc:8080", is_clear=False, stopped_at="port", words="connection refused")
OTHER_PIN = Gateway("nuc:8080", is_clear=False, stopped_at="gateway", words="is not the one the token names")
NO_NAME = Gateway("nuc:8080", is_clear=False, stopped_at="name", words="the name cannot be resolved")

CASES: list[tuple[str, dict[str, Any], Level | None, str]] = [
    ("python", {"python": (3, 10)}, FAIL, "3.11 or newer"),
    ("python", {"python": (3, 11)}, OK, "3.11"),
    ("user", {"is_root": True}, WARN, "as root"),
    ("user", {}, OK, "not root"),
    ("data directory", {"unwritable": "Permission denied"}, FAIL, "Permission denied"),
    ("data directory", {"data_dir": "/data"}, OK, "/data"),
    ("disk", {"free_mb": 10}, FAIL, "10 MB"),
    ("disk", {"free_mb": 400}, WARN, "make room"),
    ("disk", {"free_mb": 4000}, OK, "4000 MB"),
    ("disk", {"free_mb": None}, None, ""),
    ("limits", {"open_files": 64}, WARN, "open files 64"),
    ("limits", {"processes": 20, "address_space_mb": 100}, WARN, "processes 20 (at least 128), address"),
    ("limits", {"open_files": 1024}, OK, "high enough"),
    ("windows", {"platform": Platform.WINDOWS}, WARN, "experimental"),
    ("windows", {}, None, ""),
    ("battery optimisation", {**PHONE, "battery_exempt": True}, OK, "exempt"),
    ("battery optimisation", {**PHONE, "battery_exempt": False}, WARN, "may suspend Termux"),
    ("battery optimisation", PHONE, WARN, "does not say"),
    ("battery optimisation", {}, None, ""),
    ("phantom processes", {**PHONE, "android_sdk": 30}, None, ""),
    ("phantom processes", {**PHONE, "android_sdk": 31}, WARN, "settings_enable_monitor_phantom_procs"),
    ("phantom processes", {**PHONE, "android_sdk": 34, "phantom_killer": True}, WARN, "ends child processes"),
    ("phantom processes", {**PHONE, "android_sdk": 34, "phantom_killer": False}, OK, "does not end"),
    ("wake lock", {**PHONE, "wake_lock_tool": False}, FAIL, "pkg install"),
    ("wake lock", {**PHONE, "wake_lock_tool": True}, WARN, "run termux-wake-lock"),
    ("wake lock", {**PHONE, "wake_lock_tool": True, "keepers": (Keeping("termux"),)}, OK, "holds"),
    ("wake lock", {}, None, ""),
    ("sensors", {**PHONE, "termux_api": False}, WARN, "termux-api"),
    ("sensors", PHONE, None, ""),
    ("settings", {"settings_problem": "--join is missing"}, FAIL, "--join is missing"),
    ("settings", {}, None, ""),
    ("membership", {"has_joined": False}, WARN, "--token"),
    ("membership", {"has_joined": False, "was_member": True}, FAIL, "start it with --rejoin"),
    ("membership", {"gateways": (FORGETFUL,)}, FAIL, "start it with --rejoin"),
    ("membership", {"gateways": (FORGETFUL, KNOWING)}, OK, "the cluster knows it"),
    ("membership", {"gateways": (GOOD,)}, OK, "the next connection tells"),
    ("name", {"gateways": (NO_NAME,)}, FAIL, "cannot be resolved"),
    ("name", {"gateways": (NO_NAME, GOOD)}, WARN, "cannot be resolved"),
    ("name", {"gateways": (NOT_REACHED,)}, OK, "nuc:8080"),
    ("name", {}, None, ""),
    ("port", {"gateways": (NOT_REACHED,)}, FAIL, "connection refused"),
    ("port", {"gateways": (NO_NAME,)}, None, ""),
    ("port", {"gateways": (OTHER_PIN,)}, OK, "nuc:8080"),
    ("gateway", {"gateways": (OTHER_PIN,)}, FAIL, "not the one the token names"),
    ("gateway", {"gateways": (GOOD,)}, OK, "nuc:8080"),
    ("network", {"gateways": (GOOD,), "own_families": frozenset({6})}, FAIL, "IPv6 only, nuc:8080 IPv4 only"),
    ("network", {"gateways": (GOOD,), "own_families": frozenset()}, FAIL, "no network"),
    ("network", {"gateways": (GOOD,)}, OK, "IPv4 and IPv6"),
    ("network", {"gateways": (NOT_REACHED,)}, None, ""),
    ("clock", {"gateways": (Gateway("nuc", clock_ahead_s=90.0, clock_within_s=2.0),)}, WARN, "90 s behind"),
    ("clock", {"gateways": (Gateway("nuc", clock_ahead_s=-90.0),)}, WARN, "90 s ahead of"),
    ("clock", {"gateways": (Gateway("nuc", clock_ahead_s=9.0, clock_within_s=5.0),)}, OK, "as the gateway's"),
    ("clock", {"gateways": (NOT_REACHED,)}, None, ""),
    ("handlers", {"handlers_problem": "words.py: no module named nltk"}, FAIL, "nltk"),
    ("handlers", {}, None, ""),
    ("pause", {"pause": "battery at 12 %"}, WARN, "battery at 12 %"),
    ("pause", {}, None, ""),
    ("keeper", {}, WARN, "worker keep"),
    ("keeper", {"has_joined": False}, None, ""),
    ("keeper", {"keepers": (CRON,)}, OK, "cron"),
    ("keeper", {"keepers": (Keeping("systemd", trouble="the unit failed"),)}, FAIL, "the unit failed"),
    ("keeper", {"keepers": (IDLE_CRON,)}, FAIL, "does not run"),
    (
        "keeper",
        {"keepers": (IDLE_CRON,), "agent": 4711},
        WARN,
        "stop that agent, then retire-cluster-worker keep",
    ),
    ("lingering", {"keepers": (Keeping("systemd", lingers=False),)}, WARN, "enable-linger"),
    ("lingering", {"keepers": (Keeping("systemd", lingers=True), CRON)}, None, ""),
    ("agent", {}, WARN, "does not run"),
    ("agent", {"agent": 4711}, OK, "4711"),
    ("agent", {"platform": Platform.WINDOWS}, None, ""),
]


@pytest.mark.parametrize(("check", "facts", "level", "words"), CASES)
def test_a_check_says_what_is_wrong_and_the_fix(
    check: str, facts: dict[str, Any], level: Level | None, words: str
) -> None:
    finding = CHECKS[check](Facts(**facts))
    if level is None:
        assert finding is None
        return
    assert finding is not None
    assert finding.level is level
    assert words in f"{finding.words} {finding.fix}"
    assert bool(finding.fix) is (level is not OK)


def test_every_check_is_shown_to_find_something() -> None:
    assert {check for check, _, level, _ in CASES if level in (WARN, FAIL)} == set(CHECKS)


def test_a_healthy_device_has_nothing_but_ok() -> None:
    facts = Facts(gateways=(GOOD,), keepers=(CRON,), agent=1, free_mb=9000, open_files=1024)
    assert {finding.level for finding in examine(facts).values()} == {OK}


def test_each_finding_is_one_line_or_one_object() -> None:
    findings = examine(Facts(is_root=True))
    lines = as_text(findings)
    assert len(lines) == len(findings)
    assert any(line.startswith("warn  user: ") and line.endswith("without sudo") for line in lines)
    assert all("\n" not in line for line in lines)
    told = {item["check"]: item for item in as_json(findings)}
    assert told["python"] == {"check": "python", "level": "ok", "words": "Python 3.11", "fix": ""}


def test_half_the_round_trip_counts_as_not_known() -> None:
    date = "Sat, 28 Nov 2026 19:00:10 GMT"
    told = 1795892410.0
    assert difference(date, now=told, took=0.0) == (0.0, 2.0)
    assert difference(date, now=told - 60, took=4.0) == (62.0, 4.0)
    assert difference("soon", now=told, took=0.0) == (None, 0.0)
    assert difference(None, now=told, took=0.0) == (None, 0.0)
