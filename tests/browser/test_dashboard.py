"""What an operator does with the dashboard, in a real browser against a real cluster."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from tests.browser.visiting import (
    SHAPES,
    Scheme,
    Visit,
    add_operator,
    fits,
    is_accessible,
    picture,
    task_id,
    visiting,
)
from tests.e2e.cluster import Cluster, running, token_in, until
from tests.e2e.relaying import relay

SLOW = 20_000  # ms: a busy machine


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A local node, two more devices, and an operator called ann."""
    with running(tmp_path_factory.mktemp("dashboard")) as found:
        add_operator(found)
        for name in ("attic", "cellar"):
            found.join(name, "--tags", "shelf", "--slots", "2")
            found.online(name)
        yield found


@pytest.fixture
def visit(browser: Browser, cluster: Cluster) -> Iterator[Visit]:
    with visiting(browser, cluster) as found:
        found.sign_in()
        yield found
        found.was_clean()


def submit(visit: Visit, command: str) -> Page:
    """Submit a command by the form; the page is the task's then."""
    page = visit.open("/submit/?type=command")
    page.get_by_label("Command").fill(command)
    page.locator("main").get_by_role("button", name="Submit").click()
    page.wait_for_url(re.compile("/tasks/[0-9a-f-]{36}/"))
    return page


def lead(page: Page) -> str:
    return page.locator(".lead").inner_text()


def test_a_task_is_submitted_and_watched_to_its_result(visit: Visit, cluster: Cluster) -> None:
    signal = cluster.directory / "go-on"
    page = submit(
        visit, f"echo first; while [ ! -e {shlex.quote(str(signal))} ]; do sleep 0.1; done; echo second"
    )

    expect(page.locator("#output")).to_have_text("first\n", timeout=SLOW)  # while it runs
    expect(page.locator(".lead")).to_contain_text("Running on", timeout=SLOW)
    page.locator("#find").fill("FIRST")
    expect(page.locator("#found")).to_have_text("1 found")
    signal.touch()
    expect(page.locator("#output")).to_have_text("first\nsecond\n", timeout=SLOW)
    expect(page.locator(".lead")).to_contain_text("Succeeded on", timeout=SLOW)
    expect(page.locator("#result")).to_contain_text("return_code", timeout=SLOW)
    expect(page.locator("#sentence .chip")).to_have_text("success")


def test_a_running_task_is_cancelled(visit: Visit, cluster: Cluster) -> None:
    page = submit(visit, "echo begun; sleep 600")
    expect(page.locator("#output")).to_have_text("begun\n", timeout=SLOW)

    page.get_by_role("button", name="Cancel").click()

    expect(page.locator(".messages")).to_contain_text("1 task cancelled")
    expect(page.locator(".lead")).to_contain_text("Cancelled by user:ann", timeout=SLOW)
    assert cluster.ended(task_id(page))["status"] == "cancelled"
    page.get_by_role("button", name="Retry").click()
    expect(page.locator(".messages")).to_contain_text("queued again")
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator(".lead")).to_contain_text("Cancelled", timeout=SLOW)


