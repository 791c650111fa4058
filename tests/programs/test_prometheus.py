"""What is in deploy/ for Prometheus and Grafana, with a real Prometheus that scrapes a real server."""

import json
import math
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.e2e.cluster import Cluster, Process, free_port, running, until

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "deploy" / "prometheus" / "prometheus.yml"
ALERTS = ROOT / "deploy" / "prometheus" / "alerts.yml"
DASHBOARD = ROOT / "deploy" / "grafana" / "retire-cluster.json"
UNIT_TESTS = Path(__file__).parent / "alerts.test.yml"
GUIDE = ROOT / "docs" / "howto" / "monitoring.md"
KEY = "a-key-of-the-tests"
JOB = "retire-cluster"
METRIC = re.compile(r"retire_cluster_\w+")
SELECTOR = re.compile(r"\w+\{[^}]*\}")


def program(name: str) -> str:
    found = shutil.which(name)
    assert found, f"this test runs {name}: apt install prometheus"
    return found


def promtool(*arguments: str | Path) -> None:
    done = subprocess.run([program("promtool"), *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@cache
def alerts() -> dict[str, dict[str, Any]]:
    """The rules by name."""
    rules = [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]
    assert len({rule["alert"] for rule in rules}) == len(rules) > 5
    return {rule["alert"]: rule for rule in rules}


@cache
def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(DASHBOARD.read_text())
    return found


def panels() -> list[dict[str, Any]]:
    """Those that show data."""
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


@dataclass(frozen=True)
class Shown:
    """One query of a panel, as Grafana would send it, and the labels its legend names."""

    panel: str
    query: str
    legend: tuple[str, ...]


def shown() -> list[Shown]:
    return [
        Shown(
            panel["title"],
            target["expr"].replace("$job", JOB).replace("$__rate_interval", "10s"),
            tuple(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])),
        )
        for panel in panels()
        for target in panel["targets"]
    ]


