"""The labels that people read for statuses, reasons and decisions.

Migrations record the labels of the models' choices, so a change of those would need a migration. The labels here
replace them in the admin where the plain term differs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.utils.translation import gettext_lazy as _

from bridge.models import QuarantineCode
from compensation.models import AttemptOutcome, CommandStatus, ExhaustedBy
from sagas.models import Action, LaneOutcome, ParkedReason
from sagas.nouns import fill_lazy

COMMAND_STATUSES: Mapping[str, Any] = {
    **dict(CommandStatus.choices),
    CommandStatus.EXHAUSTED.value: _("needs a decision"),
}
LANE_OUTCOMES: Mapping[str, Any] = {**dict(LaneOutcome.choices), LaneOutcome.SETTLED.value: _("closed manually")}
EXHAUSTED_BY: Mapping[str, Any] = {
    **dict(ExhaustedBy.choices),
    ExhaustedBy.NON_RETRYABLE.value: _("this error is not retried"),
    ExhaustedBy.PERMANENT.value: _("the message broker rejects this message permanently"),
    ExhaustedBy.INVALID.value: _("the command does not match the service's schema"),
    ExhaustedBy.MANUAL.value: _("the service does not confirm: a person has to"),
}
ATTEMPT_OUTCOMES: Mapping[str, Any] = {
    **dict(AttemptOutcome.choices),
    AttemptOutcome.BLOCKED.value: _("the topic does not accept commands"),
    AttemptOutcome.SUPERSEDED.value: _("superseded"),
}
ACTIONS: Mapping[str, Any] = {
    **dict(Action.choices),
    Action.MARK_DONE.value: _("mark as done"),
    Action.PAUSE_PUBLISHING.value: _("pause sending"),
    Action.RESUME_PUBLISHING.value: _("resume sending"),
}
PARKED_REASONS: Mapping[str, Any] = {
    ParkedReason.NO_SAGA.value: fill_lazy(_("no saga matches this %(key_id)s or %(entity_id)s")),
    ParkedReason.AMBIGUOUS.value: fill_lazy(_("several sagas have this %(entity_id)s")),
    ParkedReason.NO_ENTITY.value: fill_lazy(_("%(entity_id)s missing")),
    ParkedReason.SET_ASIDE.value: _("its saga is blocked by an error"),
}
QUARANTINE_CODES: Mapping[str, Any] = {
    **dict(QuarantineCode.choices),
    QuarantineCode.BAD_TEXT.value: _("invalid character (NUL or lone surrogate)"),
    QuarantineCode.BAD_NUMBER.value: _("number too large to store exactly"),
    QuarantineCode.UNKNOWN_TYPE.value: _("unknown event type"),
    QuarantineCode.WRONG_TOPIC.value: _("event type not accepted from this topic"),
    QuarantineCode.BAD_ID.value: _("invalid id"),
    QuarantineCode.NO_KEY.value: fill_lazy(_("%(key_id)s and %(entity_id)s missing")),
    QuarantineCode.BAD_TIMESTAMP.value: _("implausible timestamp"),
    QuarantineCode.WRONG_TYPE.value: _("field of the wrong type"),
    QuarantineCode.CONFLICTING_CONTENT.value: _("id already received with different content"),
    QuarantineCode.REFUSED_BY_DATABASE.value: _("rejected by the database"),
    QuarantineCode.ENCRYPTED.value: _("encrypted, and this service has no key"),
}
