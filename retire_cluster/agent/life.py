"""`keep` and `--leave`: an agent's life on its device, from the first join to the last file."""

import contextlib
import os
import shlex
import shutil
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from retire_cluster.agent.config import AgentConfig
from retire_cluster.agent.errors import AgentExit, ExitCode
from retire_cluster.agent.identity import Identity, IdentityStore
from retire_cluster.agent.keeping import settings
from retire_cluster.agent.keeping.keepers import DOWN_S, Keeper, KeepError, choose, installed, wait
from retire_cluster.agent.keeping.keepers import Plan as KeepPlan
from retire_cluster.agent.keeping.places import Place
from retire_cluster.agent.outbox import holder

if TYPE_CHECKING:
    from retire_cluster.agent.runtime import Runtime  # heavy: loaded by those who run one

FAILED = 1  # exit code: nothing is wrong with the flags, but it did not work out
UP_S = 15.0  # until an agent that was started uses its directory

Say = Callable[[str], None]
# Runs what the argument makes, until it ends by itself or a signal stops it.
Run = Callable[[Callable[[], "Runtime"]], None]


@dataclass(frozen=True, slots=True)
class Device:
    """The agent's place on this machine, and how the program itself is started there."""

    data_dir: Path
    own: Sequence[str]  # the words that start this program, without flags
    place: Place
    say: Say

    @classmethod
    def here(cls, data_dir: Path, own: Sequence[str], say: Say) -> "Device":
        return cls(data_dir, own, Place.here(data_dir), say)

    @property
    def state_dir(self) -> Path:
        return self.data_dir / "agent"

    def command(self, *words: str) -> str:
        """A command for this agent, to be copied by a person."""
        return shlex.join([*self.own, *words, "--data-dir", str(self.data_dir)])

    def identity(self) -> Identity | None:
        return IdentityStore(self.state_dir).load()

    def has_joined(self) -> bool:
        """Whether the cluster gave it a secret."""
        identity = self.identity()
        return identity is not None and identity.secret is not None

    def runs(self) -> int | None:
        """The process id of the agent that runs here."""
        return holder(self.state_dir)


# --- keep -------------------------------------------------------------------------------------------------------


def keep(device: Device, config: AgentConfig, log_file: str | None, kind: str | None, run: Run) -> int:
    """Join where that has not happened, install the keeper and start it; the exit code. Raises AgentExit."""
    try:
        keeper = choose(device.place, kind)
        if not _join(device, config, log_file, run):
            device.say("it was stopped before it had joined")
            return FAILED
        _install(device, keeper, config, log_file)
        return _start(device, keeper)
    except KeepError as error:
        device.say(str(error))
        return FAILED


def _join(device: Device, config: AgentConfig, log_file: str | None, run: Run) -> bool:
    """Join, unless that has happened; whether the device has joined then."""
    if device.has_joined():
        return True
    from retire_cluster.agent.purposes import Joiner

    run(lambda: Joiner(config, log_file))
    return device.has_joined()


def _install(device: Device, keeper: Keeper, config: AgentConfig, log_file: str | None) -> None:
    for other in installed(device.place):
        if other.kind != keeper.kind:
            for place in other.remove():
                device.say(f"removed: {place}")
    if log_file is None and keeper.kind != "systemd":  # which keeps what is printed
        log_file = str(device.state_dir / "agent.log")
    known = settings.settings_of(config, log_file)
    undo = device.command("keep", "--undo")
    with_modules = any(not name.endswith(".py") for name in config.handlers)
    directory = os.getcwd() if with_modules else str(device.data_dir)  # where Python looks for them too
    path = device.place.host.environ.get("PATH", os.defpath)
    plan = KeepPlan([*device.own, *settings.flags(known)], directory, path, undo)
    for written in keeper.install(plan):
        device.say(f"wrote {written.place}:")
        for line in written.text.splitlines():
            device.say(f"    {line}".rstrip())
    for advice in keeper.advice():
        device.say(f"still to do: {advice}")
    device.say(f"undo: {undo}")


