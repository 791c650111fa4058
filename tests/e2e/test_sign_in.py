"""The first visit: the link a server prints at its first start, opened as a browser does."""

import re
from pathlib import Path

import httpx

from tests.e2e.cluster import Cluster, running, until

LINE = re.compile(r"^Sign in     (http://\S+) \(once, within 24 h\)$", re.MULTILINE)


def token(page: httpx.Response) -> str:
    found = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page.text)
    assert found, page.text
    return found[1]


def press(
    browser: httpx.Client, cluster: Cluster, path: str, page: httpx.Response, **fields: str
) -> httpx.Response:
    origin = {"Origin": f"http://127.0.0.1:{cluster.port}"}
    return browser.post(path, data={"csrfmiddlewaretoken": token(page), **fields}, headers=origin)


def test_the_printed_link_leads_to_a_password_of_one_s_own(tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    with running(tmp_path / "cluster", "--log-file", str(log)) as cluster:
        link = until(lambda: LINE.search(cluster.server.said()), "the link")[1]
        with httpx.Client(base_url=f"http://127.0.0.1:{cluster.port}", timeout=60) as browser:
            page = browser.get(link)
            assert "Sign in as admin" in page.text
            assert (
                press(browser, cluster, "/sign-in/once/", page, secret=link.partition("=")[2]).status_code
                == 302
            )
            form = browser.get("/account/")
            fields = {"new_password1": "a-long-password", "new_password2": "a-long-password"}
            assert press(browser, cluster, "/account/", form, **fields).status_code == 302
            assert "The new password counts" in browser.get("/account/").text
            assert browser.get("/admin/").status_code == 200
        assert "/sign-in/once/" in log.read_text()
        assert link.partition("=")[2] not in log.read_text()

        assert cluster.server.interrupt() == 0
        again = cluster.start("--log-file", str(log))
        until(lambda: again.said().count("Retire-Cluster is up.") == 2, "the second start")
        assert again.said().count("Sign in  ") == 1
