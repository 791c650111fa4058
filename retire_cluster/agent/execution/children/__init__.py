"""Programs the agent runs in processes of their own. Standard library only: they start with `-I -S`."""
