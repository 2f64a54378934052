"""The target of a decision as a code with parameters, beside its name; the rows of earlier releases have none.

The statuses of steps get labels, which changes nothing in the database.
"""

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
        migrations.AlterField(
            model_name="sagastep",
            name="status",
            field=models.TextField(
                choices=[
                    ("PENDING", "pending"),
                    ("STARTED", "started"),
                    ("COMPLETED", "completed"),
                    ("FAILED", "failed"),
                    ("COMPENSATING", "compensating"),
                    ("COMPENSATED", "compensated"),
                    ("COMPENSATION_FAILED", "compensation failed"),
                ],
                db_collation="C",
                verbose_name="status",
            ),
        ),
    ]
