"""The Home Assistant page: its YAML, with its templates filled in and its calls made to a real server."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import jinja2
import pytest
import yaml

from tests.documented import DOCS, blocks, home_assistant_yaml
from tests.e2e.cluster import BIN, Cluster, Process, clean_environment, running, until

PAGE = DOCS / "howto" / "home-assistant.md"


class Home:
    """What Home Assistant would make of the page, for one server and one key."""

    def __init__(self, cluster: Cluster, key: str) -> None:
        texts = [block.text for block in blocks(PAGE) if block.language == "yaml"]
        secrets = dict.fromkeys(yaml.safe_load(texts[0]), key)
        self.configuration: dict[str, Any] = {}
        for text in texts[1:]:
            here = text.replace("192.168.1.100:8081", f"127.0.0.1:{cluster.port}")
            self.configuration |= home_assistant_yaml(here, secrets)
        # Templates are Jinja with filters of Home Assistant's; an undefined name is a mistake here.
        self._templates = jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=False)
        self._templates.filters["to_json"] = json.dumps

    def filled(self, template: str, **values: Any) -> str:
        return self._templates.from_string(template).render(**values)

    def sensors(self) -> dict[str, str]:
        """State by name of every sensor, after one look at each resource."""
        states = {}
        for item in self.configuration["rest"]:
            answer = httpx.get(item["resource"], headers=item.get("headers", {}))
            for sensor in [*item.get("sensor", ()), *item.get("binary_sensor", ())]:
                states[sensor["name"]] = self.filled(sensor["value_template"], value_json=answer.json())
        return states

    def act(self, name: str, data: dict[str, Any]) -> Any:
        """What an action of `rest_command` answers, as `response_variable` has it."""
        command = self.configuration["rest_command"][name]
        answer = httpx.request(
            command["method"],
            command["url"],
            content=self.filled(command["payload"], **data),
            headers={**command["headers"], "Content-Type": command["content_type"]},
            timeout=command.get("timeout", 10),
        )
        return {"content": answer.json(), "status": answer.status_code}


def key_by_the_page(cluster: Cluster, directory: Path) -> str:
    """The key its command prints."""
    (command,) = [block.text for block in blocks(PAGE) if block.language == "bash"]
    program, *arguments = command.split()
    environment = {**clean_environment(), "RETIRE_CLUSTER_DATA_DIR": str(cluster.data_dir)}
    process = Process(directory / "key.log", program, *arguments, environment=environment)
    assert (BIN / program).exists()
    assert process.wait() == 0, process.said()
    return next(line for line in process.said().splitlines() if line.startswith("rck_"))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    directory = tmp_path_factory.mktemp("home-assistant")
    # With every door closed the key is what opens them.
    with running(directory / "cluster", "--auth", "all") as cluster:
        cluster.api.headers["X-API-Key"] = (cluster.data_dir / "api-key").read_text().strip()
        until(lambda: cluster.get("devices?status=online"), "the local node")
        yield Home(cluster, key_by_the_page(cluster, directory))


def test_every_sensor_has_a_state(home: Home) -> None:
    assert home.sensors() == {
        "Cluster devices online": "1",
        "Cluster health": "100.0",
        "Cluster tasks waiting": "0",
        "Cluster tasks running": "0",
        "Cluster problem": "False",
    }


def test_the_automation_runs_its_command_and_shows_the_result(home: Home) -> None:
    (automation,) = home.configuration["automation"]
    run, notify = automation["actions"]
    answer = home.act(run["action"].partition(".")[2], run["data"])
    assert answer["status"] == 201
    message = home.filled(notify["data"]["message"], **{run["response_variable"]: answer})
    assert message.startswith("Filesystem")


def test_what_is_only_submitted_is_queued(home: Home) -> None:
    answer = home.act("cluster_submit", {"task_type": "command", "payload": {"command": "true"}})
    assert answer["content"]["data"]["task"]["status"] == "queued"


def test_the_key_opens_no_more_than_the_page_says(home: Home) -> None:
    answer = home.act("cluster_submit", {"task_type": "python_eval", "payload": {"expression": "1"}})
    assert answer["status"] == 403
