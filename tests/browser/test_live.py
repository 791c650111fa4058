"""The specification's WebSocket snippet, as it stands there, on a page of the server itself."""

from pathlib import Path

from playwright.sync_api import Browser

from tests.e2e.cluster import running, until
from tests.e2e.snippets import WEBSOCKET, at


def test_a_page_hears_of_a_task_as_it_happens(browser: Browser, tmp_path: Path) -> None:
    with running(tmp_path) as cluster:
        page = browser.new_page()
        heard: list[str] = []
        page.on("console", lambda message: heard.append(str(message.args[1].json_value())))
        page.goto(f"http://localhost:{cluster.port}/")
        page.evaluate(f"() => {{ {at(cluster.port, WEBSOCKET)} }}")  # else Playwright calls what it ends with

        def hears(word: str) -> bool:
            page.wait_for_timeout(50)  # the page's events arrive only while something of it is waited for
            return any(word in text for text in heard)

        until(lambda: hears("snapshot"), "the snapshot")
        cluster.ended(cluster.submit("echo", {"message": "Hello"}))
        until(lambda: hears("task.finished"), "the end of the task")
        page.close()
        assert "snapshot" in heard[0]
        kinds = [
            kind for text in heard for kind in ("submitted", "assigned", "finished") if f"task.{kind}" in text
        ]
        assert kinds == ["submitted", "assigned", "finished"]
