"""The tables of the bridge: events, backlog, duplicates, quarantine, blocked topics, heartbeats."""

from typing import ClassVar

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.utils.translation import gettext_lazy as _

from bridge import reasons
from bridge.append_only import AppendOnly, AppendOnlyQuerySet

# The broker decides who may write to a topic, but a producer may claim any name.
PRODUCER_HELP = _("the name that the producer claims: for tracing only, it proves nothing")


class Source(models.TextChoices):
    """Where an event comes from. Ids are unique within a source, so no message can pass for a fact of our own."""

    PULSAR = "pulsar", _("Pulsar")
    OPERATOR = "operator", _("operator")
    COMPENSATION = "compensation", _("compensation")
    SAGAS = "sagas", _("this service")


class Event(AppendOnly):
    """One event, unchanged. Only `bridge.event_log` inserts events, in batches; they are never updated.

    Only `bridge.retention` deletes them.
    """

    id = models.BigAutoField(primary_key=True)
    source = models.TextField(_("source"), choices=Source, db_collation="C")
    event_id = models.TextField(_("event id"), db_collation="C")
    stream = models.TextField(_("saga type"), db_collation="C")
    type = models.TextField(_("type"), db_collation="C")
    key = models.TextField(_("key"), db_collation="C", blank=True, help_text=_("empty if the message has none"))
    entity = models.TextField(_("entity"), db_collation="C", blank=True, help_text=_("empty if the message has none"))
    correlation_id = models.TextField(_("correlation id"), db_collation="C", blank=True)
    occurred_at = models.DateTimeField(_("occurred at"))
    # Leads the unique key, see `bridge.once`. Null for facts of our own and where the body has no time.
    day = models.DateField(_("day"), null=True)
    received_at = models.DateTimeField(_("received at"))
    topic = models.TextField(_("topic"), blank=True)
    message_id = models.TextField(_("Pulsar message id"), blank=True)
    # db_default: an earlier release, which does not know this column, may still be running while it is added.
    producer = models.TextField(_("producer"), blank=True, db_default="", help_text=PRODUCER_HELP)
    note = models.TextField(_("note"), blank=True, help_text=_("what the bridge added or ignored"))
    payload = models.JSONField(_("payload"))
    body_hash = models.BinaryField(_("hash of the content"))
    unclear = models.BooleanField(
        _("unclear"), default=False, db_default=False, help_text=_("it does not say whether the work succeeded")
    )

    objects: ClassVar[models.Manager["Event"]] = AppendOnlyQuerySet.as_manager()

    class Meta(AppendOnly.Meta):
        db_table = "bridge_event"
        verbose_name = _("event")
        verbose_name_plural = _("events")
        constraints = [
            # Random ids of one day fall on few pages of the index; `bridge.look_up` finds an id through the days.
            models.UniqueConstraint(
                fields=["day", "event_id"], condition=models.Q(day__isnull=False), name="bridge_event_once_a_day"
            ),
            models.UniqueConstraint(
                fields=["source", "event_id"], condition=models.Q(day__isnull=True), name="bridge_event_once_no_day"
            ),
        ]
        indexes = [
            # Look-up by message id, whole or by its beginning. Message ids grow, so new ones fall on few pages.
            models.Index(
                fields=["message_id"],
                opclasses=["text_pattern_ops"],
                condition=~models.Q(message_id=""),
                name="bridge_event_message",
            ),
            # The attention list: recent events that do not say whether the work succeeded.
            models.Index(fields=["received_at"], condition=models.Q(unclear=True), name="bridge_event_unclear"),
        ]

    def __str__(self) -> str:
        return f"{self.type} {self.event_id}"

    @property
    def note_text(self) -> str:
        """The notes in the current language."""
        return reasons.notes_text(self.note)


