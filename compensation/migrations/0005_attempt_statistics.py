"""What the planner is to think of attempts by command, whatever there was when its statistics were taken.

Of a moment at which one command had all the attempts they say that a command's attempts are the whole table. A migration
of its own: databases that had 0004 before it was known shall have it too.
"""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("compensation", "0004_command_statistics")]

    operations = [
        migrations.RunSQL(
            "ALTER TABLE compensation_attempt ALTER COLUMN command_id SET (n_distinct = -0.5)",
            "ALTER TABLE compensation_attempt ALTER COLUMN command_id RESET (n_distinct)",
        )
    ]
