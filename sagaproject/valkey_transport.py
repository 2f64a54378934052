"""kombu's transport for Valkey and Redis, with three fixes.

1. kombu 5.7 closes a broken connection before it removes it from epoll, which is too late: if a child of the pool was
   forked in the meantime, it holds a copy of the socket, and the kernel goes on reporting the old socket under the
   number of a new connection. The remote control's connection is then read again and again though no data is there,
   with redis-py 8 without any timeout: the main loop hung permanently, and with it every task. Here a connection is
   removed from epoll before it is closed, and a read without data times out soon.
2. If an acknowledgement does not reach Valkey, kombu keeps the task in its prefetch count: after as many such failures
   as that count allows, the worker receives nothing more, even when everything works again. Here the task is removed
   from the count; its message is redelivered after the visibility timeout, as one nudge more.
3. A queue that no worker consumes would grow until Valkey is full. Our tasks have no arguments: the newest few of a
   long queue are as good as all of them. So a queue keeps only QUEUE_LENGTH tasks, independent of any host's clock.
"""

import os
from typing import Any

from kombu.transport import TRANSPORT_ALIASES, redis, virtual
from kombu.utils.objects import cached_property

READ_SECONDS = 1.0
# Enough to contain every kind of task (beat sends one of the rarest for ten others), and few enough that a worker that
# starts again after hours has processed all of them within seconds.
QUEUE_LENGTH = 100


class BoundedPubSub(redis.PrefixedRedisPubSub):
    """A subscription whose reads wait at most READ_SECONDS, whatever timeout the caller requests."""

    def parse_response(self, *args: Any, **kwargs: Any) -> Any:
        """Return a message, or None. Raises a connection error of redis-py if a message arrived incompletely."""
        return super().parse_response(block=False, timeout=READ_SECONDS)


class QoS(redis.QoS):
    """The unacknowledged messages and the prefetch limit."""

    def ack(self, delivery_tag: str) -> None:
        """Acknowledge a message. It leaves the prefetch count even if Valkey fails; that error is raised."""
        try:
            super().ack(delivery_tag)
        except Exception:
            virtual.QoS.ack(self, delivery_tag)
            raise

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        """Reject a message, with or without requeueing it. It leaves the prefetch count even if Valkey fails."""
        try:
            super().reject(delivery_tag, requeue=requeue)
        except Exception:
            virtual.QoS.ack(self, delivery_tag)
            raise


class Channel(redis.Channel):
    QoS = QoS
    _create_client: Any
    _q_for_pri: Any

    @cached_property
    def subclient(self) -> BoundedPubSub:
        """The connection of the remote control."""
        client = self._create_client(asynchronous=True)
        return BoundedPubSub(client.connection_pool, global_keyprefix=self.global_keyprefix)

    def _put(self, queue: str, message: dict[str, Any], **kwargs: Any) -> None:
        super()._put(queue, message, **kwargs)
        if "task" in message.get("headers", ()):
            key = self._q_for_pri(queue, self._get_message_priority(message, reverse=False))
            with self.conn_or_acquire() as client:
                # Tasks enter at the left end, so LTRIM removes the oldest. kombu's client adds its key prefix only to
                # commands that kombu itself uses; LTRIM is not one of them.
                client.ltrim(f"{self.global_keyprefix}{key}", 0, QUEUE_LENGTH - 1)

    def _connparams(self, asynchronous: bool = False) -> dict[str, Any]:
        parameters: dict[str, Any] = super()._connparams(asynchronous)  # type: ignore[misc]
        if asynchronous:
            parameters["connection_class"] = _unregistering(parameters["connection_class"], self)
        return parameters


def _unregistering(base: Any, channel: Any) -> Any:
    """Return a connection class that leaves the channel's poller before it disconnects."""

    class Connection(base):  # type: ignore[misc]
        def disconnect(self, *args: Any, **kwargs: Any) -> None:
            # A forked child shares the epoll of its parent, which still polls the connection.
            if self._sock is not None and self.pid == os.getpid():
                _unregister(channel, self._sock)
            super().disconnect(*args, **kwargs)

    return Connection


def _unregister(channel: Any, sock: Any) -> None:
    poller = channel.connection.cycle.poller if channel.connection is not None else None
    if poller is not None and sock.fileno() >= 0:
        poller.unregister(sock.fileno())


class ValkeyTransport(redis.Transport):
    Channel = Channel


def install() -> None:
    """Use this transport for redis:// and rediss:// in this process. May run twice."""
    for scheme in ("redis", "rediss"):
        TRANSPORT_ALIASES[scheme] = f"{__name__}:ValkeyTransport"
