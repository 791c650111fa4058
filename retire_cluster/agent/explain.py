"""Failures of the network in words a person can act on. Pure."""

import errno
import os
import socket
import ssl

from websockets.exceptions import InvalidStatus


def explain_refusal(error: Exception) -> str:
    """A WebSocket handshake that something else answered, in words a person can act on."""
    if isinstance(error, InvalidStatus):
        status = error.response.status_code
        if status == 503:
            return "the gateway is not ready yet (HTTP 503)"
        return f"what answers there is no Retire-Cluster gateway (HTTP {status}); check host and port"
    return (
        "what answers there does not speak our protocol; check host and port, "
        "and that the token is the one this gateway prints (TLS or plain follows from it)"
    )


def explain(error: Exception) -> str:
    """A failed connection in words a person can act on."""
    if isinstance(error, ConnectionRefusedError) or _all_refused(error):
        return "connection refused: nothing listens there; is the gateway running?"
    if isinstance(error, socket.gaierror):
        return f"the name cannot be resolved ({error.strerror}); check the spelling, or use the address"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the gateway's certificate is not valid for --ca: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        reason = getattr(error, "reason", None) or error
        return f"TLS failed ({reason}); does the gateway speak plain? Then use the token it prints"
    if isinstance(error, ConnectionResetError):
        return "the gateway reset the connection"
    if isinstance(error, OSError):
        reason = os.strerror(error.errno) if error.errno else error
        return f"cannot connect ({reason}); check the address and the network"
    return f"the connection failed ({error})"


def _all_refused(error: Exception) -> bool:
    """asyncio sums up several addresses of one name as text only."""
    text = str(error)
    failures = text.count("[Errno ")
    return text.startswith("Multiple exceptions") and failures == text.count(f"[Errno {errno.ECONNREFUSED}]")
