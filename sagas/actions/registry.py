"""All decisions, in the order in which people are offered them. What shows or takes one is derived from here.

A new one: a name and a row here, its rule and its effect in the module of its target, a test (docs/architecture.md).
"""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum
from typing import Any

from django.utils.translation import gettext_lazy as _

from bridge.models import QuarantineStatus
from compensation.models import CommandStatus
from sagas import nouns
from sagas.actions import (
    on_commands,
    on_incidents,
    on_jobs,
    on_messages,
    on_parked,
    on_publishing,
    on_replay,
    on_saga,
)
from sagas.actions.on_commands import CommandView
from sagas.actions.on_incidents import IncidentView
from sagas.actions.on_messages import MessageView
from sagas.actions.on_parked import EventView, KeyView
from sagas.actions.on_publishing import BreakerView, SwitchView
from sagas.actions.on_saga import OneLaneView, WholeSagaView
from sagas.actions.spec import ActionSpec, Field, FieldKind, Target
from sagas.applying import breakers
from sagas.engine import facts as kinds
from sagas.errors import Invalid
from sagas.nouns import Nouns


class Action(StrEnum):
    """The names of the decisions, for code that means a certain one."""

    RESUME = "resume"
    RETRY = "retry"
    RELEASE = "release"
    MARK_DONE = "mark_done"
    ATTACH = "attach"
    ADOPT = "adopt"
    REQUEUE = "requeue"
    DISMISS = "dismiss"
    DISMISS_MESSAGE = "dismiss_message"
    RESUME_PUBLISHING = "resume_publishing"
    PAUSE_PUBLISHING = breakers.ACTION
    CLOSE_RETRIEVAL = "close_retrieval"
    CANCEL = "cancel"
    FORCE_COMPENSATION = "force_compensation"
    SKIP = "skip"
    WITHDRAW = "withdraw"
    TERMINATE = "terminate"
    REPLAY = "replay"
    ACKNOWLEDGE_INCIDENT = "acknowledge_incident"
    ASSIGN_INCIDENT = "assign_incident"
    NOTE_INCIDENT = "note_incident"


# --- fields that several decisions have -------------------------------------------------------------------------------

LANE = Field(
    name="lane",
    kind=FieldKind.ID,
    hidden=True,
    api_help=_("one %(entity_noun)s, by its id; if omitted, the whole saga"),
    option="--image",
    option_help="only this %(entity_noun)s, by its id",
)
ONLY = Field(
    name="only",
    kind=FieldKind.CHOICE,
    choices=("switch", "breaker"),
    hidden=True,
    api_help=_("resume only the service's switch, or only its circuit breaker; if omitted, whichever pauses it"),
)

# --- the decisions ----------------------------------------------------------------------------------------------------

