"""Virtual environments of the peers: made once, kept in the cache directory, made anew when the pins change."""

import hashlib
import subprocess
import sys
from pathlib import Path

PEERS = Path(__file__).parents[1] / "peers"


class NotInstallable(RuntimeError):
    """The peer cannot be installed on this machine; the message holds pip's last words."""


def python_of(peer: str, cache: Path) -> Path:
    """The interpreter of the peer's environment, installed if need be. Raises NotInstallable."""
    requirements = PEERS / peer / "requirements.txt"
    digest = hashlib.sha256(requirements.read_bytes() + sys.version.encode()).hexdigest()[:12]
    home = cache / f"{peer}-{digest}"
    interpreter, done = home / "bin" / "python", home / "installed"
    if not done.exists():
        _run([sys.executable, "-m", "venv", "--clear", str(home)])
        pip = [str(interpreter), "-m", "pip", "--disable-pip-version-check", "-qq", "install"]
        _run([*pip, "-r", str(requirements)])
        done.touch()
    return interpreter


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise NotInstallable((done.stderr or done.stdout).strip()[-400:])
