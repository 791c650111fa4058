"""The JavaScript client in a page of another site: modules as files, a key, and the WebSocket of the browser."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from playwright.sync_api import Browser

from tests.e2e.cluster import Cluster

SOURCES = Path(__file__).parents[2] / "clients" / "javascript" / "src"
KEY = "a-key-of-the-page"
PAGE = "<!doctype html><link rel=icon href=data:,><title>Elsewhere</title>"
SUBMIT_AND_LISTEN = """async ([address, key]) => {
    const {RetireClusterAPI} = await import("/index.js");
    const api = new RetireClusterAPI(address, key);
    const events = api.events({topics: ["task"]});
    const kinds = [(await events.next()).value.type];
    const task = await api.submit("echo", {message: "from a page"});
    for await (const frame of events) {
        kinds.push(frame.type);
        if (frame.type === "task.finished" && frame.data.task_id === task.task_id) {
            break;
        }
    }
    const {etag} = await api.configSection("heartbeat");
    return {kinds, etag, result: (await api.result(task.task_id)).result_data};
}"""


class Quiet(SimpleHTTPRequestHandler):
    """Serves files, and says nothing of it."""

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002  # the base's name
        return


@contextmanager
def site(directory: Path) -> Iterator[str]:
    """The origin of a server of plain files."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(directory))) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join(10)


def test_a_page_of_an_allowed_origin_submits_and_sees_the_events(browser: Browser, tmp_path: Path) -> None:
    files = tmp_path / "site"
    files.mkdir()
    (files / "index.html").write_text(PAGE)
    for source in SOURCES.glob("*.js"):
        (files / source.name).write_text(source.read_text())
    cluster = Cluster(tmp_path / "cluster")
    with site(files) as origin:
        cluster.variables["RETIRE_CLUSTER_ALLOWED_ORIGINS"] = origin
        page = browser.new_page()
        complaints, asked = list[str](), list[str]()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        try:
            cluster.start("--auth", "all", "--api-key", KEY)
            page.goto(f"{origin}/")
            address = f"http://127.0.0.1:{cluster.port}"
            said = page.evaluate(SUBMIT_AND_LISTEN, [address, KEY])
        finally:
            page.close()
            cluster.stop()
    assert said["kinds"][0] == "snapshot"
    assert said["kinds"][1] == "task.submitted"
    assert said["kinds"][-1] == "task.finished"
    assert said["result"] == {"echo": {"message": "from a page"}}
    assert said["etag"]
    assert complaints == []
    assert f"{origin}/stream.js" in asked
    assert not [url for url in asked if "node-websocket" in url]
