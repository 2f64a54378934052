"""Which topics of regions the broker's admin interface is asked for."""

from typing import Any, cast

import pytest

from bridge.pulsar import backlog
from bridge.pulsar.admin import AdminUnavailable, PulsarAdmin
from bridge.topics import Topics

ENDS = ("started", "completed", "failed")
OF_THEIR_OWN = {f"processing.{{region}}.{end}": f"public/processing/processing.{{region}}.{end}" for end in ENDS}


class Admin:
    """An interface that lists one namespace, and allows no other."""

    def __init__(self, namespace: str) -> None:
        self._namespace = namespace

    def topics(self, namespace: str) -> list[str]:
        if namespace != self._namespace:
            raise AdminUnavailable("it answers with status 403")
        return [
            f"persistent://{namespace}/{name}"
            for name in ("other", "processing.peru.started", "processing.usa.failed-partition-0")
        ]


@pytest.mark.parametrize(
    ("overrides", "namespace"), [({}, "public/default"), (OF_THEIR_OWN, "public/processing")], ids=["ours", "their own"]
)
def test_regions_are_looked_for_where_they_are_and_nowhere_else(
    overrides: dict[str, str], namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backlog, "get_topics", lambda: Topics("public", "default", overrides, "*"))
    found = backlog.subscribed_topics(cast(PulsarAdmin, cast(Any, Admin(namespace))))
    regional = [topic for topic in found if "/processing." in topic]
    assert regional == [f"persistent://{namespace}/processing.{name}" for name in ("peru.started", "usa.failed")]
    assert "persistent://public/default/retrieval-started" in found
