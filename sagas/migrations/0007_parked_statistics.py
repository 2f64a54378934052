"""What the planner is to think of the car park, whatever it held when its statistics were taken.

It fills and empties within seconds. Statistics of a moment at which all that was parked named one entity, or none, made
the planner read the whole table for each lane that opened: 11 s instead of 36 ms with 20,000 parked events.
"""

from django.db import migrations

COLUMNS = ("key", "entity")


class Migration(migrations.Migration):
    dependencies = [("sagas", "0006_type_list")]

    operations = [
        migrations.RunSQL(
            f"ALTER TABLE sagas_parked ALTER COLUMN {column} SET (n_distinct = -0.2)",
            f"ALTER TABLE sagas_parked ALTER COLUMN {column} RESET (n_distinct)",
        )
        for column in COLUMNS
    ]
