"""A command is written five times on its way: vacuum comes by a small share, and pages keep room for the next version."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("compensation", "0001_initial")]

    operations = [
        migrations.RunSQL(
            f"ALTER TABLE {table} SET (fillfactor = {fill}, autovacuum_vacuum_scale_factor = 0.05)",
            f"ALTER TABLE {table} RESET (fillfactor, autovacuum_vacuum_scale_factor)",
        )
        for table, fill in (("compensation_command", 80), ("compensation_attempt", 90))
    ]
