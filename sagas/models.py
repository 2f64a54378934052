"""The tables of sagas. All rows are folded from the saga's log and can be folded again; the log is `bridge.Event`."""

import uuid
from collections.abc import Mapping
from typing import Any, ClassVar

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from bridge.append_only import AppendOnly, AppendOnlyQuerySet
from sagas import reasons
from sagas.engine.definition import StepStatus
from sagas.engine.state import LaneStatus, SagaStatus


class SagaStatusChoice(models.TextChoices):
    """The six statuses of the HTTP contract, with their labels for people."""

    STARTED = SagaStatus.STARTED.value, _("started")
    COMPLETED = SagaStatus.COMPLETED.value, _("completed")
    FAILED = SagaStatus.FAILED.value, _("failed")
    COMPENSATING = SagaStatus.COMPENSATING.value, _("compensating")
    COMPENSATION_SUCCEEDED = SagaStatus.COMPENSATION_SUCCEEDED.value, _("compensation succeeded")
    COMPENSATION_FAILED = SagaStatus.COMPENSATION_FAILED.value, _("compensation failed")


# Statuses in which nothing is in progress and no decision is needed.
ENDED = (SagaStatusChoice.COMPLETED, SagaStatusChoice.FAILED, SagaStatusChoice.COMPENSATION_SUCCEEDED)


class StepStatusChoice(models.TextChoices):
    """The statuses of a step, which are part of the HTTP contract, with their labels for people."""

    PENDING = StepStatus.PENDING.value, pgettext_lazy("step", "pending")
    STARTED = StepStatus.STARTED.value, pgettext_lazy("step", "started")
    COMPLETED = StepStatus.COMPLETED.value, pgettext_lazy("step", "completed")
    FAILED = StepStatus.FAILED.value, pgettext_lazy("step", "failed")
    COMPENSATING = StepStatus.COMPENSATING.value, pgettext_lazy("step", "compensating")
    COMPENSATED = StepStatus.COMPENSATED.value, pgettext_lazy("step", "compensated")
    COMPENSATION_FAILED = StepStatus.COMPENSATION_FAILED.value, pgettext_lazy("step", "compensation failed")


class LaneOutcome(models.TextChoices):
    """The statuses of a lane, with their labels for people."""

    OPEN = LaneStatus.OPEN.value, _("open")
    PROCESSED = LaneStatus.PROCESSED.value, _("processed")
    UNDOING = LaneStatus.UNDOING.value, _("being undone")
    UNDONE = LaneStatus.UNDONE.value, _("undone")
    SETTLED = LaneStatus.SETTLED.value, _("closed manually")


class SagaLog(models.Model):
    """One saga: what was fixed at its birth, what its facts fold to, and the counters of its lanes.

    `state` is the engine's value; the other columns are read from it for lists and filters.
    """

    id = models.UUIDField(primary_key=True, editable=False)
    saga_type = models.TextField(_("type"), db_collation="C")
    version = models.IntegerField(_("definition version"))
    failure_scope = models.TextField(_("failure scope"))
    key = models.TextField(_("key"), db_collation="C")
    correlation_id = models.TextField(_("correlation id"), db_collation="C")
    status = models.TextField(_("status"), choices=SagaStatusChoice, db_collation="C")
    start_time = models.DateTimeField(_("started at"))
    end_time = models.DateTimeField(_("ended at"), null=True)
    last_event_at = models.DateTimeField(_("last event at"))
    error_message = models.TextField(_("error"), null=True)
    state = models.JSONField(default=dict)

    lanes_known = models.IntegerField(_("lanes"), default=0)
    lanes_open = models.IntegerField(default=0)
    lanes_processed = models.IntegerField(default=0)
    lanes_undoing = models.IntegerField(default=0)
    lanes_undone = models.IntegerField(default=0)
    lanes_settled = models.IntegerField(default=0)
    commands_on_the_way = models.IntegerField(default=0)
    commands_exhausted = models.IntegerField(default=0)
    commands_confirmed = models.IntegerField(default=0)
    commands_given_up = models.IntegerField(default=0)
    steps_count = models.IntegerField(_("steps"), default=0)
    failed_steps_count = models.IntegerField(_("failed steps"), default=0)

    events_count = models.IntegerField(_("events"), default=0)
    set_aside_at = models.DateTimeField(_("blocked since"), null=True)
    set_aside_error = models.TextField(_("blocked by the error"), blank=True, default="")
    created_at = models.DateTimeField(_("created at"))
    updated_at = models.DateTimeField(_("updated at"))

    class Meta:
        db_table = "sagas_saga"
        verbose_name = _("saga")
        verbose_name_plural = _("sagas")
        permissions = [
            ("operate_saga", _("May decide on sagas, commands, unmatched events, and sending commands")),
            ("view_payload", _("May view message contents")),
        ]
        constraints = [
            # Finds the saga of an event; prevents two workers from creating it twice.
            models.UniqueConstraint(fields=["key", "saga_type"], name="saga_once"),
            models.CheckConstraint(condition=models.Q(status__in=SagaStatusChoice.values), name="saga_status"),
        ]
        indexes = [
            models.Index(fields=["-start_time", "-id"], name="saga_newest"),  # the list
            # The list, one status; and sagas without progress. No column here changes with every event: a saga's row
            # is updated very often, and its indexes should not be.
            models.Index(fields=["status", "-start_time", "-id"], name="saga_status_newest"),
            models.Index(fields=["saga_type", "-start_time", "-id"], name="saga_type_newest"),  # the list, one type
            models.Index(fields=["correlation_id", "-start_time", "-id"], name="saga_correlation"),  # by-correlation
            models.Index(
                fields=["set_aside_at"], name="saga_set_aside", condition=models.Q(set_aside_at__isnull=False)
            ),
            # Retention, the earliest end first. Its columns change only when a saga ends, as does the index on status.
            models.Index(fields=["end_time", "id"], name="saga_ended", condition=models.Q(status__in=ENDED)),
        ]

    def __str__(self) -> str:
        return f"{self.saga_type} {self.key}"


