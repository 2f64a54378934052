"""A page offers a decision exactly where its dry run is accepted, over random stories and every state of a command."""

from __future__ import annotations

import html
import random
import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qsl, urlsplit
from uuid import UUID

import pytest
from django.contrib.auth.models import User
from django.test import Client, override_settings
from django.urls import reverse
from django.utils import timezone

from bridge import event_log
from bridge.models import Event, Quarantined
from compensation import switches
from compensation.models import Command, CommandStatus, Switch
from sagas.actions import Action, ActionRequest
from sagas.admin import formatting
from sagas.applying.apply import run_apply
from sagas.errors import DecisionError
from sagas.models import Lane, Parked, ParkedReason, SagaLog, SagaStatusChoice
from tests.integration import deciding as actions
from tests.integration.decided import completed, quarantined
from tests.integration.deciding import CommandSelection
from tests.integration.story import event, image_through, new_ids, retrieval
from tests.integration.test_apply_is_the_fold import Cast, Plot, store, tell
from tests.properties.histories import SCOPES, to_images
from tests.stories import image

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(600)]

SEEDS = range(40)
DRY = ActionRequest(actor="ana", door="admin", dry_run=True)
Offer = tuple[Action, tuple[tuple[str, str], ...]]
# A story's facts make no command exhausted or sent: each command of it is put into one of these states.
STATES: tuple[dict[str, Any], ...] = (
    {"status": CommandStatus.PLANNED},
    {"status": CommandStatus.PLANNED, "held_since": timezone.now(), "held_by": UUID(int=1)},
    {"status": CommandStatus.WAITING, "attempt": 1},
    {"status": CommandStatus.PUBLISHING, "claimed_at": timezone.now()},
    {"status": CommandStatus.PUBLISHED, "published_at": timezone.now(), "deadline_at": timezone.now()},
    {"status": CommandStatus.EXHAUSTED, "settled_at": timezone.now(), "exhausted_by": "attempts"},
    {"status": CommandStatus.EXHAUSTED, "settled_at": timezone.now(), "exhausted_by": "invalid", "invalid": "bad id"},
    {"status": CommandStatus.CONFIRMED, "settled_at": timezone.now()},
    {"status": CommandStatus.SKIPPED, "settled_at": timezone.now()},
    {"status": CommandStatus.WITHDRAWN, "settled_at": timezone.now()},
    {"status": CommandStatus.NOT_REQUIRED, "next_at": None},
)


@pytest.fixture
def staff() -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("ana", "ana@example.org", "x"))
    return client


def offered(client: Client, address: str) -> set[Offer]:
    """The decisions that a page links to, each with its target."""
    answer = client.get(address, follow=True)
    assert answer.status_code == 200, address
    return {offer for _kind, offer in buttons_in(answer.content.decode())}


def buttons_in(page: str) -> list[tuple[str, Offer]]:
    found = []
    for attributes in re.findall(r"<a ([^>]*decision/decide/[^>]*)>", page):
        address = re.search(r'href="([^"]+)"', attributes)
        assert address
        split = urlsplit(html.unescape(address.group(1)))
        kind = re.search(r"sg-(main|danger)", attributes)
        target = [item for item in parse_qsl(split.query) if item[0] != "images"]  # the form starts with their number
        offer = (Action(split.path.rstrip("/").rsplit("/", 1)[1]), tuple(sorted(target)))
        found.append((kind.group(1) if kind else "", offer))
    return found


def offer(action: Action, **target: Any) -> Offer:
    return action, tuple(sorted((name, str(value)) for name, value in target.items()))


def accepted(decide: Callable[[], actions.ActionResult]) -> bool:
    """Whether a dry run is accepted, and would do something."""
    try:
        outcome = decide()
    except DecisionError:
        return False
    counted = {Action.DISMISS.value: "events", Action.RESUME_PUBLISHING.value: "changed"}
    counted |= {Action.PAUSE_PUBLISHING.value: "changed"}
    return bool(outcome.effects.get("eligible", 1) and outcome.effects.get(counted.get(outcome.action, ""), 1))


