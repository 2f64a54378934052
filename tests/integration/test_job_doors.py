"""Jobs by each entry point: the admin, the API and the command line; and who may what."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from typing import Any

import pytest
from celery import current_app
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from compensation.models import Command
from sagas import actions, jobs
from sagas.actions import Action
from sagas.management.commands import run_job
from sagas.models import Decision, Job, JobItemStatus, JobStatus, Parked, SagaLog
from tests.integration.api import BASE, Api
from tests.integration.decided import completed, exhausted, failed, parked, quarantined, request, running
from tests.integration.terminal import Typed, run
from tests.integration.test_jobs import made, many, now, run_to_the_end, started

pytestmark = pytest.mark.django_db(transaction=True)

RIGHTS = ("sagas.view_sagalog", "sagas.operate_saga", "sagas.view_job", "sagas.run_job")


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    monkeypatch.setattr(current_app, "send_task", lambda name, **options: None)
    settings.API_OPEN_READS = False


def login(name: str, *rights: str) -> User:
    user = User.objects.create_user(name, is_staff=True)
    for right in rights:
        app, codename = right.split(".")
        user.user_permissions.add(Permission.objects.get(codename=codename, content_type__app_label=app))
    return user


def staff(name: str = "ana", *rights: str) -> Client:
    client = Client()
    client.force_login(login(name, *rights) if rights else User.objects.create_superuser(name, f"{name}@x.org", "x"))
    return client


def page(job: Job) -> str:
    return reverse("admin:sagas_job_change", args=[job.id])


def decide(job: Job, action: str) -> str:
    return reverse("admin:sagas_job_decide", args=[job.id, action])


def text_of(answer: Any) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", answer.content.decode()))


# --- the API ----------------------------------------------------------------------------------------------------------


def test_a_job_from_its_making_to_its_end_by_the_api() -> None:
    api = Api(login("ana", *RIGHTS))
    sagas = [*many(2), completed()[0]]
    body = {"action": "cancel", "ids": [str(saga.id) for saga in sagas], "reason": "outage", "rate": 100, "canary": 0}
    answer = api.post("jobs", body)
    assert answer.status_code == 202
    assert answer.json()["url"] == answer["Location"]
    assert answer["Location"].endswith(f"{BASE}jobs/{answer.json()['id']}")
    job = Job.objects.get()
    run_to_the_end(job)

    detail = api.get(f"jobs/{job.id}").json()
    assert {name: detail[name] for name in ("status", "total", "eligible", "not_eligible", "done")} == {
        "status": "done",
        "total": 3,
        "eligible": 2,
        "not_eligible": 1,
        "done": 2,
    }
    assert [one["count"] for one in detail["reasons"]] == [1]
    assert detail["commands"] == {"planned": 2}
    assert [(one["action"], one["actor"], one["reason"]) for one in detail["history"]] == [
        ("job_start", "ana", "outage")
    ]
    items = api.get(f"jobs/{job.id}/items", {"status": "done"}).json()
    assert (items["total"], {one["target"] for one in items["items"]}) == (2, {str(one.id) for one in sagas[:2]})
    assert api.get("jobs", {"status": "done", "action": "cancel"}).json()["total"] == 1
    assert api.get("jobs", {"status": "running"}).json()["items"] == []
    index = api.client.get(BASE, headers={"accept": "application/json"}).json()
    assert index["jobs"].endswith("/jobs")


def test_a_job_is_checked_first_and_started_later_by_the_api() -> None:
    api = Api(login("ana", *RIGHTS))
    many(3)
    job = Job.objects.get(id=api.post("jobs", {"action": "cancel", "filter": {}, "start": False}).json()["id"])
    jobs.run_jobs()
    preview = api.get(f"jobs/{job.id}").json()
    assert (preview["status"], preview["eligible"], preview["possible"]) == ("prepared", 3, ["job_start", "job_stop"])
    assert not Decision.objects.exists()

    assert api.post(f"jobs/{job.id}/start", {"reason": "outage", "rate": 1}).json()["status"] == "running"
    assert api.post(f"jobs/{job.id}/pause", {"reason": "wait"}).json()["status"] == "paused"
    answer = api.post(f"jobs/{job.id}/resume", {"reason": "go on", "rate": 0, "canary": 0})
    assert (answer.json()["status"], answer.json()["rate"]) == ("running", 0)
    assert api.post(f"jobs/{job.id}/stop", {"reason": "enough"}).json()["status"] == "stopped"
    assert api.post(f"jobs/{job.id}/stop", {"reason": "enough"}).status_code == 409


def test_a_repeated_request_of_the_api_makes_and_starts_one_job() -> None:
    api = Api(login("ana", *RIGHTS))
    body = {"action": "cancel", "ids": [str(running()[0].id)], "reason": "x"}
    first, second = (api.post("jobs", body, **{"Idempotency-Key": "k"}) for _ in range(2))
    assert first.json()["id"] == second.json()["id"]
    assert Decision.objects.filter(action="job_start").count() == 1


def test_a_second_person_approves_by_the_api(settings: Any) -> None:
    settings.SAGA_FOUR_EYES_FROM = 1
    ana, bob = Api(login("ana", *RIGHTS)), Api(login("bob", *RIGHTS))
    body = {"action": "terminate", "ids": [str(running()[0].id)], "reason": "x"}
    job = Job.objects.get(id=ana.post("jobs", body).json()["id"])
    jobs.run_jobs()
    assert ana.post(f"jobs/{job.id}/approve", {"reason": "me too"}).status_code == 409
    assert bob.post(f"jobs/{job.id}/approve", {"reason": "looked"}).json()["status"] == "running"
    assert run_to_the_end(job).done == 1
    assert ana.post(f"sagas/{running()[0].id}/terminate", {"reason": "x"}).status_code == 409


@pytest.mark.parametrize(
    "body",
    [
        {"action": "cancel", "reason": "x"},
        {"action": "cancel", "ids": ["x"], "reason": "x"},
        {"action": "cancel", "ids": [], "reason": "x"},
        {"action": "cancel", "filter": {}, "ids": ["x"], "reason": "x"},
        {"action": "cancel", "filter": {"color": "red"}, "reason": "x"},
        {"action": "cancel", "filter": {"status": {"$ne": 1}}, "reason": "x"},
        {"action": "cancel", "filter": "all", "reason": "x"},
        {"action": "cancel", "filter": {"status": "STARTED"}},
        {"action": "cancel", "filter": {"status": "STARTED"}, "reason": " "},
        {"action": "cancel", "filter": {"status": "STARTED"}, "reason": "x", "rate": -1},
        {"action": "cancel", "filter": {"status": "STARTED"}, "reason": "x", "canary": -1},
        {"action": "cancel", "filter": {"status": "STARTED"}, "reason": "x", "values": {"lane": "a"}},
        {"action": "cancel", "filter": {"status": "STARTED"}, "reason": "x", "values": ["a"]},
        {"action": "cancel", "filter": {"status": "STARTED"}, "reason": "x", "unknown": 1},
        {"action": "pause_publishing", "filter": {}, "reason": "x"},
        {"action": "attach", "ids": ["x"], "values": {"saga": "a\x00b"}, "reason": "x"},
    ],
)
def test_a_wrong_body_makes_no_job(body: dict[str, Any]) -> None:
    running()
    answer = Api(User.objects.create_superuser("ana", "a@x.org", "x")).post("jobs", body)
    assert answer.status_code == 400, answer.content
    assert not Job.objects.filter(started_at__isnull=False).exists()


def test_a_job_that_there_is_not() -> None:
    api = Api(login("ana", *RIGHTS))
    for name in ("x", "0198c0de-0000-7000-8000-000000000001"):
        assert api.get(f"jobs/{name}").status_code == 404
        assert api.get(f"jobs/{name}/items").status_code == 404
        assert api.post(f"jobs/{name}/stop", {"reason": "x"}).status_code == 404


# --- rights -----------------------------------------------------------------------------------------------------------

API_POSTS = ("start", "approve", "pause", "resume", "stop")


def test_without_a_login_no_job_is_seen_or_made() -> None:
    job = made(Action.CANCEL, [running()[0].id])
    api = Api()
    assert {api.get(path).status_code for path in ("jobs", f"jobs/{job.id}", f"jobs/{job.id}/items")} == {401}
    assert {api.post(f"jobs/{job.id}/{name}", {"reason": "x"}).status_code for name in API_POSTS} == {401}


@pytest.mark.parametrize("missing", RIGHTS)
def test_each_right_is_needed_at_each_door(missing: str) -> None:
    """To make and decide: the right to the decision, to see its items, and to jobs. To look: the right to see jobs."""
    rights = [right for right in RIGHTS if right != missing]
    user = login("vera", *rights)
    api, client = Api(user), Client()
    client.force_login(user)
    saga, _images = running()
    job = made(Action.CANCEL, [saga.id], by=request(actor="ana"))
    jobs.run_jobs()

    looks = [api.get("jobs"), api.get(f"jobs/{job.id}"), api.get(f"jobs/{job.id}/items")]
    looks += [client.get(reverse("admin:sagas_job_changelist")), client.get(page(job))]
    assert {answer.status_code for answer in looks} == ({403} if missing == "sagas.view_job" else {200})

    body = {"action": "cancel", "ids": [str(saga.id)], "reason": "x"}
    # Who may not see jobs may still make one.
    assert api.post("jobs", body).status_code == (202 if missing == "sagas.view_job" else 403)
    decided = [api.post(f"jobs/{job.id}/{name}", {"reason": "x"}).status_code for name in API_POSTS]
    decided += [client.get(decide(job, name)).status_code for name in API_POSTS]
    decided += [client.post(decide(job, name), {"reason": "x"}).status_code for name in API_POSTS]
    if missing in ("sagas.operate_saga", "sagas.run_job"):
        assert set(decided) == {403}
        assert now(job).status == JobStatus.PREPARED
        assert "/start/" not in client.get(page(job)).content.decode()
    new = client.post(reverse("admin:sagas_job_new", args=["cancel"]), {"status": "STARTED"})
    assert new.status_code == (302 if missing == "sagas.view_job" else 403)


def test_the_list_of_sagas_offers_jobs_only_to_those_who_may_make_them() -> None:
    many(2)
    ids = [str(pk) for pk in SagaLog.objects.values_list("id", flat=True)]
    listed = reverse("admin:sagas_sagalog_changelist")
    client = staff("vera", "sagas.view_sagalog", "sagas.operate_saga")
    answer = client.post(listed, {"action": "terminate_chosen", "_selected_action": ids, "index": 0})
    assert not Job.objects.exists()
    assert "terminate_chosen" not in client.get(listed).content.decode()
    assert answer.status_code in (200, 302)


def test_a_large_selection_without_the_right_to_jobs_says_so(settings: Any) -> None:
    settings.SAGA_JOB_FROM = 1
    failed(3)
    ids = [str(pk) for pk in Command.objects.values_list("id", flat=True)]
    client = staff("vera", "sagas.view_sagalog", "sagas.operate_saga", "compensation.view_command")
    listed = reverse("admin:compensation_command_changelist")
    answer = client.post(listed, {"action": "skip_chosen", "_selected_action": ids, "index": 0}, follow=True)
    assert "More than 1 at once are a job, for which you lack the permission." in text_of(answer)
    assert not Job.objects.exists()


# --- the admin --------------------------------------------------------------------------------------------------------


def test_a_selection_becomes_a_job_that_is_started_on_its_page() -> None:
    client = staff()
    sagas = [*many(2), completed()[0]]
    listed = reverse("admin:sagas_sagalog_changelist")
    ids = [str(saga.id) for saga in sagas]
    answer = client.post(listed, {"action": "cancel_chosen", "_selected_action": ids, "index": 0})
    job = Job.objects.get()
    assert answer["Location"] == page(job)
    assert (job.total, job.selection) == (3, {"ids": 3})

    shown = client.get(page(job))
    assert shown["Refresh"] == "5"
    assert "The items are being checked." in text_of(shown)
    jobs.run_jobs()
    shown = client.get(page(job))
    assert "Refresh" not in shown
    assert "2 of 3 items are eligible." in text_of(shown)
    assert "Start with 2 items" in text_of(shown)
    assert "the saga is COMPLETED and no longer running" in text_of(shown)

    fields = {"reason": "outage", "rate": "50", "canary": "", "request_key": "k"}
    assert client.post(decide(job, "start"), fields)["Location"] == page(job)
    assert client.get(page(job))["Refresh"] == "5"
    run_to_the_end(job)
    shown = client.get(page(job), {"status": "done"})
    assert "Done: 2 of 2 eligible items were handled." in text_of(shown)
    assert "<progress" in shown.content.decode()
    decision = reverse("admin:sagas_decision_change", args=[Decision.objects.filter(job=job.id, action="cancel")[0].id])
    assert decision in shown.content.decode()
    assert page(job) in client.get(decision).content.decode()
    assert (job.rate, job.actor, job.door, job.reason) == (50, "ana", "admin", "outage")


def test_all_that_match_the_filters_of_a_list_become_a_job(settings: Any) -> None:
    client = staff()
    many(3)
    completed()
    listed = f"{reverse('admin:sagas_sagalog_changelist')}?status=STARTED"
    form = client.get(listed).content.decode()
    assert "Decide on all that match, as a job" in form
    first = str(SagaLog.objects.filter(status="STARTED")[0].id)
    sent = {"action": "terminate_chosen", "_selected_action": first, "index": 0, "select_across": "1"}
    client.post(listed, sent)
    job = Job.objects.get()
    assert (job.total, job.selection) == (3, {"filter": {"status": "STARTED"}})
    assert "status = STARTED" in text_of(client.get(page(job)))


def test_few_are_still_decided_on_at_their_page() -> None:
    client = staff()
    failed(3)
    ids = [str(pk) for pk in Command.objects.values_list("id", flat=True)]
    listed = reverse("admin:compensation_command_changelist")
    answer = client.post(listed, {"action": "skip_chosen", "_selected_action": ids, "index": 0})
    assert (answer.status_code, Job.objects.count()) == (200, 0)
    assert 'name="confirm"' in answer.content.decode()


def test_one_saga_is_decided_on_at_its_page() -> None:
    client = staff()
    saga, _images = running()
    listed = reverse("admin:sagas_sagalog_changelist")
    answer = client.post(listed, {"action": "cancel_chosen", "_selected_action": str(saga.id), "index": 0})
    assert str(saga.id) in answer.content.decode()
    assert 'name="confirm"' in answer.content.decode()


def test_more_commands_than_a_page_takes_become_a_job(settings: Any) -> None:
    settings.SAGA_JOB_FROM = 2
    client = staff()
    failed(3)
    ids = [str(pk) for pk in Command.objects.values_list("id", flat=True)]
    listed = reverse("admin:compensation_command_changelist")
    client.post(listed, {"action": "withdraw_chosen", "_selected_action": ids, "index": 0})
    assert Job.objects.get().total == len(ids) > 2

    address = reverse("admin:sagas_decision_decide", args=["withdraw"])
    fields = {"ids": " ".join(ids), "reason": "x", "confirm": "1"}
    assert client.post(address, fields).status_code == 400
    cut_over = {"planned_before": timezone.now().strftime("%Y-%m-%d %H:%M:%S"), "reason": "x", "confirm": "1"}
    Command.objects.update(planned_at=timezone.now() - timedelta(hours=1))
    assert client.post(address, cut_over).status_code == 302
    assert Job.objects.count() == 2
    assert not Decision.objects.exists()


def test_messages_and_unmatched_events_become_jobs_too() -> None:
    client = staff()
    rows = [quarantined() for _ in range(2)]
    parked()
    listed = reverse("admin:bridge_quarantined_changelist")
    sent = {"action": "requeue_chosen", "_selected_action": [str(row.pk) for row in rows], "index": 0}
    client.post(listed, sent)
    requeue = Job.objects.get()

    assert "Decide on all that match, as a job" in client.get(reverse("admin:sagas_parked_changelist")).content.decode()
    client.post(reverse("admin:sagas_job_new", args=["dismiss"]), {"dismissed": "no"})
    dismiss = Job.objects.exclude(id=requeue.id).get()
    jobs.run_jobs()
    for job in (requeue, dismiss):
        client.post(decide(job, "start"), {"reason": "x", "request_key": str(job.id)})
        run_to_the_end(job)
        assert client.get(page(job)).status_code == 200
    assert (now(requeue).done, now(dismiss).done) == (2, 2)
    assert not Parked.objects.filter(dismissed_at=None).exists()


def test_a_job_is_paused_resumed_and_stopped_on_its_page() -> None:
    client = staff()
    job = started(Action.CANCEL, [saga.id for saga in many(2)], rate=0.001)
    jobs.run_jobs()
    for name, status in (("pause", "paused"), ("resume", "running"), ("stop", "stopped")):
        assert decide(job, name) in client.get(page(job)).content.decode()
        assert client.get(decide(job, name)).status_code == 200
        assert client.post(decide(job, name), {"reason": " ", "request_key": name}).status_code == 400
        answer = client.post(decide(job, name), {"reason": f"because {name}", "rate": "0.001", "request_key": name})
        assert answer.status_code == 302
        assert now(job).status == status
        assert f"because {name}" in text_of(client.get(page(job)))
    assert client.post(decide(job, "stop"), {"reason": "x", "request_key": "z"}).status_code == 409
    # The same press again is answered as the first was.
    again = client.post(decide(job, "pause"), {"reason": "because pause", "request_key": "pause"}, follow=True)
    assert "Nothing was done a second time." in text_of(again)


def test_terminating_waits_for_a_second_person_in_the_admin(settings: Any) -> None:
    settings.SAGA_FOUR_EYES_FROM = 1000
    ana, bob = staff("ana"), staff("bob")
    saga, _images = running()
    address = reverse("admin:sagas_decision_decide", args=["terminate"])
    assert 'name="confirm"' in ana.get(address, {"saga": str(saga.id)}).content.decode()
    answer = ana.post(address, {"saga": saga.id, "reason": "lost", "confirm": "1", "request_key": "k"})
    job = Job.objects.get()
    assert answer["Location"] == page(job)
    jobs.run_jobs()
    assert "Another person with the right to it must approve it first." in text_of(ana.get(page(job)))
    assert ana.post(decide(job, "approve"), {"reason": "x", "request_key": "1"}).status_code == 409
    assert bob.post(decide(job, "approve"), {"reason": "looked", "request_key": "1"}).status_code == 302
    run_to_the_end(job)
    assert SagaLog.objects.get().state
    assert (job.done, job.approved_by) == (1, "bob")


def test_nobody_finds_a_job_that_there_is_not() -> None:
    client = staff()
    job = made(Action.CANCEL, [running()[0].id])
    assert client.get(decide(job, "jump")).status_code == 404
    assert client.get(decide(Job(id=SagaLog.objects.get().id), "stop")).status_code == 404
    assert client.get(reverse("admin:sagas_job_new", args=["cancel"])).status_code == 404
    assert client.post(reverse("admin:sagas_job_new", args=["fly"])).status_code == 404


def test_a_page_of_a_job_takes_as_many_queries_for_many_items_as_for_few() -> None:
    client = staff()
    api = Api(User.objects.create_superuser("eva", "e@x.org", "x"))
    few, more = started(Action.CANCEL, [saga.id for saga in many(2)]), started(Action.CANCEL, [s.id for s in many(60)])
    run_to_the_end(more)
    run_to_the_end(few)
    found = []
    for job in (few, more, more):
        counts = []
        for address in (page(job), reverse("admin:sagas_job_changelist")):
            with CaptureQueriesContext(connection) as captured:
                assert client.get(address).status_code == 200
            counts.append(len(captured))
        for path in ("jobs", f"jobs/{job.id}", f"jobs/{job.id}/items"):
            with CaptureQueriesContext(connection) as captured:
                assert api.get(path).status_code == 200
            counts.append(len(captured))
        found.append(counts)
    assert found[1] == found[2]
    assert all(many_ <= few_ + 1 for few_, many_ in zip(found[0], found[1], strict=True)), found
    assert max(found[1]) <= 14, found


def test_the_pages_of_jobs_are_in_spanish_too() -> None:
    client = staff()
    client.cookies["django_language"] = "es"
    job = made(Action.CANCEL, [running()[0].id, completed()[0].id])
    jobs.run_jobs()
    shown = text_of(client.get(page(job)))
    assert "Start with" not in shown
    assert "eligible" not in shown
    assert "the saga is" not in shown


# --- the command line -------------------------------------------------------------------------------------------------


@pytest.fixture
def working(monkeypatch: pytest.MonkeyPatch) -> None:
    """While the command waits, a worker works."""
    monkeypatch.setattr(run_job.Command, "sleep", staticmethod(lambda seconds: jobs.run_jobs()))


@pytest.mark.usefixtures("working")
def test_a_saga_may_be_named_by_its_key() -> None:
    [saga] = many(1)
    assert run("run_job", "cancel", saga.key, str(saga.id), "--reason", "outage", "--yes").code == 0
    assert Job.objects.get().items.get().target == str(saga.id)
    assert run("run_job", "cancel", "no such task", "--reason", "outage", "--yes").code != 0
    assert Job.objects.count() == 1


@pytest.mark.usefixtures("working")
def test_a_job_by_the_command_line_waits_until_it_is_done() -> None:
    sagas = [*many(2), completed()[0]]
    found = run("run_job", "cancel", *(saga.id for saga in sagas), "--reason", "outage", "--yes", "--actor", "cli:eva")
    job = Job.objects.get()
    assert (found.code, job.status, job.done) == (1, JobStatus.DONE, 2)  # one was not eligible
    assert f"Job {job.id}: 3 items." in found.err
    assert "[" in found.err
    assert "2 of 2 eligible, 2 done, 1 not eligible" in found.out
    assert {one.actor for one in Decision.objects.filter(job=job.id)} == {"cli:eva"}

    found = run("run_job", "terminate", "--where", "status=COMPENSATING", "--reason", "x", "--yes", "--json")
    assert (found.code, found.data["done"], found.data["selection"]) == (0, 2, {"filter": {"status": "COMPENSATING"}})


@pytest.mark.usefixtures("working")
def test_a_person_is_asked_after_the_check(monkeypatch: pytest.MonkeyPatch) -> None:
    many(2)
    monkeypatch.setattr("sys.stdin", Typed("n\n"))
    found = run("run_job", "cancel", "--all", "--reason", "x")
    assert (found.code, Job.objects.get().status) == (1, JobStatus.PREPARED)
    assert "Start with 2 items?" in found.err
    monkeypatch.setattr("sys.stdin", Typed("y\n"))
    assert run("run_job", "cancel", "--all", "--reason", "x").code == 0


@pytest.mark.usefixtures("working")
def test_a_dry_run_only_checks() -> None:
    many(2)
    found = run("run_job", "cancel", "--all", "--dry-run")
    assert (found.code, Job.objects.get().status) == (0, JobStatus.PREPARED)
    assert not Decision.objects.exists()


def test_an_interrupted_command_leaves_the_job_running(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(run_job.Command, "sleep", staticmethod(interrupt))
    many(2)
    found = run("run_job", "cancel", "--all", "--reason", "x", "--yes")
    job = Job.objects.get()
    assert found.code == 1
    assert f"The job goes on: manage.py jobs {job.id}" in found.err
    run_to_the_end(job)
    assert job.done == 2


@pytest.mark.usefixtures("working")
def test_the_command_line_waits_for_nobodys_approval(settings: Any) -> None:
    settings.SAGA_FOUR_EYES_FROM = 2
    many(2)
    found = run("run_job", "cancel", "--all", "--reason", "x", "--yes")
    assert found.code == 4
    assert "Another person must approve it" in found.err


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("cancel", "--all"), 2),
        (("cancel", "--all", "--reason", "x"), 2),
        (("cancel", "x", "--reason", "x", "--yes"), 3),
        (("cancel", "x", "--all", "--reason", "x", "--yes"), 2),
        (("cancel", "--where", "status", "--reason", "x", "--yes"), 2),
        (("cancel", "--where", "status=FOO", "--reason", "x", "--yes"), 2),
        (("cancel", "--all", "--rate", "-1", "--reason", "x", "--yes"), 2),
        (("close_retrieval", "--all", "--set", "images=many", "--reason", "x", "--yes"), 2),
        (("attach", "--all", "--set", "saga=nobody", "--reason", "x", "--yes"), 3),
    ],
)
def test_a_wrong_call_makes_no_job(words: tuple[str, ...], code: int) -> None:
    running()
    assert run("run_job", *words).code == code
    assert not Job.objects.exists()


def test_jobs_are_listed_shown_and_decided_on(settings: Any) -> None:
    _saga, commands = exhausted(settings, 2)
    job = made(Action.RETRY, [command.id for command in commands])
    jobs.run_jobs()
    assert str(job.id) in run("jobs").out
    assert run("jobs", "--status", "running", "--json").out == ""
    assert run("jobs", "--json").data["status"] == "prepared"
    assert run("jobs", job.id, "--start").code == 2
    assert run("jobs", "--stop").code == 2
    assert run("jobs", "x").code == 3
    assert run("jobs", job.id, "--start", "--rate", "0.001", "--reason", "x").code == 0
    assert run("jobs", job.id, "--pause", "--reason", "x").code == 0
    assert run("jobs", job.id, "--pause", "--reason", "x").code == 4
    assert run("jobs", job.id, "--resume", "--rate", "0", "--reason", "x").code == 0
    run_to_the_end(job)
    found = run("jobs", job.id, "--items", "done", "--json")
    assert [json.loads(line).get("status") for line in found.out.splitlines()] == ["done", "done", "done"]
    assert "job_pause by" in run("jobs", job.id, "--items", JobItemStatus.DONE).out


def test_every_action_of_the_registry_is_offered_at_each_door() -> None:
    names = {spec.name for spec in actions.in_jobs()}
    assert names == set(actions.ACTIONS) - {"pause_publishing", "resume_publishing"}
    parser = run_job.Command().create_parser("manage.py", "run_job")
    offered = next(one.choices for one in parser._actions if one.dest == "action")
    assert set(offered or ()) == names
