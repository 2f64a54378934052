"""kombu's transport for Valkey and Redis, mended: a worker that waits for its remote control for ever is of no use.

kombu 5.7 with redis-py 8 reads the remote control's connection without any time-out whenever its socket looks readable.
After a half-open connection was replaced it can be that nothing is there: the worker's main loop then hung for good,
and with it every task. Here such a read gives up soon: nothing is lost, whatever comes later makes it readable again.
"""

from typing import Any

from kombu.transport import TRANSPORT_ALIASES, redis
from kombu.utils.objects import cached_property

READ_SECONDS = 1.0


class BoundedPubSub(redis.PrefixedRedisPubSub):
    """Waits for a message for READ_SECONDS at most, whatever it is asked; None if none came."""

    def parse_response(self, *args: Any, **kwargs: Any) -> Any:
        """Give a message, or None. Raises a connection error of redis-py if one began to come and did not end."""
        return super().parse_response(block=False, timeout=READ_SECONDS)


class Channel(redis.Channel):
    _create_client: Any

    @cached_property
    def subclient(self) -> BoundedPubSub:
        """The connection of the remote control."""
        client = self._create_client(asynchronous=True)
        return BoundedPubSub(client.connection_pool, global_keyprefix=self.global_keyprefix)


class Transport(redis.Transport):
    Channel = Channel


def install() -> None:
    """Let redis:// and rediss:// mean this transport, in this process. May be repeated."""
    for scheme in ("redis", "rediss"):
        TRANSPORT_ALIASES[scheme] = f"{__name__}:Transport"
