"""The queue is filled and emptied all day: vacuum counts its dead rows, not their share of a table that is empty.

The log only grows: a share of it makes vacuum come too late to mark its pages as all visible.
"""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("bridge", "0001_initial")]

    operations = [
        migrations.RunSQL(
            "ALTER TABLE bridge_pending SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,"
            " autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 50000,"
            " autovacuum_vacuum_cost_delay = 0)",
            "ALTER TABLE bridge_pending RESET (autovacuum_vacuum_scale_factor, autovacuum_vacuum_threshold,"
            " autovacuum_analyze_scale_factor, autovacuum_analyze_threshold, autovacuum_vacuum_cost_delay)",
        ),
        migrations.RunSQL(
            "ALTER TABLE bridge_event SET (autovacuum_vacuum_insert_scale_factor = 0.05)",
            "ALTER TABLE bridge_event RESET (autovacuum_vacuum_insert_scale_factor)",
        ),
    ]
