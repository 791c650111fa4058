"""What a relay says of the gateway's health."""

from typing import Any

import pytest

from retire_cluster.relay.health import understood

PLACE = {"host": "192.0.2.7", "port": 8080, "tls": True}
WELL = {"api": "healthy", "cluster_server": "healthy", "task_scheduler": "healthy"}


def test_the_gateway_s_own_words_are_passed_on_with_the_place() -> None:
    services = {"database": {"status": "degraded"}, "gateway": {"status": "healthy", "devices_connected": 3}}
    found = understood(PLACE, {"components": {**WELL, "api": "degraded"}, "services": services})
    assert found.status == "degraded"
    assert found.components == {**WELL, "api": "degraded"}
    assert found.services["database"] == {"status": "degraded"}
    assert found.services["gateway"] == {"status": "healthy", "devices_connected": 3, **PLACE}
    assert found.reason == ""


@pytest.mark.parametrize(
    "said",
    [
        None,
        [],
        "healthy",
        {},
        {"components": None},
        {"components": {"api": "healthy"}},
        {"components": {**WELL, "api": "perhaps"}},
        {"components": {**WELL, "api": ["healthy"]}},
    ],
)
def test_what_is_no_health_is_no_gateway(said: Any) -> None:
    found = understood(PLACE, said)
    assert (found.status, set(found.components)) == ("unhealthy", set(WELL))
    assert "is no gateway of a cluster" in found.reason


def test_services_in_another_form_do_no_harm() -> None:
    assert understood(PLACE, {"components": WELL, "services": [1]}).services == {
        "gateway": {"status": "healthy", **PLACE}
    }
    assert understood(PLACE, {"components": WELL, "services": {"gateway": 1}}).status == "healthy"
