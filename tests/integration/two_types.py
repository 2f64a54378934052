"""Messages that sagas of two types read: orders (`tests.order_saga`) and the points of their customers."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from bridge import event_log
from bridge.catalog import Catalog
from bridge.codec import Codec
from bridge.envelope import Envelope, Message, Rejected
from sagaproject.composition import bridge_catalog
from sagas.applying.apply import run_apply
from sagas.definitions import registry
from sagas.models import SagaLog
from tests import loyalty_saga, order_saga
from tests.integration.story import START

ORDERS, LOYALTY = order_saga.DEFINITION, loyalty_saga.DEFINITION
TOPICS = {
    "CustomerJoined": "customers-joined",
    "CustomerLeft": "customers-left",
    "OrderPlaced": "orders-placed",
    "OrderPaid": "orders-paid",
    "OrderShipped": "orders-shipped",
    "PaymentFailed": "orders-payment-failed",
    "PaymentRefunded": "orders-refunded",
    "PointsSpent": "orders-paid",
    "PointsTaken": "points-taken",
}

_entries = itertools.count(1)


@contextmanager
def both_types(patch: pytest.MonkeyPatch) -> Iterator[None]:
    """List both saga types, and let the bridge read messages of both."""
    with registry.also(ORDERS, LOYALTY), patch.context() as inside:
        codec = Codec(Catalog(bridge_catalog().event_types), 1_000_000)
        inside.setattr("bridge.event_log.get_codec", lambda: codec)
        yield


def message(kind: str, order: str | None = None, customer: str | None = None, **more: Any) -> Message:
    """A message as Pulsar delivers it. `at`: seconds after START."""
    number = next(_entries)
    body = {
        "id": f"event-{number}",
        "type": kind,
        "timestamp": (START + timedelta(seconds=more.pop("at", number))).isoformat(),
        "order_id": order,
        "customer_id": customer,
        **more,
    }
    raw = json.dumps({name: value for name, value in body.items() if value is not None}).encode()
    return Message(TOPICS[kind], TOPICS[kind], f"5:{number}:-1:-1", round(START.timestamp() * 1000), raw, {})


def decode(one: Message) -> Envelope | Rejected:
    return Codec(bridge_catalog(), 1_000_000).decode(one, timezone.now())


def store(messages: Sequence[Message]) -> event_log.StoreResult:
    """Store messages as the bridge does."""
    codec = Codec(bridge_catalog(), 1_000_000)
    decoded = [codec.decode(one, timezone.now()) for one in messages]
    return event_log.store_batch(
        [one for one in decoded if isinstance(one, Envelope)], [one for one in decoded if isinstance(one, Rejected)]
    )


def tell(*messages: Message) -> event_log.StoreResult:
    """Store messages and apply them."""
    stored = store(messages)
    run_apply()
    return stored


def story(order: str, customer: str) -> list[Message]:
    """An order that goes well, of a customer who leaves afterwards."""
    return [
        message("CustomerJoined", customer=customer),
        message("OrderPlaced", order),
        message("OrderPaid", order, customer),
        message("OrderShipped", order, customer),
        message("CustomerLeft", customer=customer),
    ]


def order_of(key: str) -> SagaLog:
    return SagaLog.objects.get(saga_type=ORDERS.name, key=key)


def loyalty_of(key: str) -> SagaLog:
    return SagaLog.objects.get(saga_type=LOYALTY.name, key=key)