SPECS = (
    ActionSpec(
        name=Action.RESUME,
        target=Target.SAGA,
        on=(WholeSagaView,),
        allowed=on_saga.may_resume,
        effect=on_saga.resume,
        of_many=on_saga.each,
        asked_by=("set_aside",),
        label=_("resume"),
        title=_("Resume"),
        button=_("Apply the events again"),
        consequence=_(
            "The saga is blocked because applying its events failed. All waiting events are applied again. If"
            " they fail again, nothing changes and the reason is shown."
        ),
        sentence=_("Resumed by %(actor)s: %(reason)s"),
        description="Resume a saga that is blocked by an error.",
        command="resume_saga",
        command_help=(
            "Resume a saga that is blocked by an error, once the error is repaired: its events are applied again."
        ),
    ),
    ActionSpec(
        name=Action.RETRY,
        target=Target.COMMANDS,
        on=(CommandView,),
        allowed=on_commands.may_retry,
        effect=on_commands.RETRY,
        fact=kinds.COMMANDS_RETRIED,
        once="retry:{command}:{round}",
        asked_by=("decision",),
        label=_("retry"),
        labels={WholeSagaView: _("Retry all that need a decision")},
        title=_("Retry"),
        button=_("Retry"),
        consequence=_(
            "Sends the commands again with the same ids, so that the service can recognize repeats, and with "
            "a fresh set of attempts. They count as undone only once the service confirms."
        ),
        sentence=_("Retried by %(actor)s: %(reason)s"),
        already=_("already retried by %(actor)s at %(time)s"),
        command="retry_command",
        command_help="Send exhausted commands again, in a new round with a fresh set of attempts.",
        of_saga="all exhausted commands of this saga",
    ),
    ActionSpec(
        name=Action.RELEASE,
        target=Target.COMMANDS,
        on=(CommandView,),
        allowed=on_commands.may_release,
        effect=on_commands.RELEASE,
        once="release:{command}",
        destructive=True,
        by_hand=True,
        asked_by=("held",),
        label=_("release"),
        labels={WholeSagaView: _("Release all held commands")},
        title=_("Release"),
        button=_("Send anyway"),
        consequence=_(
            "The commands are held because another saga uses what they undo. They are sent anyway and not held "
            "again: it will then be missing in the other saga too. Cannot be reversed."
        ),
        also=(_("If the other saga still needs it, withdraw the commands instead."),),
        sentence=_("Released by %(actor)s: %(reason)s"),
        already=_("already released by %(actor)s at %(time)s"),
        command="release_commands",
        command_help="Send commands that are held because another saga uses what they undo. They are not held again.",
        of_saga="all held commands of this saga",
    ),
    ActionSpec(
        name=Action.MARK_DONE,
        target=Target.COMMANDS,
        on=(CommandView,),
        allowed=on_commands.may_mark_done,
        effect=on_commands.ANSWER,
        fact=kinds.COMMANDS_MARKED_DONE,
        once="mark_done:{command}",
        by_hand=True,
        settles=CommandStatus.CONFIRMED,
        asked_by=("decision",),
        label=_("mark as done"),
        labels={WholeSagaView: _("Mark all sent commands as done")},
        title=_("Mark as done"),
        button=_("Confirm: verified as done"),
        consequence=_(
            "Marks the commands as confirmed and, permanently, as manual. They are not sent again. Commands "
            "that were waiting for them are sent; the preview lists them. Do this only after you have "
            "verified that the service has undone the work, and enter as the reason how you know: who "
            "checked, where and when."
        ),
        reason_label=_("Evidence"),
        reason_help=_(
            "How do you know that it is undone? Who checked, where and when; a ticket, a log line. Stored permanently."
        ),
        sentence=_("Marked as done by %(actor)s: %(reason)s"),
        already=_("already marked as done by %(actor)s at %(time)s"),
        command="mark_done",
        command_help=("Mark commands as done after you have verified it: they count as confirmed, marked as manual."),
        of_saga="all unanswered commands of this saga that were sent",
    ),
    ActionSpec(
        name=Action.ATTACH,
        target=Target.PARKED,
        on=(KeyView, EventView),
        allowed=on_parked.may_attach,
        effect=on_parked.attach,
        fields=(
            Field(
                name="saga",
                kind=FieldKind.SAGA,
                required=True,
                label=_("Saga"),
                help=_("Saga id or %(key_id)s."),
                option="--saga",
                option_help="saga id or %(key_id)s",
            ),
            Field(
                name="lane",
                kind=FieldKind.ID,
                label="%(entity_noun)s",
                help=_(
                    "Enter the %(entity_id)s if the events name none: they then count as its events. Otherwise leave "
                    "empty."
                ),
                api_help=_("one %(entity_noun)s of the saga, by its id"),
                option="--image",
                option_help="the %(entity_id)s, for events that name none",
                missing=on_parked.missing_lane,
            ),
        ),
        once="attach{what}:{saga}:{lane}",
        by_hand=True,
        asked_by=("parked",),
        label=_("attach"),
        labels={KeyView: _("Attach all to a saga"), EventView: _("Attach this event")},
        title=_("Attach to a saga"),
        button=_("Attach"),
        consequence=_(
            "Assigns these events to a saga; if they are all of one id, also those that arrive later. They are "
            "applied to the saga at once and may complete it, fail it, or require"
            " compensation: see the preview. The events themselves do not change."
        ),
        also=(_("Cannot be reversed: the effects of applied events are permanent."),),
        sentence=_("Attached by %(actor)s: %(reason)s"),
        already=_("already attached by %(actor)s at %(time)s"),
        description="Assign all events of a key, or one unmatched event, to a saga or to one part of it.",
        command="attach",
        command_help=(
            "Assign all events of a key, past and future, or one unmatched event, to a saga or to one part of it."
        ),
    ),
    ActionSpec(
        name=Action.ADOPT,
        target=Target.KEY,
        on=(KeyView,),
        allowed=on_parked.may_adopt,
        effect=on_parked.adopt,
        fact=kinds.SAGA_ADOPTED,
        fields=(
            Field(
                name="saga_type",
                kind=FieldKind.SAGA_TYPE,
                option="--type",
                option_help="the saga type, if several know the %(key_id)s",
            ),
        ),
        once="adopt:{stream}:{key}",
        by_hand=True,
        label=_("adopt"),
        labels={KeyView: _("Start a saga from it")},
        title=_("Start a saga from these events"),
        button=_("Start saga"),
        consequence=_(
            "Starts a saga although its starting event never arrived. All unmatched events with the same id are "
            "applied to it."
        ),
        also=(_("Do this only if you are sure that the starting event will not arrive."),),
        sentence=_("Started from unmatched events by %(actor)s: %(reason)s"),
        already=_("a saga was already started from it by %(actor)s at %(time)s"),
        description="Start a saga from the unmatched events of a key.",
        command="adopt",
        command_help="Start a saga from the unmatched events of a key whose starting event never arrived.",
    ),
    ActionSpec(
        name=Action.REQUEUE,
        target=Target.MESSAGE,
        on=(MessageView,),
        allowed=on_messages.may_requeue,
        effect=on_messages.requeue,
        once="requeue:{message}",
        settles=QuarantineStatus.REQUEUED,
        label=_("requeue"),
        title=_("Requeue message"),
        button=_("Requeue"),
        consequence=_(
            "Reads the message again from its stored bytes with the current rules. If it can be read, it "
            "becomes an event and is applied to its saga at once: it may complete the saga, fail it, or "
            "require compensation. The preview lists the commands. If it cannot be read, nothing changes and "
            "the reason is shown."
        ),
        sentence=_("Requeued by %(actor)s: %(reason)s"),
        already=_("already requeued by %(actor)s at %(time)s"),
        description="Read a quarantined message again with the current rules.",
        command="requeue_message",
        command_help="Read quarantined messages again with the current rules and store them as events.",
    ),
    ActionSpec(
        name=Action.DISMISS,
        target=Target.PARKED,
        on=(KeyView, EventView),
        allowed=on_parked.may_dismiss,
        effect=on_parked.dismiss,
        fields=(
            Field(
                name="saga_type",
                kind=FieldKind.SAGA_TYPE,
                api_help=_("only for this saga type; if omitted, for all that read them"),
                option="--type",
                option_help="only for this saga type, if several read them",
            ),
        ),
        asked_by=("parked",),
        label=_("dismiss"),
        labels={KeyView: _("Dismiss all")},
        title=_("Dismiss"),
        button=_("Dismiss"),
        consequence=_(
            'Hides the unmatched events from "Needs attention". They stay in the log and are still applied if'
            " their saga appears."
        ),
        description="Hide unmatched events. They stay, and are applied if their saga appears.",
        command="dismiss",
        command_help="Hide unmatched events, all of a key or one. They stay, and are applied if their saga appears.",
    ),
    ActionSpec(
        name=Action.DISMISS_MESSAGE,
        target=Target.MESSAGE,
        on=(MessageView,),
        allowed=on_messages.may_dismiss_message,
        effect=on_messages.dismiss_message,
        once="dismiss-message:{message}",
        settles=QuarantineStatus.DISMISSED,
        label=_("dismiss message"),
        title=_("Dismiss message"),
        button=_("Dismiss"),
        consequence=_(
            'Hides the message from "Needs attention". Its bytes stay stored, and it can still be requeued later.'
        ),
        already=_("already dismissed by %(actor)s at %(time)s"),
        description="Hide a quarantined message; its bytes stay.",
        path="dismiss",
        command="dismiss_message",
        command_help=(
            "Hide quarantined messages from the attention list. Their bytes stay, and they can still be requeued."
        ),
    ),
    ActionSpec(
        name=Action.RESUME_PUBLISHING,
        target=Target.PUBLISHING,
        on=(SwitchView, BreakerView),
        allowed=on_publishing.may_resume,
        effect=on_publishing.set_publishing,
        fields=(
            replace(
                ONLY,
                option="--only",
                option_help=(
                    "resume only the service's switch, or only its circuit breaker (default: whichever pauses it)"
                ),
            ),
        ),
        fixed={"paused": False},
        destructive=True,
        asked_by=("paused",),
        label=_("resume sending"),
        title=_("Resume sending"),
        button=_("Resume sending"),
        consequence=_(
            "Sends commands again, those that are due immediately; the preview lists them. Withdraw anything "
            "that must not be sent before resuming. A service paused by its circuit breaker gets ten commands"
            " first, and the others once it has confirmed these."
        ),
        command="resume_publishing",
        command_help=(
            "Resume sending commands: those that are due are sent immediately, deadlines start anew. A service paused "
            "by its circuit breaker gets ten commands first, and the others once it has confirmed these."
        ),
    ),
    ActionSpec(
        name=Action.PAUSE_PUBLISHING,
        target=Target.PUBLISHING,
        on=(SwitchView,),
        allowed=on_publishing.may_pause,
        effect=on_publishing.set_publishing,
        fields=(ONLY,),
        fixed={"paused": True},
        label=_("pause sending"),
        title=_("Pause sending"),
        button=_("Pause"),
        consequence=_(
            "No commands are sent, to this service or to all. Commands are still planned and visible; "
            "deadlines are on hold. Commands that a worker has already claimed, one page at most, are still "
            "sent."
        ),
        command="pause_publishing",
        command_help="Pause sending commands: they are planned and visible but not sent, and deadlines are on hold.",
    ),
    ActionSpec(
        name=Action.CLOSE_RETRIEVAL,
        target=Target.SAGA,
        on=(WholeSagaView,),
        allowed=on_saga.may_close,
        effect=on_saga.close,
        of_many=on_saga.each,
        fact=kinds.INTAKE_CLOSED,
        fields=(
            Field(
                name="images",
                kind=FieldKind.NUMBER,
                required=True,
                label=_("Number of %(entity_nouns)s"),
                help=_("How many %(entity_nouns)s %(the_intake)s brought, including those that failed later."),
                api_help=_("how many %(entity_nouns)s %(the_intake)s brought, including those that failed later"),
                option="--images",
                option_help="how many %(entity_nouns)s %(the_intake)s brought, including those that failed later",
                metavar="N",
                of_each=True,
                of_many_help=_("If empty, each saga is closed with the number of its %(entity_nouns)s that are known."),
            ),
        ),
        by_hand=True,
        label=_("close %(intake_noun)s"),
        title=_("Close %(the_intake)s"),
        button=_("Close %(intake_noun)s"),
        consequence=_(
            "Records that no further %(entity_nouns)s will arrive, and how many there are. The saga ends when all of "
            "them are processed or undone. Nothing is undone or sent because of this."
        ),
        also=(
            _("A number that the service reports, before or after this, counts instead of yours."),
            _("Until the saga has ended, you can close it again with another number: the last one counts."),
        ),
        sentence=_("%(intake_noun)s closed by %(actor)s, number of %(entity_nouns)s %(lanes)s: %(reason)s"),
        description="Close the intake of a saga: record that no further parts will arrive, and how many there are.",
        command="close_retrieval",
        command_help=(
            "Close the intake of sagas, each as ID=NUMBER: record that no further parts will arrive, and how many there"
            " are."
        ),
    ),
    ActionSpec(
        name=Action.CANCEL,
        target=Target.SAGA,
        on=(WholeSagaView, OneLaneView),
        allowed=on_saga.may_cancel,
        effect=on_saga.record,
        fact=kinds.SAGA_CANCELLED,
        fields=(LANE,),
        once="cancel:{saga}:{lane}",
        destructive=True,
        behind_more=True,
        by_hand=True,
        label=_("cancel"),
        title=_("Cancel"),
        button=_("Cancel and undo"),
        consequence=_(
            "For a running saga: marks it as failed and undoes what was done so far with the commands below. "
            "Cannot be reversed."
        ),
        also=(_("Events that arrive later are still applied, and the work that they report is undone as well."),),
        sentence=_("Cancelled by %(actor)s: %(reason)s"),
        already=_("already cancelled by %(actor)s at %(time)s"),
        description="Stop a running saga, or one part of it, and undo what it did.",
        command="cancel_saga",
        command_help=(
            "Mark a running saga, or with --image one part of it, as failed, and undo everything done so far."
        ),
    ),
    ActionSpec(
        name=Action.FORCE_COMPENSATION,
        target=Target.SAGA,
        on=(WholeSagaView, OneLaneView),
        allowed=on_saga.may_force,
        effect=on_saga.record,
        fact=kinds.COMPENSATION_FORCED,
        fields=(LANE,),
        once="force_compensation:{saga}:{lane}",
        destructive=True,
        behind_more=True,
        by_hand=True,
        label=_("force compensation"),
        title=_("Force compensation"),
        button=_("Force compensation"),
        consequence=_(
            "Marks it as failed, even if completed, and undoes everything done so far: the commands "
            "below are sent to the services and repeated until they confirm. Cannot be reversed."
        ),
        sentence=_("Compensation forced by %(actor)s: %(reason)s"),
        already=_("compensation was already forced by %(actor)s at %(time)s"),
        description="Mark a saga, or one part of it, as failed, even if completed, and undo everything done so far.",
        command="force_compensation",
        command_help=(
            "Mark a saga, or with --image one part of it, as failed, even if completed, and undo everything done so"
            " far."
        ),
    ),
    ActionSpec(
        name=Action.SKIP,
        target=Target.COMMANDS,
        on=(CommandView,),
        allowed=on_commands.may_give_up,
        effect=on_commands.ANSWER,
        fact=kinds.COMMANDS_SKIPPED,
        once="skip:{command}",
        destructive=True,
        behind_more=True,
        by_hand=True,
        settles=CommandStatus.SKIPPED,
        label=_("skip"),
        title=_("Skip"),
        button=_("Skip"),
        consequence=_(
            "Skips the commands: they are not sent again, in any round. What they should have undone stays in"
            " the service. Commands that were waiting for them are sent; the preview lists them. The saga "
            "will count as failed, not as compensated."
        ),
        also=(_('If it was undone in another way, use "Mark as done" instead.'),),
        sentence=_("Skipped by %(actor)s: %(reason)s"),
        already=_("already skipped by %(actor)s at %(time)s"),
        command="skip_command",
        command_help="Skip commands: they count as not undone and are not sent any more.",
        of_saga="all unanswered commands of this saga",
    ),
    ActionSpec(
        name=Action.WITHDRAW,
        target=Target.COMMANDS,
        on=(CommandView,),
        allowed=on_commands.may_give_up,
        effect=on_commands.ANSWER,
        fact=kinds.COMMANDS_WITHDRAWN,
        fields=(
            Field(
                name="planned_before",
                kind=FieldKind.TIME,
                selects=True,
                label=_("Planned before"),
                help=_("All unsent commands planned before this time (UTC). Example: 2026-03-01 12:00"),
                api_help=_("withdraw all unsent commands planned before this time"),
                option="--before",
                option_help="planned before this time (ISO 8601; UTC without an offset)",
                metavar="T",
            ),
        ),
        once="withdraw:{command}",
        destructive=True,
        behind_more=True,
        by_hand=True,
        settles=CommandStatus.WITHDRAWN,
        label=_("withdraw"),
        title=_("Withdraw"),
        button=_("Withdraw"),
        consequence=_(
            "Withdraws the commands: they are not sent, or not sent again. What they should have undone stays"
            " in the service and counts as not undone. Commands that were waiting for them are sent; the "
            "preview lists them. If a command was already sent and the service still confirms it, the "
            "confirmation counts."
        ),
        sentence=_("Withdrawn by %(actor)s: %(reason)s"),
        already=_("already withdrawn by %(actor)s at %(time)s"),
        command="withdraw_commands",
        command_help=(
            "Withdraw commands by id, those of a saga, or with --before all unsent ones planned before a time: they "
            "count as not undone."
        ),
        of_saga="all unanswered commands of this saga",
    ),
    ActionSpec(
        name=Action.TERMINATE,
        target=Target.SAGA,
        on=(WholeSagaView,),
        allowed=on_saga.may_terminate,
        effect=on_saga.record,
        fact=kinds.SAGA_TERMINATED,
        content=on_saga.claimed,
        once="terminate:{saga}",
        second_person=True,
        destructive=True,
        behind_more=True,
        by_hand=True,
        settles=CommandStatus.WITHDRAWN,
        label=_("terminate"),
        title=_("Terminate"),
        button=_("Close without undoing"),
        consequence=_(
            "Closes the saga without undoing anything. Commands that were already sent continue with their "
            "retries; all others, including any required later, are withdrawn permanently. What was not "
            "undone stays in the services. Cannot be reversed."
        ),
        also=(_("To undo the work, cancel the saga or force its compensation instead."),),
        sentence=_("Terminated by %(actor)s: %(reason)s"),
        already=_("already terminated by %(actor)s at %(time)s"),
        description=(
            "Close a saga without undoing: commands already sent continue, all others are withdrawn permanently."
        ),
        command="terminate_saga",
        command_help=(
            "Close a saga without undoing: commands already sent continue, all others are withdrawn permanently."
        ),
    ),
    ActionSpec(
        name=Action.REPLAY,
        target=Target.SAGA,
        on=(WholeSagaView,),
        allowed=on_replay.may_replay,
        effect=on_replay.replay,
        preview=on_replay.preview,
        fields=(
            Field(
                name="apply",
                kind=FieldKind.FLAG,
                api_help=_("replace the stored state by the state rebuilt from the log"),
                option="--apply",
                option_help="replace the stored state by the result",
            ),
        ),
        only_with="apply",
        shows_payload=True,
        label=_("replay"),
        title=_("Replay"),
        button=_("Rebuild from log"),
        consequence=_(
            "Replays the saga's log from the first event to the last and compares the result with the stored "
            "state. Only after you confirm is the stored state replaced by the result; required commands that"
            " were not planned are then planned."
        ),
        sentence=_("Rebuilt from the log by %(actor)s: %(reason)s"),
        description="Rebuild a saga from its log and show the differences; the result is stored only with apply.",
        command="replay_saga",
        command_help=(
            "Rebuild a saga from its log and show the differences (effects.differences: [{what, stored, folded}]). "
            "Stores the result only with --apply, which needs a --reason. Exit code 1 if there are differences that "
            "were not stored, 4 if --apply found none."
        ),
    ),
    ActionSpec(
        name=Action.ACKNOWLEDGE_INCIDENT,
        target=Target.INCIDENT,
        on=(IncidentView,),
        allowed=on_incidents.may_acknowledge,
        effect=on_incidents.acknowledge,
        fields=(
            Field(
                name="until",
                kind=FieldKind.TIME,
                label=_("Acknowledged until"),
                help=_("A time (UTC). Example: 2026-03-01 12:00. If empty, the acknowledgement ends now."),
                api_help=_("until when it is acknowledged; if omitted, the acknowledgement ends now"),
                option="--until",
                option_help="until when (ISO 8601; UTC without an offset); if omitted, the acknowledgement ends now",
                metavar="T",
            ),
        ),
        label=_("acknowledge"),
        title=_("Acknowledge incident"),
        button=_("Acknowledge"),
        consequence=_(
            "Until then the incident is at the end of the start page and does not count in its title. Nothing else "
            "changes. If the incident ends and comes again, it is no longer acknowledged."
        ),
        description="Acknowledge an incident until a time, or end its acknowledgement.",
        path="acknowledge",
        command="acknowledge_incident",
        command_help="Acknowledge incidents until a time, or end their acknowledgement.",
    ),
    ActionSpec(
        name=Action.ASSIGN_INCIDENT,
        target=Target.INCIDENT,
        on=(IncidentView,),
        allowed=on_incidents.may_write,
        effect=on_incidents.assign,
        fields=(
            Field(
                name="owner",
                kind=FieldKind.TEXT,
                label=_("Owner"),
                help=_("The login of who takes care of it. If empty, nobody."),
                api_help=_("the login of who takes care of it; if omitted, nobody"),
                option="--owner",
                option_help="the login of who takes care of it; if omitted, nobody",
                metavar="LOGIN",
            ),
        ),
        label=_("assign"),
        title=_("Assign incident"),
        button=_("Assign"),
        consequence=_("Shows the owner with the incident, also if it ends and comes again. Nothing else changes."),
        description="Set the owner of an incident.",
        path="assign",
        command="assign_incident",
        command_help="Set the owner of incidents.",
    ),
    ActionSpec(
        name=Action.NOTE_INCIDENT,
        target=Target.INCIDENT,
        on=(IncidentView,),
        allowed=on_incidents.may_write,
        effect=on_incidents.note,
        label=_("add a note"),
        title=_("Add a note"),
        button=_("Add the note"),
        consequence=_("Everybody who sees the incident sees the note, with your name and the time."),
        reason_label=_("Note"),
        reason_help=_("Stored permanently and visible to others. Do not enter patient names."),
        description="Add a note to an incident: the reason is its text.",
        path="note",
        command="note_incident",
        command_help="Add a note to incidents: --reason is its text.",
    ),
)
ACTIONS: dict[str, ActionSpec] = {spec.name: spec for spec in SPECS}


