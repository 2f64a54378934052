"""A mark for commands that an event confirmed though they were never sent, and its index.

The column is a change of the catalog alone; the index is built beside the traffic. Each step may run again, because
outside of a transaction a migration that ends early leaves what it did.
"""

from django.db import migrations, models

TABLE, INDEX = "compensation_command", "command_confirmed_unsent"


class Migration(migrations.Migration):
    atomic = False  # CONCURRENTLY wants no transaction
    dependencies = [("compensation", "0009_circuit_breaker")]

    operations = [
        migrations.SeparateDatabaseAndState(
            database_operations=[
                migrations.RunSQL(
                    f"ALTER TABLE {TABLE} ADD COLUMN IF NOT EXISTS confirmed_unsent_at timestamptz",
                    f"ALTER TABLE {TABLE} DROP COLUMN IF EXISTS confirmed_unsent_at",
                ),
                migrations.RunSQL(f"DROP INDEX CONCURRENTLY IF EXISTS {INDEX}", migrations.RunSQL.noop),
                migrations.RunSQL(
                    f"CREATE INDEX CONCURRENTLY {INDEX} ON {TABLE} (confirmed_unsent_at, saga_id)"
                    " WHERE confirmed_unsent_at IS NOT NULL",
                    f"DROP INDEX CONCURRENTLY IF EXISTS {INDEX}",
                ),
            ],
            state_operations=[
                migrations.AddField(
                    model_name="command",
                    name="confirmed_unsent_at",
                    field=models.DateTimeField(blank=True, null=True, verbose_name="confirmed though never sent"),
                ),
                migrations.AddIndex(
                    model_name="command",
                    index=models.Index(
                        fields=["confirmed_unsent_at", "saga_id"],
                        name=INDEX,
                        condition=models.Q(confirmed_unsent_at__isnull=False),
                    ),
                ),
            ],
        ),
    ]
