"""Stands between the agent and one task's processes: starts them, waits, and leaves none behind.

The agent holds the other end of this program's standard input. JSON there, after its length in four bytes, is the
job; later `term` or `kill` ends it, and so does the end of the stream: when the agent dies, nothing keeps running.
On Linux this process is the subreaper of all it started, so a descendant that made a session of its own is still
found among its children. Everything else is told by `ps`: there a double fork may escape, and nobody knows.

Used as: python -I -S shim.py STATUS_FD [REPORT_FD]. The last words, one JSON object, go to STATUS_FD.
"""

import contextlib
import json
import os
import resource
import select
import signal
import sys
import time
from collections.abc import Iterable, Mapping
from typing import Any

KILL_S = (
    5.0  # how long processes may resist SIGKILL, for a hanging disk perhaps, until they count as survivors
)
REPORT_FD = 3  # where a child of ours finds the way to tell more than its output
MARK = "RETIRE_CLUSTER_ATTEMPT"
MAX_SURVIVORS = 32
# That find nothing, one after the other: a process that is just becoming another program shows no environment.
_LOOKS = 3
_PR_SET_CHILD_SUBREAPER = 36
_NICE = 10  # a task burning all cores must not make the device look offline
_OOM_SCORE = "500"  # when memory ends, the kernel takes the task and not the agent


def parents() -> dict[int, int]:
    """The parent of every process there is, zombies left out."""
    if os.path.isdir("/proc/self"):
        found = (_linux_parent(entry) for entry in os.listdir("/proc") if entry.isdigit())
        return dict(pair for pair in found if pair is not None)
    import subprocess  # not where /proc is: it doubles the time to start

    listing = subprocess.run(
        ["/bin/ps", "-axo", "pid=,ppid=,stat="], capture_output=True, text=True, check=False
    )
    rows = (line.split() for line in listing.stdout.splitlines())
    return {int(row[0]): int(row[1]) for row in rows if len(row) == 3 and not row[2].startswith("Z")}


def _linux_parent(entry: str) -> tuple[int, int] | None:
    try:
        with open(f"/proc/{entry}/stat", "rb") as stream:
            fields = stream.read().rpartition(b")")[2].split()
    except OSError:  # ended meanwhile
        return None
    return None if fields[0] in (b"Z", b"X") else (int(entry), int(fields[1]))


def descendants(root: int) -> list[int]:
    """The living processes below one, without it."""
    children: dict[int, list[int]] = {}
    for pid, parent in parents().items():
        children.setdefault(parent, []).append(pid)
    found: list[int] = []
    queue = [root]
    while queue:
        below = children.get(queue.pop(), [])
        found += below
        queue += below
    return found


def marked(attempt: str) -> list[int]:
    """The processes that carry the attempt's mark in their environment, where that can be read."""
    wanted = f"{MARK}={attempt}".encode()
    found = []
    for pid in parents():
        with contextlib.suppress(OSError), open(f"/proc/{pid}/environ", "rb") as stream:
            if pid != os.getpid() and wanted in stream.read().split(b"\0"):
                found.append(pid)
    return found


def send(pids: Iterable[int], number: int) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def named(pid: int) -> str:
    """A process as a person would look for it."""
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as stream:
            return f"pid {pid} ({stream.read().strip()[:40]})"
    except OSError:
        return f"pid {pid}"


class Tree:
    """The processes of one task: the child and all that came from it."""

    def __init__(self, child: int) -> None:
        self.child = child
        self.status: int | None = None  # the child's, as waitpid tells it

    def reap(self) -> None:
        """Collect who has ended."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self.child:
                self.status = status

    def living(self) -> list[int]:
        self.reap()
        found = set(descendants(os.getpid()))
        if sys.platform != "linux":  # an orphan is no child of ours there; its group still tells
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.child, 0)
                found |= {pid for pid in parents() if _group(pid) == self.child}
        return sorted(found)

    def end(self, grace_s: float) -> list[str]:
        """End all: TERM, wait, KILL. Names who survived."""
        if grace_s > 0:
            living = self.living()
            send(living, signal.SIGTERM)
            send(living, signal.SIGCONT)  # a stopped process hears nothing
            self._until_gone(grace_s, listen=True)
        deadline = time.monotonic() + KILL_S
        while (living := self.living()) and time.monotonic() < deadline:
            self._freeze()
            send(self.living(), signal.SIGKILL)
            self._until_gone(0.2)
        return [named(pid) for pid in living[:MAX_SURVIVORS]]

    def _freeze(self) -> None:
        """Stop them all first: what forks faster than it is killed would never end."""
        stopped: set[int] = set()
        for _ in range(100):
            new = set(self.living()) - stopped
            if not new:
                return
            send(new, signal.SIGSTOP)
            stopped |= new

    def _until_gone(self, seconds: float, *, listen: bool = False) -> None:
        """Wait for their end; with `listen` no longer than until the agent says more, or is gone itself."""
        deadline = time.monotonic() + seconds
        while self.living() and (left := deadline - time.monotonic()) > 0:
            if select.select([0] if listen else [], [], [], min(0.02, left))[0]:
                return


def end_marked(attempt: str) -> list[str]:
    """End what carries the attempt's mark, after its shim was killed. Names who survived."""
    deadline, unseen, living = time.monotonic() + KILL_S, 0, marked(attempt)
    while unseen < _LOOKS and time.monotonic() < deadline:
        send(living, signal.SIGSTOP)  # what forks faster than it is killed would never end
        send(marked(attempt), signal.SIGKILL)
        select.select([], [], [], 0.02)
        living = marked(attempt)
        unseen = 0 if living else unseen + 1
    return [named(pid) for pid in living[:MAX_SURVIVORS]]


