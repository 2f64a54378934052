"""A saga's row is written again with every page that touches it: it stays on its page and leaves its indexes alone.

For that no indexed column may change with every event (the list of sagas that stand still reads those that started long
ago instead), and pages keep room for the next version. Vacuum comes by share of the table: a fifth of a million is late.
"""

from django.db import migrations

SETTINGS = {
    "sagas_saga": "fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05",
    "sagas_lane": "fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05",
    "sagas_step": "fillfactor = 90, autovacuum_vacuum_scale_factor = 0.05",
    # Empty most of the time: counted in rows, not in shares.
    "sagas_parked": "autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000",
}


def reset(settings: str) -> str:
    return ", ".join(setting.split(" = ")[0] for setting in settings.split(", "))


class Migration(migrations.Migration):
    dependencies = [("sagas", "0002_permissions")]

    operations = [
        migrations.RemoveIndex(model_name="sagalog", name="saga_stalled"),
        *(
            migrations.RunSQL(
                f"ALTER TABLE {table} SET ({settings})",
                f"ALTER TABLE {table} RESET ({reset(settings)})",
            )
            for table, settings in SETTINGS.items()
        ),
    ]