class Lane(models.Model):
    """One entity of a saga, such as an image: its flags, what is known of its commands (`state`), and its status."""

    id = models.BigAutoField(primary_key=True)
    saga = models.ForeignKey(SagaLog, models.CASCADE, related_name="lanes", db_index=False)
    entity = models.TextField(_("entity"), db_collation="C")
    # False for a row that only holds the saga's own steps, or that only a command's event or a decision named: no lane.
    known = models.BooleanField(default=True)
    failed = models.BooleanField(_("failed"), default=False)
    outcome = models.TextField(_("outcome"), choices=LaneOutcome, db_collation="C")
    opened_at = models.DateTimeField(_("opened at"), null=True)
    state = models.JSONField(default=dict)

    class Meta:
        db_table = "sagas_lane"
        verbose_name = _("lane")
        verbose_name_plural = _("lanes")
        constraints = [models.UniqueConstraint(fields=["saga", "entity"], name="lane_once")]
        # Finds the saga of an event that names only an image, and the filter image_id.
        indexes = [models.Index(fields=["entity"], name="lane_entity")]

    def __str__(self) -> str:
        return self.entity


class SagaStep(models.Model):
    """One step of one entity: what its facts prove (`rank`), and the status that people see (`status`)."""

    id = models.BigAutoField(primary_key=True)
    # No constraint in the database: checking it costs 5 µs a row, a twentieth of the total cost of an event, and only
    # applying inserts rows, while it holds the saga's lock and has loaded its row.
    saga = models.ForeignKey(SagaLog, models.CASCADE, related_name="steps", db_index=False, db_constraint=False)
    entity = models.TextField(_("entity"), db_collation="C")
    step_type = models.TextField(_("step"), db_collation="C")
    service = models.TextField(_("service"), db_collation="C")
    status = models.TextField(_("status"), choices=StepStatusChoice, db_collation="C")
    # The rank that facts gave it (sagas.engine.definition.FACT_RANK); 0 for a step that only a command made.
    rank = models.SmallIntegerField(default=0)
    occurred_at = models.DateTimeField(_("occurred at"))
    event_id = models.TextField(_("event id"), db_collation="C", blank=True, default="")
    event_type = models.TextField(_("event type"), db_collation="C", blank=True, default="")
    error_message = models.TextField(_("error"), null=True)
    metadata = models.JSONField(_("metadata"), null=True)
    compensation_timestamp = models.DateTimeField(_("compensated at"), null=True)

    class Meta:
        db_table = "sagas_step"
        verbose_name = _("step")
        verbose_name_plural = _("steps")
        # Its prefix loads one lane.
        constraints = [models.UniqueConstraint(fields=["saga", "entity", "step_type", "service"], name="step_once")]

    def __str__(self) -> str:
        return f"{self.step_type} {self.service} {self.entity}"

    @property
    def public_id(self) -> uuid.UUID:
        """Return the step's id for clients: it never changes, not even after a replay."""
        return uuid.uuid5(self.saga_id, f"{self.entity}:{self.step_type}:{self.service}")


