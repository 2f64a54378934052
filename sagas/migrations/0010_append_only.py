"""The sagas' log and the audit refuse every change, whoever asks; the audit also retention.

The triggers fire once a statement, and the service only inserts: they cost it nothing.
"""

from django.db import migrations


def trigger(table: str, argument: str = "") -> migrations.RunSQL:
    return migrations.RunSQL(
        f"CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table}"
        f" FOR EACH STATEMENT EXECUTE FUNCTION bridge_append_only({argument})",
        f"DROP TRIGGER append_only ON {table}",
    )


class Migration(migrations.Migration):
    dependencies = [("bridge", "0006_append_only"), ("sagas", "0009_key_statistics")]

    operations = [
        trigger("sagas_saga_event"),
        trigger("sagas_decision", "'kept by retention too'"),
        migrations.AlterModelOptions(
            name="decision",
            options={
                "base_manager_name": "objects",
                "verbose_name": "decision",
                "verbose_name_plural": "decisions",
            },
        ),
        migrations.AlterModelOptions(
            name="sagaevent",
            options={
                "base_manager_name": "objects",
                "verbose_name": "event of a saga",
                "verbose_name_plural": "events of sagas",
            },
        ),
    ]
