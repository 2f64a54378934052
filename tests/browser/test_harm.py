"""Pages that show what hostile messages said, in a real browser: nothing of it runs, nothing is fetched."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from playwright.sync_api import Dialog, sync_playwright

from bridge import event_log
from bridge.codec import get_codec
from bridge.envelope import Envelope, Message, Rejected
from bridge.models import Event, Quarantined
from devtools.simulator import wire
from sagas.applying.apply import run_apply
from sagas.models import Parked, SagaLog
from tests.browser.screenshots import BROWSER, FLAGS
from tests.corpus import bad

pytestmark = [
    pytest.mark.browser,
    pytest.mark.django_db(transaction=True),
    pytest.mark.timeout(300),
    pytest.mark.skipif(not Path(BROWSER).exists(), reason=f"there is no browser at {BROWSER}"),
]
# Of each kind of page so many.
PAGES = 4


def test_nothing_that_a_message_says_runs_in_a_browser(live_server: Any) -> None:
    _take_in([*bad.harm_in_texts(), *bad.tricks_of_unicode(), *list(bad.not_json())[-16:]])
    addresses = _addresses()
    assert len(addresses) > 4 * PAGES
    client = Client()
    client.force_login(User.objects.create_superuser("ana", "", "x"))
    session = client.cookies[settings.SESSION_COOKIE_NAME].value

    happened: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=FLAGS)
        page = browser.new_page()
        page.context.add_cookies([{"name": settings.SESSION_COOKIE_NAME, "value": session, "url": live_server.url}])

        def a_dialog(dialog: Dialog) -> None:
            happened.append(f"said {dialog.message}")
            dialog.dismiss()

        page.on("dialog", a_dialog)
        page.on("pageerror", lambda error: happened.append(f"raised {error}"))
        page.on("request", lambda request: happened.extend(_elsewhere(request.url, live_server.url)))
        for address in addresses:
            answer = page.goto(f"{live_server.url}{address}")
            assert answer is not None
            assert answer.status == 200, address
            assert page.locator("img[src='x'], script:text(\"alert('saga')\")").count() == 0, address
        browser.close()
    assert happened == []


def _take_in(messages: list[bad.Bad]) -> None:
    now = timezone.now()
    envelopes: list[Envelope] = []
    rejected: list[Rejected] = []
    for number, one in enumerate(messages):
        start = {**bad.original("RetrievalStarted").fields, **wire.retrieval_started(one.task)}
        for topic, body, entry in (
            ("retrieval-started", wire.encode(start), 2 * number),
            (one.topic, one.body, 2 * number + 1),
        ):
            found = get_codec().decode(Message(topic, topic, f"1:{entry}:-1:-1", 0, body, {bad.HARM: bad.HARM}), now)
            if isinstance(found, Envelope):
                envelopes.append(found)
            else:
                rejected.append(found)
    event_log.store_batch(envelopes, rejected)
    run_apply()


def _addresses() -> list[str]:
    harmful = Event.objects.filter(payload__icontains="onerror").order_by("-id")
    keys = harmful.values_list("key", flat=True)
    pages = [
        *(reverse("admin:bridge_event_change", args=[pk]) for pk in harmful.values_list("pk", flat=True)[:PAGES]),
        *(reverse("admin:sagas_sagalog_change", args=[pk]) for pk in _sagas(keys)),
        *(reverse("admin:bridge_quarantined_change", args=[pk]) for pk in _quarantined()),
        *(reverse("admin:sagas_parked_group") + f"?{urlencode(said)}" for said in _parked()),
    ]
    lists = ("bridge_event", "bridge_quarantined", "sagas_sagalog", "sagas_parked")
    return [*pages, *(reverse(f"admin:{name}_changelist") for name in lists), reverse("admin:index")]


def _sagas(keys: Any) -> list[Any]:
    return list(SagaLog.objects.filter(key__in=list(keys)).values_list("pk", flat=True)[:PAGES])


def _quarantined() -> list[int]:
    return list(Quarantined.objects.order_by("-id").values_list("pk", flat=True)[: PAGES * 4])


def _parked() -> list[Any]:
    return list(Parked.objects.order_by("key").values("stream", "key", "entity").distinct()[: PAGES * 2])


def _elsewhere(url: str, ours: str) -> list[str]:
    there = urlsplit(url)
    return [] if there.scheme in ("data", "blob") or there.netloc == urlsplit(ours).netloc else [f"asked {url}"]
