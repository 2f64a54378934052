"""The start page in a real browser: it brings itself up to date, and works without a script."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.urls import reverse
from playwright.sync_api import Browser, Page, expect

from compensation.models import Command, CommandStatus
from tests.browser.test_decisions import browser, log_in, pytestmark  # noqa: F401 (a fixture)
from tests.integration.test_incidents import fail


def start(browser: Browser, live_server: Any, *, scripts: bool = True) -> Page:  # noqa: F811
    User.objects.create_superuser("ana", "", "secret")
    page = browser.new_page(java_script_enabled=scripts, viewport={"width": 390, "height": 900})
    page.goto(f"{live_server.url}{reverse('admin:index')}")
    log_in(page)
    return page


def look_again(page: Page) -> None:
    """As when the reader comes back to the tab."""
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")


def test_the_start_page_brings_itself_up_to_date(browser: Browser, live_server: Any) -> None:  # noqa: F811
    page = start(browser, live_server)
    expect(page.get_by_text("All clear")).to_be_visible()
    updated = page.locator("[data-updated] time").get_attribute("datetime")
    fail(3)
    look_again(page)
    expect(page.get_by_text("Data Retrieval refuses DeleteRetrievedImage")).to_be_visible()
    expect(page).to_have_title(re.compile(r"^\s*\(1\) "))
    assert page.locator("[data-updated] time").get_attribute("datetime") != updated
    Command.objects.update(status=CommandStatus.SKIPPED)
    look_again(page)
    expect(page.get_by_text("All clear")).to_be_visible()
    expect(page).not_to_have_title(re.compile(r"\(\d"))


def test_a_part_with_the_focus_is_left_alone(browser: Browser, live_server: Any) -> None:  # noqa: F811
    fail(1)
    page = start(browser, live_server)
    page.locator(".sg-incident a.sg-button").first.focus()
    Command.objects.update(status=CommandStatus.SKIPPED)
    with page.expect_response(re.compile(r"/admin/$")):
        look_again(page)
    expect(page).not_to_have_title(re.compile(r"\(\d"))
    expect(page.get_by_text("Data Retrieval refuses DeleteRetrievedImage")).to_be_visible()


@pytest.mark.parametrize("action", ["retry", "mark_done"])
def test_an_incident_is_decided_without_a_script(action: str, browser: Browser, live_server: Any) -> None:  # noqa: F811
    fail(2)
    page = start(browser, live_server, scripts=False)
    page.locator(f".sg-incident a[href*='decide/{action}/']").click()
    assert len((page.locator("input[name=ids]").get_attribute("value") or "").split()) == 2
