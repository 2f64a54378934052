"""What the planner is to think of commands and attempts, whatever there was when its statistics were taken.

Of a moment at which all commands were one large saga's they say that a saga's commands are the whole table; of one at
which one command had all the attempts, that a command's attempts are.
"""

from django.db import migrations

# (table, column, distinct values as a share of the rows): a lane has up to two commands, a saga some lanes.
SHARES = (
    ("compensation_command", "saga_id", -0.2),
    ("compensation_command", "entity", -0.5),
    ("compensation_attempt", "command_id", -0.5),
)


class Migration(migrations.Migration):
    dependencies = [("compensation", "0003_settled_list")]

    operations = [
        migrations.RunSQL(
            f"ALTER TABLE {table} ALTER COLUMN {column} SET (n_distinct = {share})",
            f"ALTER TABLE {table} ALTER COLUMN {column} RESET (n_distinct)",
        )
        for table, column, share in SHARES
    ]