def test_how_long_something_goes_on_grows_while_nothing_happens(
    browser: Browser, visit: Visit, cluster: Cluster
) -> None:
    running = cluster.submit("sleep", {"duration": 600})
    waiting = cluster.submit("echo", requirements={"required_tags": ["nowhere"]})
    until(lambda: cluster.get(f"tasks/{running}")["status"] == "running", "the task to run")
    page = visit.open(f"/tasks/{running}/")
    while page.locator("body").get_attribute("data-again") != "0":  # remembered figures are drawn once more
        visit.open(f"/tasks/{running}/")
    drawn: list[str] = []
    page.on("request", lambda made: drawn.append(made.url) if "x-live" in made.headers else None)

    for seconds in ("[1-9]", "[2-9]", "[3-9]"):
        expect(page.locator(".lead")).to_have_text(re.compile(rf"Running on \S+ for ({seconds}|\d\d) s$"))
    assert drawn == []
    # What comes is seldom seen for long: a pause before a next try is a second or two.
    page.evaluate(
        """() => [90_000, -5_000].forEach((from_now) => {
            const item = document.createElement("time");
            item.dateTime = new Date(Date.now() + from_now).toISOString();
            item.dataset.due = "";
            document.querySelector("main").append(item);
        })"""
    )
    expect(page.locator("time[data-due]")).to_have_text(["in 1 min", "in a moment"])
    visit.open(f"/tasks/{waiting}/")
    expect(page.locator(".lead")).to_contain_text(re.compile(r"^Queued for \d+ (s|min): none of the "))
    visit.open("/")
    expect(page.locator("#stats")).to_contain_text(re.compile(r"the oldest for \d+ (s|min)"))
    context = browser.new_context(java_script_enabled=False)
    plain = context.new_page()
    plain.goto(f"{visit.origin}/tasks/{running}/")
    expect(plain.locator(".lead")).to_have_text(
        re.compile(r"Running on \S+ since [\d -]*\d\d:\d\d:\d\d UTC$")
    )
    context.close()
    key = {"X-API-Key": (cluster.data_dir / "api-key").read_text().strip()}
    for task in (running, waiting):
        cluster.api.post(f"/api/v1/tasks/{task}/cancel", headers=key, json={}).raise_for_status()


def test_another_attempt_is_marked_in_the_output_as_it_comes(visit: Visit, cluster: Cluster) -> None:
    page = submit(visit, "printf 'tick 7'; exit 1")
    cluster.ended(task_id(page))
    expect(page.locator("#output")).to_have_text("tick 7", timeout=SLOW)
    page.get_by_role("button", name="Retry").click()
    again = re.compile("tick 7Attempt 2tick 7$")

    expect(page.locator("#output")).to_have_text(again, timeout=SLOW)
    expect(page.locator("#output .attempt")).to_have_count(1)
    assert page.locator("#output").inner_text() == "tick 7\nAttempt 2\ntick 7"
    picture(page, "task-attempts")
    page.reload()
    expect(page.locator("#output")).to_have_text(again)
    expect(page.locator("#output .attempt")).to_have_count(1)


def test_several_tasks_are_cancelled_from_the_list(visit: Visit, cluster: Cluster) -> None:
    made = [
        cluster.submit("sleep", {"duration": 1}, requirements={"required_tags": ["nowhere"]})
        for _ in range(3)
    ]
    page = visit.open("/tasks/?status=queued")
    for task in made[:2]:
        page.locator(f"#tick-{task}").check()
    cluster.ended(cluster.submit("echo"))  # the list is drawn anew meanwhile
    page.wait_for_timeout(1000)  # longer than a drawing takes
    assert page.locator(f"#tick-{made[0]}").is_checked()

    page.get_by_role("button", name="Cancel the chosen").click()

    expect(page.locator(".messages")).to_contain_text("2 tasks cancelled")
    assert page.url.endswith("/tasks/?status=queued")
    expect(page.locator("#tasks tbody tr")).to_have_count(1)
    page.get_by_label("All on this page").check()
    page.get_by_role("button", name="Cancel the chosen").click()
    expect(page.locator("#tasks")).to_contain_text("No task matches", timeout=SLOW)
    visit.open("/tasks/?status=cancelled")
    page.locator(f"#tick-{made[0]}").check()
    page.get_by_role("button", name="Retry the chosen").click()
    expect(page.locator(".messages")).to_contain_text("1 task queued again")
    visit.open("/tasks/?status=queued")
    page.locator(f"#tick-{made[0]}").check()
    page.get_by_role("button", name="Cancel the chosen").click()
    expect(page.locator(".messages")).to_contain_text("1 task cancelled")


def test_a_list_shows_what_happens_elsewhere(visit: Visit, cluster: Cluster) -> None:
    page = visit.open("/tasks/")
    task = cluster.submit("echo", {"from": "elsewhere"})

    row = page.locator(f"#tasks tr:has(a[href='/tasks/{task}/'])")
    expect(row.locator(".chip")).to_have_text("success", timeout=SLOW)


