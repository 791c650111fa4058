"""Whether the internet can be reached: a TCP connection to any one of a few addresses, nothing sent."""

import asyncio
import contextlib
from collections.abc import Sequence

from retire_cluster.agent.address import Address

TIMEOUT_S = 3.0


async def has_internet(addresses: Sequence[Address], timeout_s: float = TIMEOUT_S) -> bool | None:
    """True as soon as one answers, False when none does in time. None without any address to ask."""
    if not addresses:
        return None
    tries = [asyncio.ensure_future(_reach(address)) for address in addresses]
    try:
        for answer in asyncio.as_completed(tries, timeout=timeout_s):
            if await answer:
                return True
    except TimeoutError:
        return False
    finally:
        for attempt in tries:
            attempt.cancel()
        await asyncio.gather(*tries, return_exceptions=True)
    return False


async def _reach(address: Address) -> bool:
    try:
        _, writer = await asyncio.open_connection(address.host, address.port)
    except OSError:
        return False
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return True
