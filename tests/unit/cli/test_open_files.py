"""A server's process: a thousand devices are a thousand open files."""

import resource

import pytest

from retire_cluster.cli import running


@pytest.mark.parametrize(
    ("soft", "hard", "becomes"),
    [
        (1024, 4096, (4096, 4096)),
        (1024, 1_048_576, (65_536, 1_048_576)),
        (1024, resource.RLIM_INFINITY, (65_536, resource.RLIM_INFINITY)),
        (200_000, 1_048_576, None),
        (resource.RLIM_INFINITY, resource.RLIM_INFINITY, None),
    ],
)
def test_a_server_takes_what_it_may_have(
    soft: int, hard: int, becomes: tuple[int, int] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda which: (soft, hard))
    monkeypatch.setattr(resource, "setrlimit", lambda which, limits: made.append(limits))
    running._allow_connections()
    assert made == ([becomes] if becomes else [])
