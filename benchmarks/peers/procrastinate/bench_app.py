"""The procrastinate application."""

import os

from procrastinate import App, PsycopgConnector

app = App(connector=PsycopgConnector(conninfo=os.environ["BENCH_POSTGRES"]))


@app.task(name="noop")
async def noop(number: int) -> int:
    return number
