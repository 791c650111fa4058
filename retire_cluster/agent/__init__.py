"""The node agent: joins a gateway, runs tasks, delivers their results. Standard library and websockets only."""
