"""Topics whose messages wait undelivered: since when must outlive the bridge that saw it."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('bridge', '0007_producer'),
    ]

    operations = [
        migrations.CreateModel(
            name='TopicBacklog',
            fields=[
                ('topic', models.TextField(db_collation='C', primary_key=True, serialize=False, verbose_name='topic')),
                ('undelivered', models.IntegerField(verbose_name='undelivered messages')),
                ('stalled', models.BooleanField(verbose_name='stands still')),
                ('since', models.DateTimeField(verbose_name='since')),
                ('seen_at', models.DateTimeField(verbose_name='last seen at')),
                ('ended_at', models.DateTimeField(null=True, verbose_name='ended at')),
            ],
            options={
                'verbose_name': 'backlog of a topic',
                'verbose_name_plural': 'backlogs of topics',
                'db_table': 'bridge_topic_backlog',
            },
        ),
    ]
