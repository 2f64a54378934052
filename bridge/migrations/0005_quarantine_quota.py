"""Quarantine is bounded: a size and a hash where a body is cut, counts beyond the quota. And topics that are blocked."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('bridge', '0004_event_statistics'),
    ]

    operations = [
        migrations.CreateModel(
            name='BlockedTopic',
            fields=[
                ('topic', models.TextField(db_collation='C', primary_key=True, serialize=False, verbose_name='topic')),
                ('since', models.DateTimeField(verbose_name='since')),
                ('last_at', models.DateTimeField(verbose_name='last tried at')),
                ('reason', models.TextField(verbose_name='reason')),
            ],
            options={
                'verbose_name': 'blocked topic',
                'verbose_name_plural': 'blocked topics',
                'db_table': 'bridge_blocked_topic',
            },
        ),
        migrations.AddField(
            model_name='quarantined',
            name='sha256',
            field=models.BinaryField(null=True, verbose_name='SHA-256 of the body'),
        ),
        migrations.AddField(
            model_name='quarantined',
            name='size',
            field=models.IntegerField(null=True, verbose_name='size in bytes'),
        ),
        migrations.AlterField(
            model_name='quarantined',
            name='code',
            field=models.TextField(choices=[('too-large', 'body over the limit'), ('not-json', 'not JSON'), ('not-an-object', 'JSON, but not an object'), ('too-deep', 'nested too deeply'), ('bad-text', 'text with NUL or half a character'), ('bad-number', 'number too large to be kept exactly'), ('unknown-type', 'unknown type of event'), ('bad-id', 'an id that is none'), ('no-key', 'names neither a key nor an entity'), ('bad-timestamp', 'timestamp that cannot be right'), ('wrong-type', 'a known field of a wrong type'), ('conflicting-content', 'id already seen with other content'), ('refused-by-database', 'refused by the database'), ('encrypted', 'encrypted, and this service has no key')], verbose_name='code'),
        ),
        migrations.CreateModel(
            name='QuarantineCount',
            fields=[
                ('id', models.BigAutoField(primary_key=True, serialize=False)),
                ('topic', models.TextField(db_collation='C', verbose_name='topic')),
                ('hour', models.DateTimeField(verbose_name='hour')),
                ('kept', models.IntegerField(default=0, verbose_name='kept')),
                ('counted', models.BigIntegerField(default=0, verbose_name='only counted')),
                ('first_at', models.DateTimeField(null=True, verbose_name='first counted at')),
                ('last_at', models.DateTimeField(null=True, verbose_name='last counted at')),
                ('last_code', models.TextField(blank=True, choices=[('too-large', 'body over the limit'), ('not-json', 'not JSON'), ('not-an-object', 'JSON, but not an object'), ('too-deep', 'nested too deeply'), ('bad-text', 'text with NUL or half a character'), ('bad-number', 'number too large to be kept exactly'), ('unknown-type', 'unknown type of event'), ('bad-id', 'an id that is none'), ('no-key', 'names neither a key nor an entity'), ('bad-timestamp', 'timestamp that cannot be right'), ('wrong-type', 'a known field of a wrong type'), ('conflicting-content', 'id already seen with other content'), ('refused-by-database', 'refused by the database'), ('encrypted', 'encrypted, and this service has no key')], verbose_name='code of the last')),
                ('last_reason', models.TextField(blank=True, verbose_name='reason of the last')),
            ],
            options={
                'verbose_name': 'count of unreadable messages',
                'verbose_name_plural': 'counts of unreadable messages',
                'db_table': 'bridge_quarantine_count',
                'indexes': [models.Index(condition=models.Q(('counted__gt', 0)), fields=['-last_at'], name='bridge_quarantine_counted')],
                'constraints': [models.UniqueConstraint(fields=('topic', 'hour'), name='bridge_quarantine_count_once')],
            },
        ),
    ]
