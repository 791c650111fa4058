"""What happened, in order: recorded with each change, followed by `/ws`."""
