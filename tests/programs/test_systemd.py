"""The unit that `retire-cluster-worker keep` writes, judged by systemd."""

import shutil
import subprocess
from pathlib import Path

from retire_cluster.agent.keeping import texts


def test_systemd_itself_finds_no_fault_with_the_unit(tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    assert analyze, "this test has systemd judge a unit: apt install systemd"
    file = tmp_path / "retire-cluster-worker.service"
    program = tmp_path / "a program"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    good = texts.unit([str(program), "--tags", "50%,a$b"], directory=str(tmp_path), path="/bin", undo="undo")
    for text, verdict in ((good, ""), (good.replace("ExecStart=", "ExecStart=no/such "), "executable")):
        file.write_text(text)
        done = subprocess.run(
            [analyze, "verify", "--recursive-errors=no", str(file)],
            capture_output=True,
            text=True,
            check=False,
        )
        about_it = [line for line in done.stderr.splitlines() if file.name in line]
        assert bool(about_it) is bool(verdict), done.stderr
        assert verdict in "".join(about_it)
