"""Other systems, each in a virtual environment of its own.

A peer is a directory with `requirements.txt` and `client.py`, which the environment's Python runs. The client obeys
lines of JSON (driver.py) and imports nothing of ours. A peer that is a server of its own has no client.py.
"""
