"""An index of the commands that a service's event confirmed, by kind. Built beside the traffic."""

from django.db import migrations, models

TABLE, INDEX = "compensation_command", "command_answered"


class Migration(migrations.Migration):
    atomic = False  # CONCURRENTLY wants no transaction
    dependencies = [("compensation", "0012_not_required")]

    operations = [
        migrations.SeparateDatabaseAndState(
            database_operations=[
                migrations.RunSQL(f"DROP INDEX CONCURRENTLY IF EXISTS {INDEX}", migrations.RunSQL.noop),
                migrations.RunSQL(
                    f"CREATE INDEX CONCURRENTLY {INDEX} ON {TABLE} (service, name)"
                    " WHERE status = 'confirmed' AND NOT by_hand AND confirmed_unsent_at IS NULL"
                    " AND confirmation <> 'published'",
                    f"DROP INDEX CONCURRENTLY IF EXISTS {INDEX}",
                ),
            ],
            state_operations=[
                migrations.AddIndex(
                    model_name="command",
                    index=models.Index(
                        fields=["service", "name"],
                        name=INDEX,
                        condition=models.Q(status="confirmed", by_hand=False, confirmed_unsent_at__isnull=True)
                        & ~models.Q(confirmation="published"),
                    ),
                ),
            ],
        ),
    ]
