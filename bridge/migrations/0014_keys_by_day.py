"""The unique keys of events by day, and the index of their message ids, built beside the traffic.

The key of the earlier release stays until 0015, because the bridges and workers of that release need it to insert.
"""

from django.db import migrations, models

from bridge.migrations._concurrently import build

DAY = models.UniqueConstraint(
    fields=["day", "event_id"], condition=models.Q(day__isnull=False), name="bridge_event_once_a_day"
)
NO_DAY = models.UniqueConstraint(
    fields=["source", "event_id"], condition=models.Q(day__isnull=True), name="bridge_event_once_no_day"
)
MESSAGE = models.Index(
    fields=["message_id"],
    opclasses=["text_pattern_ops"],
    condition=~models.Q(message_id=""),
    name="bridge_event_message",
)


class Migration(migrations.Migration):
    atomic = False  # CONCURRENTLY wants no transaction
    dependencies = [("bridge", "0013_fill_day")]

    operations = [
        migrations.SeparateDatabaseAndState(
            build(DAY.name, "bridge_event (day, event_id) WHERE day IS NOT NULL", unique=True),
            [migrations.AddConstraint(model_name="event", constraint=DAY)],
        ),
        migrations.SeparateDatabaseAndState(
            build(NO_DAY.name, "bridge_event (source, event_id) WHERE day IS NULL", unique=True),
            [migrations.AddConstraint(model_name="event", constraint=NO_DAY)],
        ),
        migrations.SeparateDatabaseAndState(
            build(MESSAGE.name, "bridge_event (message_id text_pattern_ops) WHERE message_id <> ''"),
            [migrations.AddIndex(model_name="event", index=MESSAGE)],
        ),
    ]
