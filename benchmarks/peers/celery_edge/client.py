"""What the scenarios about starts, idleness and crashes ask of Celery."""

import celery
from app import echo, witness
from driver import serve


def version():
    return {"version": celery.__version__}


def first_result(timeout_s):
    """Submit one task and wait for its result; a worker need not be there yet."""
    return {"value": echo.delay("hello").get(timeout=timeout_s, interval=0.005)}


def send_witness(path, seconds):
    witness.delay(path, seconds)
    return {}


serve({"version": version, "first_result": first_result, "send_witness": send_witness})
