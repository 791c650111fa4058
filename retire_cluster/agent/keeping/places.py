"""Where keepers write. Apart from the keepers: every agent looks there when it starts, and must stay small."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from retire_cluster.agent.config import DEFAULT_DATA_DIR
from retire_cluster.agent.host import Host

BASE = "retire-cluster-worker"
CALL_S = 50.0  # for systemctl and the like: stopping a unit waits for its agent


@dataclass(frozen=True, slots=True)
class Place:
    """Whose agent it is, and where keepers write."""

    data_dir: Path
    home: Path
    host: Host

    @classmethod
    def here(cls, data_dir: Path) -> "Place":
        """On this machine, for this user."""
        return cls(data_dir, Path(os.path.expanduser("~")), Host())

    @property
    def name(self) -> str:
        """Of the unit and the like: another data directory is another agent beside this one."""
        if self.data_dir == Path(DEFAULT_DATA_DIR.replace("~", str(self.home), 1)):
            return BASE
        return f"{BASE}-{hashlib.sha256(os.fsencode(self.data_dir)).hexdigest()[:8]}"

    @property
    def script(self) -> Path:
        """The loop that cron or Termux:Boot starts."""
        return self.data_dir / "agent" / "keep.sh"

    @property
    def unit(self) -> Path:
        """Of the user's systemd."""
        config = Path(self.host.environ.get("XDG_CONFIG_HOME") or self.home / ".config")
        return config / "systemd" / "user" / f"{self.name}.service"

    @property
    def boot_script(self) -> Path:
        """Of Termux:Boot."""
        return self.home / ".termux" / "boot" / self.name

    def has(self, program: str) -> bool:
        return self.host.find_program(program) is not None

    def call(self, *words: str, said: str | None = None) -> tuple[int, str]:
        """(exit code, what it printed) of a helper program; 127 when it cannot be started."""
        import subprocess  # the agent itself never needs it

        program = self.host.find_program(words[0])
        if program is None:
            return 127, f"there is no {words[0]}"
        try:
            done = subprocess.run(
                [program, *words[1:]],
                input=said,
                capture_output=True,
                text=True,
                timeout=CALL_S,
                check=False,
                env=dict(self.host.environ),
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return 127, str(error)
        return done.returncode, done.stdout if done.returncode == 0 else done.stderr.strip() or done.stdout
