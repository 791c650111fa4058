"""Compares this device's clock with the gateway's. The agent itself relies on neither."""

import http.client
import ssl
import time
from email.utils import parsedate_to_datetime

from retire_cluster.agent.address import Address

CLOCK_TIMEOUT_S = 5.0


def clock_ahead(address: Address, *, tls: bool) -> tuple[float | None, float]:
    """(seconds the gateway's clock is ahead of ours, how far off that may be), from the date of an HTTP answer.

    The certificate was judged before; here it does not matter who tells the time.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    connection = (
        http.client.HTTPSConnection(address.host, address.port, timeout=CLOCK_TIMEOUT_S, context=context)
        if tls
        else http.client.HTTPConnection(address.host, address.port, timeout=CLOCK_TIMEOUT_S)
    )
    try:
        connection.connect()
        asked = time.monotonic()
        connection.request("GET", "/node/health")
        date = connection.getresponse().headers["Date"]
        now, took = time.time(), time.monotonic() - asked
    except (OSError, http.client.HTTPException):
        return None, 0.0
    finally:
        connection.close()
    return difference(date, now=now, took=took)


def difference(date: str | None, *, now: float, took: float) -> tuple[float | None, float]:
    """`now` is our clock when the answer was here, `took` the round trip.

    The date leaves out fractions of a second, and servers renew it once a second.
    """
    try:
        told = parsedate_to_datetime(date or "").timestamp()
    except ValueError:
        return None, 0.0
    return told - (now - took / 2), took / 2 + 2.0
