"""The broker as a part of the embedded stack: on the loopback interface alone, and back with its data when killed."""

import psutil
import pytest

from tests.apache.rig import Broker, eventually

pytestmark = [pytest.mark.apache, pytest.mark.timeout(900)]


def test_it_listens_on_loopback_alone_and_comes_back_with_its_data(apache: Broker) -> None:
    assert apache.pid
    listening = {
        connection.laddr.ip.removeprefix("::ffff:")
        for connection in psutil.Process(apache.pid).net_connections(kind="inet")
        if connection.status == psutil.CONN_LISTEN
    }
    assert listening == {"127.0.0.1"}

    space = apache.space()
    with space.client() as client:
        client.subscribe(space.full("kept"), "reader").close()
        space.publish("kept", [b"1", b"2", b"3"])
        apache.kill()
        apache.start()
        reader = client.subscribe(space.full("kept"), "reader")
        taken: list[bytes] = []

        def take() -> bool:
            for message in reader.batch_receive():
                taken.append(message.data())
                reader.acknowledge(message)
            return len(taken) == 3

        assert eventually(take)
    assert taken == [b"1", b"2", b"3"]


def test_after_each_kill_it_can_open_new_topics(apache: Broker) -> None:
    """What a killed bookie had registered is forgotten: it kept the next from being known in one restart of four."""
    space = apache.space()
    told_before = len(apache.log.read_bytes())
    for number in range(3):
        apache.kill()
        apache.start()
        for topic in range(20):
            apache.ask("PUT", f"persistent/public/{space.name}/after-kill-{number}-{topic}")
        assert b"Not enough non-faulty bookies" not in apache.log.read_bytes()[told_before:]
