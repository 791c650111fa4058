"""The first page in a real browser: true numbers, nothing from elsewhere, readable on a phone and in the dark."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page

from tests.e2e.cluster import Cluster, running

Scheme = Literal["light", "dark"]
SHAPES: list[tuple[int, Scheme]] = [(1600, "light"), (1600, "dark"), (360, "light"), (360, "dark")]


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


class Visit:
    """One look at a page, with all it asked for and complained of."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.hosts: set[str] = set()
        self.complaints: list[str] = []
        # Answers, not requests: what the policy stops (Redoc's maker's logo) leaves this machine no more.
        page.on("response", lambda response: self.hosts.add(urlsplit(response.url).netloc))
        page.on("console", lambda message: self.complaints.append(message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("requestfailed", lambda request: self.complaints.append(f"failed: {request.url}"))


@pytest.fixture
def visit(browser: Browser) -> Iterator[Visit]:
    page = browser.new_page()
    try:
        yield Visit(page)
    finally:
        page.close()


@pytest.mark.parametrize(("width", "scheme"), SHAPES)
def test_the_first_page_is_true_and_fits(
    visit: Visit, cluster: Cluster, width: int, scheme: Scheme, tmp_path: Path
) -> None:
    page = visit.page
    page.set_viewport_size({"width": width, "height": 900})
    page.emulate_media(color_scheme=scheme)
    page.goto(f"http://127.0.0.1:{cluster.port}/")
    page.screenshot(path=tmp_path / f"home-{width}-{scheme}.png", full_page=True)

    shown = {
        stat.locator("span").inner_text(): stat.locator("strong").inner_text()
        for stat in page.locator(".stat").all()
    }
    assert (shown["Devices online"], shown["Running"], shown["Waiting"], shown["Ended"]) == (
        "1/2",
        "0",
        "1",
        "2",
    )
    assert page.locator(".device.offline").inner_text().count("the agent said goodbye") == 1
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert visit.hosts - {""} == {f"127.0.0.1:{cluster.port}"}  # a blob has no host
    assert [text for text in visit.complaints if "cdn.redoc.ly" not in text] == []


def test_every_number_leads_to_its_list(visit: Visit, cluster: Cluster) -> None:
    page = visit.page
    page.goto(f"http://127.0.0.1:{cluster.port}/")
    links = [stat.get_attribute("href") for stat in page.locator("a.stat").all()]
    assert len(links) == 5
    for link in links:
        answer = page.goto(f"http://127.0.0.1:{cluster.port}{link}")
        assert answer is not None
        assert answer.status == 200, link


def test_the_pages_of_the_admin_and_the_browsable_api_load_whole(visit: Visit, cluster: Cluster) -> None:
    page = visit.page
    for path in ("/admin/login/", "/api/v1", "/api/v1/tasks", "/api/v1/devices", "/api/docs", "/api/redoc"):
        answer = page.goto(f"http://127.0.0.1:{cluster.port}{path}")
        assert answer is not None
        assert answer.status == 200
        page.wait_for_load_state("networkidle")
    assert page.get_by_text("Run a task").count() >= 1  # Redoc has drawn the document
    assert visit.hosts - {""} == {f"127.0.0.1:{cluster.port}"}  # a blob has no host
    assert [text for text in visit.complaints if "cdn.redoc.ly" not in text] == []
