"""One of everything that the admin shows, and the address of each of its pages, for tests in a browser."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

from django.contrib.auth.models import Group, User
from django.urls import reverse
from knox.models import AuthToken

from bridge import event_log
from bridge.models import Event, Quarantined, QuarantineStatus
from compensation.models import Command, CommandStatus
from sagas.actions import Action
from sagas.applying.apply import run_apply
from sagas.models import Decision, Parked, SagaLog
from tests.integration import decided
from tests.integration.deciding import decide_command, set_publishing
from tests.integration.pages import Page
from tests.integration.story import event, new_ids, retrieval
from tests.integration.test_close_retrieval import retrieving

# Longer than any column is wide.
LONG = "the archive holds a lock on this image since the backup of the night, and nobody may delete it before noon"


def build(settings: Any) -> User:
    """Fill an empty database with sagas, events and messages in every state that has a page or a row of its own.

    Returns an administrator.
    """
    staff = User.objects.create_superuser("ana", "ana@example.org", "secret")
    Group.objects.create(name="Operators")
    AuthToken.objects.create(user=staff)
    decided.completed()
    decided.running(3)
    retrieving(4)
    decided.unfit()
    decided.shared()
    decided.failed(2)
    _saga, commands = decided.exhausted(settings, 3)
    decide_command("skip", commands[0].id, request=decided.request(LONG, actor="a.person.with.a.long.name@example.org"))
    for body in (None, None, b'{"type": '):
        decided.quarantined(body)
    decided.parked()
    _unmatched_with_a_likely_saga()
    set_publishing(True, "ANONYMIZATION", request=decided.request(LONG, actor="ana", door="admin"))
    return staff


def pages() -> Iterator[Page]:
    """Every page of the admin that a database of `build` has."""
    yield Page("start", reverse("admin:index"))
    yield Page("start exhausted", reverse("admin:index") + "?kind=exhausted")
    for model in (
        "sagas_sagalog",
        "compensation_command",
        "sagas_parked",
        "bridge_quarantined",
        "compensation_switch",
        "sagas_decision",
        "bridge_event",
        "auth_user",
        "auth_group",
        "knox_authtoken",
    ):
        yield Page(f"list {model}", reverse(f"admin:{model}_changelist"))
    yield Page("list nothing", reverse("admin:sagas_sagalog_changelist") + "?q=nobody")
    yield Page("list bad filter", reverse("admin:sagas_sagalog_changelist") + "?nonsense=1")
    yield from _single()
    yield from _decisions()
    yield from _logins()
    yield from _api()


def _api() -> Iterator[Page]:
    """The API's pages for people: a list with a form of filters, the index, and one with a form to post."""
    for name in ("", "sagas", "attention"):
        yield Page(f"api {name}", f"/api/v1/saga/{name}")
    yield Page("api retry", f"/api/v1/saga/commands/{exhausted().id}/retry")


def exhausted() -> Command:
    """Return a command that needs a decision and may be retried."""
    return Command.objects.filter(status=CommandStatus.EXHAUSTED, invalid="").order_by("id")[0]


def readable() -> Quarantined:
    """Return a message in quarantine that can be requeued."""
    return Quarantined.objects.filter(status=QuarantineStatus.OPEN).order_by("id")[0]


def likely() -> Parked:
    """Return an unmatched event that has a likely saga."""
    return Parked.objects.filter(suggestion__isnull=False, dismissed_at__isnull=True).order_by("event")[0]


def _unmatched_with_a_likely_saga() -> None:
    task, other, image = new_ids(3)
    event_log.append(retrieval(task, [image]))
    run_apply()
    event_log.append([event("ImageDeletionCompleted", other, image)])
    run_apply()


def _single() -> Iterator[Page]:
    command = exhausted()
    for saga in (SagaLog.objects.get(id=command.saga_id), SagaLog.objects.filter(status="STARTED")[0]):
        yield Page(f"saga {saga.status}", reverse("admin:sagas_sagalog_change", args=[saga.id]))
    lane = reverse("admin:sagas_sagalog_lane", args=[command.saga_id])
    yield Page("lane", f"{lane}?{urlencode({'lane': command.entity})}")
    yield Page("command exhausted", reverse("admin:compensation_command_change", args=[command.id]))
    held = Command.objects.filter(held_since__isnull=False)[0]
    yield Page("command held", reverse("admin:compensation_command_change", args=[held.id]))
    yield Page("event", reverse("admin:bridge_event_change", args=[Event.objects.filter(source="pulsar")[0].pk]))
    for message in Quarantined.objects.order_by("id")[1:3]:
        yield Page(f"quarantined {message.full_size}", reverse("admin:bridge_quarantined_change", args=[message.pk]))
    parked = likely()
    group = {"stream": parked.stream, "key": parked.key, "entity": parked.entity}
    yield Page("parked group", f"{reverse('admin:sagas_parked_group')}?{urlencode(group)}")
    for decision in Decision.objects.all():
        yield Page(f"decision {decision.action}", reverse("admin:sagas_decision_change", args=[decision.id]))


def _decisions() -> Iterator[Page]:
    command, parked = exhausted(), likely()
    running = SagaLog.objects.filter(status="STARTED")[0]
    targets: dict[Action, dict[str, Any]] = {
        Action.RETRY: {"ids": command.id},
        Action.MARK_DONE: {"saga": command.saga_id},
        Action.TERMINATE: {"saga": running.id},
        Action.CLOSE_RETRIEVAL: {"saga": running.id},
        Action.REPLAY: {"saga": running.id},
        Action.ATTACH: {"key": parked.key, "saga": parked.suggestion, "type": parked.stream},
        Action.REQUEUE: {"message": readable().pk},
        Action.PAUSE_PUBLISHING: {},
        Action.WITHDRAW: {},
    }
    for action, target in targets.items():
        address = reverse("admin:sagas_decision_decide", args=[action.value])
        yield Page(f"decide {action.value}", f"{address}?{urlencode(target)}")


def _logins() -> Iterator[Page]:
    user, group, token = User.objects.all()[0], Group.objects.all()[0], AuthToken.objects.all()[0]
    yield Page("user", reverse("admin:auth_user_change", args=[user.pk]))
    yield Page("user new", reverse("admin:auth_user_add"))
    yield Page("user password", reverse("admin:auth_user_password_change", args=[user.pk]))
    yield Page("user delete", reverse("admin:auth_user_delete", args=[user.pk]))
    yield Page("user history", reverse("admin:auth_user_history", args=[user.pk]))
    yield Page("group", reverse("admin:auth_group_change", args=[group.pk]))
    yield Page("token", reverse("admin:knox_authtoken_change", args=[token.pk]))
    yield Page("own password", reverse("admin:password_change"))
    yield Page("not found", "/admin/nothing/")
