"""A command may be no longer required, because its task was started again; and a mark for one that was done all the same.

The table of commands is written by all workers: the column is a change of the catalog alone, the new constraint is
checked and the index is built beside the traffic. Each step may run again, because outside of a transaction a migration
that ends early leaves what it did.
"""

from django.contrib.postgres.operations import AddConstraintNotValid, ValidateConstraint
from django.db import migrations, models

TABLE, INDEX, LIST = "compensation_command", "command_overtaken", "command_not_required"
STATUSES = [
    ("planned", "planned"),
    ("publishing", "being sent"),
    ("published", "sent, waiting for the confirmation"),
    ("waiting", "waiting for the next attempt"),
    ("confirmed", "confirmed"),
    ("exhausted", "needs a decision"),
    ("skipped", "skipped"),
    ("withdrawn", "withdrawn"),
    ("not_required", "no longer required"),
]


class Migration(migrations.Migration):
    atomic = False  # CONCURRENTLY wants no transaction
    dependencies = [("compensation", "0011_reason_codes")]

    operations = [
        migrations.RemoveConstraint(model_name="command", name="command_status"),
        migrations.AlterField(
            model_name="command",
            name="status",
            field=models.TextField(choices=STATUSES, default="planned", verbose_name="status"),
        ),
        AddConstraintNotValid(
            model_name="command",
            constraint=models.CheckConstraint(
                condition=models.Q(("status__in", [value for value, _ in STATUSES])), name="command_status"
            ),
        ),
        ValidateConstraint(model_name="command", name="command_status"),
        migrations.SeparateDatabaseAndState(
            database_operations=[
                migrations.RunSQL(
                    f"ALTER TABLE {TABLE} ADD COLUMN IF NOT EXISTS overtaken_at timestamptz",
                    f"ALTER TABLE {TABLE} DROP COLUMN IF EXISTS overtaken_at",
                ),
                migrations.RunSQL(f"DROP INDEX CONCURRENTLY IF EXISTS {INDEX}", migrations.RunSQL.noop),
                migrations.RunSQL(
                    f"CREATE INDEX CONCURRENTLY {INDEX} ON {TABLE} (overtaken_at, saga_id)"
                    " WHERE overtaken_at IS NOT NULL",
                    f"DROP INDEX CONCURRENTLY IF EXISTS {INDEX}",
                ),
                migrations.RunSQL(f"DROP INDEX CONCURRENTLY IF EXISTS {LIST}", migrations.RunSQL.noop),
                migrations.RunSQL(
                    f"CREATE INDEX CONCURRENTLY {LIST} ON {TABLE} (id) WHERE status = 'not_required'",
                    f"DROP INDEX CONCURRENTLY IF EXISTS {LIST}",
                ),
            ],
            state_operations=[
                migrations.AddIndex(
                    model_name="command",
                    index=models.Index(
                        fields=["id"], name=LIST, condition=models.Q(status="not_required")
                    ),
                ),
                migrations.AddField(
                    model_name="command",
                    name="overtaken_at",
                    field=models.DateTimeField(blank=True, null=True, verbose_name="done although no longer required"),
                ),
                migrations.AddIndex(
                    model_name="command",
                    index=models.Index(
                        fields=["overtaken_at", "saga_id"],
                        name=INDEX,
                        condition=models.Q(overtaken_at__isnull=False),
                    ),
                ),
            ],
        ),
    ]
