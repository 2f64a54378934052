"""What the planner is to think of events by key, whatever sagas there were when its statistics were taken.

Of a moment at which all events were one large saga's they say that a key's events are the whole log.
"""

from django.db import migrations

# column → distinct values: their number, or below zero their share of the rows (a saga has some twenty events).
DISTINCT = (("stream", 3), ("key", -0.05))


class Migration(migrations.Migration):
    dependencies = [("bridge", "0003_retention")]

    operations = [
        migrations.RunSQL(
            f"ALTER TABLE bridge_event ALTER COLUMN {column} SET (n_distinct = {distinct})",
            f"ALTER TABLE bridge_event ALTER COLUMN {column} RESET (n_distinct)",
        )
        for column, distinct in DISTINCT
    ]