def on_saga(saga: SagaLog, lane: str | None = None) -> set[Offer]:
    """What dry runs accept on a saga, or on one lane of it."""
    tries: dict[Action, Callable[[], actions.ActionResult]] = {
        Action.FORCE_COMPENSATION: lambda: actions.force_compensation(saga.id, lane, request=DRY),
        Action.CANCEL: lambda: actions.cancel(saga.id, lane, request=DRY),
    }
    if lane is None:
        tries |= {
            Action.TERMINATE: lambda: actions.terminate(saga.id, request=DRY),
            Action.CLOSE_RETRIEVAL: lambda: actions.close_retrieval(saga.id, 1000, request=DRY),
            Action.RESUME: lambda: actions.resume(saga.id, request=DRY),
            # Whether there is a difference to write shows only in its preview; a saga that is set aside allows none.
            Action.REPLAY: lambda: (
                actions.replay(saga.id, request=DRY) if saga.set_aside_at is None else _not_while_set_aside()
            ),
        }
    target = {"saga": saga.id} if lane is None else {"saga": saga.id, "lane": lane}
    return {offer(action, **target) for action, decide in tries.items() if accepted(decide)}


def _not_while_set_aside() -> actions.ActionResult:
    raise DecisionError


COMMAND_ACTIONS = (Action.RETRY, Action.SKIP, Action.MARK_DONE, Action.WITHDRAW, Action.RELEASE)


def on_commands_of(saga: SagaLog) -> set[Offer]:
    return {
        offer(action, saga=saga.id)
        for action in COMMAND_ACTIONS
        if accepted(lambda: actions.decide_commands(action, CommandSelection(saga=saga.id), request=DRY))  # noqa: B023
    }


def on_command(command: Command) -> set[Offer]:
    return {
        offer(action, ids=command.id)
        for action in COMMAND_ACTIONS
        if accepted(lambda: actions.decide_command(action, command.id, request=DRY))  # noqa: B023
    }


def a_saga(seed: int) -> SagaLog:
    """A saga after a random story, in either scope, its commands in the states in turn, now and then set aside."""
    chance = random.Random(seed)
    if chance.random() < 0.1:
        return completed()[0]
    images = chance.choice([1, 2, 2, 3])
    possible = len(to_images(tuple(image(number) for number in range(images))))
    plot = Plot(
        images, [(chance.randrange(possible), chance.randrange(6)) for _ in range(chance.choice([1, 4, 9, 20]))]
    )
    cast = Cast.of(images)
    with override_settings(SAGA_FAILURE_SCOPE=chance.choice(SCOPES)):
        for fact in tell(plot, cast):
            store([fact], cast)
            run_apply()
    for number, command in enumerate(Command.objects.filter(key=cast.task), seed):
        if command.status == CommandStatus.PLANNED and chance.random() < 0.8:
            due = {"next_at": timezone.now(), "released_at": timezone.now()}
            Command.objects.filter(id=command.id).update(**{**due, **STATES[number % len(STATES)]})
    if chance.random() < 0.2:
        SagaLog.objects.filter(key=cast.task).update(set_aside_at=timezone.now(), set_aside_error="KeyError")
    return SagaLog.objects.get(key=cast.task)


@pytest.mark.parametrize("seed", SEEDS)
def test_saga_lane_and_command_pages_offer_what_dry_runs_accept(seed: int, staff: Client) -> None:
    saga = a_saga(seed)
    page = reverse("admin:sagas_sagalog_change", args=[saga.id])
    own = {found for found in offered(staff, page) if found[0] not in (Action.ATTACH, Action.DISMISS)}
    assert own == on_saga(saga) | on_commands_of(saga), saga.status
    for lane in Lane.objects.filter(saga=saga, known=True):
        assert offered(staff, formatting.lane_url(saga.id, lane.entity)) == on_saga(saga, lane.entity), lane.outcome
    resume = {offer(Action.RESUME, saga=saga.id)} if saga.set_aside_at else set()
    for command in Command.objects.filter(saga_id=saga.id):
        assert offered(staff, formatting.command_url(command.id)) == on_command(command) | resume, command.status


def test_the_random_sagas_are_of_every_kind() -> None:
    """Else the test above would try less than it says."""
    sagas = [a_saga(seed) for seed in SEEDS]
    assert {saga.status for saga in sagas} >= set(SagaStatusChoice.values) - {"COMPENSATION_FAILED"}
    assert any(saga.set_aside_at for saga in sagas)
    assert any(saga.state.get("claimed") is not None for saga in sagas)
    assert {saga.failure_scope for saga in sagas} == set(SCOPES)
    assert set(Command.objects.values_list("status", flat=True)) == set(CommandStatus.values)
    assert Lane.objects.filter(failed=True, saga__status="COMPENSATING").exists()


@pytest.mark.parametrize("status", CommandStatus.values)
def test_the_list_of_commands_offers_what_some_command_of_its_status_accepts(status: str, staff: Client) -> None:
    for state in STATES:
        due = {"next_at": timezone.now(), "released_at": timezone.now()}
        Command.objects.filter(saga_id=a_failed_saga().id).update(**{**due, **state})
    chosen = list(Command.objects.filter(status=status))
    assert chosen
    page = staff.get(reverse("admin:compensation_command_changelist"), {"status": status}).content.decode()
    shown = {Action(name.removesuffix("_chosen")) for name in re.findall(r'value="(\w+_chosen)"', page)}
    assert shown == {action for command in chosen for action, _target in on_command(command)}