class EventReading(AppendOnly):
    """An event that several saga types read, as one of them reads it: its key and its entity there.

    Only such events have rows here, one for each of the saga types. `id` stands for the event wherever that saga type
    refers to it: in the queue, among unmatched events, and in a saga's log. The first reading has the id of the event;
    the others have ids from the same sequence, so that no two are equal. An event is deleted with its last reading.
    """

    id = models.BigIntegerField(primary_key=True)
    # Checked by the database: an earlier release would delete the event while another saga type still reads it.
    event = models.ForeignKey(Event, models.DO_NOTHING, related_name="readings", db_column="event", db_index=False)
    stream = models.TextField(_("saga type"), db_collation="C")
    key = models.TextField(_("key"), db_collation="C")
    entity = models.TextField(_("entity"), db_collation="C")

    objects: ClassVar[models.Manager["EventReading"]] = AppendOnlyQuerySet.as_manager()

    class Meta(AppendOnly.Meta):
        db_table = "bridge_event_reading"
        verbose_name = _("reading of an event")
        verbose_name_plural = _("readings of events")
        constraints = [models.UniqueConstraint(fields=["event", "stream"], name="bridge_event_reading_once")]
        indexes = [
            models.Index(fields=["stream", "key"], name="bridge_event_reading_key")
        ]  # the search of the event log

    def __str__(self) -> str:
        return f"{self.event_id} {self.stream}"


class Pending(models.Model):
    """An event that no saga has applied yet. Inserted by the event's own statement, deleted by the pk that was read."""

    id = models.BigIntegerField(primary_key=True, help_text=_("the id of the event"))
    key = models.TextField(_("routing key"), db_collation="C")
    # Null, not "": nearly every row has no lane, and null takes no space.
    lane = models.TextField(_("lane"), null=True, help_text=_("only of an event that an operator attached to a lane"))

    class Meta:
        db_table = "bridge_pending"
        verbose_name = _("pending event")
        verbose_name_plural = _("pending events")

    def __str__(self) -> str:
        return f"{self.id} {self.key}"


class Duplicate(AppendOnly):
    """A repeated delivery of an event that is in the log. Never changed; deleted with its event."""

    id = models.BigAutoField(primary_key=True)
    event = models.BigIntegerField(_("event"), db_index=True)  # counted on a saga's page
    received_at = models.DateTimeField(_("received at"))
    topic = models.TextField(_("topic"), blank=True)
    message_id = models.TextField(_("Pulsar message id"), blank=True)

    objects: ClassVar[models.Manager["Duplicate"]] = AppendOnlyQuerySet.as_manager()

    class Meta(AppendOnly.Meta):
        db_table = "bridge_duplicate"
        verbose_name = _("duplicate")
        verbose_name_plural = _("duplicates")

    def __str__(self) -> str:
        return f"{self.event} {self.message_id}"


class CollapsedEvents(models.Model):
    """Events of one type, key and entity of which only the first ones are stored: how many, and the rest counted.

    Only for types that a definition marks (`collapse_after`). See `bridge.collapsed`. Deleted with the saga's events.
    """

    id = models.BigAutoField(primary_key=True)
    stream = models.TextField(_("saga type"), db_collation="C")
    type = models.TextField(_("type"), db_collation="C")
    key = models.TextField(_("key"), db_collation="C")
    entity = models.TextField(_("entity"), db_collation="C")
    stored = models.IntegerField(_("stored"), default=0)
    counted = models.BigIntegerField(_("only counted"), default=0)
    first_at = models.DateTimeField(_("first counted at"), null=True)
    last_at = models.DateTimeField(_("last counted at"), null=True)
    # md5 of the newest counted ids, so that a redelivery of one of them is not counted again.
    recent = ArrayField(models.UUIDField(), default=list)

    class Meta:
        db_table = "bridge_collapsed_events"
        verbose_name = _("counted events")
        verbose_name_plural = _("counted events")
        constraints = [
            models.UniqueConstraint(fields=["stream", "key", "entity", "type"], name="bridge_collapsed_events_once")
        ]

    def __str__(self) -> str:
        return f"{self.type} {self.key} {self.entity}"


class PrunedEvent(models.Model):
    """The key of a pruned event, so that a repeated delivery of its message is recognized.

    `id` is the number of the event's day and the last 96 bits of the md5 of its id (`statements.PRUNED_ID`): narrow,
    whatever the ids look like, and the keys of one day are neighbours. Without a day, and in rows of earlier releases,
    it is the whole md5. If two ids ever collide, the hashes of their content differ, and the second goes to quarantine.
    """

    id = models.UUIDField(primary_key=True, editable=False)
    body_hash = models.BinaryField()
    pruned_at = models.DateTimeField()

    class Meta:
        db_table = "bridge_pruned_event"
        verbose_name = _("key of a pruned event")
        verbose_name_plural = _("keys of pruned events")
        indexes = [models.Index(fields=["pruned_at"], name="bridge_pruned_event_oldest")]  # forgetting the oldest

    def __str__(self) -> str:
        return str(self.id)


