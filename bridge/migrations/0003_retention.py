"""Retention may delete events, and nothing else may: the table itself refuses. Their keys live on in a narrow table."""

from django.db import migrations, models

REFUSE = """
    CREATE FUNCTION bridge_event_is_only_added_to() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF TG_OP = 'DELETE' AND current_setting('bridge.retention', true) = 'on' THEN
            RETURN NULL;
        END IF;
        RAISE EXCEPTION 'events are only ever added: nothing changes or deletes one' USING ERRCODE = 'restrict_violation';
    END $$;
    CREATE TRIGGER bridge_event_is_only_added_to BEFORE UPDATE OR DELETE ON bridge_event
        FOR EACH STATEMENT EXECUTE FUNCTION bridge_event_is_only_added_to();
"""
ALLOW = """
    DROP TRIGGER bridge_event_is_only_added_to ON bridge_event;
    DROP FUNCTION bridge_event_is_only_added_to();
"""


class Migration(migrations.Migration):
    dependencies = [("bridge", "0002_hot_tables")]

    operations = [
        migrations.CreateModel(
            name="PrunedEvent",
            fields=[
                ("id", models.UUIDField(editable=False, primary_key=True, serialize=False)),
                ("body_hash", models.BinaryField()),
                ("pruned_at", models.DateTimeField()),
            ],
            options={
                "verbose_name": "key of a pruned event",
                "verbose_name_plural": "keys of pruned events",
                "db_table": "bridge_pruned_event",
                "indexes": [models.Index(fields=["pruned_at"], name="bridge_pruned_event_oldest")],
            },
        ),
        migrations.RunSQL(REFUSE, ALLOW),
        # Where events leave day by day, room is found again before a fifth of the log is dead.
        migrations.RunSQL(
            "ALTER TABLE bridge_event SET (autovacuum_vacuum_scale_factor = 0.05)",
            "ALTER TABLE bridge_event RESET (autovacuum_vacuum_scale_factor)",
        ),
    ]
