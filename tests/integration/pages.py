"""Every address of the API and the admin that reads, with every filter: for tests and measurements of all of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple
from urllib.parse import quote, urlencode
from uuid import UUID

from django.db.models import F
from django.urls import reverse

from bridge.models import Event, QuarantineCode, Quarantined, QuarantineStatus
from compensation.models import Attempt, Command, CommandStatus, ExhaustedBy
from sagas import incidents
from sagas.actions import Action
from sagas.admin.filters import AgeFilter
from sagas.models import JobStatus, Lane, LaneOutcome, Parked, SagaEvent, SagaKey, SagaLog, SagaStatusChoice, SagaStep

API = "/api/v1/saga"


class Page(NamedTuple):
    """One address, under a name that is the same in every database."""

    name: str
    address: str


@dataclass(frozen=True)
class World:
    """Ids of a filled database that addresses need."""

    saga: SagaLog  # one that was undone: it has commands with attempts
    lane: str
    command: Command
    event: Event
    other_key: str
    parked: Parked
    quarantined: Quarantined
    middle: datetime  # half of the sagas started before
    incidents: dict[str, UUID] = field(default_factory=dict)  # one of each kind that there is

    @classmethod
    def look(cls, most_steps: int = 1000) -> World:
        """Looks for them; the saga is the largest of its kind with no more steps than that."""
        undone = SagaLog.objects.filter(status=SagaStatusChoice.COMPENSATION_SUCCEEDED, commands_confirmed__gt=0)
        commands = undone.filter(steps_count__lte=most_steps)
        saga = commands.order_by("-steps_count", "id").first()
        assert saga is not None
        command = Command.objects.filter(saga_id=saga.id, id__in=Attempt.objects.values("command")).first()
        assert command is not None
        log = SagaEvent.objects.filter(saga=saga).order_by("seq").first()
        other = SagaKey.objects.exclude(key=F("saga__key")).first()
        parked, quarantined = Parked.objects.filter(dismissed_at__isnull=True).first(), Quarantined.objects.first()
        assert log is not None
        assert other is not None
        assert parked is not None
        assert quarantined is not None
        incidents.record()
        middle = SagaLog.objects.order_by("start_time")[SagaLog.objects.count() // 2].start_time
        return cls(
            saga=saga,
            lane=command.entity,
            command=command,
            event=Event.objects.get(pk=log.event),
            other_key=other.key,
            parked=parked,
            quarantined=quarantined,
            middle=middle,
            incidents={line.kind.name: line.id for line in incidents.listed(0, 1000).items},
        )


def api_pages(world: World) -> Iterator[Page]:
    """Every GET of the API that reads rows."""
    yield from _saga_lists(world)
    yield from _saga_parts(world)
    for name in ("publishing", "parked", "quarantine", "attention", "incidents", "definitions"):
        yield Page(name, f"{API}/{name}")
    yield Page("incidents ended", f"{API}/incidents?ended=true")
    for kind, identity in sorted(world.incidents.items()):
        yield Page(f"incidents {kind}", f"{API}/incidents/{identity}")
    yield Page("parked dismissed", f"{API}/parked?dismissed=true")
    yield Page("attention page 2", f"{API}/attention?offset=2&limit=2")
    for status in QuarantineStatus.values:
        yield Page(f"quarantine {status}", f"{API}/quarantine?status={status}")
    for code in QuarantineCode.values[:3]:
        yield Page(f"quarantine {code}", f"{API}/quarantine?code={code}")
    yield Page("quarantine topic", f"{API}/quarantine?topic={quote(world.quarantined.topic)}")
    yield Page("health", f"{API}/health")


def _saga_lists(world: World) -> Iterator[Page]:
    until, since = _moment(world.middle), _moment(world.middle - timedelta(days=30))
    queries = {
        "": {},
        "from": {"from_date": since},
        "to": {"to_date": until},
        "from to": {"from_date": since, "to_date": until},
        "task": {"task_id": world.saga.key},
        "further key": {"task_id": world.other_key},
        "image": {"image_id": world.lane},
        "task image status": {"task_id": world.saga.key, "image_id": world.lane, "status": world.saga.status},
        "nothing": {"task_id": "nobody"},
        "type": {"saga_type": world.saga.saga_type},
        "type COMPLETED": {"saga_type": world.saga.saga_type, "status": SagaStatusChoice.COMPLETED},
        "type from to": {"saga_type": world.saga.saga_type, "from_date": since, "to_date": until},
        "type task image": {"saga_type": "IMAGE_PROCESSING", "task_id": world.saga.key, "image_id": world.lane},
    }
    for status in SagaStatusChoice.values:
        queries[status] = {"status": status}
        queries[f"{status} from to"] = {"status": status, "from_date": since, "to_date": until}
    for name, query in queries.items():
        yield Page(f"sagas {name}".strip(), f"{API}/sagas?{urlencode({**query, 'limit': 100})}")
    for name in ("", "type", SagaStatusChoice.COMPLETED.value):
        query = {"offset": "10000", "limit": "100", **queries[name]}
        yield Page(f"sagas {name} deep".replace("  ", " "), f"{API}/sagas?{urlencode(query)}")


def _saga_parts(world: World) -> Iterator[Page]:
    one = f"{API}/sagas/{world.saga.id}"
    yield Page("saga", one)
    yield Page("by-correlation", f"{API}/sagas/by-correlation/{quote(world.saga.correlation_id)}")
    yield Page("by-task", f"{API}/sagas/by-task/{world.saga.key}")
    yield Page("by-task further key", f"{API}/sagas/by-task/{world.other_key}")
    step = SagaStep.objects.filter(saga=world.saga).order_by("id").first()
    assert step is not None
    filters: dict[str, dict[str, str]] = {
        "steps": {"status": "COMPLETED", "service": step.service, "entity": world.lane, "step_type": step.step_type},
        "lanes": {"outcome": LaneOutcome.UNDONE, "failed": "true", "entity": world.lane},
        "commands": {
            "status": CommandStatus.CONFIRMED,
            "service": world.command.service,
            "entity": world.lane,
            "name": world.command.name,
            "by_hand": "false",
            "held": "true",
        },
        "events": {"type": world.event.type, "entity": world.lane},
        "timeline": {},
    }
    for part, by in filters.items():
        yield Page(part, f"{one}/{part}")
        yield Page(f"{part} page 2", f"{one}/{part}?offset=2&limit=2")
        for name, value in by.items():
            yield Page(f"{part} {name}", f"{one}/{part}?{urlencode({name: value})}")


def admin_pages(world: World) -> Iterator[Page]:
    """Every page of the admin that reads rows, with every filter and every kind of search."""
    yield Page("admin start", reverse("admin:index"))
    yield Page("admin start items", reverse("admin:index") + "?kind=all")
    yield Page("admin start page 2", reverse("admin:index") + "?page=2")
    terms = {
        "saga": str(world.saga.id),
        "task": world.saga.key,
        "image": world.lane,
        "correlation": world.saga.correlation_id,
        "event": world.event.event_id,
        "nothing": "nobody",
    }
    queries: dict[str, dict[str, dict[str, str]]] = {
        "sagas_sagalog": {
            **{f"status {status}": {"status": status} for status in SagaStatusChoice.values},
            **{f"age {age}": {"age": age} for age in (*AgeFilter.SPANS, "older")},
            "type": {"type": world.saga.saga_type},
            "set aside": {"set_aside": "yes"},
            "by hand": {"by_hand": "yes"},
            "status age type": {"status": SagaStatusChoice.COMPLETED, "age": "older", "type": world.saga.saga_type},
            "last page": {"p": "100"},
            **{f"search {name}": {"q": term} for name, term in terms.items()},
        },
        "compensation_command": {
            **{f"status {status}": {"status": status} for status in CommandStatus.values},
            "held": {"held": "yes"},
            "service": {"service": world.command.service},
            "service status": {"service": world.command.service, "status": CommandStatus.CONFIRMED},
            **{f"exhausted by {why}": {"exhausted_by": why} for why in ExhaustedBy.values},
            "saga": {"saga": str(world.saga.id)},
            "search command": {"q": str(world.command.id)},
            **{f"search {name}": {"q": term} for name, term in terms.items()},
        },
        "bridge_event": {
            **{f"search {name}": {"q": terms[name]} for name in ("event", "task", "nothing")},
            "last page": {"p": "100"},
        },
        "sagas_parked": {"dismissed": {"dismissed": "yes"}, "page 2": {"page": "2"}},
        "bridge_quarantined": {
            **{f"status {status}": {"status": status} for status in QuarantineStatus.values},
            "code": {"code": world.quarantined.code},
        },
        "sagas_decision": {
            "action": {"action_taken": Action.RETRY},
            "search saga": {"q": str(world.saga.id)},
            "search image": {"q": world.lane},
        },
        "sagas_job": {f"status {status}": {"status": status} for status in JobStatus.values},
        "compensation_switch": {},
        "sagas_incident": {},
        "auth_user": {},
        "auth_group": {},
        "knox_authtoken": {},
    }
    for model, by in queries.items():
        address = reverse(f"admin:{model}_changelist")
        yield Page(f"admin {model}", address)
        for name, query in by.items():
            yield Page(f"admin {model} {name}", f"{address}?{urlencode(query)}")
    yield from _admin_single(world)
    yield from _cases(world)


def _cases(world: World) -> Iterator[Page]:
    """The page of an incident of each kind, and the list of its cases."""
    models = {"sagas": "sagas_sagalog", "messages": "bridge_quarantined", "parked": "sagas_parked"}
    for kind, identity in sorted(world.incidents.items()):
        yield Page(f"admin incident {kind}", reverse("admin:sagas_incident_change", args=[identity]))
        target = incidents.target_of(kind)
        if target is not None:
            model = models.get(target, "compensation_command")
            address = f"{reverse(f'admin:{model}_changelist')}?{urlencode({'incident': identity})}"
            yield Page(f"admin {model} incident {kind}", address)


def _admin_single(world: World) -> Iterator[Page]:
    page = reverse("admin:sagas_sagalog_change", args=[world.saga.id])
    yield Page("admin saga", page)
    yield Page("admin saga turned", f"{page}?lanes=2&commands=2&timeline=2")
    lane = reverse("admin:sagas_sagalog_lane", args=[world.saga.id])
    yield Page("admin lane", f"{lane}?{urlencode({'lane': world.lane})}")
    yield Page("admin command", reverse("admin:compensation_command_change", args=[world.command.id]))
    yield Page("admin event", reverse("admin:bridge_event_change", args=[world.event.pk]))
    yield Page("admin quarantined", reverse("admin:bridge_quarantined_change", args=[world.quarantined.pk]))
    said = {"stream": world.parked.stream, "key": world.parked.key, "entity": ""}
    yield Page("admin parked group", f"{reverse('admin:sagas_parked_group')}?{urlencode(said)}")


def lanes_of(saga: SagaLog) -> list[str]:
    """The entities of a saga's lanes."""
    return list(Lane.objects.filter(saga=saga, known=True).order_by("id").values_list("entity", flat=True))


def _moment(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")
