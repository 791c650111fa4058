"""One module a scenario, each with NUMBER, TITLE and `run(bench)`."""
