"""Every page of the admin by axe-core, in light and dark, on a phone and on a desk: nothing wrong, nothing cut off."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.base import AXE_SCRIPT
from django.conf import settings as configured
from django.db import connections
from django.test import Client
from playwright.sync_api import Browser, Page, sync_playwright

from tests.browser import world
from tests.browser.screenshots import BROWSER, FLAGS

pytestmark = [
    pytest.mark.browser,
    pytest.mark.django_db(transaction=True),
    pytest.mark.timeout(900),
    pytest.mark.skipif(not Path(BROWSER).exists(), reason=f"there is no browser at {BROWSER}"),
]
PHONE, DESK = 390, 1280
# One page of each kind; make nightly looks at all.
SAMPLE = (
    "start$|list (sagas_sagalog|compensation_command|sagas_parked|bridge_quarantined|sagas_decision)|"
    "saga COMPENSATION_FAILED|command exhausted|quarantined 9|parked group|decide mark_done|user$|api"
)
# Text is set in columns of at least this width where it has more letters than a short name.
SENTENCE, NARROWEST = 40, 120
# What a person cannot read: columns that are narrower than their text needs, and links and buttons that are cut off.
UNREADABLE = f"""() => {{
  const seen = (element) => element.getClientRects().length > 0 && !element.closest('.sg-hidden, .sg-skip, [x-cloak]');
  const wide = document.documentElement.scrollWidth > innerWidth ? ['the page is wider than the window'] : [];
  const narrow = [...document.querySelectorAll('main td:not(.sg-do, .field-decide)')].filter((cell) => seen(cell)
      && cell.innerText.length > {SENTENCE} && cell.clientWidth < {NARROWEST});
  const cut = [...document.querySelectorAll('main a, main button')].filter((target) => seen(target)
      && target.getBoundingClientRect().right > innerWidth + 1);
  const scrolled = [...document.querySelectorAll('.sg-wide, #result_list')].filter((table) =>
      table.scrollWidth > table.parentElement.clientWidth + 1);
  const told = (what) => (element) => `${{what}}: ${{element.innerText.slice(0, 60)}}`;
  return [...wide, ...narrow.map(told('narrow')), ...cut.map(told('cut off')), ...scrolled.map(told('scrolled'))];
}}"""

# Alpine has started, and Django's widgets have been built.
READY = """() => document.readyState === 'complete' && !document.documentElement.hasAttribute('x-cloak')
    && !document.querySelector('.help-tooltip[aria-label]:not([role])')"""


@pytest.fixture
def browser(monkeypatch: pytest.MonkeyPatch) -> Iterator[Browser]:
    # Playwright keeps an event loop in this thread; see test_decisions.
    monkeypatch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "1")
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=BROWSER, args=FLAGS)
        yield found
        found.close()
        connections.close_all()


@pytest.mark.parametrize("which", [SAMPLE, pytest.param(".", marks=pytest.mark.nightly)], ids=["sample", "all"])
def test_pages_can_be_read_by_everybody(which: str, browser: Browser, settings: Any, live_server: Any) -> None:
    client = Client()
    client.force_login(world.build(settings))
    session = client.cookies[configured.SESSION_COOKIE_NAME].value
    pages = [each for each in world.pages() if re.match(which, each.name)]
    assert len(pages) > (40 if which == "." else 10)
    wrong: list[str] = []
    for width, language, audited in ((PHONE, "es", True), (DESK, "en", True), (DESK, "es", False)):
        context = browser.new_context(viewport={"width": width, "height": 900}, locale=language)
        context.add_init_script(AXE_SCRIPT)
        context.add_cookies([{"name": configured.SESSION_COOKIE_NAME, "value": session, "url": live_server.url}])
        page = context.new_page()
        for name, address in pages:
            page.goto(f"{live_server.url}{address}")
            page.wait_for_function(READY)
            found = [*page.evaluate(UNREADABLE), *(_problems(page) if audited else [])]
            wrong += [f"{name} {width} {language}: {problem}" for problem in found]
        context.close()
    assert wrong == [], "\n".join(wrong)


def test_the_login_page_can_be_read_by_everybody(browser: Browser, live_server: Any) -> None:
    context = browser.new_context(viewport={"width": PHONE, "height": 900})
    context.add_init_script(AXE_SCRIPT)
    page = context.new_page()
    page.goto(f"{live_server.url}/admin/")
    page.wait_for_function(READY)
    assert _problems(page) == []
    context.close()


def _problems(page: Page) -> list[str]:
    """Return what axe finds in light and in dark, without what it calls minor; in dark only the contrast differs."""
    found: list[str] = []
    for scheme, rules in (("light", "{}"), ("dark", "{runOnly: ['color-contrast']}")):
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        for each in page.evaluate(f"axe.run(document, {rules})")["violations"]:
            nodes = [f"{node['target']} {node['html'][:120]}" for node in each["nodes"][:3]]
            if each["impact"] != "minor":
                found += [f"{scheme}: {each['id']} ({each['impact']}): {node}" for node in nodes]
    return found