class QuarantineCode(models.TextChoices):
    """Why a message could not become an event, for filters and counts. The row's `reason` is the full text."""

    TOO_LARGE = "too-large", _("body over the limit")
    NOT_JSON = "not-json", _("not JSON")
    NOT_AN_OBJECT = "not-an-object", _("JSON, but not an object")
    TOO_DEEP = "too-deep", _("nested too deeply")
    BAD_TEXT = "bad-text", _("invalid character (NUL or lone surrogate)")
    BAD_NUMBER = "bad-number", _("number too large to store exactly")
    UNKNOWN_TYPE = "unknown-type", _("unknown event type")
    WRONG_TOPIC = "wrong-topic", _("event type not accepted from this topic")
    BAD_ID = "bad-id", _("invalid id")
    NO_KEY = "no-key", _("no id by which to find its saga")
    BAD_TIMESTAMP = "bad-timestamp", _("implausible timestamp")
    WRONG_TYPE = "wrong-type", _("field of the wrong type")
    CONFLICTING_CONTENT = "conflicting-content", _("id already received with different content")
    REFUSED_BY_DATABASE = "refused-by-database", _("rejected by the database")
    ENCRYPTED = "encrypted", _("encrypted, and this service has no key")
    SCHEMA_TYPED = "schema-typed", _("of a format with a schema, such as Avro, and not JSON")


class QuarantineStatus(models.TextChoices):
    OPEN = "open", _("open")
    REQUEUED = "requeued", _("requeued")
    DISMISSED = "dismissed", _("dismissed")


class Quarantined(AppendOnly):
    """A message that could not become an event, with its bytes, origin and reason, until a person decides.

    Of a body over the limit only the first bytes are kept (`is_cut`), with the size and the SHA-256 of the whole. Only
    the decision is stored later. Only `bridge.retention` deletes it, long after the decision.
    """

    CHANGEABLE = frozenset({"status", "decided_at", "decided_by", "decided_why"})

    id = models.BigAutoField(primary_key=True)
    topic = models.TextField(_("topic"))
    message_id = models.TextField(_("Pulsar message id"))
    published_at = models.DateTimeField(_("published at"), null=True)
    received_at = models.DateTimeField(_("received at"))
    body = models.BinaryField(_("body"))
    body_hash = models.BinaryField(_("hash of the body"))
    # Null in rows of earlier releases, which kept every body whole.
    size = models.IntegerField(_("size in bytes"), null=True)
    sha256 = models.BinaryField(_("SHA-256 of the body"), null=True)
    properties = models.JSONField(_("properties"), default=dict)
    producer = models.TextField(_("producer"), blank=True, db_default="", help_text=PRODUCER_HELP)
    code = models.TextField(_("code"), choices=QuarantineCode)
    # The code of a reason; in rows of earlier releases an English text. See `bridge.reasons`.
    reason = models.TextField(_("reason"))
    reason_data = models.JSONField(_("parameters of the reason"), null=True)
    status = models.TextField(_("status"), choices=QuarantineStatus, default=QuarantineStatus.OPEN)
    decided_at = models.DateTimeField(_("decided at"), null=True)
    decided_by = models.TextField(_("decided by"), blank=True)
    decided_why = models.TextField(_("reason of the decision"), blank=True)

    objects: ClassVar[models.Manager["Quarantined"]] = AppendOnlyQuerySet.as_manager()

    class Meta(AppendOnly.Meta):
        db_table = "bridge_quarantined"
        verbose_name = _("quarantined message")
        verbose_name_plural = _("quarantined messages")
        # A redelivered message is not kept twice.
        constraints = [
            models.UniqueConstraint(fields=["topic", "message_id", "body_hash"], name="bridge_quarantined_once")
        ]
        # The attention list: open messages, newest first.
        indexes = [models.Index(fields=["status", "-received_at"], name="bridge_quarantined_open")]

    def __str__(self) -> str:
        return f"{self.topic} {self.message_id} {self.code}"

    @property
    def reason_text(self) -> str:
        """The reason in the current language."""
        return reasons.text(self.reason, self.reason_data)

    @property
    def full_size(self) -> int:
        """Size of the whole body in bytes."""
        return len(self.body) if self.size is None else self.size

    @property
    def is_cut(self) -> bool:
        """Whether only a part of the body is kept."""
        return len(self.body) < self.full_size


