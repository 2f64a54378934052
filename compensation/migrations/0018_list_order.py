"""Indexes of the list of commands, which shows the newest first: all by planning, settled ones by settling.

Built beside the traffic. Many commands are planned at one moment, so the entries of these indexes are small.
"""

from django.db import migrations, models

TABLE = "compensation_command"
# Name, columns, condition in SQL, and the same for Django.
NEW = (
    ("command_newest", ["planned_at"], "", None),
    (
        "command_settled_newest",
        ["status", "settled_at"],
        "WHERE status IN ('confirmed', 'skipped', 'withdrawn')",
        models.Q(status__in=("confirmed", "skipped", "withdrawn")),
    ),
    ("command_overruled", ["planned_at"], "WHERE status = 'not_required'", models.Q(status="not_required")),
)
# Served the same lists by id, which is random.
OLD = (
    (
        "command_settled",
        ["status", "id"],
        "WHERE status IN ('confirmed', 'skipped', 'withdrawn')",
        models.Q(status__in=("confirmed", "skipped", "withdrawn")),
    ),
    ("command_not_required", ["id"], "WHERE status = 'not_required'", models.Q(status="not_required")),
)


def _make(name, columns, condition):
    return f"CREATE INDEX CONCURRENTLY {name} ON {TABLE} ({', '.join(columns)}) {condition}"


def _drop(name):
    return f"DROP INDEX CONCURRENTLY IF EXISTS {name}"


class Migration(migrations.Migration):
    atomic = False  # CONCURRENTLY wants no transaction
    dependencies = [("compensation", "0016_due_by_kind")]

    operations = [
        migrations.SeparateDatabaseAndState(
            database_operations=[
                operation
                for name, columns, condition, _ in NEW
                for operation in (
                    migrations.RunSQL(_drop(name), migrations.RunSQL.noop),
                    migrations.RunSQL(_make(name, columns, condition), _drop(name)),
                )
            ]
            + [migrations.RunSQL(_drop(name), _make(name, columns, condition)) for name, columns, condition, _ in OLD],
            state_operations=[
                migrations.AddIndex(
                    model_name="command", index=models.Index(fields=columns, name=name, condition=condition)
                )
                for name, columns, _, condition in NEW
            ]
            + [migrations.RemoveIndex(model_name="command", name=name) for name, *_ in OLD],
        ),
    ]
