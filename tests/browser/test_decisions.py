"""Decisions in a real browser: the menu of destructive ones by keyboard, and what was typed after a login."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.db import connections
from django.urls import reverse
from playwright.sync_api import Browser, Page, sync_playwright

from bridge import event_log
from compensation.models import Command
from sagas.applying.apply import run_apply
from sagas.models import Decision, SagaLog
from tests.browser.screenshots import BROWSER, FLAGS
from tests.integration.story import event, image_through, new_ids, retrieval

pytestmark = [
    pytest.mark.browser,
    pytest.mark.django_db(transaction=True),
    pytest.mark.timeout(300),
    pytest.mark.skipif(not Path(BROWSER).exists(), reason=f"there is no browser at {BROWSER}"),
]
REASON = "Luis looked in the archive"


@pytest.fixture
def browser(monkeypatch: pytest.MonkeyPatch) -> Iterator[Browser]:
    # Playwright keeps an event loop in this thread: it runs nothing while the test asks the database, but Django has a
    # connection of its own for it, which must be closed before the test database can be dropped.
    monkeypatch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "1")
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=BROWSER, args=FLAGS)
        yield found
        found.close()
        connections.close_all()


@pytest.fixture
def saga() -> SagaLog:
    User.objects.create_superuser("ana", "", "secret")
    task, name = new_ids(2)
    event_log.append(retrieval(task, [name]) + image_through(task, name)[:3])
    event_log.append([event("AnonymizationFailed", task, name, seconds=90, error_message="no")])
    run_apply()
    return SagaLog.objects.get(key=task)


def log_in(page: Page) -> None:
    page.fill("input[name=username]", "ana")
    page.fill("input[name=password]", "secret")
    page.press("input[name=password]", "Enter")
    page.wait_for_url(re.compile(r"^(?!.*/login/)"))


@pytest.mark.parametrize("scripts", [True, False])
@pytest.mark.parametrize("width", [1360, 390])
def test_destructive_decisions_are_behind_a_menu_that_a_key_opens(
    scripts: bool, width: int, browser: Browser, saga: SagaLog, live_server: Any
) -> None:
    page = browser.new_page(java_script_enabled=scripts, viewport={"width": width, "height": 900})
    page.goto(f"{live_server.url}{reverse('admin:index')}")
    log_in(page)
    page.goto(f"{live_server.url}{reverse('admin:sagas_sagalog_change', args=[saga.id])}")
    terminate = page.locator(f"a[href*='decide/terminate/?saga={saga.id}']")
    assert not terminate.is_visible()
    page.locator("details.sg-more > summary").first.focus()
    page.keyboard.press("Enter")
    assert terminate.is_visible()
    page.keyboard.press("Tab")
    assert page.locator(":focus").get_attribute("href")
    box = terminate.bounding_box()
    assert box is not None
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= width
    page.context.close()


def test_what_was_typed_is_there_after_the_login(browser: Browser, saga: SagaLog, live_server: Any) -> None:
    page = browser.new_page()
    command = Command.objects.filter(saga_id=saga.id)[0]
    page.goto(f"{live_server.url}{reverse('admin:sagas_decision_decide', args=['skip'])}?ids={command.id}")
    log_in(page)
    page.click("button[name=confirm]")
    assert page.locator("ul.errorlist").is_visible()
    assert page.locator("#preview").is_visible()
    page.fill("textarea[name=reason]", REASON)
    Session.objects.all().delete()
    page.click("button[name=confirm]")
    log_in(page)
    assert REASON not in page.url
    assert page.input_value("textarea[name=reason]") == REASON
    assert not Decision.objects.exists()
    page.click("button[name=confirm]")
    page.wait_for_url(re.compile("/command/"))
    assert Decision.objects.get().reason == REASON
    page.context.close()


def test_a_login_in_another_tab_costs_no_text(browser: Browser, saga: SagaLog, live_server: Any) -> None:
    context = browser.new_context()
    page = context.new_page()
    command = Command.objects.filter(saga_id=saga.id)[0]
    page.goto(f"{live_server.url}{reverse('admin:sagas_decision_decide', args=['skip'])}?ids={command.id}")
    log_in(page)
    page.fill("textarea[name=reason]", REASON)
    Session.objects.all().delete()
    other = context.new_page()
    other.goto(f"{live_server.url}{reverse('admin:index')}")
    log_in(other)
    with page.expect_response(re.compile("decide/skip")) as answered:
        page.click("button[name=confirm]")
    assert answered.value.status == 403
    assert page.input_value("textarea[name=reason]") == REASON
    assert not Decision.objects.exists()
    page.click("button[name=confirm]")
    page.wait_for_url(re.compile("/command/"))
    assert Decision.objects.get().reason == REASON
    context.close()
