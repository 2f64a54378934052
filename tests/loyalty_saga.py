"""A saga type that reads events of `tests.order_saga` too: the points of a customer, an order being a lane of it.

Of the same payment the order's saga has the order as its key, and this one has the customer, with the order as the
entity. Another event of this type has a topic that the other type reads too.
"""

from sagas.engine.definition import Compensation, Definition, Entity, Event, Fails, Meaning, Step, StepStatus

JOIN = Step("JOIN", "LOYALTY")
LEAVE = Step("LEAVE", "LOYALTY")
SPEND = Step("SPEND", "LOYALTY")
POINTS = Step("POINTS", "LOYALTY")
SHIP = Step("SHIP", "CARRIER")

ORDER = {"customer_id": "id", "order_id": "id"}

EVENTS = (
    Event(
        type="CustomerJoined",
        topics=("customers-joined",),
        starts=True,
        entity=Entity.SAGA,
        means=Meaning(step=JOIN, becomes=StepStatus.COMPLETED),
        fields={"customer_id": "id"},
    ),
    Event(
        type="OrderPaid",
        topics=("orders-paid",),
        entity=Entity.LANE,
        means=Meaning(step=POINTS, becomes=StepStatus.COMPLETED, proves="points"),
        fields=ORDER,
    ),
    Event(
        type="PaymentRefunded",
        topics=("orders-refunded",),
        entity=Entity.LANE,
        means=Meaning(step=POINTS, becomes=StepStatus.FAILED, fails=Fails.LANE),
        fields=ORDER,
    ),
    Event(
        type="PointsSpent",
        topics=("orders-paid",),
        always_typed=True,
        entity=Entity.LANE,
        means=Meaning(step=SPEND, becomes=StepStatus.COMPLETED),
        fields=ORDER,
    ),
    Event(
        type="OrderShipped",
        topics=("orders-shipped",),
        entity=Entity.LANE,
        means=Meaning(step=SHIP, becomes=StepStatus.COMPLETED, processes=True),
        fields=ORDER,
    ),
    Event(
        type="CustomerLeft",
        topics=("customers-left",),
        entity=Entity.SAGA,
        means=Meaning(step=LEAVE, becomes=StepStatus.COMPLETED, ends_intake=True),
        fields={"customer_id": "id"},
    ),
    Event(
        type="PointsTaken",
        topics=("points-taken",),
        entity=Entity.LANE,
        means=Meaning(step=POINTS, becomes=StepStatus.COMPENSATED, confirms="TakePoints"),
        fields=ORDER,
    ),
)

DEFINITION = Definition(
    name="loyalty_of_the_tests",
    title="Loyalty",
    version=1,
    key_field="customer_id",
    entity_field="order_id",
    events=EVENTS,
    compensations=(
        Compensation(
            command="TakePoints",
            undoes=POINTS,
            service="LOYALTY",
            topic="loyalty-commands",
            required_when="points",
            data={"customer_id": "key", "order_id": "entity"},
        ),
    ),
)