def _start(device: Device, keeper: Keeper) -> int:
    pid = device.runs()
    if pid is not None and keeper.trouble() is not None:
        device.say(
            f"an agent that was started by hand runs (process {pid}); kept it is from the next boot on"
        )
        return ExitCode.STOPPED
    keeper.start()
    pid = wait(device.runs, UP_S)
    if pid is None:
        device.say(f"the agent was started but does not run: {keeper.trouble() or 'its log says why'}")
        return FAILED
    device.say(f"the agent runs (process {pid}), now and after each boot")
    return ExitCode.STOPPED


def unkeep(device: Device) -> int:
    """Remove the keeper, and end what it keeps."""
    try:
        gone = [place for keeper in installed(device.place) for place in keeper.remove()]
    except KeepError as error:
        device.say(str(error))
        return FAILED
    for place in gone:
        device.say(f"removed: {place}")
    if not gone:
        device.say("nothing keeps this agent running")
    pid = device.runs()
    if pid is not None:
        device.say(f"an agent that was started by hand runs on (process {pid})")
    return ExitCode.STOPPED


# --- leave ------------------------------------------------------------------------------------------------------


def leave(device: Device, config: Callable[[], AgentConfig], run: Run, *, force: bool) -> int:
    """Leave the cluster and remove what the agent has here; the exit code.

    `config` is asked only where there is a gateway to tell; `force`: tell none. Raises ConfigError.
    """
    kept = installed(device.place)
    if not kept and not device.state_dir.exists():
        device.say(f"there is nothing to leave: no agent has files in {device.data_dir}")
        return ExitCode.STOPPED
    identity = device.identity()
    has_joined = device.has_joined()
    known = None if force or not has_joined else config()
    if not _stop(device, kept):
        return FAILED
    if known is not None and not _tell_gateway(device, known, run):
        for keeper in kept:
            with contextlib.suppress(KeepError):
                keeper.start()
        return FAILED
    try:
        _remove(device, kept)
    except (KeepError, OSError) as error:
        device.say(
            f"not all of it could be removed ({error}); put it right, then: {device.command('--leave')}"
        )
        return FAILED
    if force and identity is not None and has_joined:
        device.say(
            "the cluster still knows the device; on the server, or anywhere with a key: "
            f"DELETE /api/v1/devices/{identity.device_id}, or the dashboard's page of the device, Remove"
        )
    return ExitCode.STOPPED


def _stop(device: Device, kept: Sequence[Keeper]) -> bool:
    """End the agent of this directory, whoever started it; whether it has ended."""
    for keeper in kept:
        keeper.stop()
    pid = device.runs()
    if pid is None:
        return True
    device.say(f"stopping the agent (process {pid})")
    try:
        os.kill(pid, signal.SIGTERM)
    except ProcessLookupError:
        return True
    except PermissionError:
        device.say(f"process {pid} belongs to another user, who has to stop it")
        return False
    if wait(lambda: device.runs() is None, DOWN_S):
        return True
    device.say(f"process {pid} does not end; see why, or kill it, and try again")
    return False


def _tell_gateway(device: Device, config: AgentConfig, run: Run) -> bool:
    """Whether the cluster has no such device any more."""
    from retire_cluster.agent.purposes import Leaver, NotReached

    problem = "it was stopped"
    try:
        run(lambda: Leaver(config))
    except AgentExit as ending:
        if ending.code == ExitCode.STOPPED:
            device.say(ending.message)
            return True
        problem = ending.message
    except NotReached as error:
        problem = str(error)
    device.say(f"the cluster could not be told: {problem}")
    device.say(f"nothing was removed. To remove only what is here: {device.command('--leave', '--force')}")
    return False


def _remove(device: Device, kept: Sequence[Keeper]) -> None:
    for keeper in kept:
        for place in keeper.remove():
            device.say(f"removed: {place}")
    if device.state_dir.exists():
        shutil.rmtree(device.state_dir)
        device.say(f"removed: {device.state_dir}")
    with contextlib.suppress(OSError):  # a server's files may be there too
        device.data_dir.rmdir()
