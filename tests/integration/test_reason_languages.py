"""What the service stores as a reason reads in the reader's language: on every page, in the API, in the commands."""

from __future__ import annotations

import html
import io
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.core.management import call_command
from django.db import DataError, connection
from django.test import Client
from django.urls import reverse
from django.utils import timezone, translation

from bridge import blocked, event_log, heartbeats, quarantine
from bridge.codec import Codec, get_codec
from bridge.envelope import Message, Rejected
from bridge.models import Event, Quarantined
from bridge.reasons import Reason, reason
from bridge.topics import get_topics
from compensation import statements
from compensation.models import Attempt, AttemptOutcome, Command, CommandStatus, ConfirmationKind
from compensation.snapshot import CommandSnapshot
from sagaproject.doctor.pulsar import check_topics
from sagas.applying import breakers
from sagas.error_text import shown_error
from sagas.models import Decision
from sagas.queries.attention import attention
from tests.corpus.bad import corpus
from tests.integration.api import BASE
from tests.integration.decided import failed, published, unfit
from tests.integration.story import new_ids

pytestmark = pytest.mark.django_db

# Words that English sentences have, and no Spanish one, id, name of a topic, or code of the contract.
ENGLISH = re.compile(r"\b(the|is|not|of|must|was|with|has|could|because|after|within|its|an|be|too|than|and)\b", re.I)
# What a definition, a service or a producer named is no text of ours.
NAMES = re.compile(r"[\w.-]*[-_.][\w.-]*|DeleteRetrievedImage")
SECRET = "Zanahoria 4711"
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def english_in(page: str) -> list[str]:
    """The English words in the text of a page, without what stands in its head, its scripts and its tags."""
    body = re.sub(r"<(script|style|head)\b.*?</\1>|<[^>]*>", " ", page, flags=re.S)
    return ENGLISH.findall(NAMES.sub(" ", html.unescape(body)))


@pytest.fixture(autouse=True)
def _language() -> Iterator[None]:
    """Begin in English, and leave no language to other tests: a request activates its own for the thread."""
    with translation.override("en"):
        yield


@pytest.fixture
def spanish(client: Client) -> Client:
    """Staff who may see all but what messages say."""
    return client_of(client, payload=False)


def client_of(client: Client, *, payload: bool) -> Client:
    user = User.objects.create_user("vera", is_staff=True)
    every = Permission.objects.all()
    user.user_permissions.set(every if payload else every.exclude(codename="view_payload"))
    client.force_login(user)
    client.defaults["HTTP_ACCEPT_LANGUAGE"] = "es"
    return client


# --- messages in quarantine -------------------------------------------------------------------------------------------


def refusals() -> dict[str, Rejected]:
    """A rejected message of each code of a reason that the corpus of bad messages and a few more call forth."""
    found: dict[str, Rejected] = {}
    messages = [Message(get_topics().names(bad.topic).shown, bad.topic, f"1:{n}:-1:-1", 1, bad.body, {})
                for n, bad in enumerate(corpus()) if len(bad.body) < 2_000_000]  # fmt: skip
    shown = messages[0].topic
    more = (b"", b"[]", b"7", b'{"type": 7}', b"{}", b'{"type": "Unheard"}', b"\xff", b"{", b"\xff\xfe{\0")
    messages += [messages[0]._replace(body=body, message_id=f"2:{n}:-1:-1") for n, body in enumerate(more)]
    messages += [messages[0]._replace(encrypted=count, message_id=f"3:{count}:-1:-1") for count in (1, 5)]
    messages += [messages[0]._replace(short_name="elsewhere", message_id="4:0:-1:-1")]
    assert shown
    for message in messages:
        result = get_codec().decode(message, timezone.now())
        if isinstance(result, Rejected):
            found.setdefault(result.reason.code, result)
    return found


def test_a_spanish_page_of_each_kind_of_quarantined_message_shows_no_english(spanish: Client) -> None:
    found = refusals()
    assert len(found) >= 15, sorted(found)
    quarantine.keep(list(found.values()))
    rows = list(Quarantined.objects.all())
    assert {row.reason for row in rows} == set(found)
    for row in rows:
        page = spanish.get(reverse("admin:bridge_quarantined_change", args=[row.pk])).content.decode()
        with translation.override("es"):
            assert html.escape(row.reason_text, quote=False)[1:] in html.unescape(page).replace("<", "&lt;"), row.reason
        assert english_in(page) == [], row.reason
    listed = spanish.get(reverse("admin:bridge_quarantined_changelist")).content.decode()
    assert english_in(listed) == []


