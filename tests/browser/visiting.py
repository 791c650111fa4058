"""What the tests in a browser share: a visit that keeps what the page complained of, an operator, pictures."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, ConsoleMessage, Dialog, Page, Request, expect

from tests.e2e.cluster import Cluster, Process, clean_environment

Scheme = Literal["light", "dark"]
SHAPES: list[tuple[int, Scheme]] = [(1600, "light"), (1600, "dark"), (360, "light"), (360, "dark")]
PASSWORD = "long-Enough-9"
GRIEVANCES = ("error", "warning", "assert")  # "info" also tells that typing was quicker than an autofocus
GRAVE = ("serious", "critical")


class Visit:
    """One look at pages, with all they asked for and complained of."""

    def __init__(self, page: Page, cluster: Cluster) -> None:
        self.page = page
        self.origin = f"http://127.0.0.1:{cluster.port}"
        self.hosts: set[str] = set()
        self.complaints: list[str] = []
        # Answers, not requests: what the policy stops (Redoc's maker's logo) leaves this machine no more.
        page.on("response", lambda response: self.hosts.add(urlsplit(response.url).netloc))
        page.on("console", self._note_console)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("requestfailed", self._note_failure)
        page.on("dialog", self._note_dialog)

    def _note_console(self, message: ConsoleMessage) -> None:
        if message.type in GRIEVANCES:
            self.complaints.append(message.text)

    def _note_failure(self, request: Request) -> None:
        if request.failure != "net::ERR_ABORTED":  # the page was left meanwhile
            self.complaints.append(f"failed: {request.url}: {request.failure}")

    def _note_dialog(self, dialog: Dialog) -> None:
        """No page of ours opens one: somebody's text ran."""
        self.complaints.append(f"a dialog: {dialog.message}")
        dialog.dismiss()

    def open(self, path: str) -> Page:
        """Go there, and wait until the page is live, where it can be."""
        answer = self.page.goto(self.origin + path)
        assert answer is not None
        assert answer.status == 200, path
        live = self.page.locator("#live")
        if live.count():
            expect(live).to_have_text("Live")
        return self.page

    def sign_in(self, name: str = "ann") -> None:
        page = self.open("/sign-in/")
        page.get_by_label("Username").fill(name)
        page.get_by_label("Password").fill(PASSWORD)
        page.locator("main").get_by_role("button", name="Sign in").click()
        page.wait_for_url(f"{self.origin}/")

    def was_clean(self) -> None:
        """Nothing came from elsewhere, and nothing was complained of."""
        elsewhere = self.hosts - {"", urlsplit(self.origin).netloc}  # a blob has no host
        complaints = [text for text in self.complaints if "cdn.redoc.ly" not in text]
        assert (elsewhere, complaints) == (set(), [])


@contextmanager
def visiting(
    browser: Browser, cluster: Cluster, width: int = 1280, scheme: Scheme = "light"
) -> Iterator[Visit]:
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    try:
        yield Visit(context.new_page(), cluster)
    finally:
        context.close()


def add_operator(cluster: Cluster, name: str = "ann") -> None:
    """An administrator with the usual password, as `createsuperuser` makes one."""
    facts = {"USERNAME": name, "PASSWORD": PASSWORD, "EMAIL": f"{name}@example.org"}
    environment = {
        **clean_environment(),
        "RETIRE_CLUSTER_DATA_DIR": str(cluster.data_dir),
        **{f"DJANGO_SUPERUSER_{key}": value for key, value in facts.items()},
    }
    command = ("retire-cluster-manage", "createsuperuser", "--noinput")
    assert Process(cluster.directory / "manage.log", *command, environment=environment).wait() == 0


def picture(page: Page, name: str) -> None:
    """A screenshot of the whole page, kept where SCREENSHOTS says; without it nowhere."""
    directory = os.environ.get("SCREENSHOTS")
    if directory:
        Path(directory).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=Path(directory) / f"{name}.png", full_page=True)


def fits(page: Page, width: int) -> None:
    """Nothing is wider than the window; what sticks out is named."""
    page.wait_for_load_state("load")
    wide = page.evaluate(
        """width => [...document.querySelectorAll("main *")]
            .filter(item => item.getBoundingClientRect().right > width + 1
                && !item.closest("pre, .scroll, nav, .lane, svg, .skip"))
            .slice(0, 5).map(item => `${item.tagName}.${item.className}`)""",
        width,
    )
    assert page.evaluate("document.documentElement.scrollWidth") <= width, wide


def is_accessible(page: Page) -> None:
    """Axe finds nothing grave."""
    report = Axe().run(page)
    grave = [
        (item["id"], [node["html"][:200] for node in item["nodes"][:3]])
        for item in report.response["violations"]
        if item["impact"] in GRAVE
    ]
    assert grave == []


def task_id(page: Page) -> str:
    """The id of the task whose page this is."""
    found = re.search(r"/tasks/([0-9a-f-]{36})/", page.url)
    assert found, page.url
    return found[1]
