"""What the planner is to think of commands by saga, whatever sagas there were when its statistics were taken.

Of a moment at which all commands were one large saga's they say that a saga's commands are the whole table.
"""

from django.db import migrations

# column → distinct values as a share of the rows: a lane has up to two commands, a saga some lanes.
SHARES = (("saga_id", -0.2), ("entity", -0.5))


class Migration(migrations.Migration):
    dependencies = [("compensation", "0003_settled_list")]

    operations = [
        migrations.RunSQL(
            f"ALTER TABLE compensation_command ALTER COLUMN {column} SET (n_distinct = {share})",
            f"ALTER TABLE compensation_command ALTER COLUMN {column} RESET (n_distinct)",
        )
        for column, share in SHARES
    ]