def test_a_message_that_the_database_rejects_or_that_conflicts_has_a_code_too() -> None:
    [first] = [Codec.decode(get_codec(), message_of("a"), NOW)]
    other = Codec.decode(get_codec(), message_of("a", error_message="more"), NOW)
    assert not isinstance(first, Rejected)
    assert not isinstance(other, Rejected)
    event_log.store_batch([first, other])
    rejected = event_log._rejected_by_database(first, DataError("x"))
    quarantine.keep([rejected])
    with translation.override("es"):
        texts = {row.reason: row.reason_text for row in Quarantined.objects.all()}
    assert set(texts) == {"conflicting-content", "refused-by-database:DataError"}
    assert english_in(" ".join(texts.values())) == []


def message_of(event_id: str, **more: Any) -> Message:

    body = {"id": event_id, "type": "RetrievalFailed", "task_id": new_ids(1)[0] if more else "task", **more}
    names = get_topics().names(get_topics().full("retrieval-failed"))
    raw = json.dumps({**body, "task_id": "task", "timestamp": "2026-03-01T12:00:00"}).encode()
    return Message(names.shown, names.short, f"9:{len(more)}:-1:-1", 1, raw, {})


def test_the_api_answers_reasons_in_the_language_of_the_request(spanish: Client) -> None:
    quarantine.keep([refusals()["wrong-type"]])
    [row] = Quarantined.objects.all()
    for language, text in (("en", " must be "), ("es", " debe ser "), ("", " must be ")):
        answer = spanish.get(f"{BASE}quarantine", headers={"accept-language": language}).json()
        assert text in answer["items"][0]["reason"], language
    Quarantined.objects.bulk_create([Quarantined(**values_of(row), reason="the text of an earlier release")])
    answer = spanish.get(f"{BASE}quarantine").json()
    assert "the text of an earlier release" in {item["reason"] for item in answer["items"]}


def values_of(row: Quarantined) -> dict[str, Any]:
    skipped = {"id", "reason", "reason_data", "message_id"}
    names = [field.name for field in row._meta.fields if field.name not in skipped]
    return {"message_id": "7:7:-1:-1", **{name: getattr(row, name) for name in names}}


# --- commands ---------------------------------------------------------------------------------------------------------


def endings(snapshot: CommandSnapshot) -> dict[str, CommandSnapshot]:
    """Each way in which the state machine says why a command goes on, or goes on no more."""

    def ended(outcome: AttemptOutcome, error: str = "", **more: bool) -> CommandSnapshot:
        return snapshot.failed(outcome, error, NOW, 0, **more)

    last = replace(snapshot, attempt=snapshot.policy.maximum_attempts)
    manual = replace(snapshot, confirmation=ConfirmationKind.MANUAL)
    strict = replace(snapshot, policy=replace(snapshot.policy, non_retryable_errors=(SECRET, "FATAL")))
    found = {outcome.value: ended(outcome) for outcome in (
        AttemptOutcome.REFUSED, AttemptOutcome.DEADLINE, AttemptOutcome.FAILED, AttemptOutcome.SUPERSEDED)}  # fmt: skip
    for outcome in (AttemptOutcome.UNREACHABLE, AttemptOutcome.BLOCKED):
        found[outcome.value] = snapshot.publish_unreachable("", NOW, 0, outcome)
        found[f"{outcome.value}-because"] = snapshot.publish_unreachable("pulsar:ProducerBusy", NOW, 0, outcome)
    return found | {
        "refused-because": ended(AttemptOutcome.REFUSED, SECRET),
        "failed-because": ended(AttemptOutcome.FAILED, "pulsar:Timeout"),
        "permanent": ended(AttemptOutcome.FAILED, "pulsar:MessageTooBig", permanent=True),
        "attempts": last.failed(AttemptOutcome.REFUSED, SECRET, NOW, 0),
        "attempts-deadline": last.failed(AttemptOutcome.DEADLINE, "", NOW, 0),
        "non-retryable": strict.failed(AttemptOutcome.REFUSED, SECRET, NOW, 0),
        "non-retryable-prefix": strict.failed(AttemptOutcome.REFUSED, f"FATAL {SECRET}", NOW, 0),
        "no-confirmation": manual.sent(NOW),
    }