def get(name: str, target: Target | None = None) -> ActionSpec:
    """Return a decision by its name. Raises Invalid if there is none, or it is about something else than `target`."""
    spec = ACTIONS.get(name)
    if spec is None or target not in (None, spec.target):
        raise Invalid(_("unknown action %(action)s") % {"action": name})
    return spec


def possible(*views: Any) -> tuple[ActionSpec, ...]:
    """Return the decisions that are possible on at least one of the views and would change something, in their order.

    The views are of what is stored, so this reads nothing (of a quarantined message: decodes its bytes).
    """
    return tuple(
        spec for spec in ACTIONS.values() if any(isinstance(view, spec.on) and not spec.refusal(view) for view in views)
    )


def label_of(name: str, words: Nouns | None = None) -> str:
    """Return the label of a decision; of one that this release does not know, its name.

    words: the nouns of the saga type that it is about, if it is about one.
    """
    if name in on_jobs.LABELS:
        return str(on_jobs.LABELS[name])
    return ACTIONS[name].label_on(None, words or nouns.shared()) if name in ACTIONS else name


def on_many_sagas() -> list[ActionSpec]:
    """Return the decisions that can be taken on many sagas at once, in their order."""
    return [spec for spec in of_target(Target.SAGA) if spec.of_many is not None]


def in_jobs() -> list[ActionSpec]:
    """Return the decisions that a job can take on many targets, in their order: all but those on sending."""
    return [spec for spec in ACTIONS.values() if spec.target is not Target.PUBLISHING]


def of_target(*targets: Target) -> list[ActionSpec]:
    """Return the decisions on a kind of target, in their order."""
    return [spec for spec in ACTIONS.values() if spec.target in targets]
