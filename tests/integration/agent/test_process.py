"""The real command in a process of its own."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from retire_cluster.agent.execution.children import shim
from retire_cluster.protocol.messages import Accepted, Goodbye, Register, Result
from retire_cluster.protocol.states import HeldState
from retire_cluster.protocol.tasktypes import BUILTIN_TYPES
from tests.integration.agent.fake_gateway import agent_process, gateway, run, task, until

COMMAND = (sys.executable, "-m", "retire_cluster.cli.worker")
FORBIDDEN = ("django", "rest_framework", "celery", "channels", "kombu", "multiprocessing", "httpx", "psutil")


def worker(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=30, check=False)


def test_a_result_survives_kill_9(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with gateway() as server:
            server.acknowledges = False
            flags = (
                "--join",
                f"127.0.0.1:{server.port}",
                "--token",
                "t",
                "--data-dir",
                str(tmp_path),
                "--slots",
                "2",
            )
            done, lost = task(payload_json='{"a":1}'), task("sleep", '{"duration":600}')
            async with agent_process(*flags) as agent:
                await server.joined()
                await server.send(done, lost)
                result = await server.result(done.attempt)
                await until(lambda: any(lost.attempt in m.attempts for m in server.all(Accepted)), "accepted")
                agent.signal(signal.SIGKILL)
                await agent.wait()
            server.acknowledges = True
            async with agent_process(*flags):
                register = await server.joined(2)
                assert [(held.attempt, held.state) for held in register.held] == [
                    (done.attempt, HeldState.FINISHED)
                ]
                assert await server.next(Result, 2) == result
                assert register.run_id != server.all(Register)[0].run_id

    run(scenario)


def test_handlers_that_cannot_be_imported_are_one_line_and_exit_2(tmp_path: Path) -> None:
    ended = worker("--join", "127.0.0.1:1", "--data-dir", str(tmp_path), "--handlers", "no_such_module")
    assert ended.returncode == 2
    (line,) = ended.stderr.splitlines()
    assert line == (
        "retire-cluster-worker: --handlers no_such_module: ModuleNotFoundError: No module named 'no_such_module'"
    )


def test_a_killed_agent_leaves_nothing_running(tmp_path: Path) -> None:
    """The pipe to the shim ends with the agent, however that ends."""

    async def scenario() -> None:
        async with gateway() as server:
            flags = ("--join", f"127.0.0.1:{server.port}", "--token", "a-token", "--data-dir", str(tmp_path))
            async with agent_process(*flags) as agent:
                await server.joined()
                line = f"trap '' TERM; setsid sleep 600 & echo up > {tmp_path}/up; while :; do sleep 1; done"
                job = task("command", json.dumps({"command": line}))
                await server.send(job)
                await until((tmp_path / "up").exists, "the command runs")
                # One that becomes another program has no environment for a moment.
                await until(lambda: len(shim.marked(job.attempt)) >= 3, "its processes")
                agent.signal(signal.SIGKILL)
                await agent.wait()
                await until(lambda: not shim.marked(job.attempt), "nothing of it runs")

    run(scenario)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_politely(tmp_path: Path, number: int) -> None:
    async def scenario() -> None:
        async with gateway() as server:
            flags = ("--join", f"127.0.0.1:{server.port}", "--token", "rcj1_k_verysecret", "--debug")
            async with agent_process(*flags, "--data-dir", str(tmp_path)) as agent:
                register = await server.joined()
                await until(lambda: "joined as" in agent.log, "the line that says so")
                agent.signal(number)
                assert await agent.wait() == 0
            assert (await server.next(Goodbye)).code == "stopping"
            lines = [json.loads(line) for line in agent.lines]
            assert {"timestamp", "level", "logger", "message"} <= set(lines[0])
            assert lines[0]["timestamp"].endswith("Z")
            messages = [line["message"] for line in lines]
            types = ", ".join(BUILTIN_TYPES)
            slots = register.capabilities.cpu_count
            joined = f"joined as {register.device_id} at 127.0.0.1:{server.port} ({slots} slots; {types})"
            assert joined in messages
            assert "verysecret" not in agent.log
            assert "rcd_" not in agent.log

    run(scenario)


def test_a_wrong_token_has_an_exit_code_of_its_own(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with gateway() as server:
            server.token = "right"
            flags = ("--join", f"127.0.0.1:{server.port}", "--token", "wrong", "--data-dir", str(tmp_path))
            async with agent_process(*flags) as agent:
                assert await agent.wait() == 3
            assert "refuses the join token" in agent.log
            assert "wrong" not in agent.log.replace("wrong token", "")

    run(scenario)


def test_the_way_can_be_checked(tmp_path: Path) -> None:
    async def scenario() -> None:
        import asyncio

        async with gateway() as server:
            done = await asyncio.to_thread(worker, "--test", f"127.0.0.1:{server.port}")
            assert done.returncode == 0, done.stderr
            assert "speaks our protocol" in done.stdout
            await server.stop()
            done = await asyncio.to_thread(worker, "--test", f"127.0.0.1:{server.port}")
            assert done.returncode == 1
            assert "FAILED" in done.stdout
            await server.start()

    run(scenario)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "--join"),
        (("--join", "nuc:x"), "--join"),
        (("--join", "192.0.2.1", "--token", "own"), "--insecure-plain"),
        (("--join", "192.0.2.1"), "--token"),
        (("--test", "a b"), "--test"),
    ],
)
def test_a_usage_error_is_one_line_and_exit_2(tmp_path: Path, arguments: tuple[str, ...], words: str) -> None:
    data_dir = () if "--test" in arguments else ("--data-dir", str(tmp_path))
    done = worker(*arguments, *data_dir)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert words in done.stderr


def test_an_unusable_directory_is_one_line_and_exit_2(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = worker("--join", "127.0.0.1:1", "--token", "t", "--data-dir", str(tmp_path / "file"))
    assert done.returncode == 2
    assert "--data-dir" in done.stderr


def test_the_agent_loads_no_server_package_and_nothing_heavy() -> None:
    script = (
        "import sys, pkgutil, importlib, retire_cluster.agent as agent, retire_cluster.cli.worker\n"
        "for module in pkgutil.iter_modules(agent.__path__, 'retire_cluster.agent.'):\n"
        "    importlib.import_module(module.name)\n"
        "print(*sorted(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=True
    )
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert not loaded & set(FORBIDDEN)
    # Log files and their masks are the same on both sides, and use the standard library only.
    shared = {f"retire_cluster.{name}" for name in ("credentials", "env", "logfiles", "logs")}
    ours = {name for name in done.stdout.split() if name.startswith("retire_cluster.")} - shared
    assert all(
        name.startswith(("retire_cluster.agent", "retire_cluster.cli", "retire_cluster.protocol"))
        for name in ours
    )


def test_who_starts_it_is_told_once_how_to_keep_it_running(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with gateway() as server:
            flags = ("--join", f"127.0.0.1:{server.port}", "--token", "t", "--data-dir", str(tmp_path))
            environ = {**os.environ, "HOME": str(tmp_path)}
            environ.pop("INVOCATION_ID", None)
            async with agent_process(*flags, environ=environ) as agent:
                await until(lambda: "to have that:" in agent.log, "the command")
                await server.restart()
                await until(lambda: agent.log.count("joined as") == 2, "the second welcome")
                agent.signal(signal.SIGTERM)
                assert await agent.wait() == 0
            assert agent.log.count("to have that:") == 1
            assert f"keep --data-dir {tmp_path}" in agent.log

    run(scenario)


def test_an_owner_at_a_terminal_may_have_it_kept(tmp_path: Path) -> None:
    """The question, on a real terminal. In this PATH there is no keeper, which is said before it joins."""
    import pty

    leader, follower = pty.openpty()
    environ = {"HOME": str(tmp_path), "PATH": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}
    flags = ("--join", "127.0.0.1:1", "--token", "t", "--data-dir", str(tmp_path / "data"))
    process = subprocess.Popen(
        [*COMMAND, *flags], stdin=follower, stdout=follower, stderr=follower, env=environ
    )
    os.close(follower)
    os.write(leader, b"y\n")
    assert process.wait(30) == 1
    said = os.read(leader, 4096).decode()
    os.close(leader)
    assert "[y/N]" in said
    assert "neither a systemd" in said
