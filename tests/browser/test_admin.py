"""The admin in a real browser: its scripts run under its policy, an action goes through, it fits a phone."""

from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page

from tests.browser.visiting import GRIEVANCES
from tests.e2e.cluster import Cluster, Process, clean_environment, running

LISTS = ("tasks/task", "tasks/attempt", "devices/device", "clusterconfig/apikey", "clusterconfig/auditentry")
PASSWORD = "long-Enough-9"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A task that ended, one that cannot run, and an administrator called ann."""
    with running(tmp_path_factory.mktemp("admin")) as found:
        found.ended(found.submit("echo"))
        found.submit("echo", requirements={"required_tags": ["absent"]})
        ann = {"USERNAME": "ann", "PASSWORD": PASSWORD, "EMAIL": "ann@example.org"}
        environment = {
            **clean_environment(),
            "RETIRE_CLUSTER_DATA_DIR": str(found.data_dir),
            **{f"DJANGO_SUPERUSER_{name}": value for name, value in ann.items()},
        }
        command = ("retire-cluster-manage", "createsuperuser", "--noinput")
        assert Process(found.directory / "manage.log", *command, environment=environment).wait() == 0
        yield found


@pytest.mark.parametrize("width", [1600, 360])
def test_the_admin_works_under_its_policy(browser: Browser, cluster: Cluster, width: int) -> None:
    page, complaints, hosts = browser.new_page(), list[str](), set[str]()
    page.on(
        "console", lambda message: complaints.extend([message.text] if message.type in GRIEVANCES else [])
    )
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: hosts.add(urlsplit(request.url).netloc))
    page.set_viewport_size({"width": width, "height": 900})
    _sign_in(page, cluster)
    for place in LISTS:
        page.goto(f"http://127.0.0.1:{cluster.port}/admin/{place}/")
        page.wait_for_load_state("networkidle")
        assert page.evaluate("document.documentElement.scrollWidth") <= width, place

    page.goto(f"http://127.0.0.1:{cluster.port}/admin/tasks/task/?status__exact=success")
    page.locator("input.action-select").last.check()
    page.locator("select[name=action]").select_option("retry")
    page.get_by_role("button", name="Run").click()  # Alpine shows it once there is something to run

    page.get_by_text("a task that is success cannot be retried").wait_for()
    assert complaints == []
    assert hosts == {f"127.0.0.1:{cluster.port}"}
    page.close()


def _sign_in(page: Page, cluster: Cluster) -> None:
    page.goto(f"http://127.0.0.1:{cluster.port}/admin/")
    page.get_by_label("Username").fill("ann")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    page.wait_for_url("**/admin/")
