"""What the planner is to think of rows by saga, whatever sagas there were when its statistics were taken.

Statistics of a moment at which one large saga was all there was made it read whole tables for each saga of a page: four
times the database's time where all sagas are in flight, three times where many are undone.
"""

from django.db import migrations

# (table, column, distinct values as a share of the rows): an image has some five steps, a saga some images.
SHARES = (
    ("sagas_lane", "saga_id", -0.3),
    ("sagas_lane", "entity", -0.5),
    ("sagas_step", "saga_id", -0.06),
    ("sagas_step", "entity", -0.1),
    ("sagas_saga_event", "saga_id", -0.06),
)


class Migration(migrations.Migration):
    dependencies = [("sagas", "0007_parked_statistics")]

    operations = [
        migrations.RunSQL(
            f"ALTER TABLE {table} ALTER COLUMN {column} SET (n_distinct = {share})",
            f"ALTER TABLE {table} ALTER COLUMN {column} RESET (n_distinct)",
        )
        for table, column, share in SHARES
    ]
