"""An attempt is completed once and never changed again; a command's identity and message never change.

What never changes is held by triggers that fire once a statement, and only for a statement that names such a column:
publishing and settling name none. That an attempt is completed legally is a condition on each changed row, which the
database evaluates without calling a function; it runs after the row is written, because a trigger before it would lock
the row once more. Deleting is for retention, see the migration of the same name in `bridge`.
"""

from django.db import migrations

# The rest of an attempt is known when it begins.
ATTEMPT = "id, command_id, round, number, started_at, worker"
COMMAND = "id, saga_id, stream, key, routing_key, entity, name, service, topic, body"
# Its message id is learnt once, also after it has ended. It may be noted as sent while it goes on; then it ends, with
# an outcome that is final. Only one that did not reach its topic stops counting.
ILLEGAL = """
    (OLD.message_id <> '' AND NEW.message_id <> OLD.message_id)
    OR (OLD.ended_at IS NOT NULL AND
        (NEW.ended_at, NEW.outcome, NEW.counted, NEW.error)
            IS DISTINCT FROM (OLD.ended_at, OLD.outcome, OLD.counted, OLD.error))
    OR (OLD.ended_at IS NULL AND NEW.outcome = 'open'
        AND (OLD.outcome, OLD.counted, OLD.error, OLD.ended_at)
            IS DISTINCT FROM (NEW.outcome, NEW.counted, NEW.error, NEW.ended_at))
    OR (NEW.ended_at IS NULL AND NEW.outcome NOT IN ('open', 'published'))
    OR (NEW.ended_at IS NULL AND (NEW.counted, NEW.error) IS DISTINCT FROM (OLD.counted, OLD.error))
    OR (NEW.counted IS DISTINCT FROM OLD.counted AND NOT (OLD.counted AND NEW.outcome IN ('unreachable', 'blocked')))
"""


def trigger(table: str, name: str, events: str) -> migrations.RunSQL:
    return migrations.RunSQL(
        f"CREATE TRIGGER {name} {events} EXECUTE FUNCTION bridge_append_only()", f"DROP TRIGGER {name} ON {table}"
    )


class Migration(migrations.Migration):
    dependencies = [("bridge", "0006_append_only"), ("compensation", "0006_blocked_outcome")]

    operations = [
        trigger(
            "compensation_attempt",
            "append_only",
            f"BEFORE UPDATE OF {ATTEMPT} OR DELETE OR TRUNCATE ON compensation_attempt FOR EACH STATEMENT",
        ),
        trigger(
            "compensation_attempt",
            "completed_once",
            f"AFTER UPDATE ON compensation_attempt FOR EACH ROW WHEN ({ILLEGAL})",
        ),
        trigger(
            "compensation_command",
            "never_changes",
            f"BEFORE UPDATE OF {COMMAND} ON compensation_command FOR EACH STATEMENT",
        ),
        migrations.AlterModelOptions(
            name="attempt",
            options={
                "base_manager_name": "objects",
                "verbose_name": "attempt",
                "verbose_name_plural": "attempts",
            },
        ),
    ]
