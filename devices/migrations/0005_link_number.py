"""The newest link number a device confirmed: older ones come from copies of its data."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("devices", "0004_paused_reason")]

    operations = [
        migrations.AddField(
            model_name="device",
            name="link_no",
            field=models.PositiveBigIntegerField(
                default=0,
                help_text="The newest session the device confirmed to have stored; 0 before the first",
            ),
        ),
    ]
