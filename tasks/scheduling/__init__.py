"""Placement: pure functions over plain data. No Django, no clock, no randomness."""
