"""How people sign in: by a link that works once, by a password; and how often they may guess."""

import re
import socket
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from clusterconfig import guessing, signin, throttling
from clusterconfig.audit import COMMAND, Actor
from clusterconfig.models import AuditEntry, SignInLink
from retire_cluster import backup, launch
from retire_cluster.api import rates
from retire_cluster.credentials import digest, mask
from retire_cluster.listeners import Listener

pytestmark = pytest.mark.django_db

PASSWORD, NEW = "correct horse battery", "staple correct horse"
SIGN_IN, ONCE, ACCOUNT = "/sign-in/", "/sign-in/once/", "/account/"
DOORS = (SIGN_IN, "/admin/login/", "/api/auth/login/")
Visitor = Callable[..., Client]


@pytest.fixture
def visitor() -> Visitor:
    """A browser somewhere."""

    def make(address: str = "127.0.0.1") -> Client:
        return Client(SERVER_NAME="localhost", REMOTE_ADDR=address)

    return make


@pytest.fixture
def browser(visitor: Visitor) -> Client:
    return visitor()


@pytest.fixture
def ann() -> User:
    """An administrator."""
    return User.objects.create_superuser("ann", password=PASSWORD)


def link(username: str = "admin", **life: Any) -> str:
    return signin.issue(username, now=timezone.now(), **life)


def use(browser: Client, secret: str) -> Any:
    return browser.post(ONCE, {"secret": secret})


def give(browser: Client, password: str, username: str = "ann", door: str = SIGN_IN, **more: str) -> Any:
    return browser.post(door, {"username": username, "password": password, **more})


def signed_in(browser: Client) -> bool:
    return "_auth_user_id" in browser.session


def actions() -> list[str]:
    return list(AuditEntry.objects.order_by("id").values_list("action", flat=True))


# --- links ----------------------------------------------------------------------------------------------------


def test_the_first_link_makes_the_first_administrator_and_works_once(
    browser: Client, visitor: Visitor
) -> None:
    secret = link()
    answer = use(browser, secret)

    assert (answer.status_code, answer["Location"]) == (302, ACCOUNT)
    user = User.objects.get()
    assert (user.username, user.is_staff, user.is_superuser) == ("admin", True, True)
    assert not user.has_usable_password()
    assert browser.get("/admin/").status_code == 200
    assert actions() == ["user.link", "user.create", "user.sign_in"]
    assert set(AuditEntry.objects.values_list("actor", "address")) == {
        ("system", ""),
        ("user:admin", "127.0.0.1"),
    }

    again = use(visitor(), secret)
    assert again.status_code == 400
    assert "was used, has expired or is not known here" in again.content.decode()


def test_whoever_has_no_link_reads_how_to_get_one(browser: Client, ann: User) -> None:
    page = browser.get(SIGN_IN).content.decode()
    assert "printed a link that signs you in once" in page
    browser.force_login(ann)
    for text in (page, browser.get("/account/").content.decode()):
        assert "<code>retire-cluster-manage signinlink" in text
        assert "after <code>make run</code> it is in <code>.venv/bin</code>" in text


def test_a_look_at_the_link_uses_nothing_up(browser: Client) -> None:
    secret = link()
    for _ in range(2):
        page = browser.get(ONCE, {"secret": secret})
        assert page.status_code == 200
        assert "Sign in as admin</button>" in page.content.decode()
    assert not User.objects.exists()
    assert use(browser, secret).status_code == 302


def test_the_page_of_a_link_keeps_it_to_itself(browser: Client) -> None:
    page = browser.get(ONCE, {"secret": link()})

    assert page["Referrer-Policy"] == "same-origin"
    assert "no-store" in page["Cache-Control"]
    assert "rcs_" not in re.sub(r'<input type="hidden" name="secret"[^>]*>', "", page.content.decode())


def test_only_the_hash_of_a_link_is_stored_and_no_log_shows_it(
    browser: Client, caplog: pytest.LogCaptureFixture
) -> None:
    secret = link()
    with caplog.at_level("DEBUG"):
        browser.get(ONCE, {"secret": secret})
        use(browser, secret + "x")

    assert SignInLink.objects.get().digest == digest(secret)
    assert "rcs_" not in "".join(
        str(vars(record)) for record in caplog.records if record.name == "api.requests"
    )
    assert mask(f"x {secret}") == "x rcs_***"


