"""Custom task types: a handler's way through success, failure, time-out and cancel, in a process of its own."""

import asyncio
import os
import textwrap
from pathlib import Path
from typing import Any

import pytest

from retire_cluster.agent.errors import ConfigError
from retire_cluster.agent.execution import processes
from retire_cluster.agent.execution.custom import discover
from retire_cluster.agent.execution.handlers import Handler
from retire_cluster.protocol.messages import Output, Progress
from retire_cluster.protocol.states import Outcome, Stream
from tests.integration.agent.fake_gateway import DEADLINE_S
from tests.integration.agent.workplace import Workplace, at, is_alive, outcome

MODULE = """
import os, subprocess, sys, time
from pathlib import Path
from retire_cluster.agent import handler

@handler("word_count")
def word_count(payload, ctx):
    words = payload["text"].split()
    for index, word in enumerate(words):
        ctx.progress(100 * index / len(words), f"at {word}")
    ctx.log(f"counted {len(words)} words")
    return {"words": len(words), "cwd": os.getcwd(), "directory": str(ctx.directory), "task": ctx.task_id}

@handler("later")
async def later(payload, ctx):
    import asyncio
    await asyncio.sleep(0)
    return "async"

@handler("fails")
def fails(payload, ctx):
    return helper(payload)

def helper(payload):
    raise KeyError(payload["key"])

@handler("odd")
def odd(payload, ctx):
    how = payload["how"]
    if how == "exit":
        sys.exit(3)
    if how == "kill":
        os.kill(os.getpid(), 9)
    if how == "nan":
        return {"x": float("nan"), "y": object, "z": "a\\0b"}
    if how == "huge":
        return "x" * 4_000_000
    if how == "env":
        return dict(os.environ)
    if how == "percent":
        ctx.progress("half")

@handler("prints")
def prints(payload, ctx):
    print("to stdout")
    print("to stderr", file=sys.stderr)
    os.system("echo from a child")
    return None

@handler("waits")
def waits(payload, ctx):
    child = subprocess.Popen(["sleep", "600"], start_new_session=True)
    Path(payload["file"]).write_text(f"{os.getpid()} {child.pid}\\n")
    while not (payload.get("polite") and ctx.cancelled):
        time.sleep(0.01)
    Path(payload["file"]).write_text("ended politely\\n")
"""


@pytest.fixture
def module(tmp_path: Path) -> str:
    file = tmp_path / "owners_handlers.py"
    file.write_text(MODULE)
    return str(file)


def found(*named: str) -> dict[str, Handler]:
    handlers, problems = asyncio.run(discover(named))
    assert problems == []
    return handlers


def ended(tmp_path: Path, module: str, task_type: str, payload: Any, timeout_s: float = 60.0) -> Any:
    return outcome(tmp_path, task_type, payload, timeout_s, custom=found(module))


def test_a_handler_counts_words(tmp_path: Path, module: str) -> None:
    said: list[Any] = []

    async def scenario(place: Workplace) -> None:
        attempt = place.start("word_count", {"text": "the quick brown fox"})
        result = await place.result(attempt)
        assert (result.outcome, result.error_message) == (Outcome.SUCCESS, None)
        own = str(tmp_path / "work" / attempt)
        assert place.value(result) == {"words": 4, "cwd": own, "directory": own, "task": attempt}
        place.feed.end(attempt)
        said.extend(place.said)

    at(tmp_path, scenario, custom=found(module))
    assert [item.message for item in said if isinstance(item, Progress)][-1] == "at fox"
    assert "".join(item.text for item in said if isinstance(item, Output)) == "counted 4 words\n"


def test_a_coroutine_function_is_a_handler_too(tmp_path: Path, module: str) -> None:
    assert ended(tmp_path, module, "later", {}).result_json == '"async"'


def test_what_a_handler_raises_is_told_with_its_own_frames_only(tmp_path: Path, module: str) -> None:
    result = ended(tmp_path, module, "fails", {"key": "colour"})
    assert (result.outcome, result.error_message) == (Outcome.FAILED, "KeyError: 'colour'")
    assert "in helper" in result.error_traceback
    assert "handle.py" not in result.error_traceback


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("exit", "the handler called sys.exit(3)"),
        ("kill", "SIGKILL"),
        ("huge", "the limit is"),
        ("percent", "ctx.progress: percent must be a number or None, not 'half'"),
    ],
)
def test_odd_handlers_fail_with_a_reason(tmp_path: Path, module: str, how: str, words: str) -> None:
    result = ended(tmp_path, module, "odd", {"how": how})
    assert result.outcome is Outcome.FAILED
    assert words in str(result.error_message)


def test_what_json_cannot_hold_is_replaced(tmp_path: Path, module: str) -> None:
    result = ended(tmp_path, module, "odd", {"how": "nan"})
    assert result.result_json == '{"x":"nan","y":"<class \'object\'>","z":"a\ufffdb"}'


