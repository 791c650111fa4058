from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("tasks", "0006_what_people_look_at")]

    operations = [
        migrations.AddIndex(
            model_name="task",
            index=models.Index(
                condition=models.Q(("finished_at__isnull", False)),
                fields=["-finished_at"],
                name="task_finished",
            ),
        ),
    ]
