"""The target of a decision as a code with parameters, beside its name; the rows of earlier releases have none."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ("sagas", "0014_any_decision"),
    ]

    operations = [
        migrations.AddField(
            model_name="decision",
            name="target_data",
            field=models.JSONField(null=True),
        ),
    ]
