"""The node agent: joins a gateway, runs tasks, delivers their results. Standard library and websockets only."""

from retire_cluster.agent.custom import Context, handler

__all__ = ["Context", "handler"]