def test_a_page_of_remembered_figures_is_drawn_again_though_nothing_happens(
    visit: Visit, cluster: Cluster
) -> None:
    page = visit.open("/")
    drawings: list[str] = []

    def from_memory(route: Route) -> None:
        answer = route.fetch()
        drawings.append(answer.headers["x-draw-again"])
        route.fulfill(response=answer, headers={**answer.headers, "x-draw-again": "50"})

    page.route(lambda url: urlsplit(url).path == "/", from_memory)
    cluster.ended(cluster.submit("echo", {}))  # the last that happens
    expect(page.locator("#stats")).to_contain_text("Running")
    while len(drawings) < 10:  # an echo is worth two or three
        page.wait_for_timeout(100)
    page.unroute_all(behavior="wait")


def test_the_overview_tells_no_more_of_running_tasks_when_the_last_has_ended(
    visit: Visit, cluster: Cluster
) -> None:
    page = visit.open("/")
    task = cluster.submit("sleep", {"duration": 0.3})

    row = page.locator(f"#recent tr:has(a[href='/tasks/{task}/'])")
    expect(row.locator(".chip")).to_have_text("success")
    running = page.locator("#stats .stat", has_text="Running").locator("strong")
    expect(running).to_have_text("0")
    expect(page.locator("#nav-counts b").nth(1)).to_have_text("0")


def test_a_device_joins_with_the_shown_command_and_is_seen_to_come(visit: Visit, cluster: Cluster) -> None:
    page = visit.open("/add-device/")
    page.get_by_label("What for").fill("a new phone")
    page.get_by_role("button", name="Show the line").click()
    line = page.locator("#join").inner_text()
    page.locator("button[data-copy=join]").click()
    assert page.evaluate("navigator.clipboard.readText()").strip() == line.strip()
    expect(page.locator("svg.qr")).to_be_visible()
    expect(page.locator("#steps")).to_contain_text("No device has used this token yet")
    picture(page, "add-device-command")

    assert line.endswith(f":{cluster.gateway_port}")
    cluster.join("newcomer", token=token_in(line))

    arrival = page.locator("#steps li", has_text="newcomer")
    expect(arrival.locator(".steps .done")).to_have_count(3, timeout=SLOW)
    visit.open("/add-device/").get_by_label("What for").fill("for nobody")
    page.get_by_role("button", name="Show the line").click()
    visit.open("/settings/")
    page.locator("#tokens tr", has_text="for nobody").get_by_text("Revoke", exact=True).click()
    page.get_by_role("button", name="Revoke for nobody").click()
    expect(page.locator(".messages")).to_contain_text("admits no device any more")
    page.goto(f"{visit.origin}/devices/")
    expect(page.locator(".device", has_text="newcomer").locator(".chip")).to_have_text("online")


def test_a_device_is_drained_brought_back_and_pinged(visit: Visit, cluster: Cluster) -> None:
    page = visit.open("/devices/attic/")
    page.get_by_text("Drain", exact=True).click()
    form = page.locator("form[action$='/drain/']")
    form.get_by_label("Reason").fill("a new disk")
    form.get_by_role("button").click()

    expect(page.locator(".messages")).to_contain_text("runs empty")
    expect(page.locator("#about .chip").first).to_have_text("draining")
    expect(page.locator("#about")).to_contain_text("a new disk")
    page.get_by_role("button", name="Back in service").click()
    expect(page.locator("#about .chip").first).to_have_text("online")
    page.get_by_role("button", name="Ping").click()
    expect(page.locator(".messages")).to_contain_text("attic answered within")
    page.get_by_text("Cordon", exact=True).click()
    page.keyboard.press("Escape")
    expect(page.locator("details.action[open]")).to_have_count(0)


def test_a_device_is_taken_out_and_brought_back_from_the_list(visit: Visit) -> None:
    page = visit.open("/devices/")
    card = page.locator(".device", has_text="cellar")
    card.get_by_role("button", name="Cordon").click()
    expect(page.locator(".messages")).to_contain_text("cellar takes no new task")
    expect(card.locator(".chip")).to_have_text("cordoned")
    card.get_by_role("button", name="back in service").click()
    expect(card.locator(".chip")).to_have_text("online")
    card.get_by_role("button", name="Ping").click()
    expect(page.locator(".messages")).to_contain_text("cellar answered within")
    assert page.url.endswith("/devices/")


