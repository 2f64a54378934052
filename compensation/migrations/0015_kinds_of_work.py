"""What a row asks for (today always a message), until when its lease was extended, and what its outcome returned.

Columns that may be null or have a constant default are a change of the catalog alone, and so is a constraint that is
not checked yet: the next migration checks them beside the traffic. What a row asks for never changes. A worker of an earlier release inserts and changes
rows without naming a new column, and every constraint holds for what it writes.
"""

from django.contrib.postgres.operations import AddConstraintNotValid
from django.db import migrations, models
from django.db.models.functions import Cast
from django.db.models.lookups import LessThanOrEqual

KINDS = [("publish", "message"), ("call", "function call"), ("wait", "timer"), ("ask", "approval")]
RESULT_BYTES = models.Func(
    Cast("result", models.TextField()), function="octet_length", output_field=models.IntegerField()
)
# What never changes; before, without the kind.
COMMAND = "id, saga_id, stream, key, routing_key, entity, name, service, topic, body"


def never_changes(columns: str) -> str:
    return (
        f"CREATE OR REPLACE TRIGGER never_changes BEFORE UPDATE OF {columns} ON compensation_command"
        " FOR EACH STATEMENT EXECUTE FUNCTION bridge_append_only()"
    )


def check(name: str, condition: models.Q) -> AddConstraintNotValid:
    return AddConstraintNotValid(
        model_name="command", constraint=models.CheckConstraint(condition=condition, name=name)
    )


class Migration(migrations.Migration):
    dependencies = [("compensation", "0013_answered")]

    operations = [
        migrations.AddField(
            model_name="command",
            name="kind",
            field=models.TextField(
                choices=KINDS, db_collation="C", db_default="publish", default="publish", verbose_name="kind"
            ),
        ),
        migrations.AddField(
            model_name="command",
            name="lease_until",
            field=models.DateTimeField(blank=True, null=True, verbose_name="leased until"),
        ),
        migrations.AddField(
            model_name="command",
            name="result",
            field=models.JSONField(blank=True, null=True, verbose_name="result"),
        ),
        check("command_kind", models.Q(kind__in=[kind for kind, _ in KINDS])),
        check("command_lease_is_claimed", models.Q(lease_until__isnull=True) | models.Q(claimed_at__isnull=False)),
        check(
            "command_result_has_outcome",
            models.Q(result__isnull=True) | (~models.Q(kind="publish") & ~models.Q(settled_event="")),
        ),
        check(
            "command_result_is_bounded",
            models.Q(result__isnull=True) | models.Q(LessThanOrEqual(RESULT_BYTES, 1_048_576)),
        ),
        migrations.RunSQL(never_changes(f"{COMMAND}, kind"), never_changes(COMMAND)),
    ]
