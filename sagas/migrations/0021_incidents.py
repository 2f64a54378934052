"""Incidents, what people write about them, and the fingerprint by which failures of commands are grouped.

The fingerprint is an indexed function of a command's row, not a column: only commands that need a decision are in the
index, so no other insert or update computes it, and what belongs to an incident cannot differ from the rows. It is the
md5 of service, command, why it is exhausted, and the codes and texts of the reason without what tells one case from the
next: quoted parts, paths, names of files, whatever has a digit in it. Of that, 300 characters count. Changing the
function needs a new index, and gives incidents new ids.
"""

import django.db.models.deletion
from django.db import migrations, models

FINGERPRINT = r"""
CREATE OR REPLACE FUNCTION sagas_failure_fingerprint(service text, name text, exhausted_by text, last_error text, data jsonb)
RETURNS uuid LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE COST 1000 AS $$
DECLARE
    -- Of earlier releases `last_error` is the text as it was shown, and there are no data.
    shown text := lower(concat_ws(
        ' ', last_error,
        (SELECT string_agg(part #>> '{}', ' ') FROM jsonb_path_query(data, '$.**.code') AS part),
        (SELECT string_agg(part #>> '{}', ' ') FROM jsonb_path_query(data, '$.**.entry') AS part),
        (SELECT string_agg(part #>> '{}', ' ') FROM jsonb_path_query(data, '$.**.error') AS part)
    ) COLLATE "C");
BEGIN
    -- Quoted parts.
    shown := regexp_replace(
        shown, $r$(^|[\s(=:,])["'`“‘„«][^"'`”’“»]*["'`”’“»](?=$|[\s).,:;!?])$r$, '\1*', 'g'
    );
    -- Paths and URLs, then names of files.
    shown := regexp_replace(shown, $r$[^\s"'()<>=,;]*[/\\][^\s"'()<>,;]*$r$, '*', 'g');
    shown := regexp_replace(
        shown, $r$[^\s"'()<>=,;:]+\.[a-z0-9]{1,4}(?=$|[^a-z0-9._-]|\.\s|\.$)$r$, '*', 'g'
    );
    -- Ids, numbers, times, in European, Arabic, Persian, Indian and wide digits; and ids of letters only.
    shown := regexp_replace(
        shown, $r$[a-z0-9_.@%+~#:-]*[0-9٠-٩۰-۹०-९０-９][a-z0-9_.@%+~#:٠-٩۰-۹०-९０-９-]*$r$, '*', 'g'
    );
    shown := regexp_replace(shown, $r$\m[a-f]{8,}\M$r$, '*', 'g');
    -- Lists of such parts, however long.
    shown := regexp_replace(shown, $r$\*[\s*,;:.()_-]*$r$, '* ', 'g');
    shown := btrim(regexp_replace(shown, $r$\s+$r$, ' ', 'g'), ' .!:');
    RETURN md5(concat_ws(chr(10), service, name, exhausted_by, left(shown, 300)))::uuid;
END
$$
"""

# A partial index of its own, built beside the traffic: grouping and counting by fingerprint, each group in the order of time.
INDEX = """
CREATE INDEX CONCURRENTLY command_failure ON compensation_command (
    sagas_failure_fingerprint(service, name, exhausted_by, last_error, last_error_data), settled_at
) WHERE status = 'exhausted'
"""


class Migration(migrations.Migration):
    atomic = False  # CONCURRENTLY wants no transaction

    dependencies = [
        ('bridge', '0006_append_only'),
        ('compensation', '0013_answered'),
        ('sagas', '0020_jobs'),
    ]

    # First what takes long, and may be done again if it is interrupted.
    operations = [
        migrations.RunSQL(
            FINGERPRINT, "DROP FUNCTION sagas_failure_fingerprint(text, text, text, text, jsonb)"
        ),
        migrations.RunSQL("DROP INDEX CONCURRENTLY IF EXISTS command_failure", migrations.RunSQL.noop),
        migrations.RunSQL(INDEX, "DROP INDEX CONCURRENTLY IF EXISTS command_failure"),
        migrations.CreateModel(
            name='Incident',
            fields=[
                ('id', models.UUIDField(editable=False, primary_key=True, serialize=False)),
                ('kind', models.TextField(db_collation='C', verbose_name='kind')),
                ('facets', models.JSONField(verbose_name='what they have in common')),
                ('first_at', models.DateTimeField(verbose_name='first')),
                ('last_at', models.DateTimeField(verbose_name='last')),
                ('cases', models.IntegerField(verbose_name='number')),
                ('most_cases', models.IntegerField(verbose_name='most at once')),
                ('times', models.IntegerField(default=1, verbose_name='times')),
                ('ended_at', models.DateTimeField(null=True, verbose_name='ended at')),
                ('owner', models.TextField(blank=True, default='', verbose_name='owner')),
                ('acknowledged_until', models.DateTimeField(null=True, verbose_name='acknowledged until')),
                ('acknowledged_by', models.TextField(blank=True, default='', verbose_name='acknowledged by')),
            ],
            options={
                "default_permissions": (),
                "verbose_name": "incident",
                'verbose_name_plural': 'incidents',
                'db_table': 'sagas_incident',
                'indexes': [models.Index(condition=models.Q(('ended_at__isnull', True)), fields=['id'], name='incident_current'), models.Index(condition=models.Q(('ended_at__isnull', False)), fields=['-ended_at'], name='incident_ended')],
            },
        ),
        migrations.CreateModel(
            name='IncidentNote',
            fields=[
                ('id', models.BigAutoField(primary_key=True, serialize=False)),
                ('entry', models.TextField(choices=[('note', 'note'), ('assign', 'assigned'), ('acknowledge', 'acknowledged')], verbose_name='entry')),
                ('author', models.TextField(verbose_name='author')),
                ('written_at', models.DateTimeField(verbose_name='written at')),
                ('text', models.TextField(verbose_name='text')),
                ('value', models.TextField(blank=True, default='')),
                ('incident', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='notes', to='sagas.incident')),
            ],
            options={
                "default_permissions": (),
                "verbose_name": "note on an incident",
                'verbose_name_plural': 'notes on incidents',
                'db_table': 'sagas_incident_note',
                'abstract': False,
                'base_manager_name': 'objects',
            },
        ),
        migrations.RunSQL(
            "CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON sagas_incident_note"
            " FOR EACH STATEMENT EXECUTE FUNCTION bridge_append_only('kept by retention too')",
            "DROP TRIGGER append_only ON sagas_incident_note",
        ),
    ]
