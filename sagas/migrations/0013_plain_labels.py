"""Labels in plain English, which are no change of the database, and the names of the permissions, which are rows."""

from django.db import migrations, models

OPERATE = "May decide on sagas, commands, parked events and publishing"
VIEW = "May see what messages say"
PLAIN_OPERATE = "May decide on sagas, commands, unmatched events, and sending commands"
PLAIN_VIEW = "May view message contents"


def rename(codename, old, new):
    """Django names a permission when it creates it, and never again."""
    change = "UPDATE auth_permission SET name = %s WHERE codename = %s AND name = %s"
    return migrations.RunSQL([(change, [new, codename, old])], [(change, [old, codename, new])])


class Migration(migrations.Migration):

    dependencies = [
        ('auth', '0012_alter_user_first_name_max_length'),
        ('sagas', '0012_release_decision'),
    ]

    operations = [
        rename('operate_saga', OPERATE, PLAIN_OPERATE),
        rename('view_payload', VIEW, PLAIN_VIEW),
        migrations.AlterModelOptions(
            name='parked',
            options={'verbose_name': 'unmatched event', 'verbose_name_plural': 'unmatched events'},
        ),
        migrations.AlterModelOptions(
            name='sagakey',
            options={'verbose_name': 'other key of a saga', 'verbose_name_plural': 'other keys of sagas'},
        ),
        migrations.AlterModelOptions(
            name='sagalog',
            options={'permissions': [('operate_saga', 'May decide on sagas, commands, unmatched events, and sending commands'), ('view_payload', 'May view message contents')], 'verbose_name': 'saga', 'verbose_name_plural': 'sagas'},
        ),
        migrations.AlterField(
            model_name='attachment',
            name='key',
            field=models.TextField(db_collation='C', verbose_name='key'),
        ),
        migrations.AlterField(
            model_name='decision',
            name='action',
            field=models.TextField(choices=[('force_compensation', 'force compensation'), ('cancel', 'cancel'), ('terminate', 'terminate'), ('resume', 'resume'), ('replay', 'replay'), ('retry', 'retry'), ('skip', 'skip'), ('mark_done', 'mark as done'), ('withdraw', 'withdraw'), ('release', 'release'), ('attach', 'attach'), ('adopt', 'adopt'), ('dismiss', 'dismiss'), ('requeue', 'requeue'), ('dismiss_message', 'dismiss message'), ('pause_publishing', 'pause sending'), ('resume_publishing', 'resume sending')], verbose_name='action'),
        ),
        migrations.AlterField(
            model_name='decision',
            name='actor',
            field=models.TextField(verbose_name='actor'),
        ),
        migrations.AlterField(
            model_name='decision',
            name='decided_at',
            field=models.DateTimeField(verbose_name='decided at'),
        ),
        migrations.AlterField(
            model_name='decision',
            name='door',
            field=models.TextField(choices=[('api', 'API'), ('admin', 'admin'), ('command', 'command line'), ('system', 'the service itself')], verbose_name='entry point'),
        ),
        migrations.AlterField(
            model_name='decision',
            name='reason',
            field=models.TextField(verbose_name='reason'),
        ),
        migrations.AlterField(
            model_name='lane',
            name='outcome',
            field=models.TextField(choices=[('open', 'open'), ('processed', 'processed'), ('undoing', 'being undone'), ('undone', 'undone'), ('settled', 'closed manually')], db_collation='C', verbose_name='outcome'),
        ),
        migrations.AlterField(
            model_name='parked',
            name='key',
            field=models.TextField(db_collation='C', verbose_name='key'),
        ),
        migrations.AlterField(
            model_name='parked',
            name='reason',
            field=models.TextField(choices=[('no_saga', 'no saga matches its ids'), ('ambiguous', 'several sagas match its ids'), ('no_entity', 'it does not name a part of the saga'), ('set_aside', 'its saga is blocked by an error')], verbose_name='reason'),
        ),
        migrations.AlterField(
            model_name='prunedkey',
            name='key',
            field=models.TextField(db_collation='C', verbose_name='key'),
        ),
        migrations.AlterField(
            model_name='sagalog',
            name='key',
            field=models.TextField(db_collation='C', verbose_name='key'),
        ),
        migrations.AlterField(
            model_name='sagakey',
            name='key',
            field=models.TextField(db_collation='C', verbose_name='key'),
        ),
        migrations.AlterField(
            model_name='sagalog',
            name='set_aside_at',
            field=models.DateTimeField(null=True, verbose_name='blocked since'),
        ),
        migrations.AlterField(
            model_name='sagalog',
            name='set_aside_error',
            field=models.TextField(blank=True, default='', verbose_name='blocked by the error'),
        ),
    ]
