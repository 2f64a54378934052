"""Assign each event to its saga: by key, by an attachment, by starting one, or by its entity; park the others."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from django.conf import settings

from bridge import routing
from sagas.applying import statements
from sagas.applying.batch import ApplyResult, SagaBatch
from sagas.applying.ids import new_saga_id
from sagas.applying.statements import EventRow, SagaRow
from sagas.definitions import registry
from sagas.engine import facts as kinds
from sagas.engine.decide import SagaIdentity
from sagas.engine.definition import Entity
from sagas.engine.state import SagaState
from sagas.models import ParkedReason

logger = logging.getLogger(__name__)


def route(events: Sequence[EventRow], applied: ApplyResult, now: datetime) -> list[SagaBatch]:
    """Return the sagas that these events belong to; park or reroute the events of others, counted in `applied`.

    In the caller's transaction, which holds the locks of the events' routing keys.
    """
    groups: dict[str, list[EventRow]] = defaultdict(list)
    for event in events:
        groups[event.routing_key].append(event)
    stored = statements.load_sagas([_key_of(group[0]) for group in groups.values()])
    unknown = {key: group for key, group in groups.items() if key not in stored}
    for key in _reroute_attached(unknown, applied):
        del unknown[key]
    found = [_batch(stored[key], group) for key, group in groups.items() if key in stored]
    work = [item for item in found if item is not None] + _births(unknown, now)
    _reroute_by_entity(unknown, applied, now)
    parked = [row for item in work for row in _take_unfit(item, now)]
    statements.park(parked)
    applied.parked += len(parked)
    return [item for item in work if item.events]


def _key_of(event: EventRow) -> tuple[str, str]:
    """Return (saga type, key) of the saga that an event waits for. An event without a key waits under its entity."""
    stream, key = routing.split(event.routing_key)
    return (stream, "") if not event.key and key == f"@{event.entity}" else (stream, key)


def _batch(row: SagaRow, events: list[EventRow]) -> SagaBatch | None:
    """Return the batch of a stored saga; None if this code does not know its definition.

    Such events stay in the queue until a newer worker takes them. A saga keeps the version under which it was born,
    with one exception: if its task is started again, it moves to the version that continues it, with runs.
    """
    try:
        definition = registry.get(row.saga_type, row.version)
    except registry.UnknownDefinition:
        logger.warning(
            "saga %s runs on %s version %d, which this release does not have", row.id, row.saga_type, row.version
        )
        return None
    continuation = registry.continuation(row.saga_type, row.version) if any(map(_starts, events)) else None
    if continuation is not None:
        # Its task is started again: without runs, what failed before would undo the lanes that come now.
        definition = continuation
        row = row._replace(version=definition.version)
    identity = SagaIdentity(definition, row.scope, row.id, row.key)
    return SagaBatch(row, identity, events, upgraded=continuation is not None)


def _reroute_attached(unknown: Mapping[str, list[EventRow]], applied: ApplyResult) -> list[str]:
    """Reroute events whose key is attached to a saga; return the routing keys of these events."""
    keys = [_key_of(group[0]) for group in unknown.values() if group[0].key]
    found = statements.attached(keys) if keys else {}
    gone = []
    moves: list[tuple[int, str, str | None]] = []
    for key, group in unknown.items():
        target = found.get(_key_of(group[0]))
        if target is not None:
            moves += [(event.pk, *target) for event in group]
            gone.append(key)
    statements.reroute(moves)
    applied.rerouted += len(moves)
    applied.rerouted_to.update(key for _, key, _ in moves)
    return gone


def _births(unknown: dict[str, list[EventRow]], now: datetime) -> list[SagaBatch]:
    """Create the sagas that start here, with the events parked for them; remove both from `unknown`.

    An event without a key starts nothing, though earlier releases stored such. Parking and this search both happen
    under the key's lock, so no event is missed.
    """
    starting = [key for key, group in unknown.items() if _key_of(group[0])[1] and any(map(_starts, group))]
    if not starting:
        return []
    keys = {key: _key_of(unknown[key][0]) for key in starting}
    parked: dict[str, list[EventRow]] = defaultdict(list)
    for event in statements.take_parked(list(keys.values()), statements.content_types()):
        parked[event.routing_key].append(event)
    born = []
    for key in starting:
        saga_type, saga_key = keys[key]
        definition = registry.current(saga_type)
        row = SagaRow(
            str(new_saga_id()),
            saga_type,
            definition.version,
            settings.SAGA_FAILURE_SCOPE,
            saga_key,
            SagaState(),
            0,
            set_aside=False,
            created_at=now,
        )
        events = sorted(unknown.pop(key) + parked[key], key=lambda event: event.pk)
        born.append(SagaBatch(row, SagaIdentity(definition, row.scope, row.id, saga_key), events, born=True))
    return born


def _starts(event: EventRow) -> bool:
    if event.source != kinds.WIRE:
        return event.type == kinds.SAGA_ADOPTED
    return registry.starts(event.stream, event.type)


def _reroute_by_entity(unknown: Mapping[str, list[EventRow]], applied: ApplyResult, now: datetime) -> None:
    """Reroute events whose key no saga has to the only saga with their entity's lane, if their type allows; else park.

    In the caller's transaction.
    """
    known = registry.current_definitions()
    events = [event for group in unknown.values() for event in group if event.stream in known]
    wanted = sorted({(event.stream, event.entity) for event in events if event.entity})
    found = statements.owners(wanted) if wanted else {}
    moves: list[tuple[int, str, str | None]] = []
    parked = []
    for event in events:
        owners = found.get((event.stream, event.entity), [])
        if len(owners) == 1 and event.found_by_entity():
            moves.append((event.pk, owners[0][0], None))
            continue
        reason = ParkedReason.AMBIGUOUS if len(owners) > 1 and event.found_by_entity() else ParkedReason.NO_SAGA
        parked.append(statements.parked_row(event, reason, owners[0][1] if len(owners) == 1 else None, now))
    statements.reroute(moves)
    statements.park(parked)
    applied.rerouted += len(moves)
    applied.rerouted_to.update(key for _, key, _ in moves)
    applied.parked += len(parked)


def _take_unfit(item: SagaBatch, now: datetime) -> list[dict[str, Any]]:
    """Remove the events that this saga cannot take now; return their rows to be parked.

    These are all events if the saga is set aside, otherwise those that lack the entity they need.
    """
    if item.row.set_aside:
        reason, unfit = ParkedReason.SET_ASIDE, item.events
    else:
        reason, unfit = ParkedReason.NO_ENTITY, [event for event in item.events if _lacks_entity(item.identity, event)]
    if unfit:
        item.events = [event for event in item.events if event not in unfit]
    return [statements.parked_row(event, reason, item.row.id, now) for event in unfit]


def _lacks_entity(identity: SagaIdentity, event: EventRow) -> bool:
    spec = identity.definition.event_of.get(event.type)
    if spec is None or event.source != kinds.WIRE or not identity.definition.entity_field:
        return False
    return spec.entity is Entity.LANE and not event.entity and not event.lane