def test_a_device_that_leaves_is_seen_to_leave_and_can_be_removed(visit: Visit, cluster: Cluster) -> None:
    agent = cluster.join("leaving")
    cluster.online("leaving")
    page = visit.open("/devices/leaving/")
    expect(page.locator("#about .chip").first).to_have_text("online")

    agent.interrupt()

    expect(page.locator("#about .chip").first).to_have_text("offline", timeout=SLOW)
    page.get_by_text("Remove", exact=True).click()
    page.get_by_label("Type its name to confirm").fill("leaving")
    page.get_by_role("button", name="Remove leaving").click()
    expect(page.locator(".messages")).to_contain_text("leaving was removed")
    assert all(device["device_id"] != "leaving" for device in cluster.get("devices?page_size=100"))


def test_what_happens_before_the_answer_to_a_form_does_not_break_it_off(
    visit: Visit, cluster: Cluster
) -> None:
    agent = cluster.join("going")
    cluster.online("going")
    page = visit.open("/devices/going/")
    agent.interrupt()
    expect(page.locator("#about .chip").first).to_have_text("offline", timeout=SLOW)

    def answered_late(route: Route) -> None:
        answer = route.fetch(max_redirects=0)
        page.wait_for_timeout(2_000)  # the page hears meanwhile that its device is gone
        route.fulfill(response=answer)

    page.route("**/remove/", answered_late)
    page.get_by_text("Remove", exact=True).click()
    page.get_by_label("Type its name to confirm").fill("going")
    page.get_by_role("button", name="Remove going").click()
    expect(page.locator(".messages")).to_contain_text("going was removed")


def test_a_page_of_what_is_gone_says_so(visit: Visit, cluster: Cluster) -> None:
    cluster.join("short-lived")
    cluster.online("short-lived")
    page = visit.open("/devices/short-lived/")
    key = (cluster.data_dir / "api-key").read_text().strip()

    cluster.api.delete("/api/v1/devices/short-lived", headers={"X-API-Key": key}).raise_for_status()

    expect(page.locator("main")).to_contain_text("there is no device short-lived", timeout=SLOW)
    visit.complaints[:] = [text for text in visit.complaints if "404" not in text]


def test_what_somebody_does_is_not_lost_when_the_page_is_drawn_anew(visit: Visit, cluster: Cluster) -> None:
    page = visit.open("/devices/attic/")
    key = {"X-API-Key": (cluster.data_dir / "api-key").read_text().strip()}
    cluster.api.post(
        "/api/v1/devices/attic/cordon", headers=key, json={"reason": "elsewhere"}
    ).raise_for_status()
    expect(page.get_by_role("button", name="Back in service")).to_be_visible(timeout=SLOW)
    page.get_by_text("Drain", exact=True).click()
    reason = page.locator("form[action$='/drain/']").get_by_label("Reason")
    reason.fill("half a sen")
    page.locator("#about summary", has_text="Everything it reported").click()
    cluster.api.post("/api/v1/devices/attic/uncordon", headers=key, json={}).raise_for_status()

    expect(page.locator("#about .chip").first).to_have_text("online", timeout=SLOW)
    expect(reason).to_have_value("half a sen")
    expect(page.locator("#about details[open] summary").first).to_have_text("Everything it reported")


def test_the_keyboard_stays_where_it_is_when_a_list_is_drawn_anew(visit: Visit, cluster: Cluster) -> None:
    first = cluster.submit("echo")
    cluster.ended(first)
    page = visit.open("/tasks/")
    page.locator(f"#tasks a[href='/tasks/{first}/']").focus()
    second = cluster.submit("echo")

    expect(page.locator(f"#tasks a[href='/tasks/{second}/']")).to_be_visible(timeout=SLOW)
    assert page.evaluate("document.activeElement.getAttribute('href')") == f"/tasks/{first}/"


