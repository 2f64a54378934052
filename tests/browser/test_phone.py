"""Repairs on a phone, each in five taps from the start page; and what keys, a clock and a clipboard do there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as configured
from django.db import connections
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from playwright.sync_api import Browser, BrowserContext, Locator, Page, sync_playwright

from bridge import event_log
from sagas.applying.apply import run_apply
from sagas.models import Decision, SagaLog
from tests.browser import world
from tests.browser.screenshots import BROWSER, FLAGS
from tests.integration.story import event, new_ids

pytestmark = [
    pytest.mark.browser,
    pytest.mark.django_db(transaction=True),
    pytest.mark.timeout(300),
    pytest.mark.skipif(not Path(BROWSER).exists(), reason=f"there is no browser at {BROWSER}"),
]
MOST_TAPS = 5
REASON = "the service is back"


class Phone:
    """A phone on the start page, which counts taps; each has to hit something that is within the screen's width."""

    def __init__(self, page: Page, width: int) -> None:
        self.page = page
        self.width = width
        self.taps = 0

    def tap(self, target: Locator) -> None:
        box = target.bounding_box()
        assert box is not None
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= self.width
        target.tap()
        self.taps += 1

    def link(self, text: str, within: str = "#sg-main") -> None:
        self.tap(self.page.locator(f"{within} a", has_text=text).first)

    def cases_of(self, kind: str) -> None:
        """Open the list of the cases of the first incident of a kind."""
        incident = self.page.locator(".sg-incident", has=self.page.locator(".sg-badge", has_text=kind))
        self.tap(incident.locator(".sg-buttons a", has_text="Open").first)

    def menu(self, text: str) -> None:
        self.tap(self.page.get_by_role("button", name="Menu"))
        self.link(text, "#nav-sidebar")

    def type(self, field: str, text: str) -> None:
        self.tap(self.page.locator(f"[name={field}]"))
        self.page.keyboard.type(text)

    def confirm(self) -> None:
        self.type("reason", REASON)
        self.tap(self.page.locator("button[name=confirm]"))
        self.page.wait_for_url(re.compile(r"^(?!.*/decide/)"))


@pytest.fixture
def browser(monkeypatch: pytest.MonkeyPatch) -> Iterator[Browser]:
    # Playwright keeps an event loop in this thread; see test_decisions.
    monkeypatch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "1")
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=BROWSER, args=FLAGS)
        yield found
        found.close()
        connections.close_all()


@pytest.fixture
def phone(browser: Browser, settings: Any, live_server: Any) -> Phone:
    client = Client()
    client.force_login(world.build(settings))
    width = 390
    context = browser.new_context(viewport={"width": width, "height": 844}, has_touch=True)
    session = client.cookies[configured.SESSION_COOKIE_NAME].value
    context.add_cookies([{"name": configured.SESSION_COOKIE_NAME, "value": session, "url": live_server.url}])
    page = context.new_page()
    page.goto(f"{live_server.url}{reverse('admin:index')}")
    return Phone(page, width)


def test_a_command_is_retried(phone: Phone) -> None:
    phone.link("Retry all…")
    phone.confirm()
    assert (Decision.objects.latest("decided_at").action, phone.taps <= MOST_TAPS) == ("retry", True)


def test_a_command_is_marked_as_done(phone: Phone) -> None:
    phone.link("Mark as done…")
    phone.confirm()
    assert (Decision.objects.latest("decided_at").action, phone.taps <= MOST_TAPS) == ("mark_done", True)


def test_a_message_is_requeued(phone: Phone) -> None:
    phone.cases_of("unreadable message")
    phone.tap(phone.page.locator("#result_list .field-why a").last)
    phone.link("Requeue…")
    phone.confirm()
    assert (Decision.objects.latest("decided_at").action, phone.taps <= MOST_TAPS) == ("requeue", True)


def test_unmatched_events_are_attached(phone: Phone) -> None:
    phone.menu("Unmatched events")
    likely = world.likely()
    phone.link(f"Attach all to a saga… {likely.key[:8]}")
    phone.confirm()
    assert (Decision.objects.latest("decided_at").action, phone.taps <= MOST_TAPS) == ("attach", True)


def test_a_retrieval_is_closed(phone: Phone) -> None:
    [task] = new_ids(1)
    event_log.append([event("RetrievalStarted", task), event("ImagesRetrieved", task, seconds=1, image_ids=new_ids(2))])
    run_apply()
    hour = timezone.now() - timedelta(hours=1)
    SagaLog.objects.filter(key=task).update(start_time=hour, last_event_at=hour, updated_at=hour)
    phone.page.reload()
    phone.cases_of("no progress")
    phone.link(task[:8])
    phone.link("Close")
    assert phone.page.input_value("[name=images]") == "2"
    phone.confirm()
    assert (Decision.objects.latest("decided_at").action, phone.taps <= MOST_TAPS) == ("close_retrieval", True)


def test_the_first_key_skips_the_menu_and_the_menu_opens_by_a_key(phone: Phone) -> None:
    page = phone.page
    page.keyboard.press("Tab")
    assert page.locator(":focus").get_attribute("href") == "#sg-main"
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.locator("#sg-main :focus").count() == 1
    menu = page.get_by_role("button", name="Menu")
    menu.focus()
    page.keyboard.press("Enter")
    page.locator("#nav-sidebar :focus").wait_for()
    page.keyboard.press("Escape")
    page.locator("#nav-sidebar").wait_for(state="hidden")


def test_a_whole_id_is_copied(phone: Phone) -> None:
    context: BrowserContext = phone.page.context
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    phone.menu("Commands")
    copies = phone.page.locator("#result_list .field-entity_id .sg-copy")
    copies.first.click()
    entity = copies.first.get_attribute("data-copy")
    phone.page.locator(".sg-copied").wait_for()
    assert phone.page.evaluate("navigator.clipboard.readText()") == entity
    phone.page.context.close()


def test_ages_move_with_the_words_of_the_page(phone: Phone) -> None:
    page = phone.page
    page.clock.install()
    for language, minute in (("en", "1 minute ago"), ("es", "hace 1 minuto")):
        page.set_extra_http_headers({"accept-language": language})
        page.goto(page.url.split("/admin/")[0] + reverse("admin:sagas_sagalog_changelist"))
        page.evaluate("document.querySelector('.sg-age').dataset.seconds = '59'")
        page.clock.run_for(11_000)
        assert page.locator(".sg-age").first.inner_text() == minute
