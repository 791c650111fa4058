from typing import Any

from django.db import migrations

# A row of a device's presence is written again every 15 seconds. With half of each page free the new version stays on
# its page and no index is touched; what is moved out of line (the history) is vacuumed after a fifth of the usual.
PRESENCE = (
    "fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 500, "
    "toast.autovacuum_vacuum_scale_factor = 0.05, toast.autovacuum_vacuum_threshold = 500"
)


def set_storage(apps: Any, schema_editor: Any) -> None:
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute(f"ALTER TABLE devices_presence SET ({PRESENCE})")


def reset_storage(apps: Any, schema_editor: Any) -> None:
    if schema_editor.connection.vendor == "postgresql":
        names = ", ".join(item.split(" = ")[0] for item in PRESENCE.split(", "))
        schema_editor.execute(f"ALTER TABLE devices_presence RESET ({names})")


class Migration(migrations.Migration):
    """How PostgreSQL keeps a table that changes all the time; nothing on SQLite."""

    dependencies = [
        ("devices", "0007_metrics_samples"),
    ]

    operations = [migrations.RunPython(set_storage, reset_storage)]
