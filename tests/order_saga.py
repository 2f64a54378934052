"""A second saga type in one file: an order without entities, on topics and commands of its own.

It proves that the engine knows nothing of images: a new saga type is a file like this one and
its entry in the registry. Its name is one that no saga type of a product would have, so that the tests stay green
beside every type that is registered.
"""

from sagas.engine.definition import (
    Compensation,
    Confirmation,
    Definition,
    Entity,
    Event,
    Fails,
    Meaning,
    Retry,
    Step,
    StepStatus,
)

PLACE = Step("PLACE_ORDER", "SHOP")
PAY = Step("PAYMENT", "BANK")
ASK_TO_SHIP = Step("ASK_TO_SHIP", "SHOP", outcome="SHIPMENT")
SHIP = Step("SHIPMENT", "CARRIER")

PAID = "paid"

EVENTS = (
    Event(
        type="OrderPlaced",
        topics=("orders-placed",),
        starts=True,
        entity=Entity.SAGA,
        means=Meaning(step=PLACE, becomes=StepStatus.COMPLETED),
        fields={"order_id": "id"},
    ),
    Event(
        type="OrderPaid",
        topics=("orders-paid",),
        entity=Entity.SAGA,
        means=Meaning(step=PAY, becomes=StepStatus.COMPLETED, proves=PAID),
        fields={"order_id": "id"},
    ),
    Event(
        type="PaymentFailed",
        topics=("orders-payment-failed",),
        entity=Entity.SAGA,
        means=Meaning(step=PAY, becomes=StepStatus.FAILED, fails=Fails.SAGA),
        fields={"order_id": "id", "error_message": "text"},
    ),
    Event(
        type="ShipmentRequested",
        topics=("orders-shipment-requested",),
        entity=Entity.SAGA,
        means=Meaning(step=ASK_TO_SHIP, becomes=StepStatus.STARTED),
        fields={"order_id": "id"},
    ),
    Event(
        type="OrderShipped",
        topics=("orders-shipped",),
        entity=Entity.SAGA,
        means=Meaning(step=SHIP, becomes=StepStatus.COMPLETED, processes=True),
        fields={"order_id": "id"},
    ),
    Event(
        type="ShipmentFailed",
        topics=("orders-shipment-failed",),
        entity=Entity.SAGA,
        means=Meaning(step=SHIP, becomes=StepStatus.FAILED, fails=Fails.LANE),
        fields={"order_id": "id", "error_message": "text"},
    ),
    Event(
        type="PaymentRefunded",
        topics=("orders-refunded",),
        entity=Entity.SAGA,
        means=Meaning(step=PAY, becomes=StepStatus.COMPENSATED, confirms="RefundPayment"),
        fields={"order_id": "id"},
    ),
    Event(
        type="RefundRefused",
        topics=("orders-refund-refused",),
        entity=Entity.SAGA,
        means=Meaning(refuses="RefundPayment"),
        fields={"order_id": "id", "error_message": "text"},
    ),
)

COMPENSATIONS = (
    Compensation(
        command="CancelOrder",
        undoes=PLACE,
        service="SHOP",
        topic="shop-commands",
        after=("RefundPayment",),
        confirmation=Confirmation.PUBLISHED,
        data={"order_id": "key"},
    ),
    Compensation(
        command="RefundPayment",
        undoes=PAY,
        service="BANK",
        topic="bank-commands",
        required_when=PAID,
        data={"order_id": "key", "reason": "=Order failed"},
        retry=Retry(maximum_attempts=3, confirmation_timeout=10.0),
    ),
)

DEFINITION = Definition(
    name="order_of_the_tests",
    title="Order",
    version=1,
    key_field="order_id",
    entity_field="",
    events=EVENTS,
    compensations=COMPENSATIONS,
)