def test_the_decision_that_the_sentence_names_is_the_main_button(staff: Client) -> None:
    """And what destroys something is behind "More", which opens without a script."""
    saga = a_failed_saga()
    page = reverse("admin:sagas_sagalog_change", args=[saga.id])
    Switch.objects.update_or_create(service="*", defaults={"paused": True, "changed_at": timezone.now()})
    assert mains(staff, page) == [Action.RESUME_PUBLISHING]
    Switch.objects.update(paused=False)
    assert mains(staff, page) == []
    Command.objects.filter(saga_id=saga.id).update(
        status=CommandStatus.EXHAUSTED, settled_at=timezone.now(), next_at=None, exhausted_by="attempts"
    )
    SagaLog.objects.update(status=SagaStatusChoice.COMPENSATION_FAILED)
    assert mains(staff, page) == [Action.RETRY]
    assert "Retry it, skip it" in staff.get(page).content.decode()
    Command.objects.update(invalid="bad id")
    assert mains(staff, page) == [Action.MARK_DONE]
    command = Command.objects.filter(saga_id=saga.id)[0]
    assert mains(staff, formatting.command_url(command.id)) == [Action.MARK_DONE]
    SagaLog.objects.update(set_aside_at=timezone.now(), set_aside_error="KeyError")
    assert mains(staff, page) == [Action.RESUME]
    SagaLog.objects.update(set_aside_at=None)
    text = staff.get(page).content.decode()
    for menu in re.findall(r'<details class="sg-more">.*?</details>', text, re.S):
        text = text.replace(menu, "")
        assert {kind for kind, _ in buttons_in(menu)} == {"danger"}
    assert "danger" not in {kind for kind, _ in buttons_in(text)}


def mains(client: Client, address: str) -> list[Action]:
    answer = client.get(address)
    assert answer.status_code == 200
    return [found[0] for kind, found in buttons_in(answer.content.decode()) if kind == "main"]


def a_failed_saga() -> SagaLog:
    task, name = new_ids(2)
    event_log.append(retrieval(task, [name]) + image_through(task, name))
    event_log.append([event("ProcessingFailed", task, name, seconds=90, error_message="no")])
    run_apply()
    return SagaLog.objects.get(key=task)


# --- parked events ----------------------------------------------------------------------------------------------------


def parked_worlds() -> Iterator[tuple[str, SagaLog]]:
    """Keys of every standing with parked events, each with a saga that they may belong to."""
    task, name, free, taken, gone = new_ids(5)
    event_log.append(retrieval(task, [name]))
    for key in (free, taken, gone):
        event_log.append([event("AnonymizationCompleted", key, new_ids(1)[0]), event("AnonymizationCompleted", key)])
    event_log.append([event("AnonymizationCompleted", task)])
    run_apply()
    saga = SagaLog.objects.get(key=task)
    for key in (taken, gone):
        say = ActionRequest(actor="ana", door="admin", reason="because")
        actions.attach(saga_id=saga.id, key=key, request=say)
    for key in (free, taken, gone, task):
        yield key, saga


@pytest.mark.parametrize("likely", ["none", "saga", "set aside"])
@pytest.mark.parametrize("dismissed", [False, True])
def test_a_parked_group_offers_what_dry_runs_accept(likely: str, dismissed: bool, staff: Client) -> None:
    tried = 0
    [unrelated] = new_ids(1)
    event_log.append(retrieval(unrelated, new_ids(1)))
    run_apply()
    other = SagaLog.objects.get(key=unrelated)
    for key, saga in parked_worlds():
        if likely == "set aside":
            SagaLog.objects.filter(id=saga.id).update(set_aside_at=timezone.now(), set_aside_error="KeyError")
        Parked.objects.filter(key=key).update(
            suggestion=None if likely == "none" else saga.id, dismissed_at=timezone.now() if dismissed else None
        )
        rows = list(Parked.objects.filter(key=key))
        if not rows:
            continue
        tried += 1
        page = formatting.parked_url(rows[0].stream, key, "")
        shown = offered(staff, page)
        target = {"stream": rows[0].stream, "key": key}
        own = {found for found in shown if "key" in dict(found[1])}
        expected = {
            offer(action, **target)
            for action, decide in {
                Action.ADOPT: lambda: actions.adopt(key, rows[0].stream, request=DRY),  # noqa: B023
                Action.DISMISS: lambda: actions.dismiss(key=key, request=DRY),  # noqa: B023
            }.items()
            if accepted(decide)
        }
        if likely == "saga" and accepted(lambda: actions.attach(saga_id=saga.id, key=key, request=DRY)):  # noqa: B023
            expected.add(offer(Action.ATTACH, **target, saga=saga.id))
        if likely == "none" and accepted(lambda: actions.attach(saga_id=saga.id, key=key, request=DRY)):  # noqa: B023
            # Where any saga may have the key the form asks which; else it names the only one.
            anybody = accepted(lambda: actions.attach(saga_id=other.id, key=key, request=DRY))  # noqa: B023
            expected.add(offer(Action.ATTACH, **target, **({} if anybody else {"saga": saga.id})))
        if likely == "set aside":
            expected = set()
            assert offer(Action.RESUME, saga=saga.id) in shown
        assert own == expected, (key, likely)
        for row in rows:
            _check_event(staff, row, saga, shown, likely)
    assert tried == 4