def last_error_in(client: Client, row: Command, language: str) -> str:
    """A command's last error as the API answers it, without what stands for the text of a service."""
    answer = client.get(f"{BASE}sagas/{row.saga_id}/commands", headers={"accept-language": language}).json()
    [found] = [command for command in answer["items"] if command["id"] == str(row.pk)]
    return re.sub(r"\[text, \d+ characters\]", "", found["last_error"])


def test_a_spanish_page_of_each_kind_of_failed_command_shows_no_english(spanish: Client, settings: Any) -> None:
    settings.LANGUAGE_CODE = "en"
    saga, _images = failed(1)
    published()
    row = Command.objects.get(saga_id=saga.id, status=CommandStatus.PUBLISHED)
    Command.objects.filter(pk=row.pk).update(status=CommandStatus.PUBLISHING, claimed_at=NOW, attempt=1)
    [snapshot] = statements.lock([str(row.pk)])
    for name, ending in endings(snapshot).items():
        statements.write([ending])
        [stored] = statements.lock([str(row.pk)])
        assert replace(stored, policy=ending.policy, confirmation=ending.confirmation) == ending, (
            name
        )  # what is written is what is read
        assert not re.search(r"\s", stored.last_error), name
        pages = [
            reverse("admin:compensation_command_change", args=[row.pk]),
            reverse("admin:compensation_command_changelist"),
            reverse("admin:sagas_sagalog_change", args=[saga.id]),
            reverse("admin:index"),
        ]
        for address in pages:
            page = spanish.get(address).content.decode()
            assert english_in(page) == [], (name, address)
            assert SECRET not in page or name == "non-retryable", (name, address)
        in_spanish, in_english = (last_error_in(spanish, row, language) for language in ("es", "en"))
        assert english_in(in_spanish) == [], name
        assert in_spanish != in_english, name


def test_a_command_that_the_service_would_refuse_reads_in_spanish(spanish: Client) -> None:
    _saga, command = unfit()
    assert (command.invalid, command.last_error) == ("not-a-uuid:image_id", "not-a-uuid:image_id")
    page = spanish.get(reverse("admin:compensation_command_change", args=[command.pk])).content.decode()
    assert "solo acepta un UUID en image_id" in page
    assert english_in(page) == []


def test_the_error_of_an_attempt_is_a_code_and_that_of_a_service_is_its_text(spanish: Client) -> None:
    saga, _images = failed(1)
    published()
    attempt = Attempt.objects.get(command__saga_id=saga.id)
    more = {"command": attempt.command, "round": 2, "started_at": NOW, "ended_at": NOW}
    Attempt.objects.create(number=1, outcome="unreachable", error="pulsar:Timeout", counted=False, **more)
    Attempt.objects.create(number=1, outcome="refused", error=SECRET, **more)
    found = spanish.get(f"{BASE}sagas/{saga.id}/commands").json()["items"]
    [one] = [command for command in found if command["id"] == str(attempt.command_id)]
    errors = [found["error"] for found in one["attempts"]]
    hidden = f"[text, {len(SECRET)} characters]"
    assert errors == [None, "Pulsar no respondió a tiempo (quizá falta el token o es incorrecto): Timeout", hidden]
    page = spanish.get(reverse("admin:compensation_command_change", args=[attempt.command_id])).content.decode()
    assert english_in(page) == []


def test_only_the_text_of_a_service_is_hidden_in_a_reason() -> None:
    last = reason("refused-because", error=SECRET)
    found = reason("attempts", count=3, last=last.nested)
    with translation.override("es"):
        hidden = shown_error(found.code, found.data, payload=False)
        assert hidden == f"Falló después de 3 intentos. El servicio lo rechazó: [texto, {len(SECRET)} caracteres]"
        assert shown_error(found.code, found.data, payload=True).endswith(SECRET)
        as_data = shown_error(found.code, found.data, payload=False, as_data=True)
        assert as_data.endswith(f"El servicio lo rechazó: [text, {len(SECRET)} characters]")


@pytest.mark.parametrize("data", [None, {"error": "newer"}])
def test_what_an_earlier_release_wrote_is_shown_as_it_is(data: dict[str, str] | None) -> None:
    """Also where a worker of that release wrote it over a reason of this one: it leaves the parameters."""
    stored = f"Failed after 1 attempt. The service refused it: {SECRET}"
    assert shown_error(stored, data, payload=True) == stored
    assert shown_error(stored, data, payload=False) == stored.replace(SECRET, "[text, 14 characters]")
    assert shown_error("No answer within 300 seconds.", data, payload=False) == "No answer within 300 seconds."


