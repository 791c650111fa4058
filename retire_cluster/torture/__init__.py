"""Proves the delivery guarantees on a scratch cluster of real processes: `manage.py torture`."""
