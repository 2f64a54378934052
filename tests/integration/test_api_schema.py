"""schemathesis over the whole schema, in process: whatever is asked, by whomever, the schema tells of the answer.

`API_EXAMPLES` says how many requests of each address and each kind of login (make nightly: many).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest
import schemathesis
from django.contrib.auth.models import User
from django.core.signals import request_finished, request_started
from django.db import close_old_connections
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from knox.models import AuthToken
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from bridge import event_log
from bridge.models import Quarantined
from compensation.models import Command
from sagaproject.wsgi import application
from sagas.applying.apply import run_apply
from tests.integration import decided
from tests.integration.api import operator, schema, viewer
from tests.integration.story import event, new_ids

pytestmark = [pytest.mark.django_db, pytest.mark.timeout(900)]

EXAMPLES = int(os.environ.get("API_EXAMPLES", "6"))
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
HOW = settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    phases=(Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink),
    suppress_health_check=list(HealthCheck),
)
Known = Mapping[str, Sequence[Any]]


def _operations() -> list[Any]:
    loaded = schemathesis.openapi.from_dict(schema())
    loaded.app = application
    found: Any = loaded.get_all_operations()
    return [one.ok() for one in found]


OPERATIONS = _operations()


@pytest.fixture
def known() -> Known:
    """Something of every kind to ask for, under the names by which addresses and bodies call it."""
    failed, images = decided.failed()
    running, _ = decided.running()
    done, _ = decided.completed()
    task, image = new_ids(2)
    event_log.append([event("ProcessingCompleted", task, image), event("ProcessingStarted", new_ids(1)[0])])
    run_apply()
    decided.quarantined()
    sagas = [str(saga.id) for saga in (failed, running, done)]
    commands = [str(pk) for pk in Command.objects.values_list("pk", flat=True)]
    keys = [failed.key, running.key, done.key]
    return {
        "saga_id": sagas,
        "saga": sagas,
        "command_id": commands,
        "ids": [commands[:1], commands],
        "message_id": list(Quarantined.objects.values_list("pk", flat=True)),
        "saga_type": ["image_processing"],
        "correlation_id": keys,
        "task_id": keys,
        "image_id": images,
        "lane": images,
        "entity": images,
        "key": [task, *keys],
        "reason": ["because"],
        "service": ["DATA_RETRIEVAL"],
    }


@pytest.fixture(autouse=True)
def _the_test_keeps_its_connection() -> Iterator[None]:
    """As Django's own test client sees to it: the end of a request is not the end of the test's transaction."""
    for signal in (request_started, request_finished):
        signal.disconnect(close_old_connections)
    yield
    for signal in (request_started, request_finished):
        signal.connect(close_old_connections)


def _login(role: str) -> dict[str, str]:
    people = {"viewer": viewer, "operator": operator}
    if role not in people:
        return {}
    who: User = people[role]()
    return {"Authorization": f"Token {AuthToken.objects.create(who)[1]}"}


@pytest.mark.parametrize("role", ["anonymous", "viewer", "operator"])
@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: str(operation.label))
def test_every_answer_is_one_that_the_schema_describes(operation: Any, role: str, known: Known) -> None:
    login = _login(role)
    modes = st.sampled_from(list(GenerationMode))

    @HOW
    @given(modes.flatmap(operation.as_strategy), st.randoms(use_true_random=False))
    def ask(case: Any, chance: Any) -> None:
        _say_what_is_known(case, chance, known)
        case.call_and_validate(headers=login, checks=CHECKS)

    ask()


def _say_what_is_known(case: Any, chance: Any, known: Known) -> None:
    """Put what is there in the place of what was made up, now and then: or all that one sees is 404."""
    body = case.body if isinstance(case.body, dict) else {}
    for said in (case.path_parameters or {}, case.query or {}, body):
        for name in said:
            if name in known and known[name] and chance.random() < 0.6:
                said[name] = chance.choice(known[name])


def test_all_of_the_schema_is_asked() -> None:
    operations = sum(len(methods) for methods in schema()["paths"].values())
    assert len(OPERATIONS) == operations > 30
