from django.db import migrations, models


class Migration(migrations.Migration):
    """A list of tasks walks an index in its order, whichever of its filters is given; see decision 10."""

    dependencies = [
        ("tasks", "0003_live_output"),
    ]

    operations = [
        migrations.AddIndex(
            model_name="task",
            index=models.Index(fields=["status", "-created_at", "-id", "priority"], name="task_by_status"),
        ),
        migrations.AddIndex(
            model_name="task",
            index=models.Index(fields=["priority", "-created_at", "-id"], name="task_by_priority"),
        ),
        migrations.AddIndex(
            model_name="task",
            index=models.Index(fields=["task_type", "-created_at", "-id"], name="task_by_type"),
        ),
        migrations.AddIndex(
            model_name="task",
            index=models.Index(fields=["device_id", "-created_at", "-id"], name="task_by_device"),
        ),
    ]
