"""Asking the gateway how it is: in this process by a call, elsewhere over its port."""

import http.client
import json
import ssl
from dataclasses import dataclass, field
from typing import Any

from django.conf import settings

from retire_cluster import ops
from retire_cluster.ops.asking import Question

TIMEOUT_S = 1.0
MAX_ANSWER_BYTES = 64 * 1024
MAX_REASON = 500  # characters
STATES = ("healthy", "degraded", "unhealthy")


@dataclass(frozen=True, slots=True)
class GatewayFacts:
    """What the gateway said of itself, or why it said nothing."""

    status: str
    scheduler: str
    reason: str = ""
    uptime_s: float | None = None
    details: dict[str, Any] = field(default_factory=dict)


def gateway() -> GatewayFacts:
    """The gateway's state, at most two seconds old."""
    if ops.local_gateway is not None:
        return _facts(ops.local_gateway())
    _question.put()
    late = f"the gateway on {settings.CLUSTER_HOST}:{settings.CLUSTER_PORT} takes too long to answer"
    return _question.answer() or _silent(late)


def forget_cached() -> None:
    """Ask anew at the next call."""
    _question.forget()


def _ask(host: str, port: int) -> GatewayFacts:
    """Plain first, then TLS: a gateway speaks one of them and ends the other at once."""
    reason = ""
    for connection in (
        http.client.HTTPConnection(host, port, timeout=TIMEOUT_S),
        _tls_connection(host, port),
    ):
        try:
            connection.request("GET", "/node/health", headers={"Accept": "application/json"})
            return _facts(json.loads(connection.getresponse().read(MAX_ANSWER_BYTES)))
        except ConnectionRefusedError:
            return _silent(f"nothing listens on {host}:{port}; start retire-cluster-main there")
        except (OSError, http.client.HTTPException, ValueError) as error:
            reason = f"no gateway answers on {host}:{port}: {error or type(error).__name__}"
        finally:
            connection.close()
    return _silent(reason)


def _tls_connection(host: str, port: int) -> http.client.HTTPSConnection:
    # The gateway's certificate is its own. Only public facts are read here, and nothing secret is sent.
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return http.client.HTTPSConnection(host, port, timeout=TIMEOUT_S, context=context)


def _silent(reason: str) -> GatewayFacts:
    return GatewayFacts("unhealthy", "unhealthy", reason)


def _facts(answer: Any) -> GatewayFacts:
    if not isinstance(answer, dict) or answer.get("status") not in STATES:
        return _silent("something that is not a gateway answers on the cluster port")
    uptime, reason = answer.get("uptime_s"), answer.get("reason")
    return GatewayFacts(
        reason=reason[:MAX_REASON] if isinstance(reason, str) else "",
        status=answer["status"],
        scheduler=answer["scheduler"] if answer.get("scheduler") in STATES else "unhealthy",
        uptime_s=float(uptime) if isinstance(uptime, (int, float)) else None,
        details={key: answer[key] for key in ("devices_connected",) if isinstance(answer.get(key), int)},
    )


_question = Question("gateway", lambda: _ask(settings.CLUSTER_HOST, settings.CLUSTER_PORT))