class SagaEvent(AppendOnly):
    """The saga's log: which events were applied, in which order, and in short what each changed.

    The primary key guarantees that an event is not applied twice, even if a lock fails. Never updated; deleted with its
    saga, by retention.
    """

    event = models.BigIntegerField(primary_key=True)
    # No constraint in the database, as with steps.
    saga = models.ForeignKey(SagaLog, models.CASCADE, related_name="log", db_index=False, db_constraint=False)
    seq = models.IntegerField(_("number"))
    # The lane that a person attached the event to; the event itself never changes.
    lane = models.TextField(null=True, db_collation="C")
    applied_at = models.DateTimeField(_("applied at"))
    note = models.JSONField(default=dict)

    objects: ClassVar[models.Manager["SagaEvent"]] = AppendOnlyQuerySet.as_manager()

    class Meta(AppendOnly.Meta):
        db_table = "sagas_saga_event"
        verbose_name = _("event of a saga")
        verbose_name_plural = _("events of sagas")
        constraints = [models.UniqueConstraint(fields=["saga", "seq"], name="saga_event_seq")]

    def __str__(self) -> str:
        return f"{self.saga_id} {self.seq}"


class ParkedReason(models.TextChoices):
    """Why an event is parked."""

    NO_SAGA = "no_saga", _("no saga matches its ids")
    AMBIGUOUS = "ambiguous", _("several sagas match its ids")
    NO_ENTITY = "no_entity", _("it does not name a part of the saga")
    SET_ASIDE = "set_aside", _("its saga is blocked by an error")


class Parked(models.Model):
    """An event that does not match any saga yet. It is applied as soon as its saga or image appears."""

    event = models.BigIntegerField(primary_key=True)
    stream = models.TextField(db_collation="C")
    key = models.TextField(_("key"), db_collation="C")
    entity = models.TextField(_("entity"), db_collation="C")
    # Whether it may be matched by its entity: its type may carry a key of the service's own, or it has no key.
    by_entity = models.BooleanField(default=False)
    reason = models.TextField(_("reason"), choices=ParkedReason)
    since = models.DateTimeField(_("since"))
    suggestion = models.UUIDField(_("likely saga"), null=True)
    dismissed_at = models.DateTimeField(_("dismissed at"), null=True)

    class Meta:
        db_table = "sagas_parked"
        verbose_name = _("unmatched event")
        verbose_name_plural = _("unmatched events")
        indexes = [
            models.Index(fields=["stream", "key"], name="parked_key"),  # a saga's birth, an attachment
            models.Index(fields=["stream", "entity"], name="parked_entity"),  # a lane that opens
            models.Index(fields=["suggestion"], name="parked_suggestion"),  # a saga's page, resume
            models.Index(fields=["since"], name="parked_since", condition=models.Q(dismissed_at__isnull=True)),
        ]

    def __str__(self) -> str:
        return f"{self.stream}:{self.key} {self.event}"


class SagaKey(models.Model):
    """Another key under which events were applied to a saga: by attachment, or matched by their image."""

    id = models.BigAutoField(primary_key=True)
    stream = models.TextField(db_collation="C")
    key = models.TextField(_("key"), db_collation="C")
    saga = models.ForeignKey(SagaLog, models.CASCADE, related_name="keys")

    class Meta:
        db_table = "sagas_saga_key"
        verbose_name = _("other key of a saga")
        verbose_name_plural = _("other keys of sagas")
        constraints = [models.UniqueConstraint(fields=["key", "stream", "saga"], name="saga_key_once")]

    def __str__(self) -> str:
        return self.key


class Attachment(models.Model):
    """The decision that all events of a key, past and future, belong to a saga, or to one lane of it."""

    id = models.BigAutoField(primary_key=True)
    stream = models.TextField(db_collation="C")
    key = models.TextField(_("key"), db_collation="C")
    saga = models.ForeignKey(SagaLog, models.CASCADE, related_name="attachments")
    lane = models.TextField(_("lane"), null=True, db_collation="C")
    created_at = models.DateTimeField(_("created at"))
    created_by = models.TextField(_("by"))

    class Meta:
        db_table = "sagas_attachment"
        verbose_name = _("attachment")
        verbose_name_plural = _("attachments")
        constraints = [models.UniqueConstraint(fields=["key", "stream"], name="attachment_once")]

    def __str__(self) -> str:
        return f"{self.stream}:{self.key}"


