"""The index of due commands leads with their kind, and the constraints of the migration before are checked.

Both happen beside the traffic, and the earlier index goes only when the new one is there: by it a worker of an earlier
release, which knows one kind, reads all that is due. Each step may run again, because outside of a transaction a
migration that ends early leaves what it did.
"""

from django.contrib.postgres.operations import ValidateConstraint
from django.db import migrations, models

TABLE, INDEX, EARLIER = "compensation_command", "command_due_by_kind", "command_ready"
READY = "status IN ('planned', 'waiting') AND released_at IS NOT NULL AND held_since IS NULL"
CONSTRAINTS = (
    "command_kind",
    "command_lease_is_claimed",
    "command_result_has_outcome",
    "command_result_is_bounded",
)


class Migration(migrations.Migration):
    atomic = False  # CONCURRENTLY wants no transaction
    dependencies = [("compensation", "0015_kinds_of_work")]

    operations = [
        *(ValidateConstraint(model_name="command", name=name) for name in CONSTRAINTS),
        migrations.SeparateDatabaseAndState(
            database_operations=[
                migrations.RunSQL(f"DROP INDEX CONCURRENTLY IF EXISTS {INDEX}", migrations.RunSQL.noop),
                migrations.RunSQL(
                    f"CREATE INDEX CONCURRENTLY {INDEX} ON {TABLE} (kind, next_at) WHERE {READY}",
                    f"DROP INDEX CONCURRENTLY IF EXISTS {INDEX}",
                ),
                migrations.RunSQL(
                    f"DROP INDEX CONCURRENTLY IF EXISTS {EARLIER}",
                    f"CREATE INDEX CONCURRENTLY IF NOT EXISTS {EARLIER} ON {TABLE} (next_at) WHERE {READY}",
                ),
            ],
            state_operations=[
                migrations.AddIndex(
                    model_name="command",
                    index=models.Index(
                        fields=["kind", "next_at"],
                        name=INDEX,
                        condition=models.Q(
                            status__in=("planned", "waiting"), released_at__isnull=False, held_since__isnull=True
                        ),
                    ),
                ),
                migrations.RemoveIndex(model_name="command", name=EARLIER),
            ],
        ),
    ]
