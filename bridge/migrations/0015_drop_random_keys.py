"""Drop the indexes that cost a page of write-ahead log an event: the unique key on the id alone, and that on keys.

Bridges and workers of the earlier release cannot insert events without the former: what they read they do not
acknowledge, and it is delivered again to the new ones. docs/operations.md says how to upgrade without such a pause.
"""

from importlib import import_module

from django.db import migrations

day = import_module("bridge.migrations.0012_day")


class Migration(migrations.Migration):
    dependencies = [("bridge", "0014_keys_by_day")]

    operations = [
        migrations.RunSQL(day.REFUSE_FILLING, day.ALLOW_FILLING),
        migrations.RunSQL(day.NO_MORE, day.FOR_EARLIER_BRIDGES),
        migrations.RemoveConstraint(model_name="event", name="bridge_event_once"),
        migrations.RemoveIndex(model_name="event", name="bridge_event_stream_key"),
    ]
