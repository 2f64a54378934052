"""Events get the day that will lead their unique key. Nothing is filled here, so nobody waits.

A bridge of the earlier release does not know the column: until 0015 a trigger fills it for its rows. Until then the
trigger that refuses changes allows one change, which 0013 makes.
"""

from django.db import migrations, models

REFUSE = """
    CREATE OR REPLACE FUNCTION bridge_event_is_only_added_to() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF TG_OP = 'DELETE' AND current_setting('bridge.retention', true) = 'on' THEN
            RETURN NULL;
        END IF;
        {filling}
        RAISE EXCEPTION 'events are only ever added: nothing changes or deletes one' USING ERRCODE = 'restrict_violation';
    END $$;
"""
FILLING = """
        IF TG_OP = 'UPDATE' AND current_setting('bridge.filling', true) = 'on' THEN
            RETURN NULL;
        END IF;
"""
ALLOW_FILLING, REFUSE_FILLING = REFUSE.format(filling=FILLING), REFUSE.format(filling="")

# The condition is part of the trigger: rows that have their day, and facts of our own, do not call the function.
FOR_EARLIER_BRIDGES = """
    CREATE FUNCTION bridge_event_day() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF NEW.payload ->> 'timestamp' IS NOT NULL THEN
            NEW.day := (NEW.occurred_at AT TIME ZONE 'UTC')::date;
        END IF;
        RETURN NEW;
    END $$;
    CREATE TRIGGER bridge_event_day BEFORE INSERT ON bridge_event FOR EACH ROW
        WHEN (NEW.day IS NULL AND NEW.source = 'pulsar') EXECUTE FUNCTION bridge_event_day();
"""
NO_MORE = """
    DROP TRIGGER IF EXISTS bridge_event_day ON bridge_event;
    DROP FUNCTION IF EXISTS bridge_event_day();
"""


class Migration(migrations.Migration):
    dependencies = [("bridge", "0011_own_source")]

    operations = [
        migrations.AddField(
            model_name="event", name="day", field=models.DateField(null=True, verbose_name="day")
        ),
        migrations.RunSQL(FOR_EARLIER_BRIDGES, NO_MORE),
        migrations.RunSQL(ALLOW_FILLING, REFUSE_FILLING),
    ]
