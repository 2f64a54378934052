"""Definitions as data: each kind of mistake is found, versions are kept apart, and a second type is one file."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from bridge.topics import get_topics
from sagas import confirmations
from sagas.checks import check_definitions
from sagas.definitions import describe, image_processing, image_processing_v1, image_processing_v1_restarted, registry
from sagas.definitions.merged import wire_events
from sagas.engine import facts
from sagas.engine.definition import (
    Announcement,
    Compensation,
    Confirmation,
    Definition,
    Entity,
    Event,
    Fails,
    Instead,
    Meaning,
    Noun,
    Retry,
    Step,
    StepStatus,
    SuccessField,
)
from sagas.engine.problems import problems_of
from tests import order_saga
from tests.stories import Story

IMAGES = image_processing.DEFINITION
ORDERS = order_saga.DEFINITION
PAY = order_saga.PAY


def with_event(definition: Definition = ORDERS, **changes: Any) -> Definition:
    """The definition with one more event."""
    plain: dict[str, Any] = {"type": "Extra", "topics": ("extra",), "entity": Entity.SAGA, "means": Meaning()}
    return replace(definition, events=(*definition.events, Event(**(plain | changes))))


def with_undo(**changes: Any) -> Definition:
    """The orders with their second undo changed."""
    first, second = ORDERS.compensations
    return replace(ORDERS, compensations=(first, replace(second, **changes)))


def test_the_definitions_in_use_have_no_problems() -> None:
    assert registry.problems() == []
    assert problems_of(ORDERS) == []


def stated(**changes: Any) -> Definition:
    """The orders with an event that says whether it succeeded."""
    plain: dict[str, Any] = {"field": "how", "success": ("ok",), "failure": ("no",), "fails": Meaning()}
    return with_event(success_field=SuccessField(**(plain | changes)))


COMPLETED = StepStatus.COMPLETED
MISTAKES = [
    (replace(ORDERS, name="no name"), "the name must be an identifier"),
    (replace(ORDERS, version=0), "the version a number from 1 to 2147483647"),
    (replace(ORDERS, key_field=""), "key_field is missing"),
    (replace(ORDERS, events=(*ORDERS.events, ORDERS.events[0])), "an event type is declared twice"),
    (replace(ORDERS, compensations=(*ORDERS.compensations, ORDERS.compensations[0])), "a command is declared twice"),
    (replace(ORDERS, events=ORDERS.events[1:]), "no event starts the saga"),
    (replace(ORDERS, processed_needs="wrapped"), "processed_needs is wrapped, a milestone that no event proves"),
    (with_undo(undoes=order_saga.PLACE), "two commands undo the same step"),
    (replace(ORDERS, key_noun=Noun("", "orders")), "key_noun must be two English nouns"),
    (replace(ORDERS, entity_noun=Noun("parcel", "<b>")), "entity_noun must be two English nouns"),
    (replace(ORDERS, intake_noun=Noun("intake", "")), "intake_noun must be two English nouns"),
    (with_undo(noun=Noun("refund", "refunds 2")), "the noun of RefundPayment must be two English nouns"),
    (replace(ORDERS, public_name="ORDER PROCESSING"), "the public_name must be an identifier"),
    (with_event(topics=()), "has no topic"),
    (with_event(IMAGES, entity=Entity.EACH), "listed_in is missing"),
    (with_event(entity=Entity.EACH, listed_in="ids"), "lists entities, but the saga has no entities"),
    (with_event(own_key=True), "the saga cannot be found by an entity"),
    (replace(ORDERS, restarts=True), "each run needs entities of its own"),
    (
        replace(IMAGES, restarts=False),
        "the event ImagesRetrieved is marked as opening, but the saga type does not restart",
    ),
    (
        replace(IMAGES, events=tuple(replace(event, opening=False) for event in IMAGES.events)),
        "restarts, but no event is marked as opening",
    ),
    (with_event(IMAGES, opening=True), "is marked as opening, but neither names one lane nor lists lanes"),
    (with_event(means=Meaning(becomes=COMPLETED)), "has `becomes`, but no step"),
    (with_event(means=Meaning(step=PAY)), "`becomes` is missing"),
    (
        with_event(means=Meaning(step=PAY, becomes=StepStatus.COMPENSATING)),
        "an event cannot set a step to COMPENSATING",
    ),
    (with_event(means=Meaning(confirms="Nothing")), "confirms or refuses Nothing, a command that is not declared"),
    (with_event(means=Meaning(refuses="Nothing")), "confirms or refuses Nothing, a command that is not declared"),
    (
        with_event(means=Meaning(step=Step("A", "B", outcome="C"), becomes=StepStatus.STARTED)),
        "has the outcome C, a step type that is not declared",
    ),
    (with_event(IMAGES, means=Meaning(fails=Fails.LANE)), "is not about one lane"),
    (with_event(IMAGES, means=Meaning(processes=True)), "is not about one lane"),
    (with_event(IMAGES, entity=Entity.EACH, listed_in="x", means=Meaning(proves="y")), "is not about one lane"),
    (with_event(IMAGES, entity=Entity.EVENT, means=Meaning(confirms="DeleteRetrievedImage")), "is not about one lane"),
    (with_event(means=Meaning(fails=Fails.UPLOAD)), "its entity must be Entity.EVENT"),
    (with_undo(required_when="wrapped"), "required_when is wrapped, a milestone that no event proves"),
    (with_undo(after=("Nothing",)), "has Nothing in `after`, which is not another command"),
    (with_undo(after=("RefundPayment",)), "comes after itself"),
    (with_undo(after=("CancelOrder",)), "comes after itself"),
    (with_undo(command="Refund"), "no event type confirms it"),
    (with_undo(command="a b\n"), "the command must be"),
    (with_undo(data={"order_id": "order"}), "use entity, key, or a fixed text"),
    (with_undo(uuids=("image_id",)), "image_id must be a UUID"),
    (with_undo(uuids=("reason",)), "reason must be a UUID"),
    (with_undo(retry=Retry(maximum_attempts=0)), "maximum_attempts must be from 1"),
    (with_undo(retry=Retry(backoff_coefficient=0.5)), "backoff_coefficient must be at least 1"),
    (with_undo(retry=Retry(initial_interval=0)), "must be greater than 0 seconds"),
    (with_undo(retry=Retry(maximum_interval=-1)), "must be greater than 0 seconds"),
    (with_undo(retry=Retry(confirmation_timeout=0)), "must be greater than 0 seconds"),
    (with_undo(retry=Retry(confirmation_timeout=1e300)), "at most a year"),
    (with_undo(retry=Retry(initial_interval=9.0, maximum_interval=1.0)), "maximum_interval must not be less"),
    (with_undo(retry=Retry(non_retryable_errors=("",))), "a non-retryable error must not be empty"),
    (with_undo(retry=Retry(maximum_attempts=2**31)), "maximum_attempts must be from 1 to 2147483647"),
    (with_undo(retry=Retry(initial_interval=math.nan)), "retry.initial_interval must be a finite number or None"),
    (with_undo(service="BNAK"), "is sent to 'BNAK', but no step has this service"),
    (with_undo(topic="bank/commands"), "its topic 'bank/commands' may contain only letters"),
    (with_undo(topic="bank.{region}"), "its topic 'bank.{region}' may contain only letters"),
    (with_undo(data={"reason": "=\0"}), "data['reason'] contains a character that cannot be stored"),
    (with_undo(data={"reason": b"="}), "data['reason'] must be a string, but is a value of type bytes"),
    (with_undo(after="CancelOrder"), "after must be a tuple, but is a value of type str; write a tuple of one item"),
    (with_undo(confirmation="event"), "confirmation must be one of Confirmation, but is a value of type str"),
    (with_event(topics="extra"), "topics must be a tuple, but is a value of type str"),
    (with_event(topics=("extra", "extra")), "a topic is listed twice"),
    (with_event(topics=("a/b/extra",)), "the topic 'a/b/extra' may contain only letters"),
    (with_event(topics=("extra-partition-1",)), "must not end like the name of a partition"),
    (with_event(topics=("{region}.{region}",)), "has more than one {region}"),
    (with_event(type=""), "the type must be 1 to 200 printable characters"),
    (with_event(aliases="extra"), "aliases must be a tuple, but is a value of type str"),
    (with_event(fields=["id"]), "fields must be a mapping, but is a value of type list"),
    (with_event(aliases=("more", "more")), "an alias is listed twice"),
    (with_event(aliases=(" more",)), "an alias must be 1 to 200 printable characters"),
    (with_event(fields={"count": "number"}), "the field count has the unknown kind 'number'"),
    (with_event(fields={"order_id": "text"}), "the field order_id is the key or the entity, so its kind must be 'id'"),
    (with_event(fields={"a..b": "text"}), "the field name 'a..b' has an empty part"),
    (
        with_event(IMAGES, entity=Entity.EACH, listed_in="ids"),
        "the field ids is read, so `fields` must declare it as 'ids'",
    ),
    (with_event(collapse_after=-1), "collapse_after must be from 0"),
    (stated(), "the field how is read, so `fields` must declare it as 'text'"),
    (
        with_event(
            fields={"how": "text"},
            instead=(Instead("how", "no", Meaning()),),
            success_field=SuccessField(field="how", success=("ok",), failure=(), fails=Meaning()),
        ),
        "has both instead and success_field",
    ),
    (stated(success=()), "must list at least one value of success"),
    (stated(failure=("no", " ")), "must list at least one value of success, and no empty value"),
    (stated(failure=("no", " OK ")), "its success_field lists 'ok' as a success and as a failure"),
    (stated(field="result.how"), "the field result.how cannot be read"),
    (
        with_event(
            fields={"result": "object", "result.n": "text"},
            means=Meaning(announces=Announcement("result", count="n", total="", failed=""), ends_intake=True),
        ),
        "the field result.n is read, so `fields` must declare it as 'integer'",
    ),
    (
        with_event(instead=(Instead("why", "no", Meaning()),)),
        "the field why is read, so `fields` must declare it as 'text'",
    ),
    (
        with_event(instead=(Instead("a.why", "no", Meaning()),), fields={"a.why": "text"}),
        "the field a.why cannot be read: only top-level fields can",
    ),
    (with_event(instead=(Instead("", "no", Meaning()),)), "an alternative meaning (instead) has no field"),
    (with_event(instead=(Instead("why", " no", Meaning()),), fields={"why": "text"}), "no text can begin with ' no'"),
    (with_event(means=Meaning(announces=Announcement("", "a", "b", "c"))), "does not name the object field"),
    (with_event(means=Meaning(announces=Announcement("x", "a", "b", "c"))), "declare it as 'object'"),
    (with_event(means=Meaning(announces=Announcement("x", "a", "b", "c"))), "no event ends the intake"),
    (with_event(means=Meaning(step=Step("", "B"), becomes=COMPLETED)), "the step '' of 'B': type and service must be"),
    (with_event(means=None), "means must be one of Meaning, but is None"),
    (replace(ORDERS, key_field="id"), "the field id cannot be the key or the entity"),
    (replace(ORDERS, key_field="order.id"), "the field order.id cannot be the key or the entity"),
    (replace(ORDERS, entity_field="order_id"), "the field order_id is both the key and the entity"),
    (replace(ORDERS, name="o" * 201), "the name must not be longer than 200 characters"),
    (replace(ORDERS, version=True), "version must be a whole number, but is a value of type bool"),
    (replace(ORDERS, events=list(ORDERS.events)), "events must be a tuple, but is a value of type list"),  # type: ignore[arg-type]
    (replace(ORDERS, events=(*ORDERS.events, PAY)), "event 9: must be one of Event, but is a value of type Step"),  # type: ignore[arg-type]
    (replace(ORDERS, compensations=(PAY,)), "command 1: must be one of Compensation, but is a value of type Step"),  # type: ignore[arg-type]
]


@pytest.mark.parametrize(("definition", "words"), MISTAKES, ids=[words for _, words in MISTAKES])
def test_each_kind_of_mistake_is_found(definition: Definition, words: str) -> None:
    assert any(words in problem for problem in problems_of(definition)), problems_of(definition)


def test_two_undos_after_each_other_are_named_both() -> None:
    problems = problems_of(with_undo(after=("CancelOrder",)))
    assert sum("comes after itself" in problem for problem in problems) == 2


@pytest.fixture(autouse=True)
def only_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """Registers one saga type, whichever others the product has by now: they may share names with those of a test."""
    monkeypatch.setattr(registry, "DEFINITIONS", (IMAGES,))


def test_a_definition_says_that_its_task_may_be_started_again() -> None:
    assert describe.data(IMAGES)["restarts"] is True
    assert "may be started again" in describe.table(IMAGES).splitlines()[0]
    assert "opens the image in the run of its time" in describe.table(IMAGES)
    assert describe.data(ORDERS)["restarts"] is False
    assert "started again" not in describe.table(ORDERS)


def test_the_registry_finds_types_by_name_and_version() -> None:
    newer = replace(ORDERS, version=2)
    with registry.also(newer, ORDERS):
        assert registry.current(ORDERS.name) is newer
        assert registry.get(ORDERS.name, 1) is ORDERS
        assert set(registry.current_definitions()) == {"image_processing", ORDERS.name}
        assert registry.problems() == []
        assert len(registry.all_definitions()) == 3
        with pytest.raises(registry.UnknownDefinition, match="version 3"):
            registry.get(ORDERS.name, 3)
    with pytest.raises(registry.UnknownDefinition, match=ORDERS.name):
        registry.current(ORDERS.name)


V1, CONTINUED = image_processing_v1.DEFINITION, image_processing_v1_restarted.DEFINITION


def test_a_version_that_continues_another_begins_no_saga() -> None:
    with registry.also(V1, CONTINUED):
        assert registry.problems() == []
        assert registry.current("image_processing") is IMAGES
        assert registry.continuation("image_processing", 1) is CONTINUED
        assert registry.continuation("image_processing", 2) is None
        completed = registry.event("image_processing", "ProcessingCompleted")
        assert completed is not None
        assert completed.success_field, "it is as old as what it continues"
        merged = {event.type: event for event in wire_events(registry.all_definitions())}
        assert merged["ProcessingCompleted"].newest is completed
        assert registry.always_successes() == {
            ("image_processing", version): frozenset({"ProcessingCompleted"}) for version in (1, 3)
        }
        assert "for sagas of version 1 whose task was started again" in describe.table(CONTINUED)
    assert registry.always_successes() == {}


@pytest.mark.parametrize(
    ("listed", "words"),
    [
        ((CONTINUED,), "it continues version 1, which is not listed"),
        ((V1, replace(CONTINUED, continues=2)), "it can only continue a version without `restarts`, and must have it"),
        ((V1, replace(V1, version=3, continues=1)), "it can only continue a version without `restarts`"),
        (
            (V1, replace(CONTINUED, title="Another title")),
            "it may differ from version 1, which it continues, in nothing but its runs",
        ),
    ],
)
def test_a_version_that_cannot_continue_another_is_named(listed: tuple[Definition, ...], words: str) -> None:
    with registry.also(*listed):
        assert any(problem.startswith(f"image_processing version 3: {words}") for problem in registry.problems())


def test_the_registry_finds_what_is_wrong_between_definitions() -> None:
    twin = replace(ORDERS, name="twin")
    with registry.also(ORDERS, ORDERS, twin):
        problems = registry.problems()
    assert "order_of_the_tests version 1 is listed twice" in problems
    assert [problem for problem in problems if "twin" in problem] == [], "another saga type may read the same events"


def newer(version: int = 2, **changes: Any) -> Definition:
    """The orders in another version, the event OrderPaid of which differs."""
    events = tuple(replace(item, **changes) if item.type == "OrderPaid" else item for item in ORDERS.events)
    return replace(ORDERS, version=version, events=events)


ITEMS = replace(
    ORDERS, version=2, entity_field="item", compensations=(),
    events=(ORDERS.events[0], Event(type="OrderPaid", topics=("orders-paid",), entity=Entity.LANE, means=Meaning())),
)  # fmt: skip


def test_versions_merge_into_what_any_of_them_declares() -> None:
    second = newer(
        topics=("payments", "orders-paid"), fields={"order_id": "id", "amount": "integer"}, aliases=("paid", "payed")
    )
    third = replace(newer(3), events=ORDERS.events[:1], compensations=())
    first = replace(
        ORDERS, events=(ORDERS.events[0], replace(ORDERS.events[1], aliases=("payed",)), *ORDERS.events[2:])
    )
    with registry.also(first, third, second):
        assert registry.problems() == []
        paid = next(item for item in wire_events(registry.all_definitions()) if item.type == "OrderPaid")
        assert (paid.versions, paid.declared_in) == ((2, 1), "order_of_the_tests version 1 and 2")
        assert paid.topics == ("payments", "orders-paid")
        assert paid.fields == {"order_id": "id", "amount": "integer"}
        assert paid.aliases == ("paid", "payed")
        known = registry.event(ORDERS.name, "OrderPaid")
        assert known is not None
        assert known.topics == second.events[1].topics, "the newest that declares it"
        assert registry.starts(ORDERS.name, "OrderPlaced")
    assert registry.event(ORDERS.name, "OrderPaid") is None


def test_a_type_begins_sagas_only_if_the_newest_version_says_so() -> None:
    with registry.also(ORDERS, replace(ORDERS, version=2, events=(replace(ORDERS.events[1], starts=True),))):
        assert registry.starts(ORDERS.name, "OrderPaid")
        assert not registry.starts(ORDERS.name, "OrderPlaced")
        assert not registry.starts("nothing", "OrderPlaced")


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (newer(fields={"order_id": "id", "n": "text"}), "OrderPaid: its field n is 'text', but 'integer' in version 1"),
        (replace(newer(), key_field="number"), "OrderPaid: its key field is number, but order_id in version 1"),
        (ITEMS, "OrderPaid: its entity field is item, but none in version 1"),
    ],
)
def test_versions_that_cannot_both_be_right_are_named(other: Definition, words: str) -> None:
    first = newer(1, fields={"order_id": "id", "n": "integer"})
    with registry.also(first, replace(newer(3), events=ORDERS.events[:1]) if words.count("field n") else other, other):
        assert any(problem.startswith(f"order_of_the_tests version 2, {words}") for problem in registry.problems())


def messages() -> list[str]:
    return [error.msg for error in check_definitions(None)]


def test_check_names_types_that_a_shared_topic_cannot_tell_apart() -> None:
    sharing = with_event(topics=("orders-paid",))
    with registry.also(sharing):
        [problem] = messages()
        assert problem == (
            "orders-paid: it carries OrderPaid (order_of_the_tests version 1) and Extra "
            "(order_of_the_tests version 1), and either may lack its type. "
            "Mark all but one with always_typed=True; the remaining one becomes the default for "
            "messages without a type"
        )
    with registry.also(with_event(topics=("orders-paid",), always_typed=True)):
        assert messages() == []
    # Another version's topic is in use as long as that version is listed.
    with registry.also(ORDERS, replace(with_event(topics=("orders-paid",)), version=2)):
        assert (
            "OrderPaid (order_of_the_tests version 1 and 2) and Extra (order_of_the_tests version 2)" in messages()[0]
        )
    with registry.also(with_event(topics=("processing.{region}.completed",))):
        assert "ProcessingCompleted (image_processing version 2) and Extra" in messages()[0]


def test_check_names_a_field_that_two_saga_types_declare_differently() -> None:
    events = tuple(replace(one, fields={**one.fields, "error_message": "object"}) for one in ORDERS.events[:3])
    other = replace(ORDERS, name="other_order", key_field="customer", events=events, compensations=())
    with registry.also(ORDERS, other):
        [problem] = messages()
        assert problem == (
            "PaymentFailed (other_order version 1): its field error_message is 'object', but 'text' in PaymentFailed "
            "(order_of_the_tests version 1): both read the same message, so declare the same kind in both"
        )
    with registry.also(ORDERS, replace(other, events=ORDERS.events[:3])):
        assert messages() == []
        assert [(item.saga_type, item.type) for item in wire_events(registry.all_definitions())][-3:] == [
            ("other_order", one.type) for one in ORDERS.events[:3]
        ], "in the order in which saga types are listed"


def test_a_saga_types_place_does_not_depend_on_its_version() -> None:
    with registry.also(ORDERS, replace(ORDERS, name="other_order"), replace(ORDERS, name="other_order", version=9)):
        paid = [item.saga_type for item in wire_events(registry.all_definitions()) if item.type == "OrderPaid"]
    assert paid == [ORDERS.name, "other_order"], "the hash of what is stored is that of the first"


def test_check_names_aliases_that_could_mean_two_types() -> None:
    with registry.also(with_event(aliases=("RetrievalStarted",))):
        assert messages() == [
            "Extra (order_of_the_tests version 1): its alias RetrievalStarted is the name of an event type"
        ]
    paid = replace(ORDERS.events[1], aliases=("done",), always_typed=True)
    sharing = with_event(topics=("orders-paid",), aliases=("done",))
    with registry.also(replace(sharing, events=(sharing.events[0], paid, *sharing.events[2:]))):
        [problem] = messages()
        assert problem.startswith("the alias done means both OrderPaid (order_of_the_tests version 1) and Extra")
    with registry.also(with_event(aliases=("done", "finished"))):
        assert messages() == []


def test_check_names_a_command_that_would_come_back_to_us() -> None:
    with registry.also(with_undo(topic="orders-paid")):
        [problem] = messages()
        assert problem.startswith(
            "order_of_the_tests version 1, RefundPayment: its topic orders-paid carries events too"
        )
    with registry.also(with_undo(topic="processing.usa.started")):
        assert "its topic processing.usa.started carries events too" in messages()[0]


def test_check_names_topics_that_a_setting_makes_one(settings: Any) -> None:
    merged = {"image-processed": "processing", "processing-failed": "processing", "images-retrieved": "images"}
    with renamed(settings, merged):
        [problem] = messages()
        assert problem.startswith(
            "PULSAR_TOPICS maps image-processed and processing-failed to one topic, persistent://"
        )
    with renamed(settings, {"image-processed": "processing-failed"}):
        assert "maps image-processed and processing-failed to one topic" in messages()[0]
    with renamed(settings, {"image-processed": "processed"}):
        assert messages() == []
    # One region alone: the others stay apart.
    with renamed(settings, {"processing.usa.started": "processing.usa.completed"}):
        [problem] = messages()
        assert "maps processing.usa.started and processing.{region}.completed to one topic, persistent://" in problem
        assert "processing.usa.completed, but each" in problem
    with renamed(settings, {"processing.usa.started": "begun-in-usa", "processing.{region}.started": "begun-{region}"}):
        assert messages() == []


@pytest.mark.parametrize(
    ("short", "name", "regions", "said"),
    [
        ("processing.{region}.started", "all-started", ("usa",), "must be in both or in none"),
        ("image-processed", "processed-{region}", ("usa",), "must be in both or in none"),
        ("processing.{region}.started", "a/{region}/started", "*", "in the last part"),
        ("processing.{region}.started", "a/{region}/started", ("usa",), ""),
        ("processing.{region}.started", "a/b/started-{region}", "*", ""),
    ],
)
def test_check_names_a_topic_whose_name_could_not_be_read_back(
    short: str, name: str, regions: Any, said: str, settings: Any
) -> None:
    with renamed(settings, {short: name}, regions):
        found = messages()
        assert [said in problem for problem in found] == ([True] if said else [])


def test_check_warns_of_a_renaming_that_renames_nothing(settings: Any) -> None:
    with renamed(settings, {"retreival-started": "prod-started"}):
        [found] = check_definitions(None)
        assert (found.id, found.is_serious()) == ("sagas.W001", False)
        assert "renames retreival-started, which is the topic of no event and no command" in str(found.msg)
    commands = {item.topic for known in registry.all_definitions() for item in known.compensations}
    names = {*commands, "retrieval-started", "processing.usa.started", "processing.{region}.completed"}
    with renamed(settings, {name: f"prod-{name}" for name in names}):
        assert check_definitions(None) == []


def test_check_names_a_command_that_a_setting_sends_back_to_us(settings: Any) -> None:
    with registry.also(with_undo(topic="refunds")):
        assert messages() == []
        with renamed(settings, {"refunds": "orders-paid"}):
            assert "RefundPayment: its topic refunds carries events too" in messages()[0]
        with renamed(settings, {"refunds": "processing.usa.started"}):
            assert "RefundPayment: its topic refunds carries events too" in messages()[0]


@contextmanager
def renamed(settings: Any, topics: dict[str, str], regions: Any = ("usa", "latam")) -> Iterator[None]:
    before = settings.PULSAR
    settings.PULSAR = {**before, "topics": topics, "regions": regions}
    get_topics.cache_clear()
    try:
        yield
    finally:
        settings.PULSAR = before
        get_topics.cache_clear()


# --- confirmations by setting


def test_check_accepts_what_the_setting_may_change(settings: Any) -> None:
    settings.SAGA_CONFIRMATIONS = {"RollbackAnonymization": "manual", "DeleteRetrievedImage": "event"}
    assert messages() == []
    settings.SAGA_CONFIRMATIONS = {"RefundPayment": "event"}
    with registry.also(with_undo(confirmation=Confirmation.MANUAL)):
        assert messages() == [], "manual by the definition, and an event can confirm it"


@pytest.mark.parametrize("kind", ["event", "manual"])
def test_check_refuses_to_change_what_only_a_definition_can_say(settings: Any, kind: str) -> None:
    settings.SAGA_CONFIRMATIONS = {"CancelOrder": kind}
    with registry.also(ORDERS):
        [problem] = messages()
        assert problem == (
            "SAGA_CONFIRMATIONS changes CancelOrder, but in order_of_the_tests version 1 sending it is its "
            "confirmation, which only the definition can change"
        )
        assert {item.id for item in check_definitions(None)} == {"sagas.E002"}
        assert {one.command: one.confirmation.value for one in confirmations.in_force(ORDERS).compensations} == {
            "CancelOrder": "published",
            "RefundPayment": "event",
        }


def test_check_names_a_command_that_does_not_exist_or_that_no_event_confirms(settings: Any) -> None:
    settings.SAGA_CONFIRMATIONS = {"Rollback": "manual", "RefundPayment": "event"}
    silent = tuple(one for one in ORDERS.events if one.type != "PaymentRefunded")
    nobody = replace(with_undo(confirmation=Confirmation.MANUAL), events=silent)
    with registry.also(replace(ORDERS, version=2), nobody):
        unknown, unconfirmed = messages()
        assert unknown == (
            "SAGA_CONFIRMATIONS names Rollback, which is a command of no saga type (there are CancelOrder, "
            "DeleteRetrievedImage, RefundPayment, RollbackAnonymization)"
        )
        assert unconfirmed == (
            "SAGA_CONFIRMATIONS has an event confirm RefundPayment, but no event of order_of_the_tests version 1 does"
        )


def test_the_setting_concerns_the_commands_of_that_name_of_all_saga_types(settings: Any) -> None:
    settings.SAGA_CONFIRMATIONS = {"RefundPayment": "manual"}
    twin = replace(ORDERS, name="other_order")
    for definition in (ORDERS, twin):
        kinds = [item.confirmation for item in confirmations.in_force(definition).compensations]
        assert kinds == [Confirmation.PUBLISHED, Confirmation.MANUAL]
    assert [item.confirmation for item in ORDERS.compensations] == [Confirmation.PUBLISHED, Confirmation.EVENT]
    with registry.also(ORDERS):
        assert confirmations.changed() == [("RefundPayment", Confirmation.EVENT, Confirmation.MANUAL)]


def test_check_reports_what_it_did_not_foresee(settings: Any) -> None:
    settings.BRIDGE_CATALOG = "sagaproject.composition.no_such_function"
    [problem] = messages()
    assert problem.startswith("the bridge cannot be built from the definitions: ImportError")


def test_which_events_need_their_body() -> None:
    reading = {event.type for event in IMAGES.events if event.reads_content}
    assert reading == {
        "RetrievalCompleted",
        "RetrievalFailed",
        "ImagesRetrieved",
        "ImageUploadFailed",
        "AnonymizationFailed",
        "ProcessingCompleted",
        "ProcessingFailed",
        "ImageDeletionFailed",
    }


def test_the_types_that_may_name_a_task_of_their_own() -> None:
    own = {event.type for event in IMAGES.events if event.own_key}
    services = {event.type for event in IMAGES.events if event.type.startswith(("Anonymization", "Processing"))}
    assert own == {*services, "ImageReadyForProcessing"}


# --- a second type of saga, folded ----------------------------------------------------------------------------------


def order() -> Story:
    return Story(definition=ORDERS, key="order-123").happens("OrderPlaced").happens("OrderPaid")


def test_an_order_goes_through() -> None:
    story = order().happens("ShipmentRequested")
    assert story.status == "STARTED"
    assert story.happens("OrderShipped").status == "COMPLETED"
    assert story.steps("order-123")["ASK_TO_SHIP", "SHOP"] == "COMPLETED"


def test_an_order_fails_and_is_undone() -> None:
    story = order().happens("ShipmentFailed", error_message="no truck")
    assert story.required("order-123") == {"CancelOrder": "on_the_way", "RefundPayment": "on_the_way"}
    assert story.released("order-123") == {"RefundPayment"}
    assert (story.status, story.error) == ("COMPENSATING", "no truck")
    story.happens("RefundRefused").exhausted("order-123", "RefundPayment")
    assert story.status == "COMPENSATION_FAILED"
    story.happens("PaymentRefunded")
    assert story.released("order-123") == {"CancelOrder", "RefundPayment"}
    story.published("order-123", "CancelOrder")
    assert story.required("order-123") == {"CancelOrder": "confirmed", "RefundPayment": "confirmed"}
    assert story.status == "COMPENSATION_SUCCEEDED"
    assert story.steps("order-123")["PLACE_ORDER", "SHOP"] == "COMPENSATED"


def test_an_order_that_was_never_paid_requires_no_refund() -> None:
    story = Story(definition=ORDERS, key="order-7").happens("OrderPlaced").happens("PaymentFailed")
    assert story.required("order-7") == {"CancelOrder": "on_the_way"}
    assert story.steps("order-7")["PAYMENT", "BANK"] == "FAILED"
    assert story.decided(facts.SAGA_TERMINATED, claimed=[]).status == "FAILED"


def test_a_failed_lane_that_requires_nothing_is_undone_and_its_saga_failed() -> None:
    only_refunds = replace(ORDERS, compensations=(replace(ORDERS.compensations[1], after=()),))
    assert problems_of(only_refunds) == []
    story = Story(definition=only_refunds, key="order-7").happens("OrderPlaced").happens("ShipmentFailed")
    assert story.lanes == {"order-7": "undone"}
    assert story.status == "FAILED"


def test_an_order_never_announces_its_lanes() -> None:
    assert Story(definition=ORDERS, key="order-7").status == "STARTED"


def test_a_service_known_not_to_answer_is_marked_done_by_hand() -> None:
    first, second = ORDERS.compensations
    manual: Compensation = replace(second, confirmation=Confirmation.MANUAL)
    story = Story(definition=replace(ORDERS, compensations=(first, manual)), key="order-7")
    story.happens("OrderPaid").happens("ShipmentFailed").published("order-7", "RefundPayment")
    story.exhausted("order-7", "RefundPayment")
    assert story.required("order-7")["RefundPayment"] == "exhausted"
    story.decided_on(facts.COMMANDS_MARKED_DONE, ("order-7", "RefundPayment"))
    assert story.required("order-7")["RefundPayment"] == "confirmed"


def test_the_words_of_a_definition_follow_from_its_fields_unless_it_names_them() -> None:
    assert (ORDERS.noun_of_key, ORDERS.noun_of_entity) == (Noun("order", "orders"), Noun("order", "orders"))
    parcels = replace(ORDERS, entity_field="parcel_id")
    assert parcels.noun_of_entity == Noun("parcel", "parcels")
    named = replace(parcels, key_noun=Noun("purchase", "purchases"), entity_noun=Noun("box", "boxes"))
    assert (named.noun_of_key, named.noun_of_entity) == (Noun("purchase", "purchases"), Noun("box", "boxes"))
    assert Noun.of_field("study_instance_id") == Noun("study instance", "study instances")
    assert (ORDERS.api_name, replace(ORDERS, public_name="SHOPPING").api_name) == ("ORDER_OF_THE_TESTS", "SHOPPING")
    assert (IMAGES.api_name, IMAGES.title) == ("IMAGE_PROCESSING", "Image processing")
