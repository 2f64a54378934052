"""The rows of commands and attempts: columns and constraints only. outbox, delivery and deadlines change them."""

from typing import ClassVar

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Cast
from django.db.models.lookups import LessThanOrEqual
from django.utils.translation import gettext_lazy as _

from bridge.append_only import AppendOnly, AppendOnlyQuerySet
from compensation import reasons


class CommandKind(models.TextChoices):
    """What a row of the outbox asks for. Only messages are planned so far; see docs/architecture.md for the others."""

    PUBLISH = "publish", _("message")
    CALL = "call", _("function call")
    WAIT = "wait", _("timer")
    ASK = "ask", _("approval")


class CommandStatus(models.TextChoices):
    """The status of a command. Only `publishing` and `published` have an attempt that has not ended.

    `planned`: never claimed for publishing. `waiting`: claimed before, so the service may have received it.
    """

    PLANNED = "planned", _("planned")
    PUBLISHING = "publishing", _("being sent")
    PUBLISHED = "published", _("sent, waiting for the confirmation")
    WAITING = "waiting", _("waiting for the next attempt")
    CONFIRMED = "confirmed", _("confirmed")
    EXHAUSTED = "exhausted", _("needs a decision")
    SKIPPED = "skipped", _("skipped")
    WITHDRAWN = "withdrawn", _("withdrawn")
    # No longer required: its task was started again. It may become required, and then pending, again.
    NOT_REQUIRED = "not_required", _("no longer required")


GIVEN_UP = (CommandStatus.SKIPPED, CommandStatus.WITHDRAWN)
SETTLED = (CommandStatus.CONFIRMED, *GIVEN_UP)
# Nothing is to be done about these, and nobody waits for them.
INACTIVE = (*SETTLED, CommandStatus.NOT_REQUIRED)
UNSENT = (CommandStatus.PLANNED, CommandStatus.WAITING)
OPEN = (*UNSENT, CommandStatus.PUBLISHING, CommandStatus.PUBLISHED, CommandStatus.EXHAUSTED)


class ConfirmationKind(models.TextChoices):
    """What counts as the confirmation that the compensation was done."""

    EVENT = "event", _("by an event of the service")
    PUBLISHED = "published", _("by being sent")
    MANUAL = "manual", _("manually")


class ExhaustedBy(models.TextChoices):
    """Why no further attempt is made in this round."""

    ATTEMPTS = "attempts", _("all attempts are used up")
    NON_RETRYABLE = "non_retryable", _("this error is not retried")
    PERMANENT = "permanent", _("the message broker rejects this message permanently")
    INVALID = "invalid", _("the command does not match the service's schema")
    MANUAL = "manual", _("the service does not confirm: a person has to")


class AttemptOutcome(models.TextChoices):
    """The outcome of one attempt. One that is `open`, or `published` and waiting for its answer, has not ended."""

    OPEN = "open", _("being sent")
    PUBLISHED = "published", _("sent, waiting for the answer")
    CONFIRMED = "confirmed", _("confirmed")
    REFUSED = "refused", _("refused by the service")
    DEADLINE = "deadline", _("no answer in time")
    FAILED = "failed", _("could not be sent")
    UNREACHABLE = "unreachable", _("the message broker could not be reached")
    BLOCKED = "blocked", _("the topic does not accept commands")
    SUPERSEDED = "superseded", _("superseded")


# The most that the database stores as the result of one row, in bytes of its JSON text.
MAXIMUM_RESULT_BYTES = 1_048_576
_RESULT_BYTES = models.Func(
    Cast("result", models.TextField()), function="octet_length", output_field=models.IntegerField()
)


