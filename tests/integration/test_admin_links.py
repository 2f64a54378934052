"""The links of a page lead only where its reader may go, and never back to the page itself."""

from __future__ import annotations

import re
from datetime import timedelta
from html import unescape

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from bridge import heartbeats
from bridge.heartbeats import UnreadTopic
from bridge.models import BlockedTopic
from compensation.models import Command, CommandStatus, Switch
from sagas.admin import formatting
from sagas.models import SagaLog
from tests.integration.test_admin_access import tell

pytestmark = pytest.mark.django_db(transaction=True)


def reader(*codenames: str) -> Client:
    """Return a client of staff who have these rights and no others."""
    user = User.objects.create_user("reader", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
    client = Client()
    client.force_login(user)
    return client


def links(client: Client, address: str) -> set[str]:
    """Return the addresses of the admin to which a page links."""
    page = client.get(address).content.decode()
    found = {unescape(link).partition("#")[0] for link in re.findall(r'<a[^>]*href="(/[^"]*)"', page)}
    return {link for link in found if link.startswith(reverse("admin:index"))}


@pytest.fixture
def saga() -> SagaLog:
    """A saga with a command that needs a decision, a paused one and a blocked topic; a topic that nobody reads."""
    saga = tell(2)
    now = timezone.now()
    first, *others = Command.objects.filter(saga_id=saga.id, name="RollbackAnonymization").order_by("id")
    Command.objects.filter(id=first.id).update(
        status=CommandStatus.EXHAUSTED, settled_at=now, next_at=None, last_error="no", exhausted_by="attempts"
    )
    Switch.objects.update_or_create(service=first.service, defaults={"paused": True, "changed_at": now})
    BlockedTopic.objects.create(topic=others[0].topic, since=now - timedelta(hours=1), last_at=now, reason="no grant")
    detail = {"unread_topics": [UnreadTopic("answers", now, "no grant")._asdict()]}
    heartbeats.beat("bridge:1", "bridge", connected=True, well=False, detail=detail)
    return saga


@pytest.mark.parametrize(
    "rights", [("view_sagalog",), ("view_command",), ("view_sagalog", "view_command"), ("view_sagalog", "view_switch")]
)
def test_links_lead_where_the_reader_may_go(rights: tuple[str, ...], saga: SagaLog) -> None:
    client = reader(*rights)
    start = reverse("admin:index")
    pages = [start, f"{start}?kind=all", formatting.saga_url(saga.id)] if "view_sagalog" in rights else []
    if "view_command" in rights:
        pages += [formatting.command_url(command.id) for command in Command.objects.filter(saga_id=saga.id)]
    refused = {(page, link) for page in pages for link in links(client, page) if client.get(link).status_code == 403}
    assert not refused


def test_an_item_of_attention_never_links_to_the_start_page(saga: SagaLog) -> None:
    client = Client()
    client.force_login(User.objects.create_superuser("ana"))
    page = client.get(reverse("admin:index"), {"kind": "all"})
    urls = {line["item"].kind: line["url"] for line in page.context["lines"]}
    assert {"exhausted", "unread", "blocked"} <= set(urls)
    assert urls["blocked"] == formatting.list_url("compensation_switch")
    assert urls["unread"] == ""
    assert 'href=""' not in page.content.decode()
    assert 'href=""' not in client.get(reverse("admin:index")).content.decode()
