"""Hostile text in every field that a device or a user fills is shown on every page: nothing of it runs."""

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from playwright.sync_api import Browser

from tests.browser.visiting import add_operator, fits, picture, visiting
from tests.e2e.cluster import Cluster, clean_environment, running


@dataclass(frozen=True)
class Site:
    """A cluster full of hostile text, and the pages that show it."""

    cluster: Cluster
    pages: list[str]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with running(tmp_path_factory.mktemp("hostile"), "--no-local-node") as cluster:
        add_operator(cluster)
        environment = {
            **clean_environment(),
            "DJANGO_SETTINGS_MODULE": "retire_cluster.settings",
            "RETIRE_CLUSTER_DATA_DIR": str(cluster.data_dir),
        }
        command = [sys.executable, "-m", "tests.browser.fill"]
        filled = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
        yield Site(cluster, json.loads(filled.stdout.splitlines()[-1]))


@pytest.mark.parametrize("width", [1600, 360])
def test_nothing_runs_and_nothing_breaks_the_layout(browser: Browser, site: Site, width: int) -> None:
    with visiting(browser, site.cluster, width) as visit:
        visit.sign_in()
        for path in site.pages if width == 360 else site.pages[::3]:
            page = visit.page
            answer = page.goto(visit.origin + path)
            assert answer is not None
            assert answer.status in (200, 400), path
            assert page.locator("header.top .brand").is_visible(), path
            assert page.locator("main iframe, main script, main style, main img").count() == 0, path
            fits(page, width)
        picture(page, f"hostile-{width}")
        visit.complaints[:] = [text for text in visit.complaints if "400 (Bad Request)" not in text]
        visit.was_clean()


@pytest.mark.parametrize(
    "path", ["/admin/devices/device/", "/admin/tasks/task/", "/api/v1/devices", "/api/v1/tasks"]
)
def test_nothing_runs_in_the_admin_and_the_browsable_api(browser: Browser, site: Site, path: str) -> None:
    with visiting(browser, site.cluster) as visit:
        visit.sign_in()
        visit.page.goto(visit.origin + path)
        visit.page.wait_for_load_state("networkidle")
        assert visit.page.get_by_text("evil-1").first.is_visible()
        visit.was_clean()
