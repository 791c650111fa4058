"""What the workers run."""


def noop(number: int) -> int:
    return number
