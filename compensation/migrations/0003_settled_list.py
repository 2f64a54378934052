"""The admin's list of commands by a status in which they rest: by id, as everything that nobody hurries with."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("compensation", "0002_hot_tables")]

    operations = [
        migrations.AddIndex(
            model_name="command",
            index=models.Index(
                fields=["status", "id"],
                name="command_settled",
                condition=models.Q(status__in=("confirmed", "skipped", "withdrawn")),
            ),
        ),
    ]