class PrunedKey(models.Model):
    """A key of a saga that has been pruned: explains events that arrive too late under this key."""

    id = models.BigAutoField(primary_key=True)
    stream = models.TextField(db_collation="C")
    key = models.TextField(_("key"), db_collation="C")
    saga_id = models.UUIDField(_("saga"))
    ended_at = models.DateTimeField(_("ended at"))
    pruned_at = models.DateTimeField(_("pruned at"))

    class Meta:
        db_table = "sagas_pruned_key"
        verbose_name = _("key of a pruned saga")
        verbose_name_plural = _("keys of pruned sagas")
        indexes = [
            models.Index(fields=["key", "stream"], name="pruned_key"),  # the attention list
            models.Index(fields=["pruned_at"], name="pruned_key_oldest"),  # forgetting the oldest
        ]

    def __str__(self) -> str:
        return f"{self.stream}:{self.key}"


class EntryPoint(models.TextChoices):
    """The entry point of a decision. `system`: no person decided, but the service itself."""

    API = "api", _("API")
    ADMIN = "admin", _("admin")
    COMMAND = "command", _("command line")
    SYSTEM = "system", _("the service itself")


class Decision(AppendOnly):
    """The audit log: who decided what, when, through which entry point and why. Never changed, never deleted."""

    id = models.UUIDField(primary_key=True, editable=False)
    # The name of one of `sagas.actions.registry`, or of a decision of another release.
    action = models.TextField(_("action"))
    # Its name for programs. `target_data`: its code with parameters, from which people's text is made, as
    # `sagas.targets` describes; earlier releases stored the name alone.
    target = models.TextField(_("target"))
    target_data = models.JSONField(null=True)
    saga = models.UUIDField(_("saga"), null=True)
    actor = models.TextField(_("actor"))
    door = models.TextField(_("entry point"), choices=EntryPoint)
    # Of a decision of the service itself, the code of a reason; see `sagas.reasons`.
    reason = models.TextField(_("reason"))
    # Names the decision: a repeated request is answered as the first was.
    once = models.TextField(null=True, unique=True)
    request_key = models.TextField(null=True)
    decided_at = models.DateTimeField(_("decided at"))
    answer = models.JSONField(default=dict)
    # The job that carried it out, or that it is about.
    job = models.UUIDField(_("job"), null=True)

    objects: ClassVar[models.Manager["Decision"]] = AppendOnlyQuerySet.as_manager()

    class Meta(AppendOnly.Meta):
        db_table = "sagas_decision"
        verbose_name = _("decision")
        verbose_name_plural = _("decisions")
        constraints = [models.UniqueConstraint(fields=["actor", "request_key"], name="decision_request_once")]
        indexes = [
            models.Index(fields=["saga", "decided_at"], name="decision_saga"),  # the timeline
            models.Index(fields=["-decided_at"], name="decision_newest"),  # the audit list
            # A job's own decisions, among those of its items.
            models.Index(fields=["job", "action"], name="decision_job", condition=models.Q(job__isnull=False)),
        ]

    def __str__(self) -> str:
        return f"{self.action} {self.target}"

    @property
    def reason_text(self) -> str:
        """The reason as people read it. Needs the answer."""
        return reason_text(self.door, self.reason, self.answer.get("effects", {}).get("breaker"))


