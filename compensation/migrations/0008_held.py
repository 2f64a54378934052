"""Commands are held where another saga knows their entity too.

One transaction, which reads the table four times and keeps writers out meanwhile.
A worker of the release before cannot claim what is held: the constraint refuses it.
"""

from django.db import migrations, models

DUE_SOMETIME = ("planned", "waiting")


class Migration(migrations.Migration):
    dependencies = [("compensation", "0007_append_only")]

    operations = [
        migrations.AddField(
            "command", "held_since", models.DateTimeField(blank=True, null=True, verbose_name="held since")
        ),
        migrations.AddField(
            "command", "held_by", models.UUIDField(blank=True, null=True, verbose_name="held because of saga")
        ),
        migrations.AddField(
            "command", "hold_released_at", models.DateTimeField(blank=True, null=True, verbose_name="hold released at")
        ),
        migrations.AddIndex(
            "command",
            models.Index(
                fields=["next_at"],
                condition=models.Q(
                    status__in=DUE_SOMETIME, released_at__isnull=False, held_since__isnull=True
                ),
                name="command_ready",
            ),
        ),
        migrations.RemoveIndex("command", "command_due"),
        migrations.AddIndex(
            "command",
            models.Index(fields=["entity", "stream"], condition=models.Q(status="planned"), name="command_unclaimed"),
        ),
        migrations.AddIndex(
            "command",
            models.Index(
                fields=["held_since", "id"], condition=models.Q(held_since__isnull=False), name="command_held"
            ),
        ),
        migrations.AddConstraint(
            "command",
            models.CheckConstraint(
                condition=models.Q(held_since__isnull=True, held_by__isnull=True)
                | models.Q(held_since__isnull=False, held_by__isnull=False, status="planned"),
                name="command_held_is_planned",
            ),
        ),
    ]
