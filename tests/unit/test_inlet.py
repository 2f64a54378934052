"""When a connection that looks well is looked at again: soon after it is made, however it was made."""

from typing import Any, cast

from bridge.pulsar.inlet import Flow, _Line

FLOW = Flow(batch_size=500, wait_ms=20, window=200, silence_seconds=600)
OLD = 600.0  # seconds after which an untroubled connection is looked at again


class Consumer:
    """A consumer that says whether it is connected, and can be closed."""

    def __init__(self) -> None:
        self.connected = True

    def is_connected(self) -> bool:
        return self.connected

    def close(self) -> None:
        self.connected = False


class Client:
    def subscribe(self, *args: Any, **kwargs: Any) -> Consumer:
        return Consumer()


def old_line(now: list[float]) -> _Line:
    """A line that has been well for so long that it is looked at only every ten minutes."""
    line = _Line({"subscription": "saga"}, ["topic"], FLOW, 20, lambda: now[0])
    line._client = cast(Any, Client())
    line.subscribe_again()
    line.notice_reconnection()
    for _ in range(8):
        now[0] += OLD + 1
        assert line.is_suspect
        line.subscribe_again()
        line.notice_reconnection()
    now[0] += 15
    assert not line.is_suspect
    return line


def test_a_connection_that_the_client_renewed_is_looked_at_as_a_new_one() -> None:
    now = [0.0]
    line = old_line(now)
    consumer = cast(Consumer, line._consumer)

    consumer.connected = False
    line.notice_reconnection()
    assert not line.is_suspect
    consumer.connected = True
    line.notice_reconnection()
    now[0] += 11

    assert line.is_suspect


def test_a_connection_that_stays_is_left_alone() -> None:
    now = [0.0]
    line = old_line(now)

    line.notice_reconnection()
    now[0] += 11

    assert not line.is_suspect
