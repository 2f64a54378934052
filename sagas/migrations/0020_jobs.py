"""Bulk jobs: their rows, and the job that a decision belongs to."""

import django.contrib.postgres.fields
import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('sagas', '0016_decision_target'),
    ]

    operations = [
        migrations.CreateModel(
            name='Job',
            fields=[
                ('id', models.UUIDField(editable=False, primary_key=True, serialize=False)),
                ('action', models.TextField(verbose_name='action')),
                ('values', models.JSONField(default=dict)),
                ('selection', models.JSONField(default=dict)),
                ('status', models.TextField(choices=[('checking', 'being checked'), ('prepared', 'ready to start'), ('approval', 'waits for approval'), ('running', 'running'), ('paused', 'paused'), ('stopped', 'stopped'), ('done', 'done')], db_collation='C', default='checking', verbose_name='status')),
                ('pause_cause', models.TextField(blank=True, choices=[('', ''), ('person', 'by a person'), ('canary_refused', 'an item of the canary was not carried out'), ('canary_unconfirmed', 'a command of the canary was refused or not confirmed in time')], default='', verbose_name='paused because')),
                ('rate', models.FloatField(default=0.0, verbose_name='items per second')),
                ('canary', models.IntegerField(default=0, verbose_name='canary')),
                ('canary_passed_at', models.DateTimeField(null=True)),
                ('canary_after', models.BigIntegerField(default=0)),
                ('total', models.IntegerField(default=0, verbose_name='items')),
                ('eligible', models.IntegerField(default=0, verbose_name='eligible')),
                ('not_eligible', models.IntegerField(default=0, verbose_name='not eligible')),
                ('done', models.IntegerField(default=0, verbose_name='done')),
                ('already', models.IntegerField(default=0, verbose_name='done by others')),
                ('refused', models.IntegerField(default=0, verbose_name='refused')),
                ('failed', models.IntegerField(default=0, verbose_name='failed')),
                ('created_at', models.DateTimeField(verbose_name='created at')),
                ('created_by', models.TextField(verbose_name='created by')),
                ('door', models.TextField(choices=[('api', 'API'), ('admin', 'admin'), ('command', 'command line'), ('system', 'the service itself')], verbose_name='entry point')),
                ('request_key', models.TextField(null=True)),
                ('actor', models.TextField(blank=True, default='', verbose_name='started by')),
                ('reason', models.TextField(blank=True, default='', verbose_name='reason')),
                ('started_at', models.DateTimeField(null=True, verbose_name='started at')),
                ('approved_by', models.TextField(blank=True, default='', verbose_name='approved by')),
                ('approved_at', models.DateTimeField(null=True, verbose_name='approved at')),
                ('changed_by', models.TextField(blank=True, default='', verbose_name='changed by')),
                ('changed_at', models.DateTimeField(null=True, verbose_name='changed at')),
                ('finished_at', models.DateTimeField(null=True, verbose_name='finished at')),
                ('runner', models.TextField(blank=True, default='')),
                ('lease_until', models.DateTimeField(null=True)),
                ('paced_at', models.DateTimeField(null=True)),
            ],
            options={
                'verbose_name': 'job',
                'verbose_name_plural': 'jobs',
                'db_table': 'sagas_job',
                'permissions': [('run_job', 'May start, pause, resume, stop and approve jobs on many items')],
            },
        ),
        migrations.CreateModel(
            name='JobItem',
            fields=[
                ('id', models.BigAutoField(primary_key=True, serialize=False)),
                ('number', models.IntegerField(verbose_name='number')),
                ('target', models.TextField(db_collation='C', verbose_name='target')),
                ('values', models.JSONField(default=dict)),
                ('status', models.TextField(choices=[('unchecked', 'not checked yet'), ('eligible', 'eligible'), ('not_eligible', 'not eligible'), ('done', 'done'), ('already', 'done by others before'), ('refused', 'refused'), ('failed', 'failed')], db_collation='C', default='unchecked', verbose_name='status')),
                ('why', models.JSONField(null=True)),
                ('decision', models.UUIDField(null=True, verbose_name='decision')),
                ('decided_at', models.DateTimeField(null=True, verbose_name='decided at')),
                ('tries', models.SmallIntegerField(default=0)),
                ('in_canary', models.BooleanField(default=False)),
                ('commands', django.contrib.postgres.fields.ArrayField(base_field=models.UUIDField(), default=list, size=None)),
            ],
            options={
                'verbose_name': 'item of a job',
                'verbose_name_plural': 'items of jobs',
                'db_table': 'sagas_job_item',
            },
        ),
        migrations.AddField(
            model_name='decision',
            name='job',
            field=models.UUIDField(null=True, verbose_name='job'),
        ),
        migrations.AddIndex(
            model_name='decision',
            index=models.Index(condition=models.Q(('job__isnull', False)), fields=['job', 'action'], name='decision_job'),
        ),
        migrations.AddIndex(
            model_name='job',
            index=models.Index(fields=['-created_at', '-id'], name='job_newest'),
        ),
        migrations.AddIndex(
            model_name='job',
            index=models.Index(condition=models.Q(('status__in', ('checking', 'running'))), fields=['lease_until'], name='job_at_work'),
        ),
        migrations.AddConstraint(
            model_name='job',
            constraint=models.UniqueConstraint(fields=('created_by', 'request_key'), name='job_request_once'),
        ),
        migrations.AddConstraint(
            model_name='job',
            constraint=models.CheckConstraint(condition=models.Q(('status__in', ['checking', 'prepared', 'approval', 'running', 'paused', 'stopped', 'done'])), name='job_status'),
        ),
        migrations.AddField(
            model_name='jobitem',
            name='job',
            field=models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='items', to='sagas.job'),
        ),
        migrations.AddIndex(
            model_name='jobitem',
            index=models.Index(fields=['job', 'status', 'tries', 'number'], name='job_item_next'),
        ),
        migrations.AddConstraint(
            model_name='jobitem',
            constraint=models.UniqueConstraint(fields=('job', 'number'), name='job_item_once'),
        ),
        migrations.AddConstraint(
            model_name='jobitem',
            constraint=models.CheckConstraint(condition=models.Q(('status__in', ['unchecked', 'eligible', 'not_eligible', 'done', 'already', 'refused', 'failed'])), name='job_item_status'),
        ),
    ]
