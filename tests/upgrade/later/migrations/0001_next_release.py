"""What a next release may do to tables in use: a column that old code does not know, and an index beside the traffic."""

from django.db import migrations

COLUMNS = {"sagas_saga": "later", "bridge_event": "later", "compensation_command": "later"}


class Migration(migrations.Migration):
    atomic = False  # CONCURRENTLY wants no transaction
    dependencies = [("sagas", "0001_initial"), ("bridge", "0001_initial"), ("compensation", "0001_initial")]

    operations = [
        *(
            migrations.RunSQL(
                f"ALTER TABLE {table} ADD COLUMN IF NOT EXISTS {column} text",
                f"ALTER TABLE {table} DROP COLUMN IF EXISTS {column}",
            )
            for table, column in COLUMNS.items()
        ),
        migrations.RunSQL("DROP INDEX CONCURRENTLY IF EXISTS later_index", migrations.RunSQL.noop),
        migrations.RunSQL(
            "CREATE INDEX CONCURRENTLY later_index ON bridge_event (received_at)",
            "DROP INDEX CONCURRENTLY IF EXISTS later_index",
        ),
    ]
