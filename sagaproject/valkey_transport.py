"""kombu's transport for Valkey and Redis, mended: a worker's main loop looks at the connections that it has, only.

kombu 5.7 closes a broken connection first and takes it out of epoll afterwards, when it is too late: where a child of
the pool was forked meanwhile it holds a copy of the socket, and the kernel goes on to report the old one, under the
number of a new connection. The remote control's connection is read again and again though nothing is there, with
redis-py 8 without any time-out: the main loop hung for good, and with it every task. Here a connection leaves epoll
before it is closed, and a read of nothing gives up soon.

And where an acknowledgement does not reach Valkey, kombu keeps the task's place among those that may be under way at
once: after as many such failures as there are places the worker takes nothing more, though all works again. Here the
place is given back; the message comes again after its visibility time-out, as one nudge more.

And a queue of tasks that nobody takes would grow until Valkey is full. Our tasks carry nothing: of a long queue the
newest few are worth as much as all of it. So a queue keeps QUEUE_LENGTH of them, whatever the clocks of the hosts say.
"""

import os
from typing import Any

from kombu.transport import TRANSPORT_ALIASES, redis, virtual
from kombu.utils.objects import cached_property

READ_SECONDS = 1.0
# Enough for every kind of task to be among them (beat sends one of the rarest for ten others), few enough that a worker
# that comes back after hours has taken all of them within seconds.
QUEUE_LENGTH = 100


class BoundedPubSub(redis.PrefixedRedisPubSub):
    """Waits for a message for READ_SECONDS at most, whatever it is asked; None if none came."""

    def parse_response(self, *args: Any, **kwargs: Any) -> Any:
        """Give a message, or None. Raises a connection error of redis-py if one began to come and did not end."""
        return super().parse_response(block=False, timeout=READ_SECONDS)


class QoS(redis.QoS):
    """Which messages are under way, and how many more may be."""

    def ack(self, delivery_tag: str) -> None:
        """Forget a message here and in Valkey; here also where Valkey's answer is an error, which is raised."""
        try:
            super().ack(delivery_tag)
        except Exception:
            virtual.QoS.ack(self, delivery_tag)
            raise

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        """The same, having Valkey give it to somebody else, or to nobody."""
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
                # Tasks come in at the left end: what is cut off has waited longest. kombu's client prefixes the keys
                # of the commands that kombu uses, and this is none of them.
                client.ltrim(f"{self.global_keyprefix}{key}", 0, QUEUE_LENGTH - 1)

    def _connparams(self, asynchronous: bool = False) -> dict[str, Any]:
        parameters: dict[str, Any] = super()._connparams(asynchronous)  # type: ignore[misc]
        if asynchronous:
            parameters["connection_class"] = _leaving_in_order(parameters["connection_class"], self)
        return parameters


def _leaving_in_order(base: Any, channel: Any) -> Any:
    class Connection(base):  # type: ignore[misc]
        def disconnect(self, *args: Any, **kwargs: Any) -> None:
            # A child's copy shares the epoll of its parent, who still looks at the connection.
            if self._sock is not None and self.pid == os.getpid():
                _forget(channel, self._sock)
            super().disconnect(*args, **kwargs)

    return Connection


def _forget(channel: Any, sock: Any) -> None:
    poller = channel.connection.cycle.poller if channel.connection is not None else None
    if poller is not None and sock.fileno() >= 0:
        poller.unregister(sock.fileno())


class ValkeyTransport(redis.Transport):
    Channel = Channel


def install() -> None:
    """Let redis:// and rediss:// mean this transport, in this process. May be repeated."""
    for scheme in ("redis", "rediss"):
        TRANSPORT_ALIASES[scheme] = f"{__name__}:Transport"
