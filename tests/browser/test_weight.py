"""What a page asks the network for: from its own host only, few files, and none of them twice."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page

from tests.browser.visiting import Visit, add_operator, visiting
from tests.e2e.cluster import Cluster, running, until

# The most requests of a first visit: the page, its sheet, icon, htmx and modules. A WebSocket is none.
FILES = 5  # style.css, icon.svg, htmx.js, live.js, page.js
MOST = {
    "/": 1 + FILES,
    "/devices/": 1 + FILES,
    "/devices/?view=table": 1 + FILES,
    "/devices/attic/": 1 + FILES,
    "/tasks/": 1 + FILES,
    "/tasks/?status=failed": 1 + FILES,
    "/tasks/ID/": 3 + FILES,  # output.js, and what it asks for
    "/submit/": 1 + FILES,
    "/add-device/": 1 + FILES,
    "/activity/": 1 + FILES,
    "/settings/": 1 + FILES,
    "/account/": 3,  # has nothing that changes by itself
}


@dataclass
class Traffic:
    """What loading a page asks for, its drawings anew left out (an event or remembered figures bring them).

    Bytes are as they came over the network, headers included, 0 from the cache.
    """

    urls: dict[str, str] = field(default_factory=dict)
    bytes: dict[str, int] = field(default_factory=dict)
    cached: set[str] = field(default_factory=set)

    def clear(self) -> None:
        for part in (self.urls, self.bytes, self.cached):
            part.clear()

    @property
    def network(self) -> list[str]:
        """The addresses that were asked for over the network."""
        return [url for number, url in self.urls.items() if number not in self.cached]

    @property
    def kilobytes(self) -> float:
        return sum(self.bytes.values()) / 1000


def watch(page: Page) -> Traffic:
    found = Traffic()
    session = page.context.new_cdp_session(page)
    session.send("Network.enable")

    def sent(event: dict[str, Any]) -> None:
        asked = event["request"]
        drawing = "x-live" in {name.lower() for name in asked["headers"]}
        if not drawing and not asked["url"].startswith("data:"):
            found.urls[event["requestId"]] = event["request"]["url"]

    session.on("Network.requestWillBeSent", sent)
    session.on("Network.requestServedFromCache", lambda event: found.cached.add(event["requestId"]))

    def answered(event: dict[str, Any]) -> None:
        if event["response"].get("fromDiskCache"):
            found.cached.add(event["requestId"])

    session.on("Network.responseReceived", answered)

    def finished(event: dict[str, Any]) -> None:
        if event["requestId"] in found.urls:
            found.bytes[event["requestId"]] = int(event["encodedDataLength"])

    session.on("Network.loadingFinished", finished)
    return found


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with running(tmp_path_factory.mktemp("weight")) as found:
        add_operator(found)
        found.join("attic")
        found.online("attic")
        yield found


@pytest.fixture(scope="module")
def session(browser: Browser, cluster: Cluster) -> list[Any]:
    """The cookies of an operator who signed in."""
    with visiting(browser, cluster) as visit:
        visit.sign_in()
        return visit.page.context.cookies()


@pytest.fixture(scope="module")
def task(cluster: Cluster) -> str:
    made = cluster.submit("echo")
    cluster.ended(made)
    return made


def opened(visit: Visit, path: str) -> None:
    """The page with everything it loads, and no drawing of it under way."""
    visit.open(path).wait_for_load_state("networkidle")


@pytest.mark.parametrize("path", MOST)
def test_a_page_loads_few_files_of_its_own_host_and_each_once(
    browser: Browser, cluster: Cluster, session: list[Any], task: str, path: str
) -> None:
    with visiting(browser, cluster) as visit:
        visit.page.context.add_cookies(session)
        traffic = watch(visit.page)
        opened(visit, path.replace("ID", task))
        first, weight = traffic.network, traffic.kilobytes
        traffic.clear()
        opened(visit, "/submit/" if path != "/submit/" else "/activity/")
        another = traffic.network
        traffic.clear()
        opened(visit, path.replace("ID", task))
        again, later = traffic.network, traffic.kilobytes
        visit.was_clean()

    print(f"{path:24}{len(first):4} requests {weight:8.1f} KB, later {len(again):2} {later:8.1f} KB")
    assert {urlsplit(url).netloc for url in first} == {urlsplit(visit.origin).netloc}
    assert len(first) <= MOST[path], first
    assert set(another) & set(first) == set()
    assert [url for url in again if "/static/" in url] == []


ALWAYS_SOMETHING = """
    window.WebSocket = class {
        static OPEN = 1;
        readyState = 1;
        constructor() { setInterval(() => this.onmessage({ data: '{"type": "task.running", "cursor": ""}' }), 5); }
        close() {}
    };
"""


def test_a_page_is_drawn_anew_while_events_never_pause(browser: Browser, cluster: Cluster) -> None:
    with visiting(browser, cluster) as visit:
        drawn: list[str] = []
        visit.page.add_init_script(ALWAYS_SOMETHING)
        visit.page.on("request", lambda made: drawn.append(made.url) if "x-live" in made.headers else None)
        page = visit.open("/tasks/")

        def again() -> bool:
            page.wait_for_timeout(50)  # the page's events arrive only while something of it is waited for
            return len(drawn) > 1

        until(again, "a second drawing", 30)
        visit.was_clean()

    assert {urlsplit(url).path for url in drawn} == {"/tasks/"}
