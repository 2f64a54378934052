"""A person may release what is held."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('sagas', '0011_system_door'),
    ]

    operations = [
        migrations.AlterField(
            model_name='decision',
            name='action',
            field=models.TextField(choices=[('force_compensation', 'force compensation'), ('cancel', 'cancel'), ('terminate', 'terminate'), ('resume', 'resume'), ('replay', 'replay'), ('retry', 'retry'), ('skip', 'skip'), ('mark_done', 'mark done by hand'), ('withdraw', 'withdraw'), ('release', 'release'), ('attach', 'attach'), ('adopt', 'adopt'), ('dismiss', 'dismiss'), ('requeue', 'requeue'), ('dismiss_message', 'dismiss message'), ('pause_publishing', 'pause publishing'), ('resume_publishing', 'resume publishing')], verbose_name='action'),
        ),
    ]
