"""Performance, measured: ten scenarios, ours beside its peers in one run. `python -m benchmarks --help`."""
