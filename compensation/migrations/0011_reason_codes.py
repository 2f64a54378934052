"""The parameters of a command's last error, and labels in plain English.

A nullable column without a default is a change of the catalog alone; labels are no change of the database. An earlier
release writes its own text as the last error, which is shown as it is, whatever the column still holds.
"""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('compensation', '0010_confirmed_unsent'),
    ]

    operations = [
        migrations.AddField(
            model_name='command',
            name='last_error_data',
            field=models.JSONField(blank=True, null=True, verbose_name='parameters of the last error'),
        ),
        migrations.AlterField(
            model_name='attempt',
            name='outcome',
            field=models.TextField(choices=[('open', 'being sent'), ('published', 'sent, waiting for the answer'), ('confirmed', 'confirmed'), ('refused', 'refused by the service'), ('deadline', 'no answer in time'), ('failed', 'could not be sent'), ('unreachable', 'the message broker could not be reached'), ('blocked', 'the topic does not accept commands'), ('superseded', 'superseded')], default='open', verbose_name='outcome'),
        ),
        migrations.AlterField(
            model_name='breaker',
            name='cause',
            field=models.TextField(choices=[('planned', 'too many commands were planned'), ('refused', 'the service refused one of the first commands'), ('deadline', 'one of the first commands was not answered in time'), ('exhausted', 'one of the first commands ran out of attempts')], verbose_name='cause'),
        ),
        migrations.AlterField(
            model_name='command',
            name='by_hand',
            field=models.BooleanField(default=False, verbose_name='manual'),
        ),
        migrations.AlterField(
            model_name='command',
            name='confirmation',
            field=models.TextField(choices=[('event', 'by an event of the service'), ('published', 'by being sent'), ('manual', 'manually')], default='event', verbose_name='confirmation'),
        ),
        migrations.AlterField(
            model_name='command',
            name='confirmation_timeout',
            field=models.FloatField(verbose_name='confirmation deadline (s)'),
        ),
        migrations.AlterField(
            model_name='command',
            name='confirmed_unsent_at',
            field=models.DateTimeField(blank=True, null=True, verbose_name='confirmed although never sent'),
        ),
        migrations.AlterField(
            model_name='command',
            name='exhausted_by',
            field=models.TextField(blank=True, choices=[('attempts', 'all attempts are used up'), ('non_retryable', 'this error is not retried'), ('permanent', 'the message broker rejects this message permanently'), ('invalid', "the command does not match the service's schema"), ('manual', 'the service does not confirm: a person has to')], default='', verbose_name='exhausted because'),
        ),
        migrations.AlterField(
            model_name='command',
            name='held_by',
            field=models.UUIDField(blank=True, null=True, verbose_name='held because of the saga'),
        ),
        migrations.AlterField(
            model_name='command',
            name='invalid',
            field=models.TextField(blank=True, default='', verbose_name='why the service would refuse it'),
        ),
        migrations.AlterField(
            model_name='command',
            name='key',
            field=models.TextField(db_collation='C', verbose_name='key'),
        ),
        migrations.AlterField(
            model_name='command',
            name='non_retryable',
            field=models.JSONField(default=list, verbose_name='errors that are not retried'),
        ),
        migrations.AlterField(
            model_name='command',
            name='status',
            field=models.TextField(choices=[('planned', 'planned'), ('publishing', 'being sent'), ('published', 'sent, waiting for the confirmation'), ('waiting', 'waiting for the next attempt'), ('confirmed', 'confirmed'), ('exhausted', 'needs a decision'), ('skipped', 'skipped'), ('withdrawn', 'withdrawn')], default='planned', verbose_name='status'),
        ),
        migrations.AlterField(
            model_name='command',
            name='stream',
            field=models.TextField(db_collation='C', verbose_name='saga type'),
        ),
    ]
