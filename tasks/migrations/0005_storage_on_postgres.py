from typing import Any

from django.db import migrations

# By default a table of a million finished tasks is vacuumed after 200,000 changes, while the queue is its newest few
# rows: dead versions would pile up exactly where every claim looks. A hundredth instead, and statistics to match.
CHANGING = (
    "autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 1000, "
    "autovacuum_analyze_scale_factor = 0.02, autovacuum_analyze_threshold = 1000"
)
STORAGE = {
    "tasks_task": CHANGING,
    "tasks_attempt": CHANGING,
    # A few rows that every commit adds to.
    "tasks_tally": "autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000",
}


def set_storage(apps: Any, schema_editor: Any) -> None:
    if schema_editor.connection.vendor == "postgresql":
        for table, parameters in STORAGE.items():
            schema_editor.execute(f"ALTER TABLE {table} SET ({parameters})")


def reset_storage(apps: Any, schema_editor: Any) -> None:
    if schema_editor.connection.vendor == "postgresql":
        for table, parameters in STORAGE.items():
            names = ", ".join(item.split(" = ")[0] for item in parameters.split(", "))
            schema_editor.execute(f"ALTER TABLE {table} RESET ({names})")


class Migration(migrations.Migration):
    """How PostgreSQL keeps tables that change all the time; nothing on SQLite."""

    dependencies = [
        ("tasks", "0004_list_indexes"),
    ]

    operations = [migrations.RunPython(set_storage, reset_storage)]
