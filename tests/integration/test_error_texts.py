"""Error texts of services are payload: no page, address, command or log line shows one without the right to see it.

A text that nobody would write by chance is planted through events wherever a service's words reach a row. Then
everything that shows rows is fetched as somebody who may do all but see payload, and as somebody who may see it too.
"""

from __future__ import annotations

import html
import io
import json
import logging
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import pytest
from django.contrib.auth.models import Permission, User
from django.http import HttpResponseBase
from django.test import Client
from django.urls import reverse
from django.utils import timezone, translation

from bridge import event_log
from bridge.models import Event
from compensation.models import Attempt, AttemptOutcome, Command
from sagaproject.logs import LineFormatter
from sagas.actions import Action
from sagas.applying.apply import run_apply
from sagas.definitions import image_processing_v1, registry
from sagas.engine.fold import Fold
from sagas.error_text import shown_differences, shown_error, shown_text
from sagas.models import Decision, Lane, Parked, SagaKey, SagaLog, SagaStep
from tests.integration.api import BASE, hold
from tests.integration.decided import published, quarantined
from tests.integration.pages import World, admin_pages, api_pages
from tests.integration.story import event, image_through, new_ids, retrieval
from tests.integration.terminal import run
from tests.integration.test_commands_output import DECISIONS, READS, TASK, payload

pytestmark = pytest.mark.django_db

SECRET = "secreto-4711"
MARK = f"Zanahoria^María {SECRET}"
# Not of rows: what the composition's servers say, a token, and what is only made.
ELSEWHERE = {"create_token", "doctor", "fill", "simulate_services", "demo"}


class Told(NamedTuple):
    """What was planted, and every line that was logged meanwhile and will be."""

    world: World
    sagas: list[SagaLog]
    log: io.StringIO


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """All that the service logs, as its own formatter writes it."""
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(LineFormatter())
    logging.getLogger().addHandler(handler)
    yield written
    logging.getLogger().removeHandler(handler)


