"""Another saga type whose sagas have lanes, with nouns of its own: an order of parcels.

Its name is one that no saga type of a product would have, like that of `tests.order_saga`.
"""

from sagas.engine.definition import (
    Announcement,
    Compensation,
    Definition,
    Entity,
    Event,
    Fails,
    Meaning,
    Noun,
    Step,
    StepStatus,
)

ACCEPT = Step("ACCEPT", "SHOP", outcome="CLOSE")
CLOSE = Step("CLOSE", "SHOP")
PACK = Step("PACK", "WAREHOUSE")
DELIVER = Step("DELIVER", "CARRIER")

PARCEL = {"order_no": "id", "parcel_no": "id"}

EVENTS = (
    Event(
        type="OrderAccepted",
        topics=("orders-accepted",),
        starts=True,
        entity=Entity.SAGA,
        means=Meaning(step=ACCEPT, becomes=StepStatus.STARTED),
        fields={"order_no": "id"},
    ),
    Event(
        type="OrderClosed",
        topics=("orders-closed",),
        entity=Entity.SAGA,
        means=Meaning(
            step=CLOSE,
            becomes=StepStatus.COMPLETED,
            ends_intake=True,
            announces=Announcement("content", count="parcels", total="parcels", failed="missing"),
        ),
        fields={
            "order_no": "id",
            "content": "object",
            "content.parcels": "integer",
            "content.missing": "integer",
        },
    ),
    Event(
        type="ParcelPacked",
        topics=("parcels-packed",),
        entity=Entity.LANE,
        means=Meaning(step=PACK, becomes=StepStatus.COMPLETED, proves="packed"),
        fields=PARCEL,
    ),
    Event(
        type="ParcelDelivered",
        topics=("parcels-delivered",),
        entity=Entity.LANE,
        means=Meaning(step=DELIVER, becomes=StepStatus.COMPLETED, processes=True),
        fields=PARCEL,
    ),
    Event(
        type="ParcelLost",
        topics=("parcels-lost",),
        entity=Entity.LANE,
        own_key=True,
        means=Meaning(step=DELIVER, becomes=StepStatus.FAILED, fails=Fails.LANE),
        fields=PARCEL | {"error_message": "text"},
    ),
    Event(
        type="ParcelFetched",
        topics=("parcels-fetched",),
        entity=Entity.LANE,
        means=Meaning(step=DELIVER, becomes=StepStatus.COMPENSATED, confirms="FetchParcel"),
        fields=PARCEL,
    ),
    Event(
        type="ParcelUnpacked",
        topics=("parcels-unpacked",),
        entity=Entity.LANE,
        means=Meaning(step=PACK, becomes=StepStatus.COMPENSATED, confirms="UnpackParcel"),
        fields=PARCEL,
    ),
)

COMPENSATIONS = (
    Compensation(
        command="FetchParcel",
        noun=Noun("parcel collection", "parcel collections"),
        undoes=DELIVER,
        service="CARRIER",
        topic="carrier-commands",
        data={"order_no": "key", "parcel_no": "entity"},
    ),
    Compensation(
        command="UnpackParcel",
        undoes=PACK,
        service="WAREHOUSE",
        topic="warehouse-commands",
        required_when="packed",
        after=("FetchParcel",),
        data={"order_no": "key", "parcel_no": "entity"},
    ),
)

DEFINITION = Definition(
    name="delivery_of_the_tests",
    title="Delivery",
    version=1,
    key_field="order_no",
    entity_field="parcel_no",
    key_noun=Noun("order", "orders"),
    entity_noun=Noun("parcel", "parcels"),
    intake_noun=Noun("dispatch", "dispatches"),
    events=EVENTS,
    compensations=COMPENSATIONS,
)