def _group(pid: int) -> int:
    try:
        return os.getpgid(pid)
    except OSError:
        return -1


def _limit(limits: Mapping[str, int]) -> None:
    """Resource limits by the last part of their names, soft and hard."""
    for name, value in limits.items():
        number = getattr(resource, f"RLIMIT_{name}", None)
        if number is not None:
            hard = resource.getrlimit(number)[1]
            wanted = value if hard == resource.RLIM_INFINITY else min(value, hard)
            with contextlib.suppress(
                OSError, ValueError
            ):  # a platform that knows the name but takes no value
                resource.setrlimit(number, (wanted, wanted))


def _become(job: Mapping[str, Any], stdin: int, report: int | None) -> None:
    """In the forked child: turn into the job's program. Raises OSError when that cannot be."""
    os.setsid()
    with contextlib.suppress(OSError):
        os.nice(_NICE)
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w", encoding="ascii") as stream:
        stream.write(_OOM_SCORE)
    os.dup2(stdin, 0)
    if report is not None:
        os.dup2(report, REPORT_FD, inheritable=True)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGPIPE, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    signal.set_wakeup_fd(-1)
    os.chdir(job["cwd"])
    _limit({"CORE": 0, **job["limits"]})
    os.execvpe(job["argv"][0], job["argv"], job["env"])  # noqa: S606 - running what was asked for is its purpose


def _start(job: Mapping[str, Any], report: int | None) -> tuple[int, int, str | None]:
    """The child's pid, the way to its standard input, and why it could not start."""
    theirs, ours = os.pipe()
    said, say = os.pipe()  # closed by a successful exec
    pid = os.fork()
    if pid == 0:
        try:
            # No number of ours may be taken for the report's before it is moved there.
            if report is not None:
                report = os.dup(report) if report == REPORT_FD else report
            say = _above(say)
            theirs = _above(theirs)
            _become(job, theirs, report)
        except OSError as error:
            os.write(say, (error.strerror or str(error)).encode())
        finally:
            os._exit(127)
    os.close(theirs)
    os.close(say)
    ready, _, _ = select.select([said, 0], [], [])
    if said not in ready:  # told to end before it began; the word is still there to be read
        os.kill(pid, signal.SIGKILL)
    with os.fdopen(said, "rb") as stream:
        failure = stream.read()
    return pid, ours, failure.decode(errors="replace") or None


def _above(fd: int) -> int:
    """The same file under a number the report's cannot overwrite."""
    if fd != REPORT_FD:
        return fd
    moved = os.dup(fd)
    os.set_inheritable(moved, False)
    return moved


def _await(tree: Tree, feed: int, text: bytes, wake: int) -> str:
    """Feed the child and wait for its end, or for a word of the agent: `ended`, `term` or `kill`."""
    os.set_blocking(feed, False)
    feeding = bool(text)
    if not feeding:
        os.close(feed)
    while True:
        tree.reap()
        if tree.status is not None:
            return "ended"
        readable, writable, _ = select.select([0, wake], [feed] if feeding else [], [])
        if writable:
            try:
                text = text[os.write(feed, text[:65_536]) :]
            except BrokenPipeError:  # it does not want to read
                text = b""
            if not text:
                os.close(feed)
                feeding = False
        if 0 in readable:
            return "term" if os.read(0, 64).startswith(b"term") else "kill"
        if wake in readable and any(number != signal.SIGCHLD for number in os.read(wake, 64)):
            return "term"


def _read_job() -> dict[str, Any]:
    """The first thing on standard input, read without taking anything of the next."""
    size = int.from_bytes(_read_exactly(4), "big")
    job: dict[str, Any] = json.loads(_read_exactly(size))
    return job


def _read_exactly(size: int) -> bytes:
    parts = b""
    while len(parts) < size:
        part = os.read(0, size - len(parts))
        if not part:
            sys.exit(0)  # the agent is gone before it said what to do
        parts += part
    return parts


def main() -> None:
    status_fd = int(sys.argv[1])
    report = int(sys.argv[2]) if len(sys.argv) > 2 else None
    for fd in (status_fd, report):
        if fd is not None:
            os.set_inheritable(fd, False)
    wake, woken = os.pipe()
    os.set_blocking(woken, False)
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    if sys.platform == "linux":
        with contextlib.suppress(ImportError, OSError, AttributeError):
            import ctypes

            ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    job = _read_job()
    pid, feed, failure = _start(job, report)
    if report is not None:
        os.close(report)
    tree = Tree(pid)
    word = "ended" if failure else _await(tree, feed, job["stdin"].encode(), wake)
    grace_s = {"ended": 0.0, "kill": 0.0, "term": float(job["grace_s"])}[word]
    survivors = tree.end(grace_s)
    tree.reap()
    code = None if tree.status is None else os.waitstatus_to_exitcode(tree.status)
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    last = {
        "code": code,
        "survivors": survivors,
        "failure": failure,
        "cpu_s": usage.ru_utime + usage.ru_stime,
    }
    with contextlib.suppress(OSError):  # nobody may be there to hear it
        os.write(status_fd, json.dumps(last).encode())


if __name__ == "__main__":
    main()