class Prometheus:
    """The real one, with the shipped configuration: only times, address and key are the test's."""

    def __init__(self, directory: Path, target: str) -> None:
        text = CONFIG.read_text()
        for old, new in (
            ("_interval: 15s", "_interval: 1s"),
            ("localhost:8081", target),
            ("# authorization:", "authorization:"),
            ("#   credentials_file:", "  credentials_file:"),
        ):
            assert old in text
            text = text.replace(old, new)
        config = directory / "prometheus.yml"
        config.write_text(text)
        (directory / "retire-cluster.key").write_text(KEY)
        shutil.copy(ALERTS, directory)
        promtool("check", "config", config)
        address = f"127.0.0.1:{free_port()}"
        self.api = httpx.Client(base_url=f"http://{address}/api/v1/", timeout=30)
        self.process = Process(
            directory / "prometheus.log",
            program("prometheus"),
            f"--config.file={config}",
            f"--storage.tsdb.path={directory / 'data'}",
            f"--web.listen-address={address}",
        )

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The samples of an instant query; an expression that cannot be evaluated fails."""
        answer = self.api.get("query", params={"query": expression})
        assert answer.status_code != 400, f"{expression}: {answer.text}"
        answer.raise_for_status()  # 503 while it starts
        found: list[dict[str, Any]] = answer.json()["data"]["result"]
        return found

    def rules(self) -> dict[str, dict[str, Any]]:
        """The alerts' state by their name."""
        groups = self.api.get("rules").json()["data"]["groups"]
        return {rule["name"]: rule for group in groups for rule in group["rules"]}

    def stop(self) -> None:
        self.api.close()
        self.process.kill()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A closed server with one device."""
    flags = ("--auth", "all", "--api-key", KEY, "--no-local-node")
    with running(tmp_path_factory.mktemp("cluster"), *flags) as found:
        found.api.headers["X-API-Key"] = KEY
        found.join("pi")
        found.online("pi")
        yield found


@pytest.fixture(scope="module")
def prometheus(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """It has seen the server before it worked, so that its counters are seen to rise."""
    found = Prometheus(tmp_path_factory.mktemp("prometheus"), f"127.0.0.1:{cluster.port}")
    try:
        until(lambda: found.query(f'retire_cluster_tasks_total{{job="{JOB}"}}'), "the first scrape")
        yield found
    finally:
        found.stop()


def work(cluster: Cluster) -> None:
    """A task that succeeds and one that fails."""
    for task_id in (cluster.submit(), cluster.submit("python_eval", {"expression": "1 / 0"})):
        cluster.ended(task_id)


def has_data(found: list[dict[str, Any]]) -> bool:
    return bool(found) and all(math.isfinite(float(sample["value"][1])) for sample in found)


def exposed(cluster: Cluster) -> set[str]:
    """Names of all series of the server."""
    return set(re.findall(r"^retire_cluster_\w+", cluster.api.get("/metrics").text, re.MULTILINE))


def test_the_alerts_fire_when_they_should_and_only_then() -> None:
    promtool("check", "rules", ALERTS)
    promtool("test", "rules", UNIT_TESTS)


def test_every_alert_is_tested_to_fire_and_to_be_silent() -> None:
    said: dict[str, set[bool]] = {}
    for case in yaml.safe_load(UNIT_TESTS.read_text())["tests"]:
        for test in case["promql_expr_test"]:
            (name,) = re.findall(r'alertname="(\w+)"', test["expr"])
            said.setdefault(name, set()).add(bool(test["exp_samples"]))
    assert said == {name: {True, False} for name in alerts()}


@pytest.mark.parametrize("name", alerts())
def test_an_alert_says_what_is_wrong_and_what_to_do(name: str) -> None:
    rule = alerts()[name]
    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert rule["annotations"].keys() == {"summary", "description", "action"}
    assert name in GUIDE.read_text()


def test_the_dashboard_can_be_imported_anywhere() -> None:
    board = dashboard()
    variables = {item["name"]: item for item in board["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    assert variables["datasource"]["query"] == "prometheus"
    assert "id" not in board  # Grafana's own number of an installed dashboard
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    sources = re.findall(r'"datasource": \{[^}]*"uid": "([^"]*)"', json.dumps(board))
    assert set(sources) == {"${datasource}"}
    assert len(sources) == len(panels()) + len(shown()) + 1  # each panel, each query, the variable of jobs


def test_no_panel_lies_on_another_or_outside() -> None:
    taken: dict[tuple[int, int], str] = {}
    for panel in dashboard()["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        for spot in (
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        ):
            assert spot not in taken, f"{panel['title']} lies on {taken[spot]}"
            taken[spot] = panel["title"]


def test_every_panel_explains_itself_and_has_a_unit() -> None:
    for panel in panels():
        assert panel["description"], panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]


def test_every_metric_named_is_one_of_the_server_s(cluster: Cluster) -> None:
    cluster.ended(cluster.submit())
    queries = [item.query for item in shown()] + [rule["expr"] for rule in alerts().values()]
    named = {name for query in queries for name in METRIC.findall(query)}
    assert len(named) > 10
    assert named - exposed(cluster) == set()
    told = set(re.findall(r"`(retire_cluster_\w+)", GUIDE.read_text()))
    assert told
    assert told - exposed(cluster) == set()


def test_every_panel_shows_data(cluster: Cluster, prometheus: Prometheus) -> None:
    missing = shown()

    def all_shown() -> bool:
        work(cluster)
        missing[:] = [item for item in missing if not has_data(prometheus.query(item.query))]
        return not missing

    try:
        until(all_shown, "data in every panel")
    except AssertionError:
        pytest.fail(f"no data: {missing}")


def test_every_selector_selects_something(cluster: Cluster, prometheus: Prometheus) -> None:
    """With the labels as they are spelt; a status of 500 would be an error of its own, so 200 stands for it."""
    queries = [item.query for item in shown()] + [rule["expr"] for rule in alerts().values()]
    selectors = {name.replace("5xx", "2xx") for query in queries for name in SELECTOR.findall(query)}
    assert len(selectors) > 20
    cluster.api.get("/health")
    missing: set[str] = set()

    def all_found() -> bool:
        missing.clear()
        missing.update(item for item in selectors if not prometheus.query(item))
        return not missing

    try:
        until(all_found, "every selector")
    except AssertionError:
        pytest.fail(f"selects nothing: {sorted(missing)}")


def test_legends_name_labels_that_are_there(cluster: Cluster, prometheus: Prometheus) -> None:
    wanted = [item for item in shown() if item.legend]
    assert wanted

    def all_there() -> bool:
        work(cluster)
        found = {item: prometheus.query(item.query) for item in wanted}
        return all(
            samples and all(sample["metric"].keys() >= set(item.legend) for sample in samples)
            for item, samples in found.items()
        )

    until(all_there, "the labels of every legend")


# The last one: it ends the server.
def test_alerts_notice_a_missing_device_and_a_missing_server(
    cluster: Cluster, prometheus: Prometheus
) -> None:
    rules = until(
        lambda: all(rule["health"] == "ok" for rule in prometheus.rules().values()) and prometheus.rules(),
        "every rule to be evaluated",
    )
    assert rules.keys() == alerts().keys()
    assert rules["RetireClusterNoDevice"]["state"] == rules["RetireClusterDown"]["state"] == "inactive"

    cluster.end_agents()
    until(lambda: prometheus.rules()["RetireClusterNoDevice"]["state"] == "pending", "the missing device")
    cluster.server.kill()
    until(lambda: prometheus.rules()["RetireClusterDown"]["state"] == "pending", "the missing server")