def _check_event(staff: Client, row: Parked, saga: SagaLog, shown: set[Offer], likely: str) -> None:
    """One event, on the group's page and on its own."""
    lone = Event.objects.get(pk=row.event)
    target = {"stream": row.stream, "event": lone.event_id}
    lane = Lane.objects.filter(saga=saga, known=True).values_list("entity", flat=True)[0]
    needed = None if lone.entity else lane
    fits = accepted(lambda: actions.attach(saga_id=saga.id, event=lone.event_id, lane=needed, request=DRY))
    given = {} if likely == "none" else {"saga": saga.id}
    own_page = offered(staff, reverse("admin:bridge_event_change", args=[row.event]))
    for found in (shown, own_page):
        assert (offer(Action.ATTACH, **target, **given) in found) == fits
    dismissable = accepted(lambda: actions.dismiss(event=lone.event_id, request=DRY)) and likely != "set aside"
    for found in (shown, own_page):
        assert (offer(Action.DISMISS, **target) in found) == dismissable


def test_an_event_that_names_no_image_asks_for_one_before_its_preview(staff: Client) -> None:
    for _key, saga in parked_worlds():
        row = Parked.objects.filter(reason=ParkedReason.NO_ENTITY).first()
        assert row is not None
        address = formatting.decide_url("attach", stream=row.stream, event=Event.objects.get(pk=row.event).event_id)
        page = staff.get(f"{address}&saga={saga.id}").content.decode()
        assert "sg-banner" not in page
        break


# --- messages and switches --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("readable", [False, True])
@pytest.mark.parametrize("status", ["open", "dismissed", "requeued"])
def test_a_message_offers_what_dry_runs_accept(readable: bool, status: str, staff: Client) -> None:
    row = quarantined(None if readable else b"{")
    Quarantined.objects.filter(pk=row.pk).update(status=status, decided_at=timezone.now(), decided_by="ana")
    tries = {
        Action.REQUEUE: lambda: actions.requeue_message(row.pk, request=DRY),
        Action.DISMISS_MESSAGE: lambda: actions.dismiss_message(row.pk, request=DRY),
    }
    expected = {offer(action, message=row.pk) for action, decide in tries.items() if accepted(decide)}
    assert offered(staff, reverse("admin:bridge_quarantined_change", args=[row.pk])) == expected


@pytest.mark.parametrize("everything", [False, True])
@pytest.mark.parametrize("one", [False, True])
def test_the_switches_offer_what_dry_runs_accept(everything: bool, one: bool, staff: Client) -> None:
    switches.read()
    service = actions.services()[0]
    for name, paused in (("*", everything), (service, one), ("a service of another time", True)):
        Switch.objects.update_or_create(service=name, defaults={"paused": paused, "changed_at": timezone.now()})
    expected = {
        offer(action, **({"service": name, "only": "switch"} if name else {}))
        for name in (None, *actions.services(), "a service of another time")
        for action, paused in ((Action.PAUSE_PUBLISHING, True), (Action.RESUME_PUBLISHING, False))
        if accepted(lambda: actions.set_publishing(paused, name, request=DRY, only="switch" if name else None))  # noqa: B023
    }
    address = reverse("admin:compensation_switch_changelist")
    assert offered(staff, address) == expected
    a_failed_saga()
    later = timezone.now() + timedelta(days=1)
    assert accepted(lambda: actions.decide_commands("withdraw", CommandSelection(planned_before=later), request=DRY))
    assert offered(staff, address) == expected | {offer(Action.WITHDRAW)}