# --- what the processes report ----------------------------------------------------------------------------------------


def test_attention_health_and_doctor_write_the_reports_of_processes_out(spanish: Client) -> None:
    saga, _images = failed(1)
    topic = Command.objects.filter(saga_id=saga.id, released_at__isnull=False)[0].topic
    blocked.note({topic: "pulsar:ProducerBusy"}, (), timezone.now() - timedelta(minutes=30))
    unread = {"topic": "orders", "since": NOW.isoformat(), "reason": "pulsar:AuthorizationError"}
    detail = {"error": "database-refuses-events:OperationalError 57P01", "unread_topics": [unread]}
    heartbeats.beat("bridge:host:1", "bridge", connected=True, detail=detail)
    with translation.override("es"):
        sentences = [item.sentence for item in attention(payload=False).items]
        errors = heartbeats.bridge_state().errors
    assert {"otro productor tiene el tópico en exclusiva", "al rol del token le falta un permiso"} <= {
        part for sentence in sentences for part in re.split(r": |\.$", sentence)
    }
    assert english_in(" ".join(sentences)) == []
    assert english_in(" ".join(errors)) == []
    assert len(errors) == 2
    assert english_in(spanish.get(reverse("admin:index")).content.decode()) == []
    with translation.override("en"):
        assert "the database does not accept events: OperationalError 57P01" in check_topics().says


def test_a_pause_by_the_circuit_breaker_is_a_code_in_the_audit(spanish: Client, settings: Any) -> None:
    settings.SAGA_BREAKER_COMMANDS = 1
    breakers.count({"DATA_RETRIEVAL": 7})
    [row] = Decision.objects.all()
    assert row.reason == "breaker-planned"
    assert row.reason_text == "7 commands planned in ten minutes, the limit is 1"
    addresses: Sequence[str] = (
        reverse("admin:sagas_decision_changelist"),
        reverse("admin:sagas_decision_change", args=[row.pk]),
    )
    for address in addresses:
        assert "7 comandos planificados en diez minutos, el límite es 1" in spanish.get(address).content.decode()


def test_the_notes_of_an_event_read_in_the_readers_language(spanish: Client) -> None:
    event = Event.objects.create(
        source="pulsar", event_id="e", stream="image_processing", type="RetrievalFailed", key="k", entity="",
        correlation_id="", occurred_at=NOW, received_at=NOW, note="id-missing; timestamp-missing", payload={},
        body_hash=b"",
    )  # fmt: skip
    page = spanish.get(reverse("admin:bridge_event_change", args=[event.pk])).content.decode()
    assert "el mensaje no tiene id: se usa su posición en el tópico; el mensaje no tiene fecha y hora" in page
    assert str(Reason("id-missing")).startswith("the message has no id")


# --- beside an earlier release ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("app", "number"), [("bridge", "0009_reason_codes"), ("compensation", "0011_reason_codes"), ("sagas", "0013")]
)
def test_the_migrations_write_no_row_of_ours_and_drop_nothing(app: str, number: str) -> None:
    out = io.StringIO()
    call_command("sqlmigrate", app, number, stdout=out)
    statements = [line for line in out.getvalue().splitlines() if line and not line.startswith("--")]
    for line in statements:
        assert re.match(
            r"BEGIN;|COMMIT;|ALTER TABLE \S+ ADD COLUMN \S+ jsonb NULL;|CREATE TRIGGER |UPDATE auth_permission ", line
        ), line


def test_what_an_earlier_release_writes_is_accepted_and_shown(spanish: Client) -> None:
    """Its statements name none of the new columns."""
    saga, _images = failed(1)
    row = Command.objects.filter(saga_id=saga.id)[0]
    last = reason("attempts", count=3, last=reason("refused-because", error=SECRET).nested)
    Command.objects.filter(pk=row.pk).update(last_error=last.code, last_error_data=last.data)
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE compensation_command SET last_error = 'No answer within 300 seconds.' WHERE id = %s", [row.pk]
        )
        cursor.execute(
            "INSERT INTO bridge_quarantined (topic, message_id, received_at, body, body_hash, properties, code, reason,"
            " status, decided_by, decided_why) VALUES ('orders', '1', now(), '', '', '{}', 'not-json',"
            " 'the body is empty', 'open', '', '')"
        )
    assert last_error_in(spanish, row, "es") == "No answer within 300 seconds."
    assert spanish.get(f"{BASE}quarantine").json()["items"][0]["reason"] == "the body is empty"
