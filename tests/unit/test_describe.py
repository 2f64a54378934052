"""A definition drawn from itself, and the page that shows the drawing."""

from dataclasses import replace
from pathlib import Path

from sagas.api import serializers
from sagas.definitions import describe
from sagas.definitions.image_processing import DEFINITION
from sagas.engine.definition import Confirmation
from tests.order_saga import DEFINITION as ORDERS

PAGE = Path(__file__).parents[2] / "docs" / "image_processing.md"


def test_the_page_shows_the_definition_as_it_is() -> None:
    assert f"```mermaid\n{describe.mermaid(DEFINITION)}\n```" in PAGE.read_text(encoding="utf-8")


def test_table_and_data_name_every_event_and_command() -> None:
    told, data = describe.table(DEFINITION), describe.data(DEFINITION)
    assert [event["type"] for event in data["events"]] == [event.type for event in DEFINITION.events]
    assert all(event["aliases"] == [] for event in data["events"])
    for name in (*DEFINITION.event_of, *DEFINITION.compensation_of):
        assert name in told


def test_table_and_data_name_the_aliases_of_a_type_and_the_api_its_every_field() -> None:
    first, *others = DEFINITION.events
    definition = replace(DEFINITION, events=(replace(first, aliases=("retrieval.begun", "begun")), *others))
    data = describe.data(definition)
    assert data["events"][0]["aliases"] == ["retrieval.begun", "begun"]
    assert "may be written retrieval.begun, begun" in describe.table(definition)
    answer = {**data, "saga_type": "IMAGE_PROCESSING", "mermaid": ""}
    assert serializers.DefinitionSerializer(answer).data == answer


def test_table_and_diagram_say_who_answers_besides_events() -> None:
    table, chart = describe.table(ORDERS), describe.mermaid(ORDERS)
    assert "its sending" in next(line for line in table.split("\n") if line.startswith("CancelOrder"))
    assert '-. "its sending" .->' in chart
    cancel, refund = ORDERS.compensations
    manual = replace(ORDERS, compensations=(cancel, replace(refund, confirmation=Confirmation.MANUAL)))
    assert "a person, PaymentRefunded, RefundRefused (refuses)" in describe.table(manual)
    assert '-. "a person<br/>PaymentRefunded<br/>RefundRefused (refuses)" .->' in describe.mermaid(manual)
    assert "a person" not in describe.table(ORDERS)
