"""What other parts of the server do when something happens to a device."""

from django.dispatch import Signal

leaving = Signal()
"""A device is being removed for good; sent inside the transaction, before the device's row is touched.

Arguments: `device_id`, `reason` (a sentence for the record) and `now`. A receiver that raises keeps the device.
"""
