"""Encrypted messages, which this service has no key for, from a real broker."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pulsar
import pytest

from bridge.codec import Codec
from bridge.envelope import Message, Rejected
from tests.integration.bridge_messages import CATALOG, PUBLISHED
from tests.integration.test_pulsar import Edge


@pytest.fixture
def client(pulsar_url: str) -> Iterator[pulsar.Client]:
    client = pulsar.Client(pulsar_url, logger=pulsar.FileLogger(pulsar.LoggerLevel.Error, "/dev/null"))
    yield client
    client.close()


@pytest.fixture
def edge(pulsar_url: str) -> Iterator[Edge]:
    edge = Edge(pulsar_url, count=1)
    yield edge
    edge.close()


def keys(folder: Path) -> pulsar.CryptoKeyReader:
    private, public = str(folder / "private.pem"), str(folder / "public.pem")
    for argv in (["genrsa", "-out", private, "2048"], ["rsa", "-in", private, "-pubout", "-out", public]):
        subprocess.run(["openssl", *argv], check=True, capture_output=True)
    return pulsar.CryptoKeyReader(public, private)


def test_encrypted_messages_come_in_and_do_not_hold_up_their_topic(
    edge: Edge, client: pulsar.Client, tmp_path: Path
) -> None:
    """More of them than are prefetched: left where they are, they would be all that the topic ever gives."""
    topic, key_reader = edge.shorts[0], keys(tmp_path)
    single = client.create_producer(topic, encryption_key="key", crypto_key_reader=key_reader)
    for number in range(250):
        single.send_async(b"%d" % number, lambda *_: None)
    single.flush()
    batched = client.create_producer(
        topic,
        encryption_key="key",
        crypto_key_reader=key_reader,
        batching_enabled=True,
        batching_max_messages=5,
        batching_max_publish_delay_ms=10_000,
        compression_type=pulsar.CompressionType.ZLib,
    )
    for number in range(5):
        batched.send_async(b"%d" % number, lambda *_: None)
    batched.flush()
    client.create_producer(topic).send(b"plain")

    edge.inlet.open()
    taken = edge.take(252)
    assert [message.body for message in taken if not message.encrypted] == [b"plain"]
    sealed = [message for message in taken if message.encrypted]
    assert sorted(message.encrypted for message in sealed) == [*[1] * 250, 5]
    assert len({message.message_id for message in sealed}) == 251
    assert all(is_rejected(message) for message in sealed)


def is_rejected(message: Message) -> bool:
    found = Codec(CATALOG, 1_000_000).decode(message, PUBLISHED)
    return isinstance(found, Rejected) and found.code == "encrypted"