def test_an_expired_link_is_refused_and_goes_with_the_next(browser: Client) -> None:
    secret = link(life=timedelta(seconds=-1))

    assert use(browser, secret).status_code == 400
    assert browser.get(ONCE, {"secret": secret}).status_code == 400
    assert not signed_in(browser)
    link()
    assert SignInLink.objects.count() == 1


def test_all_links_of_a_user_end_with_the_first_one_used(browser: Client, ann: User) -> None:
    first, second = link("ann"), link("ann")
    User.objects.create_superuser("bob", password=PASSWORD)
    other = link("bob")

    assert use(browser, first).status_code == 302
    assert use(browser, second).status_code == 400
    assert use(browser, other).status_code == 302


@pytest.mark.parametrize("change", [{"is_active": False}, None])
def test_who_was_switched_off_or_removed_is_refused(
    browser: Client, ann: User, change: dict[str, Any] | None
) -> None:
    User.objects.create_superuser("bob", password=PASSWORD)
    secret = link("ann")
    User.objects.filter(pk=ann.pk).update(**change) if change else ann.delete()

    answer = use(browser, secret)

    assert (answer.status_code, signed_in(browser)) == (400, False)
    assert "switched off" in answer.content.decode()
    assert "user.sign_in" not in actions()


def test_a_first_link_makes_nobody_once_there_is_an_administrator(browser: Client) -> None:
    secret = link()
    User.objects.create_superuser("ann", password=PASSWORD)

    assert use(browser, secret).status_code == 400
    assert not User.objects.filter(username="admin").exists()


