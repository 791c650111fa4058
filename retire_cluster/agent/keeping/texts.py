"""What is written to keep an agent running: a systemd unit, a shell loop, a cron line, a boot script. Pure."""

import shlex
from collections.abc import Sequence

from retire_cluster.agent.errors import ExitCode

# After these an agent started again would only end in the same way; 0 is a stop somebody wanted.
FINAL = tuple(code.value for code in ExitCode if code)
FIRST_RETRY_S, LONGEST_RETRY_S = 2, 300
STABLE_S = 60  # an agent that ran so long begins with the shortest pause again
STOP_S = 30  # for an agent to end its tasks and say goodbye


def unit(command: Sequence[str], *, directory: str, path: str, undo: str) -> str:
    """A systemd user unit."""
    words = (_quoted(word).replace("$", "$$") for word in command)  # ExecStart= expands variables too
    return f"""\
# Keeps this device's agent running. Undo: {undo}
[Unit]
Description=Retire-Cluster agent
StartLimitIntervalSec=0

[Service]
ExecStart={" ".join(words)}
Environment={_quoted(f"PATH={path}")}
WorkingDirectory={directory.replace("%", "%%")}
Restart=on-failure
RestartSec=5
RestartPreventExitStatus={" ".join(map(str, FINAL))}
KillMode=mixed
TimeoutStopSec={STOP_S}

[Install]
WantedBy=default.target
"""


def _quoted(word: str) -> str:
    """One word of a setting: systemd expands % also within quotes."""
    for plain, escaped in (("\\", "\\\\"), ('"', '\\"'), ("%", "%%")):
        word = word.replace(plain, escaped)
    return f'"{word}"'


def loop(command: Sequence[str], *, directory: str, path: str, undo: str) -> str:
    """A shell script that starts the agent again, more and more seldom, until it ends for good or is removed."""
    return f"""\
#!/bin/sh
# Keeps this device's agent running. Undo: {undo}
export PATH={shlex.quote(path)}
cd {shlex.quote(directory)} || exit 1
child=
trap 'kill -TERM "$child"; wait "$child"; exit 0' TERM INT HUP
delay={FIRST_RETRY_S}
while [ -e "$0" ]; do
    began=$(date +%s)
    {shlex.join(command)} &
    child=$!
    wait "$child"
    code=$?
    case $code in {"|".join(map(str, (0, *FINAL)))}) exit "$code" ;; esac
    [ $(($(date +%s) - began)) -lt {STABLE_S} ] || delay={FIRST_RETRY_S}
    sleep "$delay" &
    child=$!
    wait "$child"
    delay=$((delay * 2))
    [ "$delay" -le {LONGEST_RETRY_S} ] || delay={LONGEST_RETRY_S}
done
"""


def cron_line(script: str, mark: str) -> str:
    """A line of a crontab that starts the loop at boot; cron takes % for a line end."""
    return f"@reboot /bin/sh {shlex.quote(script)} >/dev/null 2>&1 {mark}".replace("%", "\\%")


def boot_script(script: str, *, shell: str, undo: str) -> str:
    """What Termux:Boot runs. Without the wake lock Android suspends the processor with the screen."""
    return f"""\
#!{shell}
# Keeps this device's agent running. Undo: {undo}
termux-wake-lock
exec {shlex.quote(shell)} {shlex.quote(script)} </dev/null >/dev/null 2>&1
"""