class Command(models.Model):
    """One required compensation, permanently under one id: the message, its retry policy and its state.

    Claiming a row begins a lease, at `claimed_at`: until it ends, nothing else claims the row. Its owner is the worker
    of the open attempt, and its number the attempt's round and number. The record of an attempt that does not hold the
    lease any more changes nothing (`CommandSnapshot.is_leased_to`).
    """

    id = models.UUIDField(primary_key=True)
    # The database's default lets a worker of an earlier release, which does not know the column, insert messages.
    kind = models.TextField(
        _("kind"), choices=CommandKind, default=CommandKind.PUBLISH, db_default=CommandKind.PUBLISH, db_collation="C"
    )
    # No foreign key: this package does not depend on the package of sagas.
    saga_id = models.UUIDField(_("saga"))
    stream = models.TextField(_("saga type"), db_collation="C")
    key = models.TextField(_("key"), db_collation="C")
    routing_key = models.TextField(_("routing key"), db_collation="C")
    entity = models.TextField(_("entity"), db_collation="C")
    name = models.TextField(_("name"), db_collation="C")
    service = models.TextField(_("service"), db_collation="C")
    topic = models.TextField(_("topic"), db_collation="C")
    # The whole message, frozen when it was planned: the service must see the same command on every attempt.
    body = models.JSONField(_("message"))
    confirmation = models.TextField(_("confirmation"), choices=ConfirmationKind, default=ConfirmationKind.EVENT)
    # Why the service would refuse the form of the command's data, as the code of a reason (see compensation.reasons; in
    # rows of earlier releases an English text). Such a command is never sent.
    invalid = models.TextField(_("why the service would refuse it"), blank=True, default="")

    initial_interval = models.FloatField(_("first interval (s)"))
    backoff_coefficient = models.FloatField(_("backoff coefficient"))
    maximum_interval = models.FloatField(_("longest interval (s)"))
    maximum_attempts = models.IntegerField(_("attempts"))
    jitter = models.FloatField(_("jitter"))
    non_retryable = models.JSONField(_("errors that are not retried"), default=list)
    confirmation_timeout = models.FloatField(_("confirmation deadline (s)"))

    status = models.TextField(_("status"), choices=CommandStatus, default=CommandStatus.PLANNED)
    round = models.IntegerField(_("round"), default=1)
    # The number of counted attempts in this round.
    attempt = models.IntegerField(_("attempt"), default=0)
    planned_at = models.DateTimeField(_("planned at"))
    released_at = models.DateTimeField(_("released at"), null=True, blank=True)
    # Held: another saga of the type has the same entity. `held_by` is that saga; see compensation.held.
    held_since = models.DateTimeField(_("held since"), null=True, blank=True)
    held_by = models.UUIDField(_("held because of the saga"), null=True, blank=True)
    # When a person released it from the hold; it is never held again.
    hold_released_at = models.DateTimeField(_("hold released at"), null=True, blank=True)
    next_at = models.DateTimeField(_("next attempt at"), null=True, blank=True)
    claimed_at = models.DateTimeField(_("claimed at"), null=True, blank=True)
    # Until when the lease was extended. Null: it ends a fixed time after the claim, as each message's does.
    lease_until = models.DateTimeField(_("leased until"), null=True, blank=True)
    published_at = models.DateTimeField(_("sent at"), null=True, blank=True)
    deadline_at = models.DateTimeField(_("answer due at"), null=True, blank=True)
    # When it was confirmed, skipped, withdrawn or exhausted. A retry clears it.
    settled_at = models.DateTimeField(_("settled at"), null=True, blank=True)
    by_hand = models.BooleanField(_("manual"), default=False)
    # The outcome: the id of the fact that settled it, at most one. A confirmation replaces a decision, and nothing
    # replaces a confirmation. Exhaustion is no outcome, because a retry opens another round.
    settled_event = models.TextField(_("settled by event"), blank=True, default="", db_collation="C")
    # What the outcome returned; a message returns nothing. It is payload.
    result = models.JSONField(_("result"), null=True, blank=True)
    # When an event confirmed it although no attempt had begun, by the database's clock. Such a confirmation answers
    # nothing that this service sent: somebody else undid it, or only reported so.
    confirmed_unsent_at = models.DateTimeField(_("confirmed although never sent"), null=True, blank=True)
    # When an event confirmed it although it was no longer required, by the database's clock: it had been sent before.
    overtaken_at = models.DateTimeField(_("done although no longer required"), null=True, blank=True)
    exhausted_by = models.TextField(_("exhausted because"), choices=ExhaustedBy, blank=True, default="")
    # The code of a reason (see compensation.reasons); in rows of earlier releases an English text.
    last_error = models.TextField(_("last error"), blank=True, default="")
    last_error_data = models.JSONField(_("parameters of the last error"), null=True, blank=True)

    class Meta:
        verbose_name = _("command")
        verbose_name_plural = _("commands")
        constraints = [
            # Also serves all queries for the commands of a saga or of one lane.
            models.UniqueConstraint(fields=["saga_id", "entity", "name"], name="command_once"),
            models.CheckConstraint(condition=Q(kind__in=CommandKind.values), name="command_kind"),
            models.CheckConstraint(condition=Q(status__in=CommandStatus.values), name="command_status"),
            models.CheckConstraint(condition=Q(confirmation__in=ConfirmationKind.values), name="command_confirmation"),
            # No command may be lost: a released one has a due time, a claimed one a claim time, a sent one a deadline.
            models.CheckConstraint(
                condition=~Q(status__in=UNSENT, released_at__isnull=False, next_at__isnull=True),
                name="command_released_is_due",
            ),
            models.CheckConstraint(
                condition=~Q(status=CommandStatus.PUBLISHING, claimed_at__isnull=True),
                name="command_publishing_is_claimed",
            ),
            models.CheckConstraint(
                condition=~Q(
                    status=CommandStatus.PUBLISHED, confirmation=ConfirmationKind.EVENT, deadline_at__isnull=True
                ),
                name="command_published_has_deadline",
            ),
            models.CheckConstraint(
                condition=Q(attempt__gte=0, attempt__lte=F("maximum_attempts")), name="command_attempts_in_policy"
            ),
            # A command that was claimed or settled is not held any more.
            models.CheckConstraint(
                condition=Q(held_since__isnull=True, held_by__isnull=True)
                | Q(held_since__isnull=False, held_by__isnull=False, status=CommandStatus.PLANNED),
                name="command_held_is_planned",
            ),
            models.CheckConstraint(
                condition=Q(lease_until__isnull=True) | Q(claimed_at__isnull=False), name="command_lease_is_claimed"
            ),
            models.CheckConstraint(
                condition=Q(result__isnull=True) | (~Q(kind=CommandKind.PUBLISH) & ~Q(settled_event="")),
                name="command_result_has_outcome",
            ),
            models.CheckConstraint(
                condition=Q(result__isnull=True) | Q(LessThanOrEqual(_RESULT_BYTES, MAXIMUM_RESULT_BYTES)),
                name="command_result_is_bounded",
            ),
        ]
        indexes = [
            # delivery: the next page of due commands of a kind.
            models.Index(
                fields=["kind", "next_at"],
                condition=Q(status__in=UNSENT, released_at__isnull=False, held_since__isnull=True),
                name="command_due_by_kind",
            ),
            # held: the commands of entities whose lane was opened or undone.
            models.Index(
                fields=["entity", "stream"], condition=Q(status=CommandStatus.PLANNED), name="command_unclaimed"
            ),
            # the attention list, and the sweep over held commands.
            models.Index(fields=["held_since", "id"], condition=Q(held_since__isnull=False), name="command_held"),
            # deadlines: overdue confirmations.
            models.Index(fields=["deadline_at"], condition=Q(status=CommandStatus.PUBLISHED), name="command_deadline"),
            # deadlines: claims whose process stopped.
            models.Index(fields=["claimed_at"], condition=Q(status=CommandStatus.PUBLISHING), name="command_claimed"),
            # the attention list, oldest first.
            models.Index(
                fields=["settled_at", "id"], condition=Q(status=CommandStatus.EXHAUSTED), name="command_exhausted"
            ),
            # the list of settled commands, by status. A command enters this index once, when it is settled.
            models.Index(fields=["status", "id"], condition=Q(status__in=SETTLED), name="command_settled"),
            # the list of commands that are no longer required.
            models.Index(fields=["id"], condition=Q(status=CommandStatus.NOT_REQUIRED), name="command_not_required"),
            # the attention list and the list of commands: confirmed though never sent, newest first.
            models.Index(
                fields=["confirmed_unsent_at", "saga_id"],
                condition=Q(confirmed_unsent_at__isnull=False),
                name="command_confirmed_unsent",
            ),
            # the attention list: done though no longer required, newest first.
            models.Index(
                fields=["overtaken_at", "saga_id"], condition=Q(overtaken_at__isnull=False), name="command_overtaken"
            ),
            # which kinds of commands a service ever confirmed. A command enters this index once, when it is confirmed.
            models.Index(
                fields=["service", "name"],
                condition=Q(status=CommandStatus.CONFIRMED, by_hand=False, confirmed_unsent_at__isnull=True)
                & ~Q(confirmation=ConfirmationKind.PUBLISHED),
                name="command_answered",
            ),
            # the load of each service, and withdrawing commands that were planned before a cut-over.
            models.Index(fields=["service", "planned_at"], condition=Q(status__in=OPEN), name="command_open"),
        ]

    def __str__(self) -> str:
        return f"{self.name} {self.id}"

    @property
    def invalid_text(self) -> str:
        """Why the service would refuse it, in the current language."""
        return reasons.text(self.invalid)


