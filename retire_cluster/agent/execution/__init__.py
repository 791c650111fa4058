"""Running tasks: who starts and ends them, and one module per kind of work."""
