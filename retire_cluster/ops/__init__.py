"""The cluster as a whole: its health and the gateway behind it."""

from collections.abc import Callable
from typing import Any

local_gateway: Callable[[], dict[str, Any]] | None = None
"""Set by a launcher whose own process runs the gateway: answers what `GET /node/health` would."""

serves_websocket = False
"""Set by a launcher whose own process serves `/ws`."""
