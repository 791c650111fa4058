"""Signing in with a real browser: it fits a phone, asks nothing of elsewhere, and all can use it."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from tests.browser.visiting import Scheme, Visit
from tests.e2e.cluster import Cluster, running, until

PASSWORD = "a-long-password"


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with running(tmp_path / "cluster", "--no-local-node") as found:
        yield found


def fits(page: Page, picture: Path) -> None:
    page.screenshot(path=picture, full_page=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    report = Axe().run(page)
    assert report.violations_count == 0, report.generate_report()
    for control in page.locator("button:visible, input:visible").all():
        box = control.bounding_box()
        assert box is not None
        assert box["height"] >= 24, control.evaluate("element => element.outerHTML")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_first_visit_on_a_phone(
    browser: Browser, cluster: Cluster, scheme: Scheme, tmp_path: Path
) -> None:
    page = browser.new_page(viewport={"width": 360, "height": 780}, color_scheme=scheme)
    visit = Visit(page, cluster)
    found = until(lambda: re.search(r"Sign in +(\S+)", cluster.server.said()), "the link")

    page.goto(found[1])
    fits(page, tmp_path / "once.png")
    page.get_by_role("button", name="Sign in as admin").click()
    page.get_by_label("New password", exact=True).fill(PASSWORD)
    page.get_by_label("New password confirmation").fill("another")
    page.get_by_role("button", name="Save password").click()
    expect(page.locator("#id_new_password2_error")).to_be_visible()
    fits(page, tmp_path / "wrong.png")
    page.get_by_label("New password", exact=True).fill(PASSWORD)
    page.get_by_label("New password confirmation").fill(PASSWORD)
    page.get_by_role("button", name="Save password").click()
    expect(page.get_by_role("status")).to_contain_text("The new password counts")
    fits(page, tmp_path / "account.png")

    page.get_by_role("button", name="Sign out").click()
    page.get_by_role("link", name="Sign in").click()
    page.get_by_label("Username").fill("admin")
    page.get_by_label("Password").fill("wrong")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_contain_text("correct username and password")
    fits(page, tmp_path / "sign-in.png")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("link", name="admin", exact=True)).to_be_visible()
    assert visit.hosts - {""} == {f"127.0.0.1:{cluster.port}"}
    assert visit.complaints == []
    page.close()
