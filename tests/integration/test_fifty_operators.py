"""Fifty people press the same button, and opposite ones, at the same moment, by every door: one effect each."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.contrib.messages import get_messages
from django.db import connection
from django.test import Client
from django.urls import reverse

from bridge.models import Event
from compensation.models import Command
from sagas.applying.verify import all_ids, each
from sagas.models import Attachment, Decision, Parked, SagaEvent, SagaLog
from tests.integration import decided, terminal

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(300)]

DID, REPEATED, REFUSED = "did", "repeated", "refused"
OPERATORS = 50

Press = Callable[["Operator"], str]


class Operator:
    """One person, logged in, at one door at a time. Each press answers what the person was told."""

    def __init__(self, number: int) -> None:
        self.name = f"operator-{number}"
        self.client = Client(raise_request_exception=True)
        self.client.force_login(User.objects.create_superuser(self.name, "", "x"))

    def api(self, path: str, once: str = "", **body: Any) -> str:
        # A client of its own: the test client is not made for threads.
        client = Client(raise_request_exception=True)
        client.cookies = self.client.cookies
        headers = {"Idempotency-Key": once} if once else {}
        answer = client.post(f"/api/v1/saga/{path}", {"reason": "because", **body}, "application/json", headers=headers)
        assert answer.status_code in (202, 409), (answer.status_code, answer.content[:300])
        if answer.status_code == 409:
            assert answer.json()["detail"]
            return REFUSED
        return REPEATED if answer.json()["repeated"] else DID

    def admin(self, action: str, **target: Any) -> str:
        form = {**target, "reason": "because", "confirm": "1", "request_key": f"{self.name}:{action}"}
        answer: Any = self.client.post(reverse("admin:sagas_decision_decide", args=[action]), form)
        assert answer.status_code in (302, 409), (answer.status_code, answer.content[:300])
        if answer.status_code == 409:
            return REFUSED
        told = " ".join(map(str, get_messages(answer.wsgi_request)))
        assert told
        return REPEATED if "Nothing was done a second time" in told else DID

    def shell(self, name: str, *words: object) -> str:
        ran = terminal.decide(name, *words)
        assert ran.code in (0, 4), (ran.code, ran.err)
        if ran.code == 4:
            assert ran.data["error"]
            return REFUSED
        return REPEATED if ran.data["repeated"] else DID


@pytest.fixture
def operators() -> list[Operator]:
    return [Operator(number) for number in range(OPERATORS)]


@pytest.fixture(autouse=True)
def _nothing_is_torn() -> Iterator[None]:
    """Every saga is what its log folds to, and no two transactions ever waited for each other."""
    before = _deadlocks()
    yield
    assert _deadlocks() == before
    assert [verdict for verdict in each(all_ids()) if not verdict.well] == []


def _deadlocks() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
        return int(cursor.fetchone()[0])


def at_once(operators: Sequence[Operator], presses: Sequence[Press]) -> list[str]:
    """Everybody presses at the same moment, each by a connection of its own; what each was told."""
    ready = threading.Barrier(len(operators))

    def go(number: int) -> str:
        try:
            ready.wait(60)
            return presses[number % len(presses)](operators[number])
        finally:
            connection.close()

    with ThreadPoolExecutor(len(operators)) as pool:
        return list(pool.map(go, range(len(operators))))


def audit(saga: SagaLog) -> Counter[str]:
    return Counter(Decision.objects.filter(saga=saga.id).values_list("action", flat=True))


def facts(saga: SagaLog) -> Counter[str]:
    return Counter(Event.objects.filter(source="operator", key=saga.key).values_list("type", flat=True))


def test_the_same_decision_on_a_saga(operators: list[Operator]) -> None:
    saga, images = decided.running(3)
    told = at_once(
        operators,
        [
            lambda who: who.api(f"sagas/{saga.id}/force-compensation"),
            lambda who: who.admin("force_compensation", saga=saga.id),
            lambda who: who.shell("force_compensation", saga.id),
        ],
    )
    assert Counter(told)[DID] == 1
    assert audit(saga) == {"force_compensation": 1}
    assert facts(saga).total() == 1
    assert Command.objects.filter(saga_id=saga.id).count() == len(images) + 1
    assert Decision.objects.get().actor.startswith(("operator-", "cli:"))


def test_opposite_decisions_on_a_saga(operators: list[Operator]) -> None:
    saga, _ = decided.running(3)
    told = at_once(
        operators,
        [
            lambda who: who.api(f"sagas/{saga.id}/cancel"),
            lambda who: who.api(f"sagas/{saga.id}/terminate"),
            lambda who: who.admin("terminate", saga=saga.id),
            lambda who: who.admin("cancel", saga=saga.id),
            lambda who: who.shell("terminate_saga", saga.id),
            lambda who: who.shell("cancel_saga", saga.id),
        ],
    )
    # Terminating may follow the cancel, but not the other way round; each once.
    assert audit(saga) in ({"terminate": 1}, {"cancel": 1, "terminate": 1})
    assert Counter(told)[DID] == audit(saga).total() == facts(saga).total()
    assert not Command.objects.filter(saga_id=saga.id, status__in=("planned", "waiting")).exists()


def test_opposite_decisions_on_a_command(operators: list[Operator], settings: Any) -> None:
    saga, [command] = decided.exhausted(settings)
    told = at_once(
        operators,
        [
            lambda who: who.api(f"commands/{command.id}/retry"),
            lambda who: who.api(f"commands/{command.id}/skip"),
            lambda who: who.admin("mark_done", ids=command.id),
            lambda who: who.shell("mark_done", command.id),
            lambda who: who.shell("retry_command", command.id),
            lambda who: who.admin("skip", ids=command.id),
        ],
    )
    done = audit(saga)
    assert Counter(told)[DID] == done.total() == facts(saga).total()
    assert set(done.values()) == {1}
    # Whatever came first, done is done: every road ends there.
    assert done["mark_done"] == 1
    command.refresh_from_db()
    assert (command.status, command.by_hand) == ("confirmed", True)
    assert command.round == (2 if done["retry"] else 1)


def test_parked_events_go_to_one_place(operators: list[Operator]) -> None:
    one, other = decided.running()[0], decided.running()[0]
    key, ids = decided.parked()
    at_once(
        operators,
        [
            lambda who: who.api("parked/attach", key=key, saga=str(one.id)),
            lambda who: who.api("parked/attach", key=key, saga=str(other.id)),
            lambda who: who.admin("attach", stream="image_processing", key=key, saga=one.id),
            lambda who: who.shell("attach", "--key", key, "--saga", other.id),
        ],
    )
    assert Attachment.objects.filter(key=key).count() == 1
    assert not Parked.objects.filter(key=key).exists()
    homes = set(SagaEvent.objects.filter(event__in=_pks(ids)).values_list("saga_id", flat=True))
    assert len(homes) == 1
    assert homes <= {one.id, other.id}
    assert Decision.objects.filter(action="attach").count() == 1


def test_one_request_sent_fifty_times(operators: list[Operator]) -> None:
    """A client that got no answer asks again; here it is very impatient."""
    saga, _ = decided.running()
    told = at_once([operators[0]] * OPERATORS, [lambda who: who.api(f"sagas/{saga.id}/cancel", once="key-1")])
    assert Counter(told) == {DID: 1, REPEATED: OPERATORS - 1}
    assert audit(saga) == {"cancel": 1}


def test_the_switch(operators: list[Operator]) -> None:
    """Both ways at once: every press that was taken is in the audit, and those that changed something take turns."""
    told = at_once(
        operators,
        [lambda who: who.api("publishing", paused=True), lambda who: who.api("publishing", paused=False)],
    )
    answers = list(Decision.objects.values_list("action", "answer"))
    # Refused is only who could not get the switch's lock in time.
    assert Counter(told)[DID] == len(answers) >= 2
    assert REPEATED not in told
    changed = Counter(action for action, answer in answers if answer["effects"]["changed"])
    assert changed["pause_publishing"] - changed["resume_publishing"] in (0, 1)


def _pks(ids: Sequence[str]) -> list[int]:
    return list(Event.objects.filter(event_id__in=ids).values_list("pk", flat=True))
