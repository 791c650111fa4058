"""What the terminal says when something is wrong: in commands and flags, not in the SDK's methods."""

import re
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from retire_cluster.sdk import errors
from retire_cluster.sdk.calls import BAD_CERTIFICATE
from retire_cluster.sdk.errors import ApiError, ConnectionFailed, SdkError
from retire_cluster.sdk.models import Task
from retire_cluster.terminal import advice, main, status
from retire_cluster.terminal.exits import Exit, Trouble
from tests.unit.sdk.network import failure, success, task_row
from tests.unit.sdk.test_errors import every
from tests.unit.terminal.test_hostile import use

# A call, an argument, a name of the SDK's, an address of the API.
OF_THE_SDK = re.compile(r"\w\(\S*\)|\b\w+=(?!VALUE)|base_url|\bSDK\b|etag|\?wait|/api/v1")


def made(kind: type[SdkError]) -> SdkError:
    if issubclass(kind, ApiError):
        return kind("no", status=400)
    return kind("no", Task.of(task_row())) if issubclass(kind, errors.DeadlinePassed) else kind("no")


def test_a_word_of_the_sdk_is_found() -> None:
    found = [kind for kind in every(SdkError) if OF_THE_SDK.search(str(made(kind)))]
    assert {errors.DeviceNotFound, errors.Unauthorized, errors.NotFound, errors.Timeout} <= set(found)


@pytest.mark.parametrize("kind", every(SdkError))
def test_every_error_has_advice_for_a_person(kind: type[SdkError]) -> None:
    assert kind in advice.ADVICE
    said = advice.said(made(kind))
    assert said == f"no; {advice.ADVICE[kind]}"
    assert not OF_THE_SDK.search(said)


@pytest.mark.parametrize(
    "words", sorted(set(re.findall(r"`(retire-cluster[^`]*)`", " ".join(advice.ADVICE.values()))))
)
def test_every_command_that_is_advised_is_one(words: str) -> None:
    program, *given = words.split()
    parser = {"retire-cluster": main.build_parser, "retire-cluster-status": status.build_parser}[program]()
    given += ["FILE"] if given[-1:] == ["--file"] else []
    given += ["--scopes", "read"] if "create" in given and "--scopes" not in given else []
    parser.parse_args(given)


def test_a_certificate_that_is_not_trusted_asks_for_the_flag() -> None:
    assert "--ca FILE" in advice.said(ConnectionFailed("no", advice=BAD_CERTIFICATE))


@pytest.mark.parametrize(
    ("words", "flag"),
    [
        (["--ca", "/nowhere.pem", "tasks"], "--ca '/nowhere.pem' cannot be used"),
        (["tasks", "--api-key", "a\nb"], "the API key holds characters"),
    ],
)
def test_arguments_have_the_names_they_have_here(
    words: list[str], flag: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main([*words, *(["--api", "https://nas"] if "--ca" in words else [])]) == Exit.USAGE
    said = capsys.readouterr().err
    assert flag in said
    assert not OF_THE_SDK.search(said)


def refusing(status: int, code: str, /, **details: Any) -> Callable[[httpx.Request], httpx.Response]:
    def answering(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/config"):
            return success({"heartbeat": {"interval": 60}, "retention": {"days": 30}})
        return failure(status, code, "no such thing", **details)

    return answering


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ("drain nope", "DEVICE_NOT_FOUND", "no such thing; `retire-cluster devices` lists those there are"),
        ("devices nope", "DEVICE_NOT_FOUND", "no such thing; `retire-cluster devices` lists those there are"),
        ("tasks nope", "TASK_NOT_FOUND", "`retire-cluster tasks` lists the newest"),
        ("tasks", "UNAUTHORIZED", "--api-key"),
        ("keys", "FORBIDDEN", "`retire-cluster keys create"),
        ("result t1", "RESULT_NOT_READY", "the task is running; `retire-cluster result --wait TASK`"),
        ("keys revoke nope", "NOT_FOUND", "no such thing; `retire-cluster keys` lists those there are"),
        ("tokens revoke nope", "NOT_FOUND", "no such thing; `retire-cluster tokens` lists those there are"),
        ("config nope", "NOT_FOUND", "no section 'nope'; the sections are heartbeat, retention"),
        ("cancel nope", "TASK_NOT_FOUND", "nope: no such thing; `retire-cluster tasks`"),
        ("run -- true", "UNAUTHORIZED", "not run: no such thing; give a valid key with --api-key"),
        ("status --device nope", "DEVICE_NOT_FOUND", "`retire-cluster devices` lists those there are"),
    ],
)
def test_what_is_refused_says_what_to_type(
    words: str, code: str, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    use(monkeypatch, refusing(404, code, status="running"))
    program, *arguments = words.split()
    act = status.main if program == "status" else main.main
    assert act(arguments if program == "status" else [program, *arguments]) != Exit.OK
    shown = capsys.readouterr().err
    assert said in shown
    assert not OF_THE_SDK.search(shown)
    assert shown.count("\n") == 1


def test_other_errors_pass_where_a_thing_may_be_missing() -> None:
    with pytest.raises(errors.Forbidden), advice.where_missing("look"):
        raise errors.Forbidden("no", status=403)
    with pytest.raises(Trouble, match="no; look"), advice.where_missing("look"):
        raise errors.NotFound("no", status=404)
