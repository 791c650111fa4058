"""The work of a torture task: it writes down, outside the cluster, that it runs.

Used as: python -I -S witness.py FILE NONCE SECONDS EXIT_CODE. One line a sign: attempt, pid, time, word.
"""

import os
import sys
import time

SIGN_S = 0.2  # between two signs of life
MARK = "RETIRE_CLUSTER_ATTEMPT"  # the agent names the attempt in the environment of its processes


def main() -> int:
    """Sign `start`, then `alive` again and again, then `end`; say nonce and attempt where a result quotes it."""
    file, nonce, seconds, code = sys.argv[1:5]
    attempt = os.environ.get(MARK, "unknown")
    over = time.monotonic() + float(seconds)
    _sign(file, attempt, "start")
    while (left := over - time.monotonic()) > 0:
        time.sleep(min(left, SIGN_S))
        _sign(file, attempt, "alive")
    print(f"{nonce} {attempt}", flush=True)
    _sign(file, attempt, "end")
    return int(code)


def _sign(file: str, attempt: str, word: str) -> None:
    # One write to a file opened for appending: lines of several processes never mix.
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.write(descriptor, f"{attempt} {os.getpid()} {time.time():.6f} {word}\n".encode())
    finally:
        os.close(descriptor)


if __name__ == "__main__":
    sys.exit(main())