@pytest.fixture
def told(settings: Any, log: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> Told:
    """Sagas in whose every text a service wrote the mark: failures, refusals, confirmations, uploads, parked ones."""
    settings.API_OPEN_READS = False
    once = {**settings.SAGA_RETRY, "maximum_attempts": 1}
    often = {**settings.SAGA_RETRY, "maximum_attempts": 5}
    sagas = [
        refused(once, settings),  # given up
        refused(often, settings),  # to be tried again
        refused(often, settings, text=f"FATAL {MARK}", not_retried=["FATAL"]),
        lanes_of_all_kinds(),
        undone(settings),
        set_aside(monkeypatch),
    ]
    event_log.append([event("ProcessingFailed", new_ids(1)[0], seconds=40, error_message=MARK)])
    message = quarantined(json.dumps({"error_message": MARK}).encode())
    run_apply()
    SagaKey.objects.create(stream="image_processing", key="another", saga=sagas[0])
    damage(sagas[3])
    world = World(
        saga=sagas[0],
        lane=Lane.objects.get(saga=sagas[0], known=True).entity,
        command=Command.objects.get(saga_id=sagas[0].id),
        event=Event.objects.get(key=sagas[0].key, type="ImageDeletionFailed"),
        other_key="another",
        parked=Parked.objects.filter(dismissed_at__isnull=True, suggestion=None)[0],
        quarantined=message,
        middle=timezone.now(),
    )
    return Told(world, [SagaLog.objects.get(id=saga.id) for saga in sagas], log)


def refused(retry: dict[str, Any], settings: Any, text: str = MARK, not_retried: Sequence[str] = ()) -> SagaLog:
    """A saga whose one deletion was refused once."""
    task, image = new_ids(2)
    settings.SAGA_RETRY = retry
    event_log.append([*retrieval(task, [image]), event("RetrievalFailed", task, seconds=20, error_message=text)])
    run_apply()
    Command.objects.filter(key=task).update(non_retryable=list(not_retried))
    published()
    event_log.append([event("ImageDeletionFailed", task, image, seconds=30, error_message=text)])
    run_apply()
    run_apply()
    return SagaLog.objects.get(key=task)


def lanes_of_all_kinds() -> SagaLog:
    """Images that fail in each way in which an event tells of it, and one that never came to be."""
    task, *images = new_ids(5)
    event_log.append(retrieval(task, images))
    for image in images:
        event_log.append(image_through(task, image)[:5])
    event_log.append(
        [
            event("ImageUploadFailed", task, seconds=50, error_message=MARK, filename=f"{MARK}.dcm"),
            event("AnonymizationFailed", task, images[0], seconds=51, error_message=MARK),
            event("ProcessingFailed", task, images[1], seconds=52, error_message=MARK),
            event("AnonymizationFailed", task, images[2], seconds=53, error_message=f"Anonimización revertida {MARK}"),
            event("ImageDeletionFailed", task, images[3], seconds=54, error_message=MARK),
            event("ProcessingFailed", task, seconds=55, error_message=MARK),
        ]
    )
    run_apply()
    run_apply()
    return SagaLog.objects.get(key=task)


def undone(settings: Any) -> SagaLog:
    """A saga that was undone at the second try; the confirmation says more than it must."""
    saga = refused(settings.SAGA_RETRY, settings)
    entity = Command.objects.get(saga_id=saga.id).entity
    event_log.append([event("ImageDeletionCompleted", saga.key, entity, seconds=60, error_message=MARK)])
    run_apply()
    saga.refresh_from_db()
    assert saga.status == "COMPENSATION_SUCCEEDED"
    return saga


def set_aside(patch: pytest.MonkeyPatch) -> SagaLog:
    """A saga that a fault set aside whose exception quotes what the service said."""
    task, image = new_ids(2)
    event_log.append(retrieval(task, [image]))
    run_apply()
    real = Fold.apply

    def apply(self: Fold, fact: Any, *more: Any) -> Any:
        if self.identity.key == task and fact.type == "AnonymizationFailed":
            raise KeyError(fact.content["error_message"])
        return real(self, fact, *more)

    patch.setattr(Fold, "apply", apply)
    event_log.append([event("AnonymizationFailed", task, image, seconds=8, error_message=MARK)])
    run_apply()
    return SagaLog.objects.get(key=task)


def damage(saga: SagaLog) -> None:
    """What is stored differs from the log, and both have the text."""
    state = SagaLog.objects.get(id=saga.id).state
    state["failure"] = ["2026-03-01T12:00:55+00:00", "x", f"{MARK} stored"]
    SagaLog.objects.filter(id=saga.id).update(state=state, error_message=f"{MARK} changed")
    for lane in Lane.objects.filter(saga=saga, state__has_key="failure"):
        Lane.objects.filter(pk=lane.pk).update(
            state={**lane.state, "failure": [lane.state["failure"][0], "x", f"{MARK} in a lane"]}
        )


def client_of(name: str, *, may_see_payload: bool) -> Client:
    """Staff with every permission that there is, but that to see payload."""
    user = User.objects.create_user(name, is_staff=True)
    given = Permission.objects.all()
    user.user_permissions.set(given if may_see_payload else given.exclude(codename="view_payload"))
    client = Client(raise_request_exception=False)
    client.force_login(user)
    return client


def text_of(answer: HttpResponseBase) -> str:
    """An answer as people and programs read it, with its headers."""
    raw = b"".join(answer.streaming_content) if answer.streaming else answer.content  # type: ignore[attr-defined]
    text = raw.decode()
    return f"{answer.headers}{html.unescape(text)}{text}"


def shows(text: str) -> bool:
    return SECRET in text or "Zanahoria" in text


def addresses(told: Told) -> Iterator[str]:
    """Every address that reads, of every saga and command, and of an event of each type."""
    yield from (page.address for page in (*api_pages(told.world), *admin_pages(told.world)))
    for saga in told.sagas:
        one = f"{BASE}sagas/{saga.id}"
        parts = ("steps", "lanes", "commands", "events", "timeline")
        yield from (one, *(f"{one}/{part}?limit=100" for part in parts))
        yield reverse("admin:sagas_sagalog_change", args=[saga.id])
        for lane in saga.lanes.all():
            yield f"{reverse('admin:sagas_sagalog_lane', args=[saga.id])}?lane={lane.entity}"
    for model, rows in (
        ("compensation_command", Command.objects.all()),
        ("bridge_event", Event.objects.order_by("type", "id").distinct("type")),
        ("sagas_decision", Decision.objects.all()),
    ):
        name = f"admin:{model}_change"
        yield from (reverse(name, args=[row.pk]) for row in rows)
    yield f"{reverse('admin:index')}?kind=exhausted"
    yield from ("/api/schema", "/api/docs", BASE)


def lookups(told: Told) -> Iterator[str]:
    """Questions about a text, which a list must not answer."""
    names = ("error_message", "error_message__startswith", "error", "last_error__contains", "search", "ordering", "q")
    for path in (f"{BASE}sagas", f"{BASE}sagas/{told.world.saga.id}/commands", f"{BASE}attention"):
        yield from (f"{path}?{name}={MARK}" for name in names)
    for model in ("sagas_sagalog", "compensation_command", "bridge_event"):
        path = reverse(f"admin:{model}_changelist")
        yield from (f"{path}?{name}={SECRET}" for name in names if name != "q")
        yield f"{path}?o=7"


def previews(told: Told) -> Iterator[tuple[str, dict[str, str]]]:
    """Each decision with something that it can be about."""
    world, broken = told.world, told.sagas[3]
    for action in Action:
        yield action, {"saga": str(broken.id)}
        yield action, {"saga": str(world.saga.id), "lane": world.lane}
        yield action, {"ids": str(world.command.id)}
        yield action, {"key": world.parked.key, "stream": world.parked.stream, "saga": str(world.saga.id)}
        yield action, {"message": str(world.quarantined.pk)}
        yield action, {"service": world.command.service}


def test_the_mark_is_in_every_row_that_keeps_a_text(told: Told) -> None:
    """Else the tests below look for what is not there."""
    sagas = SagaLog.objects.filter(error_message__contains=SECRET)
    assert sagas.count() == len(told.sagas) - 1  # all but that which was set aside
    assert SagaStep.objects.filter(error_message__contains=SECRET).exists()
    commands = [row for row in Command.objects.all() if SECRET in json.dumps(row.last_error_data)]
    assert {row.status for row in commands} >= {"exhausted", "published"}
    assert "non-retryable-prefix" in {row.last_error for row in commands}
    assert Attempt.objects.filter(outcome=AttemptOutcome.REFUSED, error__contains=SECRET).count() >= 4
    assert told.sagas[-1].set_aside_at is not None


@pytest.mark.timeout(600)
def test_no_page_or_address_shows_a_text_without_the_right(told: Told) -> None:
    client = client_of("vera", may_see_payload=False)
    found = list(dict.fromkeys(addresses(told)))
    asked = [(address, "application/json, text/html") for address in found]
    asked += [(address, "text/html") for address in found if address.startswith(BASE)]
    for address, accept in asked:
        answer = client.get(address, headers={"accept": accept})
        assert not shows(text_of(answer)), (address, answer.status_code)
        assert answer.status_code in (200, 302, 404, 503), (address, answer.status_code)
    for address in lookups(told):
        assert client.get(address).status_code == 400, address
    for action, about in previews(told):
        answer = client.get(reverse("admin:sagas_decision_decide", args=[action]), about)
        assert not shows(text_of(answer)), (action, about, answer.status_code)
    assert not shows(told.log.getvalue())


def test_who_may_see_payload_reads_the_texts(told: Told) -> None:
    client = client_of("pia", may_see_payload=True)
    world, one = told.world, f"{BASE}sagas/{told.world.saga.id}"
    page = "admin:sagas_sagalog"
    for address in (
        *(f"{BASE}sagas", one, f"{one}/commands", f"{one}/timeline", f"{BASE}attention"),
        *(f"{BASE}sagas/by-task/{world.saga.key}", f"{BASE}sagas/by-correlation/{world.saga.correlation_id}"),
        f"{BASE}sagas/{told.sagas[3].id}/steps?limit=100",
        *(reverse("admin:index"), reverse(f"{page}_changelist"), reverse(f"{page}_change", args=[world.saga.id])),
        *(f"{reverse(f'{page}_lane', args=[saga.id])}?lane={saga.lanes.all()[0].entity}" for saga in told.sagas[:1]),
        reverse("admin:compensation_command_changelist"),
        reverse("admin:compensation_command_change", args=[world.command.id]),
        reverse("admin:bridge_event_change", args=[world.event.pk]),
        f"{reverse('admin:sagas_decision_decide', args=['replay'])}?saga={told.sagas[3].id}",
    ):
        assert shows(text_of(client.get(address))), address


def test_the_contract_holds_with_and_without_the_right(told: Told) -> None:
    """Names and types are the same; the text reads how long it is, in every language."""
    world, path = told.world, f"{BASE}sagas/{told.world.saga.id}"
    client = client_of("vera", may_see_payload=False)
    hidden = f"[text, {len(MARK)} characters]"
    for address in (path, f"{path}/commands", f"{path}/steps", f"{path}/timeline"):
        hold(client.get(address, headers={"accept": "application/json"}), "get", address)
    refused = {"en": "The service refused it", "es": "El servicio lo rechazó"}
    attempts = {"en": "Failed after 1 attempt.", "es": "Falló después de 1 intento."}
    for language in ("en", "es"):
        ask = {"accept": "application/json", "accept-language": language}
        saga = client.get(path, headers=ask).json()
        assert saga["error_message"] == hidden
        assert saga["waiting"]["error"].endswith(f"{refused[language]}: {hidden}")
        [command] = client.get(f"{path}/commands", headers=ask).json()["items"]
        assert command["last_error"] == f"{attempts[language]} {refused[language]}: {hidden}"
        assert [attempt["error"] for attempt in command["attempts"]] == [hidden]
        lines = client.get(f"{path}/timeline", headers=ask).json()["items"]
        assert [line["detail"]["error"] for line in lines if line["kind"] == "attempt"] == [hidden]
    page = reverse("admin:sagas_sagalog_change", args=[world.saga.id])
    spanish = client.get(page, headers={"accept-language": "es"}).content.decode()
    assert f"[texto, {len(MARK)} caracteres]" in spanish


def test_a_decision_neither_answers_nor_keeps_a_text(told: Told) -> None:
    client = client_of("olga", may_see_payload=False)
    broken = told.sagas[3]
    replay = f"{BASE}sagas/{broken.id}/replay"
    looked = client.post(replay, {}, "application/json")
    assert looked.status_code == 200
    assert len(looked.json()["effects"]["differences"]) > 2
    assert not shows(text_of(looked))
    body, key = {"apply": True, "reason": "mend it"}, {"Idempotency-Key": "k1"}
    for _ in range(2):
        answer = client.post(replay, body, "application/json", headers=key)
        assert answer.status_code == 202, answer.content
        assert not shows(text_of(answer))
    assert not shows(json.dumps(list(Decision.objects.values_list("answer", flat=True))))
    for saga in told.sagas:
        for name in ("cancel", "force-compensation", "terminate", "resume", "replay"):
            answer = client.post(f"{BASE}sagas/{saga.id}/{name}", {"dry_run": True}, "application/json")
            assert not shows(text_of(answer)), (saga, name)


def test_who_may_see_payload_reads_both_texts_of_a_difference(told: Told) -> None:
    client = client_of("pia", may_see_payload=True)
    found = client.post(f"{BASE}sagas/{told.sagas[3].id}/replay", {}, "application/json").json()["effects"]
    texts = {item["what"]: item for item in found["differences"]}
    assert texts["saga error_message"]["stored"] == f"{MARK} changed"
    assert shows(json.dumps(texts["saga state"], ensure_ascii=False))


@pytest.mark.django_db(transaction=True)
def test_no_command_prints_a_text_unless_it_is_asked_to(told: Told) -> None:
    key, broken = told.world.saga.key, str(told.sagas[3].id)
    commands = [(*words, "--dry-run") for words in DECISIONS]
    commands += [words for words in READS if words[0] not in ELSEWHERE]
    commands += [("show_saga", str(saga.id)) for saga in told.sagas]
    commands += [("replay_saga", broken), ("verify_sagas", broken)]
    for words in commands:
        for form in ((), ("--json",)):
            ran = run(*(word.replace(TASK, key) for word in words), *form)
            assert not shows(ran.out + ran.err), words
    for words in (("list_sagas",), ("show_saga", key), ("replay_saga", broken), ("verify_sagas", broken)):
        for form in ((), ("--json",)):
            assert shows(run(*words, *payload(words), *form).out), words
    assert not shows(told.log.getvalue())


def test_what_this_service_says_itself_stays_readable() -> None:
    assert shown_text("", payload=False) == shown_text(None, payload=True) == ""
    assert shown_text("x", payload=False) == "[text, 1 character]"
    assert shown_text(MARK, payload=True) == MARK
    for own in ("No answer within 300 seconds.", "The command could not be sent: Timeout", "The service refused it."):
        assert shown_error(own, None, payload=False) == own


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("restarts", [False, True])
def test_the_engines_own_sentence_is_shown_to_everyone_in_their_language(
    monkeypatch: pytest.MonkeyPatch, restarts: bool
) -> None:
    if not restarts:
        monkeypatch.setattr(registry, "DEFINITIONS", (image_processing_v1.DEFINITION,))
    task, image = new_ids(2)
    event_log.append([*retrieval(task, [image]), event("AnonymizationRolledBack", task, image, seconds=9)])
    run_apply()
    stored = SagaLog.objects.get(key=task).error_message
    assert stored is not None
    assert shown_text(stored, payload=False) == shown_text(stored, payload=True) == stored
    assert f"error: {stored}" in run("show_saga", task).out
    with translation.override("es"):
        spanish = shown_text(stored, payload=False)
        assert spanish.startswith("AnonymizationRolledBack llegó sin un fallo anterior: lo deshizo alguien más")
        assert spanish.endswith("antes del reinicio") is restarts
        assert shown_text(stored, payload=False, as_data=True) == stored
    assert shown_text(f"{stored} {MARK}", payload=False) == f"[text, {len(stored) + 1 + len(MARK)} characters]"


def test_the_error_of_a_decision_is_in_the_readers_language_and_its_reason_is_not_shown_without_the_right() -> None:
    with translation.override("es"):
        assert shown_text(f"Cancelled: {MARK}", payload=True) == f"Cancelada: {MARK}"
        assert MARK not in shown_text(f"Terminated: {MARK}", payload=False)
        assert shown_text("Compensation forced: ", payload=False) == "Compensación forzada: "


def test_a_difference_of_any_shape_is_shown_without_texts() -> None:
    mark = ["2026-03-01T12:00:00+00:00", "e1", MARK]
    kept = {"opened_at": "2026-03-01", "commands": {"Delete": {"round": 2}}}
    for stored in (mark, [MARK], MARK, {"text": MARK}):
        differences: list[dict[str, Any]] = [
            {"what": "lane x", "stored": {**kept, "failure": stored}, "folded": None},
            {"what": "saga state", "stored": {"lane_failure": stored, "upload_failure": stored}, "folded": [kept]},
            {"what": "saga error_message", "stored": MARK, "folded": None},
        ]
        assert MARK not in json.dumps(shown_differences(differences, payload=False), ensure_ascii=False)
        assert shown_differences(differences, payload=True) == differences
    [shown] = shown_differences(
        [{"what": "lane x", "stored": {**kept, "failure": mark}, "folded": None}], payload=False
    )
    assert shown["stored"] == {**kept, "failure": [*mark[:2], f"[text, {len(MARK)} characters]"]}


def test_a_log_line_has_the_place_of_a_fault_and_not_its_message(log: io.StringIO) -> None:
    try:
        try:
            raise ValueError(MARK)
        except ValueError as error:
            raise KeyError(MARK) from error
    except KeyError as error:
        logging.getLogger("sagas.test").exception("it failed")
        # As celery.app.trace and celery.worker.request write theirs.
        context = {"name": "sagas.apply", "exc": repr(error), "traceback": f"...{error!r}"}
        logging.getLogger("celery.app.trace").error("Task %(name)s raised: %(exc)s %(traceback)s", context)
        logging.getLogger("celery.worker.request").error("Task handler raised error: %r", error)
    told = log.getvalue()
    assert "it failed" in told
    assert told.index("ValueError") < told.index("KeyError")
    assert "test_a_log_line_has_the_place" in told
    assert "Task sagas.apply raised: KeyError" in told
    assert not shows(told.replace("MARK", ""))