def test_much_output_is_shown_at_once(visit: Visit, cluster: Cluster) -> None:
    command = "for i in $(seq 20000); do echo line $i of very many; done; echo the end"
    task = cluster.submit("command", {"command": command})
    cluster.ended(task)
    page = visit.open(f"/tasks/{task}/")

    expect(page.locator("#output")).to_contain_text("the end", timeout=SLOW)


def test_settings_are_saved_and_keys_made(visit: Visit, cluster: Cluster) -> None:
    page = visit.open("/settings/")
    page.get_by_label("max device losses").fill("many")
    page.get_by_role("button", name="Save scheduler").click()
    expect(page.locator(".field.wrong")).to_contain_text("must be a whole number")
    assert "400 (Bad Request)" in visit.complaints.pop()  # as it should be
    page.get_by_label("max device losses").fill("4")
    page.get_by_role("button", name="Save scheduler").click()
    expect(page.locator(".messages")).to_contain_text("scheduler was saved")
    page.get_by_text("New key", exact=True).click()
    page.get_by_label("Name").fill("a script")
    page.get_by_label("read", exact=True).check()
    page.get_by_role("button", name="Make the key").click()
    key = page.locator("#new-key").inner_text()
    picture(page, "settings-new-key")
    assert cluster.api.get("/api/v1/tasks", headers={"X-API-Key": key}).status_code == 200
    page.locator("tr", has_text="a script").get_by_text("Revoke", exact=True).click()
    page.get_by_role("button", name="Revoke a script").click()
    expect(page.locator(".messages")).to_contain_text("opens nothing any more")
    assert cluster.api.get("/api/v1/tasks", headers={"X-API-Key": key}).status_code == 401


def test_the_form_tells_at_once_which_devices_match(visit: Visit) -> None:
    page = visit.open("/submit/")
    expect(page.locator("#matches")).to_contain_text(re.compile("Matches [1-9]"))
    page.get_by_text("Requirements and limits").click()

    page.get_by_label("Memory in GB, at least").fill("99999")

    expect(page.locator("#matches")).to_contain_text("Matches 0 of")


def test_a_lost_connection_is_said_and_what_was_missed_comes(visit: Visit, cluster: Cluster) -> None:
    page = visit.open("/tasks/")
    cluster.server.kill()
    expect(page.locator("#live")).to_contain_text(re.compile("since"), timeout=SLOW)
    picture(page, "connection-lost")

    cluster.start()
    task = cluster.submit("echo", {"said": "while nobody listened"})

    expect(page.locator(f"#tasks a[href='/tasks/{task}/']")).to_be_visible(timeout=3 * SLOW)
    expect(page.locator("#live")).to_have_text("Live", timeout=SLOW)
    visit.complaints[:] = [
        text for text in visit.complaints if "ERR_CONNECTION" not in text and "/ws" not in text
    ]
    # A drawing may have been under way.
    visit.complaints[:] = [text for text in visit.complaints if not text.startswith(("failed:", "htmx:"))]
    until(lambda: len(cluster.get("devices?status=online")) >= 3, "the devices to be back")


def test_it_works_through_an_api_that_relays(browser: Browser, cluster: Cluster, tmp_path: Path) -> None:
    with relay(tmp_path / "elsewhere", cluster.gateway_port) as other, visiting(browser, cluster) as visit:
        visit.origin = f"http://127.0.0.1:{other.port}"
        visit.sign_in()
        page = submit(visit, "echo through")
        expect(page.locator("#output")).to_have_text("through\n", timeout=SLOW)
        expect(page.locator(".lead")).to_contain_text("Succeeded", timeout=SLOW)
        visit.was_clean()


def test_everything_can_be_done_by_keyboard(visit: Visit) -> None:
    page = visit.open("/")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to content"
    page.keyboard.press("Enter")
    reached: set[str] = set()
    for _ in range(80):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.getAttribute('href') ?? ''"))
    assert any(link.startswith("/devices/") for link in reached)
    assert any(link.startswith("/tasks/") for link in reached)


