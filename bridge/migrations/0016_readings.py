"""An event may concern sagas of several types: one row for each of them, with the key and the entity that it has there.

A new table, so nothing is rewritten or filled, and no table in use gets a column or an index. An earlier release beside
this schema works as before: a row of the queue with the id of a reading joins no event there, so it waits for this
release; and the foreign key refuses to delete an event that another saga type still reads.
"""

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("bridge", "0015_drop_random_keys")]

    operations = [
        migrations.CreateModel(
            name="EventReading",
            fields=[
                ("id", models.BigIntegerField(primary_key=True, serialize=False)),
                ("stream", models.TextField(db_collation="C", verbose_name="saga type")),
                ("key", models.TextField(db_collation="C", verbose_name="key")),
                ("entity", models.TextField(db_collation="C", verbose_name="entity")),
                (
                    "event",
                    models.ForeignKey(
                        db_column="event",
                        db_index=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="readings",
                        to="bridge.event",
                    ),
                ),
            ],
            options={
                "verbose_name": "reading of an event",
                "verbose_name_plural": "readings of events",
                "db_table": "bridge_event_reading",
                "abstract": False,
                "base_manager_name": "objects",
                "indexes": [models.Index(fields=["stream", "key"], name="bridge_event_reading_key")],
                "constraints": [models.UniqueConstraint(fields=("event", "stream"), name="bridge_event_reading_once")],
            },
        ),
        migrations.RunSQL(
            "CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON bridge_event_reading"
            " FOR EACH STATEMENT EXECUTE FUNCTION bridge_append_only()",
            "DROP TRIGGER append_only ON bridge_event_reading",
        ),
    ]