class Incident(models.Model):
    """One group of problems with the same cause: what people wrote about it, and its history since it was first seen.

    What belongs to it now, and how much, is always read from the rows themselves (`sagas.incidents`): this row is not
    needed to count, so no writer of the hot path touches it. `sagas.incidents.record` inserts and updates it.
    """

    # Derived from kind and facets: an incident that comes again has the same id, and so its owner and its notes.
    id = models.UUIDField(primary_key=True, editable=False)
    kind = models.TextField(_("kind"), db_collation="C")
    # What the problems have in common, such as service, command and fingerprint: columns of the rows and their values.
    facets = models.JSONField(_("what they have in common"))
    # The first and the last problem of the current time, or, once it has ended, of the last one.
    first_at = models.DateTimeField(_("first"))
    last_at = models.DateTimeField(_("last"))
    cases = models.IntegerField(_("number"))
    most_cases = models.IntegerField(_("most at once"))
    # How often it came: 1 at first, and one more each time that it comes again after its end.
    times = models.IntegerField(_("times"), default=1)
    ended_at = models.DateTimeField(_("ended at"), null=True)
    owner = models.TextField(_("owner"), blank=True, default="")
    acknowledged_until = models.DateTimeField(_("acknowledged until"), null=True)
    acknowledged_by = models.TextField(_("acknowledged by"), blank=True, default="")

    class Meta:
        db_table = "sagas_incident"
        # Who may see one is told by the rights to see its cases (`sagas.incidents.kinds`).
        default_permissions = ()
        verbose_name = _("incident")
        verbose_name_plural = _("incidents")
        indexes = [
            models.Index(fields=["id"], name="incident_current", condition=models.Q(ended_at__isnull=True)),  # record
            # The list of those that have ended, and forgetting the oldest.
            models.Index(fields=["-ended_at"], name="incident_ended", condition=models.Q(ended_at__isnull=False)),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.id}"


class IncidentEntry(models.TextChoices):
    """What somebody did with an incident."""

    NOTE = "note", _("note")
    ASSIGN = "assign", _("assigned")
    ACKNOWLEDGE = "acknowledge", _("acknowledged")


class IncidentNote(AppendOnly):
    """What somebody wrote about an incident, on its own or with another decision on it. Never changed or deleted."""

    id = models.BigAutoField(primary_key=True)
    incident = models.ForeignKey(Incident, models.PROTECT, related_name="notes")
    entry = models.TextField(_("entry"), choices=IncidentEntry)
    author = models.TextField(_("author"))
    written_at = models.DateTimeField(_("written at"))
    text = models.TextField(_("text"))
    # The owner, or until when it is acknowledged, if the decision set one.
    value = models.TextField(blank=True, default="")

    objects: ClassVar[models.Manager["IncidentNote"]] = AppendOnlyQuerySet.as_manager()

    class Meta(AppendOnly.Meta):
        db_table = "sagas_incident_note"
        default_permissions = ()
        verbose_name = _("note on an incident")
        verbose_name_plural = _("notes on incidents")

    def __str__(self) -> str:
        return f"{self.entry} {self.author}"


def reason_text(door: str, reason: str, breaker: Mapping[str, Any] | None) -> str:
    """Return a person's reason as it was given, and that of the service in the current language.

    breaker: the numbers of the circuit breaker, from the decision's answer.
    """
    return reasons.text(reason, breaker) if door == EntryPoint.SYSTEM else reason


class JobStatus(models.TextChoices):
    """Where a job is. `sagas.jobs` describes the transitions."""

    CHECKING = "checking", _("being checked")
    PREPARED = "prepared", _("ready to start")
    APPROVAL = "approval", _("waits for approval")
    RUNNING = "running", _("running")
    PAUSED = "paused", _("paused")
    STOPPED = "stopped", _("stopped")
    DONE = "done", _("done")


class PauseCause(models.TextChoices):
    """Why a job is paused."""

    NONE = "", ""
    PERSON = "person", _("by a person")
    CANARY_REFUSED = "canary_refused", _("an item of the canary was not carried out")
    CANARY_UNCONFIRMED = "canary_unconfirmed", _("a command of the canary was refused or not confirmed in time")


