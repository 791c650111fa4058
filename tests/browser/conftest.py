"""A real browser: Debian's chromium, driven by Playwright's Python package."""

import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

# ms: a busy machine. Five seconds, Playwright's own, can pass on one before a page is drawn.
expect.set_options(timeout=20_000)

pytest.register_assert_rewrite("tests.browser.visiting")


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    program = shutil.which("chromium") or shutil.which("google-chrome")
    assert program, "these tests drive a browser: apt install chromium"
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        try:
            yield found
        finally:
            found.close()