def test_a_handler_has_its_owner_s_environment_without_the_agent_s_settings(
    tmp_path: Path, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RETIRE_CLUSTER_JOIN_TOKEN", "rcj1_secret")
    monkeypatch.setenv("WEATHER_KEY", "owner's")
    result = ended(tmp_path, module, "odd", {"how": "env"})
    assert "owner's" in str(result.result_json)
    assert "rcj1_secret" not in str(result.result_json)


def test_what_it_and_its_children_print_is_shown_by_stream(tmp_path: Path, module: str) -> None:
    async def scenario(place: Workplace) -> None:
        attempt = place.start("prints", {})
        await place.result(attempt)
        place.feed.end(attempt)
        pieces = [item for item in place.said if isinstance(item, Output)]
        by_stream = {
            stream: "".join(piece.text for piece in pieces if piece.stream is stream) for stream in Stream
        }
        assert by_stream == {
            Stream.STDOUT: "to stdout\nfrom a child\n",
            Stream.STDERR: "to stderr\n",
            Stream.LOG: "",
        }

    at(tmp_path, scenario, custom=found(module))


@pytest.fixture
def time_to_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow the machine, whoever ends when asked to is not killed."""
    monkeypatch.setattr(processes, "GRACE_S", DEADLINE_S)
    monkeypatch.setattr(processes, "_PATIENCE_S", 2 * DEADLINE_S)


@pytest.mark.parametrize("polite", [True, False])
def test_a_cancelled_handler_and_its_children_are_gone(
    tmp_path: Path, module: str, polite: bool, request: pytest.FixtureRequest
) -> None:
    if polite:
        request.getfixturevalue("time_to_end")

    async def scenario(place: Workplace) -> None:
        file = tmp_path / "pids"
        attempt = place.start("waits", {"file": str(file), "polite": polite})
        pids = [int(word) for word in (await place.begun(file)).split()]
        place.executor.kill(attempt, "user")
        result = await place.result(attempt)
        assert (result.outcome, result.survivors) == (Outcome.CANCELLED, ())
        assert not any(is_alive(pid) for pid in pids)
        assert (file.read_text() == "ended politely\n") is polite

    at(tmp_path, scenario, custom=found(module))


@pytest.mark.usefixtures("time_to_end")
def test_a_handler_out_of_time_is_ended(tmp_path: Path, module: str) -> None:
    async def scenario(place: Workplace) -> None:
        file = tmp_path / "pids"
        attempt = place.start("waits", {"file": str(file), "polite": True}, timeout_s=600.0)
        await place.begun(file)
        place.turned = 600.0
        assert (await place.result(attempt)).outcome is Outcome.TIMEOUT
        assert file.read_text() == "ended politely\n"

    at(tmp_path, scenario, custom=found(module))


# --- which handlers there are ---------------------------------------------------------------------------------


def write(directory: Path, name: str, text: str) -> str:
    file = directory / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(textwrap.dedent(text))
    return str(file)


def test_modules_are_found_by_name_in_the_working_directory(
    tmp_path: Path, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "word_count" in found("owners_handlers")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("import no_such_library", "ModuleNotFoundError: No module named 'no_such_library'"),
        ("from retire_cluster.agent import handler\nhandler('a b')", "a task type is 1 to 100 letters"),
        ("from retire_cluster.agent import handler\nhandler('x')(3)", "decorates a function, not int"),
        (
            "from retire_cluster.agent import handler\nhandler('x')(len)\nhandler('x')(max)",
            "there is a handler for this task type already",
        ),
        ("from retire_cluster.agent import handler\nhandler('echo')(len)", "which is a built-in task type"),
        ("import os; os._exit(5)", "their process ended with code 5 and said nothing"),
        ("import sys; sys.exit('no')", "SystemExit: no"),
    ],
)
def test_a_module_that_cannot_be_used_is_named_with_the_reason(tmp_path: Path, text: str, words: str) -> None:
    file = write(tmp_path, "broken.py", text)
    with pytest.raises(ConfigError) as refusal:
        asyncio.run(discover([file]))
    assert "--handlers" in str(refusal.value)
    assert words in str(refusal.value)


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory where packages are installed."""
    site = tmp_path / "site"
    monkeypatch.syspath_prepend(str(site))
    write(site, "words-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: words\nVersion: 1.0\n")
    write(
        site,
        "words-1.0.dist-info/entry_points.txt",
        "[retire_cluster.handlers]\nwords = installed_words\nbroken = installed_broken\n",
    )
    write(
        site,
        "installed_words.py",
        """
        from retire_cluster.agent import handler
        @handler("installed")
        def installed(payload, ctx):
            return "from a package"
        """,
    )
    write(site, "installed_broken.py", "1 / 0")
    return site


def test_an_installed_package_s_handlers_are_found_and_a_broken_one_only_warns(
    tmp_path: Path, installed: Path
) -> None:
    handlers, (problem,) = asyncio.run(discover([]))
    assert list(handlers) == ["installed"]
    assert "installed_broken" in problem
    assert "ZeroDivisionError" in problem
    assert outcome(tmp_path, "installed", {}, custom=handlers).result_json == '"from a package"'


def test_where_no_package_brings_handlers_no_process_is_asked_for_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, "other-1.0.dist-info/entry_points.txt", "[console_scripts]\nother = other:main\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path / "missing"))
    monkeypatch.setattr("sys.executable", str(tmp_path / "no-python"))
    assert asyncio.run(discover([])) == ({}, [])


@pytest.mark.parametrize("place", ["words.egg-info", "EGG-INFO"])
def test_handlers_of_a_package_installed_in_an_older_way_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    site = tmp_path / "words-1.0-py3.egg"
    write(site, f"{place}/PKG-INFO", "Metadata-Version: 2.1\nName: words\nVersion: 1.0\n")
    write(site, f"{place}/entry_points.txt", "[retire_cluster.handlers]\nwords = egg_words\n")
    write(site, "egg_words.py", 'from retire_cluster.agent import handler; handler("from_an_egg")(len)')
    monkeypatch.syspath_prepend(str(site))
    assert list(found()) == ["from_an_egg"]


def test_importing_handlers_leaves_the_agent_s_own_process_alone(tmp_path: Path) -> None:
    file = write(
        tmp_path,
        "nosy.py",
        f"""
        import os
        from pathlib import Path
        from retire_cluster.agent import handler
        Path({str(tmp_path / "pid")!r}).write_text(str(os.getpid()))
        handler("nosy")(len)
        """,
    )
    assert list(found(file)) == ["nosy"]
    assert int((tmp_path / "pid").read_text()) != os.getpid()