class Attempt(AppendOnly):
    """One attempt to have a command done. Inserted before the publish, completed once by its outcome, then immutable.

    `compensation.statements` completes it; the database rejects every other change. Retention deletes it with its saga.
    """

    id = models.BigAutoField(primary_key=True)
    command = models.ForeignKey(Command, on_delete=models.CASCADE, related_name="attempts", verbose_name=_("command"))
    round = models.IntegerField(_("round"))
    # An attempt that does not count leaves its number to the next one.
    number = models.IntegerField(_("number"))
    started_at = models.DateTimeField(_("started at"))
    ended_at = models.DateTimeField(_("ended at"), null=True, blank=True)
    worker = models.TextField(_("worker"), blank=True, default="")
    message_id = models.TextField(_("Pulsar message id"), blank=True, default="")
    outcome = models.TextField(_("outcome"), choices=AttemptOutcome, default=AttemptOutcome.OPEN)
    counted = models.BooleanField(_("counts"), default=True)
    # Of a refused attempt the text of the service, which is payload; otherwise the code of a reason.
    error = models.TextField(_("error"), blank=True, default="")

    objects: ClassVar[models.Manager["Attempt"]] = AppendOnlyQuerySet.as_manager()

    class Meta(AppendOnly.Meta):
        verbose_name = _("attempt")
        verbose_name_plural = _("attempts")
        constraints = [
            # Two publishers cannot send one command at the same time: the second insert fails. Also finds the attempt.
            models.UniqueConstraint(
                fields=["command"], condition=Q(ended_at__isnull=True), name="attempt_one_open_per_command"
            ),
            models.CheckConstraint(condition=Q(outcome__in=AttemptOutcome.values), name="attempt_outcome"),
        ]

    def __str__(self) -> str:
        return f"{self.command_id} {self.round}.{self.number} {self.outcome}"


