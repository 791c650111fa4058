"""What a join line runs once the archive has the hash it names: keeps the archive and starts the agent from it.

It runs in the process of the line, where `b` is the archive and sys.argv[1:] are the agent's options. Old versions
of Python have to get through it, to be told by the agent that they are too old.
"""

import hashlib
import os
import shlex
import sys


def data_dir(options: "list[str]") -> str:
    """Where the agent will keep its files: the flag, the variable, else in the home directory."""
    given = ""
    for option, following in zip(options, [*options[1:], ""]):  # noqa: B905 `strict` is younger than some readers
        if option == "--data-dir":
            given = following
        elif option.startswith("--data-dir="):
            given = option.partition("=")[2]
    wanted = given or os.environ.get("RETIRE_CLUSTER_DATA_DIR", "") or "~/.retire-cluster"
    return os.path.abspath(os.path.expanduser(wanted))


def keep(content: bytes, place: str) -> str:
    """Store the archive under a name of its own, since an agent may be running from another one. Its path."""
    file = os.path.join(place, "agent", "agent-" + hashlib.sha256(content).hexdigest()[:16] + ".pyz")
    draft = file + "." + str(os.getpid())
    try:
        os.makedirs(place, 0o700, exist_ok=True)
        os.makedirs(os.path.dirname(file), 0o700, exist_ok=True)
        with open(draft, "wb") as stream:
            stream.write(content)
        os.replace(draft, file)
    except OSError as error:
        reason = error.strerror or str(error)
        sys.exit("cannot keep the agent in " + place + ": " + reason + "; add --data-dir DIR to the line")
    return file


def start(content: bytes) -> None:
    """Become the agent."""
    sys.excepthook = sys.__excepthook__  # the line's own speaks of fetching
    options = sys.argv[1:]
    file = keep(content, data_dir(options))
    again = " ".join(map(shlex.quote, ["python3", file, *options]))
    if sys.version_info[:2] >= (3, 11):  # noqa: UP036 else the agent only says that it needs a newer one
        print("The agent is kept on this device; it starts again with: " + again, file=sys.stderr, flush=True)
    os.execv(sys.executable, [sys.executable, file, *options])  # noqa: S606 no shell is wanted


if __name__ == "__main__":
    start(globals()["b"])
