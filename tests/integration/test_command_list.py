"""The list of commands: an order that people understand, the same on every page, read from an index."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.urls import reverse

from compensation.models import Command, CommandStatus
from sagas.admin.command import CommandAdmin
from tests.integration import decided

pytestmark = pytest.mark.django_db(transaction=True)

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def staff() -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("ana", "ana@example.org", "x"))
    return client


def listed(staff: Client, **query: str) -> list[str]:
    page = staff.get(reverse("admin:compensation_command_changelist"), query).content.decode()
    return re.findall(r'class="sg-link" href="/admin/compensation/command/([^/]+)/change/"', page)


def planned(*minutes: int) -> list[str]:
    """Commands planned so many minutes after noon."""
    decided.failed(len(minutes) - 1)
    found = list(Command.objects.order_by("id"))
    for command, minute in zip(found, minutes, strict=True):
        Command.objects.filter(id=command.id).update(planned_at=NOON + timedelta(minutes=minute))
    return [str(command.id) for command in found]


def test_the_newest_command_comes_first(staff: Client) -> None:
    first, second, third, fourth = planned(2, 4, 1, 3)
    assert listed(staff) == [second, fourth, first, third]


def test_settled_commands_come_by_the_time_when_they_were_settled(staff: Client) -> None:
    first, second, third, _fourth = planned(1, 2, 3, 4)
    for command, minute in ((second, 30), (first, 20), (third, 10)):
        Command.objects.filter(id=command).update(
            status=CommandStatus.CONFIRMED, settled_at=NOON + timedelta(minutes=minute), next_at=None
        )
    assert listed(staff, status="confirmed") == [second, first, third]


def test_pages_neither_repeat_nor_miss_a_command(staff: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    every = planned(*[1] * 10)
    monkeypatch.setattr(CommandAdmin, "list_per_page", 3)
    pages = [command for page in range(1, 5) for command in listed(staff, p=str(page))]
    assert pages == sorted(every, reverse=True)


@pytest.mark.parametrize(
    ("query", "index"),
    [
        ("", "command_newest"),
        ("WHERE status = 'confirmed'", "command_settled_newest"),
        ("WHERE status = 'not_required'", "command_overruled"),
    ],
)
def test_each_order_has_an_index(query: str, index: str) -> None:
    column = "settled_at" if "confirmed" in query else "planned_at"
    planned(1, 2, 3)
    with connection.cursor() as cursor:
        cursor.execute("SET enable_seqscan = off")
        cursor.execute("SET enable_bitmapscan = off")
        cursor.execute(f"EXPLAIN SELECT id FROM compensation_command {query} ORDER BY {column} DESC, id DESC LIMIT 50")
        plan = "\n".join(line for (line,) in cursor.fetchall())
        cursor.execute("RESET enable_seqscan")
        cursor.execute("RESET enable_bitmapscan")
    assert f"Index Scan Backward using {index}" in plan