@pytest.mark.django_db(transaction=True)
def test_of_two_at_once_one_is_signed_in() -> None:
    secrets = [link(), link()]  # both of the same administrator, who is yet to be made
    outcomes: list[str] = []
    start = threading.Barrier(8)

    def call(secret: str) -> None:
        start.wait()
        try:
            outcomes.append(signin.redeem(secret, caller=COMMAND, now=timezone.now()).username)
        except signin.LinkRefusedError:
            outcomes.append("refused")
        finally:
            connection.close()

    threads = [threading.Thread(target=call, args=(secrets[number % 2],)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(outcomes) == ["admin", *["refused"] * 7]
    assert User.objects.count() == 1


@pytest.mark.parametrize(
    ("fields", "nobody"),
    [
        (None, True),
        ({"password": PASSWORD}, False),
        ({"last_login": timezone.now()}, False),
        ({}, True),
        ({"password": PASSWORD, "is_active": False}, True),
        ({"password": PASSWORD, "is_staff": False}, True),
    ],
)
def test_a_first_link_is_for_a_cluster_nobody_can_sign_in_to(
    fields: dict[str, Any] | None, nobody: bool
) -> None:
    if fields is not None:
        User.objects.create_user("ann", **{"is_staff": True, **fields})

    assert signin.nobody_can_sign_in() == nobody
    assert bool(signin.first_link(now=timezone.now())) == nobody


def test_an_admin_who_was_switched_off_gets_no_first_link() -> None:
    User.objects.create_user("admin", is_staff=True, is_active=False)

    assert signin.first_link(now=timezone.now()) == ""


def test_the_path_of_a_link_is_its_page() -> None:
    assert reverse("dashboard:sign-in-once") == signin.PATH


def test_a_backup_holds_no_links() -> None:
    assert SignInLink._meta.label_lower in backup._LEFT_OUT


# --- where links come from ------------------------------------------------------------------------------------


def test_the_command_prints_a_link_alone_and_how_to_use_it(
    browser: Client, ann: User, capsys: pytest.CaptureFixture[str]
) -> None:
    call_command("signinlink", "ann")
    said = capsys.readouterr()

    assert re.fullmatch(r"/sign-in/once/\?secret=rcs_[0-9a-f]{64}\n", said.out)
    assert "signs ann in once, within an hour" in said.err
    assert AuditEntry.objects.get().actor == "cli"
    assert "Sign in as ann" in browser.get(said.out.strip()).content.decode()


def test_the_command_without_a_name_is_for_the_first_administrator(
    browser: Client, capsys: pytest.CaptureFixture[str]
) -> None:
    call_command("signinlink")
    secret = capsys.readouterr().out.strip().partition("=")[2]

    assert use(browser, secret).status_code == 302
    assert User.objects.get().username == "admin"


@pytest.mark.parametrize("name", ["nobody", "admin", "off", "x" * 500])
def test_the_command_knows_whom_it_cannot_help(ann: User, name: str) -> None:
    User.objects.create_user("off", is_active=False)

    with pytest.raises(CommandError, match=r"there is no active user '.*createsuperuser"):
        call_command("signinlink", name)
    assert not SignInLink.objects.exists()


@pytest.mark.parametrize(
    ("host", "shown"),
    [("0.0.0.0", "127.0.0.1"), ("::", "127.0.0.1"), ("::1", "[::1]"), ("10.0.0.1", "10.0.0.1")],
)
def test_the_server_prints_a_link_until_somebody_can_sign_in(browser: Client, host: str, shown: str) -> None:
    with socket.socket() as unused:
        listener = Listener(unused, host, 8081)
        [line] = launch._sign_in_lines(listener)
        found = re.fullmatch(
            rf"Sign in     http://{re.escape(shown)}:8081(/sign-in/once/\?secret=\S+) \(once, within 24 h\)",
            line,
        )
        assert found, line
        assert browser.get(found[1]).status_code == 200
        use(browser, found[1].partition("=")[2])

        assert launch._sign_in_lines(listener) == []


# --- passwords ------------------------------------------------------------------------------------------------


def test_a_password_signs_in_and_leads_back(browser: Client, ann: User) -> None:
    page = browser.get(SIGN_IN, {"next": "/account/?x=1"}).content.decode()
    assert 'value="/account/?x=1"' in page
    assert 'autocomplete="current-password"' in page

    answer = give(browser, PASSWORD, next="/account/?x=1")

    assert (answer.status_code, answer["Location"]) == (302, "/account/?x=1")
    assert AuditEntry.objects.get().details == {"by": "password"}
    assert (AuditEntry.objects.get().action, AuditEntry.objects.get().actor) == ("user.sign_in", "user:ann")


@pytest.mark.parametrize(
    "target", ["https://evil.example/", "//evil.example", "javascript:alert(1)", "/\\evil.example", ""]
)
def test_no_other_site_is_led_to(browser: Client, ann: User, target: str) -> None:
    assert give(browser, PASSWORD, next=target)["Location"] == "/"


def test_a_wrong_password_is_said_beside_the_field(browser: Client, ann: User) -> None:
    answer = give(browser, "wrong")
    page = answer.content.decode()

    assert (answer.status_code, signed_in(browser)) == (200, False)
    assert "Please enter a correct username and password" in page[page.index('name="password"') :]
    assert 'value="ann"' in page
    assert "wrong<" not in page
    assert "required" in give(browser, "").content.decode()


@pytest.mark.parametrize("by_link", [True, False])
def test_a_session_gets_a_new_key_and_its_cookie_is_for_no_script(
    browser: Client, ann: User, by_link: bool
) -> None:
    session = browser.session  # somebody may have put this one there
    session["mine"] = "before"
    session.save()

    answer = use(browser, link("ann")) if by_link else give(browser, PASSWORD)

    cookie = answer.cookies["sessionid"]
    assert cookie.value != session.session_key
    assert (cookie["httponly"], cookie["samesite"]) == (True, "Lax")


def test_signing_out_is_a_button(browser: Client, ann: User) -> None:
    browser.force_login(ann)
    assert browser.get("/sign-out/").status_code == 405
    assert "Sign out" in browser.get("/").content.decode()

    assert browser.post("/sign-out/")["Location"] == "/"
    assert not signed_in(browser)
    assert "/sign-in/?next=%2F" in browser.get("/").content.decode()


@pytest.mark.parametrize("path", [SIGN_IN, ONCE, "/sign-out/", ACCOUNT])
def test_forms_need_their_csrf_token(ann: User, path: str) -> None:
    browser = Client(SERVER_NAME="localhost", enforce_csrf_checks=True)
    browser.force_login(ann)

    assert browser.post(path, {"secret": link("ann")}).status_code == 403


@pytest.mark.parametrize("path", [SIGN_IN, ONCE, ACCOUNT])
def test_the_pages_are_strict_and_not_kept(browser: Client, ann: User, path: str) -> None:
    browser.force_login(ann)
    answer = browser.get(path)
    page = answer.content.decode()

    assert "unsafe" not in answer["Content-Security-Policy"]
    assert "no-store" in answer["Cache-Control"]
    assert not re.search(r"<script|<style|\sstyle=|\son\w+=", page)
    fields = re.findall(r"<input(?![^>]*hidden)[^>]*>", page)
    names = [re.findall(r'\bid="([^"]+)"', field)[0] for field in fields]
    assert all(f'for="{name}"' in page for name in names)
    assert all("autocomplete=" in field for field in fields)


# --- the account ----------------------------------------------------------------------------------------------


def test_the_account_is_for_whoever_is_signed_in(browser: Client) -> None:
    assert browser.get(ACCOUNT)["Location"] == "/sign-in/?next=/account/"
    browser.force_login(User.objects.create_user("guest"))
    assert browser.get(ACCOUNT).status_code == 200


def test_who_came_by_a_link_sets_a_password_without_the_old_one(browser: Client, visitor: Visitor) -> None:
    use(browser, link())
    assert "Set a password" in browser.get(ACCOUNT).content.decode()
    left = link()

    answer = browser.post(ACCOUNT, {"new_password1": NEW, "new_password2": NEW}, follow=True)

    assert "The new password counts from now on" in answer.content.decode()
    assert "Change your password" in answer.content.decode()  # only once without the old one
    assert actions()[-1] == "user.password"
    assert give(visitor(), NEW, "admin").status_code == 302
    assert use(visitor(), left).status_code == 400


def test_a_lost_password_is_replaced_by_a_link(browser: Client, visitor: Visitor, ann: User) -> None:
    use(browser, link("ann"))
    browser.post(ACCOUNT, {"new_password1": NEW, "new_password2": NEW})

    assert give(visitor(), PASSWORD).status_code == 200
    assert give(visitor(), NEW).status_code == 302


def test_a_changed_password_ends_other_sessions_and_keeps_this_one(
    browser: Client, visitor: Visitor, ann: User
) -> None:
    other = visitor()
    give(browser, PASSWORD)
    give(other, PASSWORD)

    browser.post(ACCOUNT, {"old_password": PASSWORD, "new_password1": NEW, "new_password2": NEW})

    assert browser.get(ACCOUNT).status_code == 200
    assert other.get(ACCOUNT).status_code == 302


@pytest.mark.parametrize(
    ("fields", "name", "words"),
    [
        ({"old_password": "wrong"}, "old_password", "Your old password was entered incorrectly"),
        ({"old_password": ""}, "old_password", "This field is required"),
        ({"new_password2": "another"}, "new_password2", "The two password fields didn"),
        ({"new_password1": "12345678", "new_password2": "12345678"}, "new_password2", "entirely numeric"),
    ],
)
def test_what_is_wrong_with_a_password_is_said_beside_it(
    browser: Client, ann: User, fields: dict[str, str], name: str, words: str
) -> None:
    give(browser, PASSWORD)
    page = browser.post(
        ACCOUNT, {"old_password": PASSWORD, "new_password1": NEW, "new_password2": NEW, **fields}
    ).content.decode()

    errors = page[page.index(f'id="id_{name}_error"') :]
    assert words in errors[: errors.index("</ul>")]
    assert f"id_{name}_error" in page[page.index(f'name="{name}"') :].split(">")[0]
    ann.refresh_from_db()
    assert ann.check_password(PASSWORD)


# --- guessing -------------------------------------------------------------------------------------------------

HERE, THERE = "192.0.2.1", "192.0.2.2"


def guess(browser: Client, times: int, username: str = "ann", door: str = SIGN_IN) -> list[int]:
    return [give(browser, "wrong", username, door).status_code for _ in range(times)]


def test_ten_wrong_passwords_are_enough_whatever_the_door(visitor: Visitor, ann: User) -> None:
    browser = visitor(HERE)
    for door in DOORS:
        assert guess(browser, 3, door=door) == [200] * 3
    assert guess(browser, 1) == [200]

    for door in DOORS:
        answer = give(browser, PASSWORD, door=door)  # the right one is not looked at either
        assert answer.status_code == 429, door
        assert 1 <= int(answer["Retry-After"]) <= guessing.WINDOW_S
        assert "Try again in 15 minutes" in answer.content.decode()
        assert "retire-cluster-manage signinlink" in answer.content.decode()
        assert "no-store" in answer["Cache-Control"]
    assert not signed_in(browser)


def test_nobody_is_locked_out_from_elsewhere(visitor: Visitor, ann: User) -> None:
    guess(visitor(HERE), 11)

    assert give(visitor(THERE), PASSWORD).status_code == 302
    assert give(visitor(HERE), "wrong", "bob").status_code == 200  # another name, for now


def test_many_names_from_one_address_are_limited_too(visitor: Visitor, ann: User) -> None:
    browser = visitor(HERE)
    for number in range(30):
        assert guess(browser, 1, f"user{number}") == [200]

    assert guess(browser, 1, "another") == [429]
    assert give(browser, PASSWORD).status_code == 429
    assert use(browser, link("ann")).status_code == 302  # the way out


def test_right_passwords_cost_nothing(visitor: Visitor, ann: User) -> None:
    for _ in range(35):
        assert give(visitor(HERE), PASSWORD).status_code == 302


def test_a_right_password_does_not_wipe_out_wrong_ones(visitor: Visitor, ann: User) -> None:
    guess(visitor(HERE), 9)
    assert give(visitor(HERE), PASSWORD).status_code == 302
    assert guess(visitor(HERE), 2) == [200, 429]


def test_the_limit_ends(visitor: Visitor, ann: User, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    store = rates.MemoryStore(lambda: now[0])
    monkeypatch.setattr(throttling, "store", lambda: store)
    assert guess(visitor(HERE), 11)[-1] == 429

    now[0] += guessing.WINDOW_S + 1

    assert give(visitor(HERE), PASSWORD).status_code == 302


def test_links_are_not_guessed_either(visitor: Visitor, ann: User) -> None:
    browser = visitor(HERE)
    statuses = [use(browser, f"rcs_{number}").status_code for number in range(31)]

    assert statuses == [*[400] * 30, 429]
    assert use(visitor(THERE), link("ann")).status_code == 302
    assert give(browser, PASSWORD).status_code == 302


def test_the_old_password_is_not_guessed_in_a_stolen_session(visitor: Visitor, ann: User) -> None:
    browser = visitor(HERE)
    give(browser, PASSWORD)
    fields = {"old_password": "wrong", "new_password1": NEW, "new_password2": NEW}
    statuses = [browser.post(ACCOUNT, fields).status_code for _ in range(11)]

    assert statuses == [*[200] * 10, 429]


def test_behind_a_proxy_the_client_s_own_address_counts(visitor: Visitor, ann: User, settings: Any) -> None:
    settings.TRUSTED_PROXIES = [HERE]
    proxy = visitor(HERE)
    for _ in range(11):
        last = proxy.post(
            SIGN_IN, {"username": "ann", "password": "wrong"}, headers={"X-Forwarded-For": "10.0.0.1"}
        )

    assert last.status_code == 429
    there = proxy.post(
        SIGN_IN, {"username": "ann", "password": PASSWORD}, headers={"X-Forwarded-For": "10.0.0.2"}
    )
    assert there.status_code == 302


def test_no_rate_limit_is_about_work_not_about_guessing(visitor: Visitor, ann: User, settings: Any) -> None:
    settings.RATE_LIMITS = "off"

    assert guess(visitor(HERE), 11)[-1] == 429


def test_parallel_guesses_get_no_try_too_many() -> None:
    request = Client(SERVER_NAME="localhost").get("/health").wsgi_request
    admitted: list[bool] = []
    start = threading.Barrier(20)

    def call() -> None:
        start.wait()
        try:
            guessing.password(request, "ann")
            admitted.append(True)
        except guessing.TooManyTriesError:
            admitted.append(False)

    threads = [threading.Thread(target=call) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert admitted.count(True) == 10


def test_commands_and_tests_are_nobody_s_guess(ann: User) -> None:
    assert Client().login(username="ann", password=PASSWORD)
    assert actions() == []


def test_a_service_names_its_caller(ann: User) -> None:
    signin.set_password(ann, NEW, actor=Actor("user:ann", HERE), now=timezone.now())

    assert AuditEntry.objects.get().address == HERE