class Job(models.Model):
    """One decision on many items, whose list is fixed when the job is made. Celery carries it out (`sagas.jobs`)."""

    id = models.UUIDField(primary_key=True, editable=False)
    # A decision of `sagas.actions.registry`, the values of its own fields, and how the items were chosen.
    action = models.TextField(_("action"))
    values = models.JSONField(default=dict)
    selection = models.JSONField(default=dict)
    status = models.TextField(_("status"), choices=JobStatus, default=JobStatus.CHECKING, db_collation="C")
    pause_cause = models.TextField(_("paused because"), choices=PauseCause, blank=True, default=PauseCause.NONE)
    # Items per second; 0: as fast as possible. And how many are carried out first.
    rate = models.FloatField(_("items per second"), default=0.0)
    canary = models.IntegerField(_("canary"), default=0)
    canary_passed_at = models.DateTimeField(null=True)
    # The last attempt of any command before the canary began.
    canary_after = models.BigIntegerField(default=0)

    total = models.IntegerField(_("items"), default=0)
    eligible = models.IntegerField(_("eligible"), default=0)
    not_eligible = models.IntegerField(_("not eligible"), default=0)
    done = models.IntegerField(_("done"), default=0)
    already = models.IntegerField(_("done by others"), default=0)
    refused = models.IntegerField(_("refused"), default=0)
    failed = models.IntegerField(_("failed"), default=0)

    created_at = models.DateTimeField(_("created at"))
    created_by = models.TextField(_("created by"))
    door = models.TextField(_("entry point"), choices=EntryPoint)
    request_key = models.TextField(null=True)
    # Who started it is the actor of its decisions; the reason is theirs too.
    actor = models.TextField(_("started by"), blank=True, default="")
    reason = models.TextField(_("reason"), blank=True, default="")
    started_at = models.DateTimeField(_("started at"), null=True)
    approved_by = models.TextField(_("approved by"), blank=True, default="")
    approved_at = models.DateTimeField(_("approved at"), null=True)
    # The last person who paused, resumed or stopped it.
    changed_by = models.TextField(_("changed by"), blank=True, default="")
    changed_at = models.DateTimeField(_("changed at"), null=True)
    finished_at = models.DateTimeField(_("finished at"), null=True)

    # The one process that works on it, and until when that counts; all times are by the database's clock.
    runner = models.TextField(blank=True, default="")
    lease_until = models.DateTimeField(null=True)
    # Up to when the rate has been used.
    paced_at = models.DateTimeField(null=True)

    class Meta:
        db_table = "sagas_job"
        verbose_name = _("job")
        verbose_name_plural = _("jobs")
        permissions = [("run_job", _("May start, pause, resume, stop and approve jobs on many items"))]
        constraints = [
            models.UniqueConstraint(fields=["created_by", "request_key"], name="job_request_once"),
            models.CheckConstraint(condition=models.Q(status__in=JobStatus.values), name="job_status"),
        ]
        indexes = [
            models.Index(fields=["-created_at", "-id"], name="job_newest"),  # the list
            # What workers look for every two seconds.
            models.Index(
                fields=["lease_until"], name="job_at_work", condition=models.Q(status__in=("checking", "running"))
            ),
        ]

    def __str__(self) -> str:
        return f"{self.action} {self.id}"


class JobItemStatus(models.TextChoices):
    """What became of one item of a job."""

    UNCHECKED = "unchecked", _("not checked yet")
    ELIGIBLE = "eligible", _("eligible")
    NOT_ELIGIBLE = "not_eligible", _("not eligible")
    DONE = "done", _("done")
    ALREADY = "already", _("done by others before")
    REFUSED = "refused", _("refused")
    FAILED = "failed", _("failed")


class JobItem(models.Model):
    """One item of a job: what it is about, and its result."""

    id = models.BigAutoField(primary_key=True)
    job = models.ForeignKey(Job, models.CASCADE, related_name="items", db_index=False)
    number = models.IntegerField(_("number"))
    # The id of a saga, a command, a message or an event, or a key.
    target = models.TextField(_("target"), db_collation="C")
    # Values of the decision that hold for this item alone.
    values = models.JSONField(default=dict)
    status = models.TextField(_("status"), choices=JobItemStatus, default=JobItemStatus.UNCHECKED, db_collation="C")
    # Why it was not carried out, by language.
    why = models.JSONField(null=True)
    decision = models.UUIDField(_("decision"), null=True)
    decided_at = models.DateTimeField(_("decided at"), null=True)
    # How often another process had it locked.
    tries = models.SmallIntegerField(default=0)
    # Whether the job waits for the confirmation of its commands, and the commands that are sent because of it.
    in_canary = models.BooleanField(default=False)
    commands = ArrayField(models.UUIDField(), default=list)

    class Meta:
        db_table = "sagas_job_item"
        verbose_name = _("item of a job")
        verbose_name_plural = _("items of jobs")
        constraints = [
            models.UniqueConstraint(fields=["job", "number"], name="job_item_once"),
            models.CheckConstraint(condition=models.Q(status__in=JobItemStatus.values), name="job_item_status"),
        ]
        indexes = [models.Index(fields=["job", "status", "tries", "number"], name="job_item_next")]

    def __str__(self) -> str:
        return f"{self.job_id} {self.number}"
