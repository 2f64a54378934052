"""Facts that this service itself writes have a source of their own. Nothing changes in the database."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("bridge", "0010_unclear_and_counted_events")]

    operations = [
        migrations.AlterField(
            model_name="event",
            name="source",
            field=models.TextField(
                choices=[
                    ("pulsar", "Pulsar"),
                    ("operator", "operator"),
                    ("compensation", "compensation"),
                    ("sagas", "this service"),
                ],
                db_collation="C",
                verbose_name="source",
            ),
        ),
    ]