class Switch(models.Model):
    """Whether commands may be sent: to one service, or to all ("*")."""

    service = models.TextField(_("service"), primary_key=True, db_collation="C")
    paused = models.BooleanField(_("paused"))
    changed_at = models.DateTimeField(_("changed at"))
    changed_by = models.TextField(_("changed by"), blank=True, default="")
    reason = models.TextField(_("reason"), blank=True, default="")

    class Meta:
        verbose_name = _("switch")
        verbose_name_plural = _("switches")

    def __str__(self) -> str:
        return f"{self.service}: {'paused' if self.paused else 'on'}"


class BreakerState(models.TextChoices):
    """Closed: commands are sent. Open: none is. Canary: only the first few, until the service has confirmed them."""

    CLOSED = "closed", _("closed")
    OPEN = "open", _("open")
    CANARY = "canary", _("sending the first commands")


class TripCause(models.TextChoices):
    """Why a circuit breaker opened."""

    PLANNED = "planned", _("too many commands were planned")
    REFUSED = "refused", _("the service refused one of the first commands")
    DEADLINE = "deadline", _("one of the first commands was not answered in time")
    EXHAUSTED = "exhausted", _("one of the first commands ran out of attempts")


class Breaker(models.Model):
    """The circuit breaker of one service, independent of the switch that people set. No row: it has never opened.

    Transitions are in `compensation.breaker`, under a lock of the service. Its numbers stay after it has closed.
    """

    service = models.TextField(_("service"), primary_key=True, db_collation="C")
    state = models.TextField(_("state"), choices=BreakerState)
    changed_at = models.DateTimeField(_("changed at"))
    changed_by = models.TextField(_("changed by"))
    reason = models.TextField(_("reason"), blank=True, default="")
    cause = models.TextField(_("cause"), choices=TripCause)
    # The commands planned in ten minutes when it opened, and the limit at that time.
    planned = models.BigIntegerField(_("commands planned"))
    allowed = models.BigIntegerField(_("limit"))
    # The commands that may be sent in the state `canary`, and the id of their last attempt before it.
    canary = ArrayField(models.UUIDField(), default=list, blank=True)
    canary_after = models.BigIntegerField(default=0)

    class Meta:
        verbose_name = _("circuit breaker")
        verbose_name_plural = _("circuit breakers")
        constraints = [models.CheckConstraint(condition=Q(state__in=BreakerState.values), name="breaker_state")]

    def __str__(self) -> str:
        return f"{self.service}: {self.state}"


class PlannedMinute(models.Model):
    """How many commands of one service were planned in one minute of the database's clock. Kept for ten minutes."""

    pk = models.CompositePrimaryKey("service", "minute")
    service = models.TextField(_("service"), db_collation="C")
    minute = models.DateTimeField(_("minute"))
    commands = models.BigIntegerField(_("commands planned"))

    class Meta:
        verbose_name = _("commands planned in a minute")
        verbose_name_plural = _("commands planned by minute")

    def __str__(self) -> str:
        return f"{self.service} {self.minute:%H:%M}: {self.commands}"
