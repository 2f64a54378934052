"""Free ports on the loopback interface."""

import socket

LOOPBACK = "127.0.0.1"


def is_free(port: int, host: str = LOOPBACK) -> bool:
    with socket.socket() as probe:
        # As servers do: a port that only lingers in TIME_WAIT is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def free(preferred: int = 0) -> int:
    """Return `preferred` if it is free, else any free port."""
    if preferred and is_free(preferred):
        return preferred
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def claim(preferred: int) -> tuple[int, socket.socket]:
    """Return `preferred`, or any free port if that one is in use or reserved, and the socket that reserves it.

    A stack names its port seconds before its web server listens there. The UDP port of the same number, which no other
    program uses, is held until the socket is closed. Otherwise two stacks that start together would both take it, and
    the slower one would take the other's web server for its own.
    """
    token = socket.socket(type=socket.SOCK_DGRAM)
    try:
        token.bind((LOOPBACK, preferred))
    except OSError:
        return free(), token
    return free(preferred), token


def answers(port: int) -> bool:
    """Whether something accepts connections on the port."""
    try:
        with socket.create_connection((LOOPBACK, port), timeout=1):
            return True
    except OSError:
        return False
