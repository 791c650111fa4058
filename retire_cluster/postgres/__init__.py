"""Django's PostgreSQL backend, with an end to every wait for a server that is away or hangs."""
