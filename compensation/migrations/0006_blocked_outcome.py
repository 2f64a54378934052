"""An attempt may also end because its topic takes no commands.

The table of attempts may hold millions of rows: the new constraint is checked without keeping writers out.
"""

from django.contrib.postgres.operations import AddConstraintNotValid, ValidateConstraint
from django.db import migrations, models


class Migration(migrations.Migration):
    atomic = False

    dependencies = [
        ('compensation', '0005_attempt_statistics'),
    ]

    operations = [
        migrations.RemoveConstraint(
            model_name='attempt',
            name='attempt_outcome',
        ),
        migrations.AlterField(
            model_name='attempt',
            name='outcome',
            field=models.TextField(choices=[('open', 'being sent'), ('published', 'sent, waiting for the answer'), ('confirmed', 'confirmed'), ('refused', 'refused by the service'), ('deadline', 'no answer in time'), ('failed', 'could not be sent'), ('unreachable', 'the message broker could not be reached'), ('blocked', 'the topic takes no commands'), ('superseded', 'overtaken')], default='open', verbose_name='outcome'),
        ),
        AddConstraintNotValid(
            model_name='attempt',
            constraint=models.CheckConstraint(condition=models.Q(('outcome__in', ['open', 'published', 'confirmed', 'refused', 'deadline', 'failed', 'unreachable', 'blocked', 'superseded'])), name='attempt_outcome'),
        ),
        ValidateConstraint(model_name="attempt", name="attempt_outcome"),
    ]
