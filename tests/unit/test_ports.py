"""Ports of the embedded stack: two stacks that start together must not take the same one."""

import socket

from devtools.embedded import ports


def test_who_comes_second_gets_another_port_before_anybody_listens() -> None:
    wished = ports.free()
    first, token = ports.claim(wished)
    second, other = ports.claim(wished)
    assert first == wished
    assert second != wished
    other.close()
    token.close()
    third, again = ports.claim(wished)
    assert third == wished, "a stack that ended gives its port back"
    again.close()


def test_a_port_in_use_is_left_alone() -> None:
    with socket.socket() as listener:
        listener.bind((ports.LOOPBACK, 0))
        listener.listen()
        taken = listener.getsockname()[1]
        port, token = ports.claim(taken)
        token.close()
    assert port != taken
