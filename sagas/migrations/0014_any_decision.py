"""The audit takes any decision's name: which there are is declared in sagas.actions.registry, and needs no migration."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('sagas', '0013_plain_labels'),
    ]

    operations = [
        migrations.AlterField(
            model_name='decision',
            name='action',
            field=models.TextField(verbose_name='action'),
        ),
    ]