class QuarantineCount(models.Model):
    """How many unreadable messages came on a topic in an hour: those that were kept, and those only counted.

    Once `kept` reaches the quota, further messages of that hour are added to `counted` and not stored. Redeliveries of
    a message that is only counted cannot be recognized: `counted` counts deliveries.
    """

    id = models.BigAutoField(primary_key=True)
    topic = models.TextField(_("topic"), db_collation="C")
    hour = models.DateTimeField(_("hour"))
    kept = models.IntegerField(_("kept"), default=0)
    counted = models.BigIntegerField(_("counted only"), default=0)
    first_at = models.DateTimeField(_("first counted at"), null=True)
    last_at = models.DateTimeField(_("last counted at"), null=True)
    last_code = models.TextField(_("code of the latest"), choices=QuarantineCode, blank=True)
    last_reason = models.TextField(_("reason of the latest"), blank=True)

    class Meta:
        db_table = "bridge_quarantine_count"
        verbose_name = _("count of unreadable messages")
        verbose_name_plural = _("counts of unreadable messages")
        constraints = [models.UniqueConstraint(fields=["topic", "hour"], name="bridge_quarantine_count_once")]
        indexes = [
            models.Index(fields=["-last_at"], condition=models.Q(counted__gt=0), name="bridge_quarantine_counted")
        ]

    def __str__(self) -> str:
        return f"{self.topic} {self.hour:%Y-%m-%d %H}:00"


class BlockedTopic(models.Model):
    """A command topic for which Pulsar refuses all messages. See `bridge.blocked`."""

    topic = models.TextField(_("topic"), primary_key=True, db_collation="C")
    since = models.DateTimeField(_("since"))
    last_at = models.DateTimeField(_("last tried at"))
    reason = models.TextField(_("reason"))

    class Meta:
        db_table = "bridge_blocked_topic"
        verbose_name = _("blocked topic")
        verbose_name_plural = _("blocked topics")

    def __str__(self) -> str:
        return self.topic

    @property
    def reason_text(self) -> str:
        """The reason in the current language."""
        return reasons.text(self.reason)


class TopicBacklog(models.Model):
    """A topic that has or had messages which no bridge has received. See `bridge.backlog`."""

    topic = models.TextField(_("topic"), primary_key=True, db_collation="C")
    undelivered = models.IntegerField(_("undelivered messages"))
    stalled = models.BooleanField(_("stalled"))
    since = models.DateTimeField(_("since"))
    seen_at = models.DateTimeField(_("last seen at"))
    ended_at = models.DateTimeField(_("ended at"), null=True)

    class Meta:
        db_table = "bridge_topic_backlog"
        verbose_name = _("backlog of a topic")
        verbose_name_plural = _("backlogs of topics")

    def __str__(self) -> str:
        return self.topic


class HeartbeatKind(models.TextChoices):
    BRIDGE = "bridge", _("bridge")
    PUBLISHER = "publisher", _("publisher")
    SWEEPER = "sweeper", _("sweeper")


class Heartbeat(models.Model):
    """The state that a process reports about every second. See `bridge.heartbeats`."""

    name = models.TextField(_("name"), primary_key=True)
    kind = models.TextField(_("kind"), choices=HeartbeatKind)
    started_at = models.DateTimeField(_("started at"))
    beat_at = models.DateTimeField(_("last heartbeat"))
    connected = models.BooleanField(_("connected"))
    well_since = models.DateTimeField(
        _("healthy since"), null=True, help_text=_("connected and caught up without a break since then; empty: not now")
    )
    last_message_at = models.DateTimeField(_("last message at"), null=True)
    detail = models.JSONField(_("detail"), default=dict)

    class Meta:
        db_table = "bridge_heartbeat"
        verbose_name = _("heartbeat")
        verbose_name_plural = _("heartbeats")

    def __str__(self) -> str:
        return self.name