def test_without_scripts_every_page_reads(browser: Browser, cluster: Cluster) -> None:
    task = cluster.submit("command", {"command": "echo printed"})
    cluster.ended(task)
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    for path, text in (
        ("/", "Devices online"),
        ("/devices/", "attic"),
        ("/devices/attic/", "What it can do"),
        ("/tasks/", task[-8:]),
        (f"/tasks/{task}/", "printed"),
        ("/submit/", "Matches"),
        ("/add-device/", "python3 -Ic"),
        ("/activity/", "joined"),
    ):
        page.goto(f"http://127.0.0.1:{cluster.port}{path}")
        expect(page.locator("main")).to_contain_text(text)
        expect(page.locator("#live")).to_have_text("As it was when you opened it")
    context.close()


@pytest.mark.parametrize("scripts", [True, False])
def test_what_is_chosen_of_a_long_row_is_seen_on_a_phone(
    browser: Browser, cluster: Cluster, scripts: bool
) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 800}, java_script_enabled=scripts)
    page = context.new_page()
    for path in ("/submit/?task_type=command", "/tasks/?status=timeout"):
        page.goto(f"http://127.0.0.1:{cluster.port}{path}")
        chosen = page.locator(".chips [aria-current]")
        expect(chosen).to_be_in_viewport(ratio=1)
        assert page.evaluate("scrollY") == 0
    if (
        scripts
    ):  # the row of the list is drawn anew when something happens; who reads further down stays there
        expect(page.locator("#live")).to_have_text("Live")
        page.evaluate("document.querySelector('#chips').dataset.old = '1'")
        cluster.ended(cluster.submit("echo"))
        expect(page.locator("#chips[data-old]")).to_have_count(0, timeout=SLOW)
        expect(chosen).to_be_in_viewport(ratio=1)
    context.close()


def test_whoever_signs_in_on_a_phone_finds_the_head_in_order(browser: Browser, cluster: Cluster) -> None:
    with visiting(browser, cluster, 390) as visit:
        for path in ("/sign-in/", "/tasks/"):
            box = visit.open(path).locator(".top .add").bounding_box()
            assert box is not None
            assert box["x"] + box["width"] == pytest.approx(390 - 14, abs=2), path
            picture(visit.page, f"head-{path.strip('/')}")
        visit.was_clean()


# --- how it looks ---------------------------------------------------------------------------------------------


def places(cluster: Cluster) -> dict[str, str]:
    """Every page, by the name of its picture; made once."""
    tasks = cluster.get("tasks?page_size=100")
    if not {"failed", "queued", "running"} <= {task["status"] for task in tasks}:
        cluster.ended(cluster.submit("command", {"command": "echo hello; echo oops >&2; exit 3"}))
        cluster.submit("echo", requirements={"gpu_required": True})
        cluster.submit("sleep", {"duration": 600}, requirements={"required_tags": ["shelf"]})
        until(lambda: cluster.get("tasks?status=running"), "a running task")
        tasks = cluster.get("tasks?page_size=100")
    one = {task["status"]: f"/tasks/{task['task_id']}/" for task in reversed(tasks)}
    return {
        "overview": "/",
        "devices": "/devices/",
        "devices-table": "/devices/?view=table",
        "device": "/devices/attic/",
        "tasks": "/tasks/",
        "task-failed": one["failed"],
        "task-queued": one["queued"],
        "task-running": one["running"],
        "submit": "/submit/?type=command",
        "add-device": "/add-device/",
        "activity": "/activity/",
        "settings": "/settings/",
        "account": "/account/",
    }


@pytest.mark.parametrize(("width", "scheme"), SHAPES)
def test_every_page_fits_and_can_be_read_by_everybody(
    browser: Browser, cluster: Cluster, width: int, scheme: Scheme
) -> None:
    with visiting(browser, cluster, width, scheme) as visit:
        visit.sign_in()
        for name, path in places(cluster).items():
            page = visit.open(path)
            fits(page, width)
            is_accessible(page)
            picture(page, f"{name}-{width}-{scheme}")
        visit.was_clean()
