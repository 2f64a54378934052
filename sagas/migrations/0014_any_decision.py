"""The audit takes any decision's name: which there are is declared in sagas.actions.registry, and needs no migration."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('sagas', '0012_release_decision'),
    ]

    operations = [
        migrations.AlterField(
            model_name='decision',
            name='action',
            field=models.TextField(verbose_name='action'),
        ),
    ]
