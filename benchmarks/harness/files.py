"""Many connections need many open files: the soft limit is 1024 on most systems."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def allowed(wanted: int) -> Iterator[None]:
    """As many open files as may be, for this process and those it starts. Raises RuntimeError on too few."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < wanted:
        raise RuntimeError(f"this needs {wanted} open files and {hard} are allowed: raise `ulimit -Hn`")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
