"""The producer's name beside each event and quarantined message, and a code for types on topics of others.

A column with a constant default is a change of the catalog alone: no row is written, whatever their number.
"""

from django.db import migrations, models

CODES = [('too-large', 'body over the limit'), ('not-json', 'not JSON'), ('not-an-object', 'JSON, but not an object'), ('too-deep', 'nested too deeply'), ('bad-text', 'text with NUL or half a character'), ('bad-number', 'number too large to be kept exactly'), ('unknown-type', 'unknown type of event'), ('wrong-topic', 'type of event that is not accepted from this topic'), ('bad-id', 'an id that is none'), ('no-key', 'names neither a key nor an entity'), ('bad-timestamp', 'timestamp that cannot be right'), ('wrong-type', 'a known field of a wrong type'), ('conflicting-content', 'id already seen with other content'), ('refused-by-database', 'refused by the database'), ('encrypted', 'encrypted, and this service has no key')]


def producer():
    return models.TextField(blank=True, db_default='', help_text='the name that the producer gave itself: for tracing only, it proves nothing', verbose_name='producer')


class Migration(migrations.Migration):
    dependencies = [("bridge", "0006_append_only")]

    operations = [
        migrations.AddField(model_name="event", name="producer", field=producer()),
        migrations.AddField(model_name="quarantined", name="producer", field=producer()),
        # All other columns that never change have this trigger since 0006.
        migrations.RunSQL(
            "CREATE TRIGGER append_only_producer BEFORE UPDATE OF producer ON bridge_quarantined"
            " FOR EACH STATEMENT EXECUTE FUNCTION bridge_append_only()",
            "DROP TRIGGER append_only_producer ON bridge_quarantined",
        ),
        migrations.AlterField(
            model_name="quarantined", name="code", field=models.TextField(choices=CODES, verbose_name="code")
        ),
        migrations.AlterField(
            model_name="quarantinecount",
            name="last_code",
            field=models.TextField(blank=True, choices=CODES, verbose_name="code of the last"),
        ),
    ]
