"""The parameters of a quarantined message's reason, and labels in plain English.

A nullable column without a default is a change of the catalog alone; labels are no change of the database. An earlier
release leaves the column empty and writes its own text as the reason, which is then shown as it is.
"""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('bridge', '0008_topic_backlog'),
    ]

    operations = [
        migrations.AlterModelOptions(
            name='duplicate',
            options={'base_manager_name': 'objects', 'verbose_name': 'duplicate', 'verbose_name_plural': 'duplicates'},
        ),
        migrations.AddField(
            model_name='quarantined',
            name='reason_data',
            field=models.JSONField(null=True, verbose_name='parameters of the reason'),
        ),
        # All other columns that never change have this trigger since 0006.
        migrations.RunSQL(
            "CREATE TRIGGER append_only_reason_data BEFORE UPDATE OF reason_data ON bridge_quarantined"
            " FOR EACH STATEMENT EXECUTE FUNCTION bridge_append_only()",
            "DROP TRIGGER append_only_reason_data ON bridge_quarantined",
        ),
        migrations.AlterField(
            model_name='event',
            name='entity',
            field=models.TextField(blank=True, db_collation='C', help_text='empty if the message has none', verbose_name='entity'),
        ),
        migrations.AlterField(
            model_name='event',
            name='key',
            field=models.TextField(blank=True, db_collation='C', help_text='empty if the message has none', verbose_name='key'),
        ),
        migrations.AlterField(
            model_name='event',
            name='note',
            field=models.TextField(blank=True, help_text='what the bridge added or ignored', verbose_name='note'),
        ),
        migrations.AlterField(
            model_name='event',
            name='producer',
            field=models.TextField(blank=True, db_default='', help_text='the name that the producer claims: for tracing only, it proves nothing', verbose_name='producer'),
        ),
        migrations.AlterField(
            model_name='event',
            name='source',
            field=models.TextField(choices=[('pulsar', 'Pulsar'), ('operator', 'operator'), ('compensation', 'compensation')], db_collation='C', verbose_name='source'),
        ),
        migrations.AlterField(
            model_name='event',
            name='stream',
            field=models.TextField(db_collation='C', verbose_name='saga type'),
        ),
        migrations.AlterField(
            model_name='heartbeat',
            name='beat_at',
            field=models.DateTimeField(verbose_name='last heartbeat'),
        ),
        migrations.AlterField(
            model_name='heartbeat',
            name='well_since',
            field=models.DateTimeField(help_text='connected and caught up without a break since then; empty: not now', null=True, verbose_name='healthy since'),
        ),
        migrations.AlterField(
            model_name='pending',
            name='id',
            field=models.BigIntegerField(help_text='the id of the event', primary_key=True, serialize=False),
        ),
        migrations.AlterField(
            model_name='pending',
            name='lane',
            field=models.TextField(help_text='only of an event that an operator attached to a lane', null=True, verbose_name='lane'),
        ),
        migrations.AlterField(
            model_name='quarantinecount',
            name='counted',
            field=models.BigIntegerField(default=0, verbose_name='counted only'),
        ),
        migrations.AlterField(
            model_name='quarantinecount',
            name='last_code',
            field=models.TextField(blank=True, choices=[('too-large', 'body over the limit'), ('not-json', 'not JSON'), ('not-an-object', 'JSON, but not an object'), ('too-deep', 'nested too deeply'), ('bad-text', 'invalid character (NUL or lone surrogate)'), ('bad-number', 'number too large to store exactly'), ('unknown-type', 'unknown event type'), ('wrong-topic', 'event type not accepted from this topic'), ('bad-id', 'invalid id'), ('no-key', 'no id by which to find its saga'), ('bad-timestamp', 'implausible timestamp'), ('wrong-type', 'field of the wrong type'), ('conflicting-content', 'id already received with different content'), ('refused-by-database', 'rejected by the database'), ('encrypted', 'encrypted, and this service has no key')], verbose_name='code of the latest'),
        ),
        migrations.AlterField(
            model_name='quarantinecount',
            name='last_reason',
            field=models.TextField(blank=True, verbose_name='reason of the latest'),
        ),
        migrations.AlterField(
            model_name='quarantined',
            name='code',
            field=models.TextField(choices=[('too-large', 'body over the limit'), ('not-json', 'not JSON'), ('not-an-object', 'JSON, but not an object'), ('too-deep', 'nested too deeply'), ('bad-text', 'invalid character (NUL or lone surrogate)'), ('bad-number', 'number too large to store exactly'), ('unknown-type', 'unknown event type'), ('wrong-topic', 'event type not accepted from this topic'), ('bad-id', 'invalid id'), ('no-key', 'no id by which to find its saga'), ('bad-timestamp', 'implausible timestamp'), ('wrong-type', 'field of the wrong type'), ('conflicting-content', 'id already received with different content'), ('refused-by-database', 'rejected by the database'), ('encrypted', 'encrypted, and this service has no key')], verbose_name='code'),
        ),
        migrations.AlterField(
            model_name='quarantined',
            name='decided_why',
            field=models.TextField(blank=True, verbose_name='reason of the decision'),
        ),
        migrations.AlterField(
            model_name='quarantined',
            name='producer',
            field=models.TextField(blank=True, db_default='', help_text='the name that the producer claims: for tracing only, it proves nothing', verbose_name='producer'),
        ),
        migrations.AlterField(
            model_name='topicbacklog',
            name='stalled',
            field=models.BooleanField(verbose_name='stalled'),
        ),
    ]
