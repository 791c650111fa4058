"""The first page, the admin and the API's pages in a real browser: true numbers, nothing from elsewhere."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from tests.browser.visiting import Visit, visiting
from tests.e2e.cluster import Cluster, running


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A local node, a second device that left, two tasks that ended and one that cannot run."""
    with running(tmp_path_factory.mktemp("browser")) as found:
        agent = found.join("a-device-with-a-rather-long-name.on-a-shelf", "--tags", "disks,slow")
        found.online("a-device-with-a-rather-long-name.on-a-shelf")
        for task in [found.submit("echo", {"n": number}) for number in range(2)]:
            found.ended(task)
        found.submit("echo", priority="urgent", requirements={"required_tags": ["absent"]})
        assert agent.interrupt() == 0
        yield found


@pytest.fixture
def visit(browser: Browser, cluster: Cluster) -> Iterator[Visit]:
    with visiting(browser, cluster) as found:
        yield found


def test_the_first_page_is_true(visit: Visit) -> None:
    page = visit.open("/")
    shown = {
        stat.locator("span").inner_text(): stat.locator("strong").inner_text()
        for stat in page.locator(".stat").all()
    }

    assert (shown["Devices online"], shown["Running"], shown["Queued"]) == ("1/2", "0", "1")
    assert "the agent said goodbye" in page.locator(".device.offline").inner_text()
    assert "1 task of type echo can run nowhere" in page.locator("#attention").inner_text()
    visit.was_clean()


def test_every_number_leads_to_its_list(visit: Visit) -> None:
    page = visit.open("/")
    links = [stat.get_attribute("href") for stat in page.locator("a.stat").all()]
    assert len(links) == 5
    for link in links:
        assert link is not None
        visit.open(link)


def test_the_pages_of_the_admin_and_the_browsable_api_load_whole(visit: Visit) -> None:
    for path in ("/admin/login/", "/api/v1", "/api/v1/tasks", "/api/v1/devices", "/api/docs", "/api/redoc"):
        visit.open(path).wait_for_load_state("networkidle")
    assert visit.page.get_by_text("Run a task").count() >= 1  # Redoc has drawn the document
    visit.was_clean()
