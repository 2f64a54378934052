"""Append-only tables refuse every change, whoever asks: also duplicates and quarantined bytes, also by TRUNCATE.

All triggers fire once a statement, and on UPDATE of quarantined messages only for the columns that never change: what
the service does all day fires none of them. Deleting is for `bridge.retention`, which says so in its transaction;
emptying a whole table is for tests and tools, which say so in their session (`SET bridge.truncate = 'on'`).
"""

from django.db import migrations

FUNCTION = """
    CREATE FUNCTION bridge_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        -- A trigger with an argument is of a table that retention leaves alone.
        IF TG_OP = 'DELETE' AND TG_NARGS = 0 AND current_setting('bridge.retention', true) = 'on' THEN
            RETURN NULL;
        END IF;
        IF TG_OP = 'TRUNCATE' AND current_setting('bridge.truncate', true) = 'on' THEN
            RETURN NULL;
        END IF;
        RAISE EXCEPTION '% of % is refused: its rows are only ever added', TG_OP, TG_TABLE_NAME
            USING ERRCODE = 'restrict_violation';
    END $$;
"""
NEVER_CHANGED = "id, topic, message_id, published_at, received_at, body, body_hash, size, sha256, properties, code, reason"


def trigger(table: str, events: str, name: str = "append_only") -> migrations.RunSQL:
    return migrations.RunSQL(
        f"CREATE TRIGGER {name} BEFORE {events} ON {table} FOR EACH STATEMENT EXECUTE FUNCTION bridge_append_only()",
        f"DROP TRIGGER {name} ON {table}",
    )


class Migration(migrations.Migration):
    dependencies = [("bridge", "0005_quarantine_quota")]

    operations = [
        migrations.RunSQL(FUNCTION, "DROP FUNCTION bridge_append_only()"),
        # UPDATE and DELETE are refused since 0003: dropping that trigger would lock out readers.
        trigger("bridge_event", "TRUNCATE"),
        trigger("bridge_duplicate", "UPDATE OR DELETE OR TRUNCATE"),
        trigger("bridge_quarantined", f"UPDATE OF {NEVER_CHANGED} OR DELETE OR TRUNCATE"),
        migrations.AlterModelOptions(
            name="duplicate",
            options={
                "base_manager_name": "objects",
                "verbose_name": "repeated delivery",
                "verbose_name_plural": "repeated deliveries",
            },
        ),
        migrations.AlterModelOptions(
            name="quarantined",
            options={
                "base_manager_name": "objects",
                "verbose_name": "quarantined message",
                "verbose_name_plural": "quarantined messages",
            },
        ),
    ]
