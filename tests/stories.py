"""Stories of sagas for tests of the engine: facts said in a few words, folded from nothing, read back as words."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from sagas.definitions import image_processing, image_processing_v1
from sagas.engine import facts, status
from sagas.engine.decide import LANE_SCOPE, SagaIdentity, command_id
from sagas.engine.definition import Definition
from sagas.engine.facts import Fact
from sagas.engine.fold import Fold, replay

MIDNIGHT = datetime(2026, 1, 1, tzinfo=UTC)
SAGA_ID = "0198c0de-0000-7000-8000-000000000001"
TASK = "11111111-1111-4111-8111-111111111111"

ECHO = image_processing_v1.ECHO_OF_OUR_DELETIONS + ": no quedan imágenes"
REVERSED = image_processing_v1.ANONYMIZATION_REVERSED + " por la saga"
DELETE, ROLLBACK = "DeleteRetrievedImage", "RollbackAnonymization"


def image(number: int) -> str:
    """An image's id, the same for ever."""
    return str(uuid.uuid5(uuid.NAMESPACE_OID, f"image {number}"))


A, B, C = image(1), image(2), image(3)


class Story:
    """Facts in the order in which they happened, a second apart. Each question folds them from nothing."""

    def __init__(
        self, scope: str = LANE_SCOPE, definition: Definition = image_processing.DEFINITION, key: str = TASK
    ) -> None:
        self.identity = SagaIdentity(definition, scope, SAGA_ID, key)
        self.facts: list[Fact] = []

    def happens(
        self, type_: str, entity: str = "", *, at: float | None = None, lane: str = "", **content: Any
    ) -> Story:
        """A message from a service. Processing says that it completed unless the test says otherwise."""
        if type_ == "ProcessingCompleted":
            content = {"status": "COMPLETED", **content}
        return self._add(type_, facts.WIRE, entity, content, at=at, lane=lane)

    def decided(self, type_: str, entity: str = "", **content: Any) -> Story:
        """A person's decision."""
        return self._add(type_, facts.OPERATOR, entity, {"reason": "because", **content})

    def ours(self, type_: str, *, at: float | None = None, **content: Any) -> Story:
        """A fact of our own about the whole saga."""
        return self._add(type_, facts.OPERATOR, "", {"reason": "because", **content}, at=at)

    def decided_on(self, type_: str, *commands: tuple[str, str], number: int = 1) -> Story:
        """A person's decision on commands, each said by (entity, command)."""
        return self.decided(type_, commands=[[entity, command, number] for entity, command in commands])

    def exhausted(self, entity: str, command: str, number: int = 1) -> Story:
        """A command ran out of attempts in this round."""
        content = {"name": command, "round": number}
        return self._add(facts.COMMAND_EXHAUSTED, facts.COMPENSATION, entity, content)

    def required_again(self, entity: str, command: str, number: int) -> Story:
        """An exhausted command was not required for a while and is now: this round began."""
        content = {"name": command, "round": number}
        return self._add(facts.COMMAND_REQUIRED_AGAIN, facts.COMPENSATION, entity, content)

    def published(self, entity: str, command: str) -> Story:
        """A command was sent, where that is enough."""
        content = {"name": command, "round": 1}
        return self._add(facts.COMMAND_PUBLISHED, facts.COMPENSATION, entity, content)

    # --- chapters that many stories share ---

    def retrieved(self, *images: str) -> Story:
        """The task starts and these images are there."""
        return self.happens("RetrievalStarted").happens("ImagesRetrieved", image_ids=list(images))

    def announced(self, count: int) -> Story:
        """The retrieval is over; so many images came of it."""
        return self.happens("RetrievalCompleted", result={"successful_images": count})

    def anonymized(self, entity: str) -> Story:
        """An image goes through anonymization."""
        self.happens("ImageReadyForAnonymization", entity).happens("AnonymizationRequested", entity)
        return self.happens("AnonymizationCompleted", entity)

    def processed(self, entity: str) -> Story:
        """An image goes all the way."""
        self.anonymized(entity).happens("ImageReadyForProcessing", entity)
        return self.happens("ProcessingStarted", entity).happens("ProcessingCompleted", entity)

    def failed(self, entity: str, words: str = "broken") -> Story:
        """An image's anonymization fails."""
        return self.happens("AnonymizationFailed", entity, error_message=words)

    def terminated(self, *claimed: tuple[str, str]) -> Story:
        """A person ends it; only these commands, said by (entity, command), are already on their way."""
        return self.decided(facts.SAGA_TERMINATED, claimed=[command_id(SAGA_ID, *command) for command in claimed])

    # --- questions ---

    def folded(self) -> Fold:
        """The saga as these facts make it."""
        return replay(self.identity, self.facts)

    @property
    def status(self) -> str:
        return status.status(self.identity, self.folded().saga).value

    @property
    def error(self) -> str | None:
        return status.error_message(self.identity, self.folded().saga)

    @property
    def lanes(self) -> dict[str, str]:
        """What became of each known lane."""
        fold = self.folded()
        return {entity: outcome_of(fold, entity) for entity, lane in fold.lanes.items() if lane.known}

    def required(self, entity: str) -> dict[str, str]:
        """Commands owed in a lane → what holds of each."""
        return owed_in(self.folded(), entity)

    def released(self, entity: str) -> set[str]:
        """Commands of a lane that may be published."""
        return set(self.folded().view(entity).released)

    def steps(self, entity: str = TASK) -> dict[tuple[str, str], str]:
        """(type, service) → status of a lane's steps, or of the saga's own."""
        return steps_in(self.folded(), entity)

    def _add(
        self, type_: str, source: str, entity: str, content: dict[str, Any], *, at: float | None = None, lane: str = ""
    ) -> Story:
        number = len(self.facts)
        when = MIDNIGHT + timedelta(seconds=number if at is None else at)
        self.facts.append(Fact(f"e{number:04}", type_, when, source, entity, lane, content=content))
        return self


def outcome_of(fold: Fold, entity: str) -> str:
    return fold.view(entity).status.value


def owed_in(fold: Fold, entity: str) -> dict[str, str]:
    return {command: state.value for command, state in fold.view(entity).commands.items()}


def steps_in(fold: Fold, entity: str) -> dict[tuple[str, str], str]:
    return {key: shown.value for key, shown in fold.view(entity).steps.items()}


def all_that_shows(fold: Fold) -> dict[str, Any]:
    """Everything that a fold says, as values to compare."""
    identity, saga = fold.identity, fold.saga
    return {
        "saga": saga,
        "status": status.status(identity, saga).value,
        "error": status.error_message(identity, saga),
        "end": status.end_time(status.status(identity, saga), saga),
        "lanes": {entity: fold.lanes[entity] for entity in sorted(fold.lanes)},
        "outcomes": {entity: outcome_of(fold, entity) for entity in _known(fold)},
        "owed": {entity: owed_in(fold, entity) for entity in _known(fold)},
        "released": {entity: set(fold.view(entity).released) for entity in _known(fold)},
        "overtaken": {entity: set(fold.view(entity).overtaken) for entity in _known(fold)},
        "steps": {entity: steps_in(fold, entity) for entity in sorted(fold.lanes)},
    }


def folded(identity: SagaIdentity, said: Iterable[Fact]) -> dict[str, Any]:
    """Everything that these facts come to."""
    return all_that_shows(replay(identity, said))


def _known(fold: Fold) -> Iterator[str]:
    return (entity for entity in sorted(fold.lanes) if fold.lanes[entity].known)
