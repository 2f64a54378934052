"""One registry of decisions: every entry point offers the same ones, and refuses each for the same reason."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from types import ModuleType
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import ManagementUtility, get_commands
from django.test import Client, override_settings
from django.urls import include, path, reverse
from django.utils import timezone
from django.utils.translation import gettext_lazy
from drf_spectacular.generators import SchemaGenerator

from bridge.models import Event, Quarantined, QuarantineStatus
from compensation import switches
from compensation.models import Breaker, BreakerState, Command, Switch
from sagaproject import urls as root
from sagas import actions, nouns, targets
from sagas.actions import (
    ACTIONS,
    Action,
    ActionRequest,
    ActionResult,
    ActionSpec,
    BreakerView,
    CommandView,
    EventView,
    Field,
    FieldKind,
    KeyView,
    MessageView,
    NothingToDo,
    OneLaneView,
    SwitchView,
    Target,
    WholeSagaView,
)
from sagas.actions.action import ActionContext, carry_out, routing_key, saga_row
from sagas.actions.on_saga import current
from sagas.api.urls import decision_patterns
from sagas.engine import facts as kinds
from sagas.errors import DecisionError
from sagas.management import derived_commands
from sagas.management.cli_base import sentence
from sagas.models import Decision, Lane, Parked, SagaLog, SagaStatusChoice
from tests.integration.api import BASE, user
from tests.integration.decided import completed, quarantined, running
from tests.integration.terminal import run
from tests.integration.test_admin_buttons import a_failed_saga, a_saga, parked_worlds

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(600)]

DRY = ActionRequest(actor="ana", door="admin", dry_run=True)


@pytest.fixture
def staff() -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("ana", "ana@example.org", "x"))
    return client


# --- the entry points agree -------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Ask:
    """One decision on one target, as each entry point names it. `moot`: it is accepted and changes nothing."""

    view: Any
    action: str
    values: Mapping[str, Any]
    page: Mapping[str, Any]
    path: str
    words: tuple[Any, ...]
    body: Mapping[str, Any] = field(default_factory=dict)

    @property
    def spec(self) -> ActionSpec:
        return ACTIONS[self.action]


def on_saga(saga: SagaLog) -> Iterator[Ask]:
    lanes = [None, *Lane.objects.select_related("saga").filter(saga=saga, known=True)]
    for spec in actions.of_target(Target.SAGA):
        for lane in lanes:
            view = WholeSagaView(saga) if lane is None else OneLaneView(saga, lane)
            if not isinstance(view, spec.on):
                continue
            named = {"lane": lane.entity} if lane else {}
            chosen = {spec.only_with: True} if spec.only_with else {}
            needed = {own.name: 999 for own in spec.fields if own.required}  # all of them are numbers
            words = ["--image", lane.entity] if lane else []
            words += [str(word) for own in spec.fields if own.required for word in (own.option, 999)]
            yield Ask(
                view=view,
                action=spec.name,
                values={"saga": saga.id, **named, **chosen, **needed},
                page={"saga": saga.id, **named, **needed},
                path=f"sagas/{saga.id}/{spec.slug}",
                body={**named, **chosen, **needed},
                words=(saga.id, *words, *(["--apply"] if chosen else [])),
            )


def on_commands(saga: SagaLog) -> Iterator[Ask]:
    for command in Command.objects.filter(saga_id=saga.id):
        for spec in actions.of_target(Target.COMMANDS):
            yield Ask(
                view=CommandView(command, saga),
                action=spec.name,
                values={"command": command.id},
                page={"ids": command.id},
                path=f"commands/{command.id}/{spec.slug}",
                words=(command.id,),
            )


def on_parked(key: str, saga: SagaLog) -> Iterator[Ask]:
    rows = list(Parked.objects.filter(key=key))
    if not rows:
        return
    stream = rows[0].stream
    use = actions.uses_of_keys([(stream, key)])[stream, key]
    waits = any(row.dismissed_at is None for row in rows)
    target, given, words = {"key": key}, {"saga": str(saga.id)}, ("--key", key)
    page = {"stream": stream, **target}
    yield Ask(
        view=KeyView(use=use, saga=saga, waits=waits),
        action=Action.ATTACH,
        values={**target, "saga": saga.id},
        page={**page, **given},
        path="parked/attach",
        body={**target, **given},
        words=(*words, "--saga", saga.id),
    )
    whole = KeyView(use=use, waits=waits)
    yield Ask(view=whole, action=Action.ADOPT, values=target, page=page, path="parked/adopt", body=target, words=(key,))
    yield Ask(
        view=whole, action=Action.DISMISS, values=target, page=page, path="parked/dismiss", body=target, words=words
    )
    for row in rows:
        yield from on_event(row, saga)


def on_event(row: Parked, saga: SagaLog) -> Iterator[Ask]:
    event = Event.objects.get(pk=row.event)
    lane = Lane.objects.filter(saga=saga, known=True)[0].entity
    target, words = {"event": event.event_id}, ("--event", event.event_id)
    given = {"saga": str(saga.id), "lane": event.entity or lane}
    page = {"stream": row.stream, **target}
    if not event.entity or Lane.objects.filter(saga=saga, entity=event.entity, known=True).exists():
        yield Ask(
            view=EventView(row=row, saga=saga),
            action=Action.ATTACH,
            values={**target, **given},
            page={**page, **given},
            path="parked/attach",
            body={**target, **given},
            words=(*words, "--saga", saga.id, "--image", given["lane"]),
        )
    view = EventView(row=row)
    yield Ask(
        view=view, action=Action.DISMISS, values=target, page=page, path="parked/dismiss", body=target, words=words
    )


def on_message(row: Quarantined) -> Iterator[Ask]:
    for spec in actions.of_target(Target.MESSAGE):
        target = {"message": row.pk}
        where = f"quarantine/{row.pk}/{spec.slug}"
        yield Ask(view=MessageView(row), action=spec.name, values=target, page=target, path=where, words=(row.pk,))


def on_publishing(service: str | None) -> Iterator[Ask]:
    current_ = switches.read()
    target = {"service": service} if service else {}
    for spec in actions.of_target(Target.PUBLISHING):
        for only in ("switch", "breaker") if service and not spec.fixed["paused"] else (None,):
            view = BreakerView(service or "", current_) if only == "breaker" else SwitchView(service, current_)
            named = {**target, "only": only} if only else target
            yield Ask(
                view=view,
                action=spec.name,
                values=named,
                page=named,
                path="publishing",
                body={**spec.fixed, **named},
                words=(*(["--service", service] if service else []), *(["--only", only] if only else [])),
            )


def check(ask: Ask, staff: Client) -> str:
    """Hold all entry points against `allowed`; return why it is refused, empty if it is not."""
    spec = ask.spec
    why = spec.allowed(ask.view)
    refused = "" if why is None or isinstance(why, NothingToDo) else str(why)
    about = (ask.action, ask.view)
    assert (spec in actions.possible(ask.view)) == (why is None), about

    # execution
    outcome: ActionResult | None = None
    found = ""
    try:
        outcome = spec.decide(ask.values, DRY)
    except DecisionError as error:
        found = str(error)
    assert found == refused, about
    if isinstance(why, NothingToDo):
        assert outcome is not None
        assert not outcome.effects.get("changed"), about
        assert not outcome.effects.get("events"), about

    # the API
    answer = staff.post(f"{BASE}{ask.path}", {**ask.body, "dry_run": True}, "application/json")
    expected = (409, refused) if refused else (200, "")
    assert (answer.status_code, answer.json().get("detail", "")) == expected, about

    # the command
    ran = run(spec.command, *ask.words, "--dry-run")
    if refused:
        assert (ran.code, sentence(DecisionError(refused)) in ran.err) == (4, True), (about, ran)
    else:
        assert ran.code in ((0, 1) if spec.only_with else (0,)), (about, ran)

    # the page
    page = staff.get(reverse("admin:sagas_decision_decide", args=[spec.name]), ask.page)
    preview = page.context["preview"]
    assert bool(preview.refused) == bool(refused), about
    assert page.context["confirmable"] != bool(refused), about
    if refused and " by " not in preview.refused.sentence:  # else it names the person who decided before
        assert preview.refused.sentence == refused, about
    return refused


@pytest.mark.parametrize("seed", range(14))
def test_all_entry_points_agree_on_sagas_lanes_and_commands(seed: int, staff: Client) -> None:
    saga = a_saga(seed)
    SagaLog.objects.filter(id=saga.id).update(error_message="tampered")  # a replay has something to rebuild
    saga.refresh_from_db()
    for ask in (*on_saga(saga), *on_commands(saga)):
        check(ask, staff)


def test_all_entry_points_agree_on_a_terminated_saga(staff: Client) -> None:
    """What was decided before is in the state, and every entry point reads it there."""
    saga = a_failed_saga()
    actions.get(Action.TERMINATE).decide({"saga": saga.id}, ActionRequest(actor="ana", door="api", reason="because"))
    saga.refresh_from_db()
    SagaLog.objects.filter(id=saga.id).update(error_message="tampered")
    found = {ask.action: check(ask, staff) for ask in (*on_saga(saga), *on_commands(saga))}
    assert found[Action.SKIP]
    assert found[Action.TERMINATE]


def test_all_entry_points_agree_on_many_sagas(staff: Client) -> None:
    """Exactly those are left out for which the decision on one is refused, each with its reason."""
    chosen = [a_saga(seed) for seed in range(14)]
    SagaLog.objects.filter(id=chosen[0].id).update(set_aside_at=timezone.now(), set_aside_error="KeyError")
    sagas = list(SagaLog.objects.filter(id__in=[saga.id for saga in chosen]))
    ids = [str(saga.id) for saga in sagas]
    for spec in actions.on_many_sagas():
        refused = {str(saga.id): spec.refusal(WholeSagaView(saga)) for saga in sagas}
        left_out = {identity: why for identity, why in refused.items() if why}
        assert 0 < len(left_out) < len(ids), spec.name
        own = {field.name: 999 for field in spec.fields if field.required}  # all of them are numbers

        def reasons(effects: Mapping[str, Any]) -> dict[str, str]:
            return {line["id"]: line["reason"] for line in effects["not_eligible"]}

        assert reasons(spec.decide({"ids": ids, **own}, DRY).effects) == left_out

        body = {"action": spec.slug, "ids": ids, **own, "dry_run": True}
        answer = staff.post(f"{BASE}sagas/decide", body, "application/json")
        assert (answer.status_code, reasons(answer.json()["effects"])) == (200, left_out)

        picked = {"action": f"{spec.name}_chosen", "_selected_action": ids}
        page = staff.post(reverse("admin:sagas_sagalog_changelist"), picked)
        assert page.status_code == 200
        asked = page.context["form"].initial["ids"]
        assert sorted(asked.split()) == sorted(ids)
        shown = staff.get(reverse("admin:sagas_decision_decide", args=[spec.name]), {"ids": asked, **own})
        assert reasons(shown.context["preview"].outcome.effects) == left_out
        assert shown.context["target"] == [("Sagas", str(len(ids)))]


@pytest.mark.parametrize("blocked", [False, True])
@pytest.mark.parametrize("status", ["", *SagaStatusChoice.values])
def test_the_list_of_sagas_offers_what_some_saga_with_its_filters_accepts(
    status: str, blocked: bool, staff: Client
) -> None:
    for one in SagaStatusChoice.values:
        for at in (None, timezone.now()):
            saga = running()[0]
            # No service has reported the end of its retrieval.
            SagaLog.objects.filter(id=saga.id).update(status=one, set_aside_at=at, state={})
    found = SagaLog.objects.filter(**({"status": status} if status else {}))
    if blocked:
        found = found.filter(set_aside_at__isnull=False)
    page = staff.get(
        reverse("admin:sagas_sagalog_changelist"),
        {**({"status": status} if status else {}), **({"set_aside": "yes"} if blocked else {})},
    ).content.decode()
    shown = set(re.findall(r'value="(\w+)_chosen"', page))
    views = [WholeSagaView(saga) for saga in found]
    specs = actions.of_target(Target.SAGA)
    assert shown == {spec.name for spec in specs if any(not spec.refusal(view) for view in views)}


@pytest.mark.parametrize("blocked", [False, True])
@pytest.mark.parametrize("dismissed", [False, True])
def test_all_entry_points_agree_on_unmatched_events(blocked: bool, dismissed: bool, staff: Client) -> None:
    for key, saga in parked_worlds():
        if blocked:
            SagaLog.objects.filter(id=saga.id).update(set_aside_at=timezone.now(), set_aside_error="KeyError")
        Parked.objects.filter(key=key).update(dismissed_at=timezone.now() if dismissed else None)
        for ask in on_parked(key, SagaLog.objects.get(id=saga.id)):
            check(ask, staff)


@pytest.mark.parametrize("readable", [False, True])
@pytest.mark.parametrize("status", QuarantineStatus.values)
def test_all_entry_points_agree_on_messages(readable: bool, status: str, staff: Client) -> None:
    row = quarantined(None if readable else b"{")
    if status != QuarantineStatus.OPEN:
        Quarantined.objects.filter(pk=row.pk).update(status=status, decided_at=timezone.now(), decided_by="ana")
    for ask in on_message(Quarantined.objects.get(pk=row.pk)):
        check(ask, staff)


@pytest.mark.parametrize("everything", [False, True])
@pytest.mark.parametrize("one", [False, True])
@pytest.mark.parametrize("tripped", [False, True])
def test_all_entry_points_agree_on_sending(everything: bool, one: bool, tripped: bool, staff: Client) -> None:
    switches.read()
    service = actions.services()[0]
    for name, paused in (("*", everything), (service, one)):
        Switch.objects.update_or_create(service=name, defaults={"paused": paused, "changed_at": timezone.now()})
    if tripped:
        numbers: dict[str, Any] = {"planned": 9, "allowed": 1, "cause": "planned"}
        Breaker.objects.create(service=service, state=BreakerState.OPEN, changed_at=timezone.now(), **numbers)
    for known in (None, *actions.services()):
        for ask in on_publishing(known):
            check(ask, staff)


# --- what a spec must declare -----------------------------------------------------------------------------------------


def test_names_commands_and_facts_are_unique() -> None:
    specs = list(ACTIONS.values())
    assert set(ACTIONS) == set(Action)
    for names in ([spec.command for spec in specs], [spec.fact for spec in specs if spec.fact]):
        assert len(set(names)) == len(names)
    addresses = [(spec.target, spec.slug) for spec in specs]
    assert len(set(addresses)) == len(addresses)


def test_what_the_log_records_is_a_fact_of_our_own() -> None:
    known = {value for name, value in vars(kinds).items() if name.isupper() and isinstance(value, str)}
    assert {spec.fact for spec in ACTIONS.values() if spec.fact} <= known


@pytest.mark.parametrize("name", list(Action))
def test_every_decision_has_a_page_an_address_and_a_command(name: str, staff: Client) -> None:
    spec = ACTIONS[name]
    assert staff.get(reverse("admin:sagas_decision_decide", args=[name])).status_code == 200
    assert get_commands()[spec.command] == "sagas"
    shared = {Target.PUBLISHING: "/publishing"}.get(spec.target, f"/{spec.slug}")
    assert any(one.endswith(shared) and "post" in found for one, found in _schema().items())
    assert spec.label_on(None, nouns.shared()) == actions.label_of(name)


def test_the_audit_has_no_list_of_decisions_in_the_database() -> None:
    assert Decision._meta.get_field("action").choices is None


def _schema(urlconf: Any = None) -> dict[str, Any]:
    schema = SchemaGenerator(urlconf=urlconf).get_schema(request=None, public=True)  # type: ignore[no-untyped-call]
    paths: dict[str, Any] = schema["paths"]
    return paths


# --- a new decision: a spec, its rule and effect, and nothing else ----------------------------------------------------


def may_count(view: WholeSagaView) -> str | None:
    return None if view.saga.status == SagaStatusChoice.STARTED else "the saga runs no longer"


def count(spec: ActionSpec, values: Mapping[str, Any], request: ActionRequest) -> ActionResult:
    saga = saga_row(values["saga"])

    def work(context: ActionContext) -> None:
        spec.check(WholeSagaView(current(context, saga)))
        context.effects["counted"] = values["images"]

    locks = [routing_key(saga)]
    return carry_out(spec.name, targets.of_saga(saga.id, saga.saga_type), request, work, locks=locks, saga_id=saga.id)


COUNT = ActionSpec(
    name="count_images",
    target=Target.SAGA,
    on=(WholeSagaView,),
    allowed=may_count,
    effect=count,
    fields=(
        Field(
            name="images",
            kind=FieldKind.NUMBER,
            required=True,
            label=gettext_lazy("Images"),
            help="How many images there are.",
            api_help="how many images there are",
            option="--images",
            option_help="how many images there are",
        ),
    ),
    destructive=True,
    label="count images",
    title="Count images",
    button="Count them",
    consequence="Counts the images by hand.",
    sentence="Counted by %(actor)s: %(reason)s",
    description="Count the images of a saga.",
    command="count_images",
    command_help="Count the images of a saga.",
)


@contextmanager
def registered(spec: ActionSpec) -> Iterator[ModuleType]:
    """The registry with one decision more; the addresses and commands are those of a process started with it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ACTIONS, spec.name, spec)
        derived_commands.install()
        urlconf = ModuleType("tests.integration.counting_urls")
        patterns = [path(BASE.strip("/") + "/", include(decision_patterns())), *root.urlpatterns]
        vars(urlconf).update({**vars(root), "urlpatterns": patterns})
        with override_settings(ROOT_URLCONF=urlconf):
            yield urlconf
    get_commands().pop(spec.command)
    sys.modules.pop(f"{derived_commands.COMMANDS}.{spec.command}")


@pytest.fixture
def counting() -> Iterator[ModuleType]:
    with registered(COUNT) as urlconf:
        yield urlconf


def test_a_new_decision_is_everywhere(counting: ModuleType, staff: Client) -> None:
    saga = running()[0]
    here = reverse("admin:sagas_decision_decide", args=[COUNT.name])

    # its button and its form
    button = staff.get(reverse("admin:sagas_sagalog_change", args=[saga.id])).content.decode()
    assert f'href="{here}?saga={saga.id}"' in button
    assert "Count images…" in button
    page = staff.get(f"{here}?saga={saga.id}&images=3").content.decode()
    for text in ("Counts the images by hand.", "How many images there are.", "Count them", 'type="number"'):
        assert text in page, text
    given = {"saga": saga.id, "images": 0, "reason": "looked", "confirm": 1}
    assert staff.post(here, {**given, "images": ""}).status_code == 400
    assert staff.post(here, given).status_code == 302

    # its route and its operation
    address = f"{BASE}sagas/{saga.id}/count-images"
    assert staff.post(address, {"reason": "looked"}, "application/json").json()["errors"].keys() == {"images"}
    answer = staff.post(address, {"images": 4, "reason": "looked"}, "application/json")
    assert (answer.status_code, answer.json()["effects"]) == (202, {"counted": 4})
    operation = _schema(counting)[f"{BASE}sagas/{{saga_id}}/count-images"]["post"]
    assert operation["description"] == COUNT.description
    assert "CountImagesSaga" in str(operation["requestBody"])

    # its command
    ran = run(COUNT.command, saga.key, "--images", "5", "--reason", "looked", "--yes", "--json")
    assert (ran.code, ran.data["effects"]) == (0, {"counted": 5})
    assert COUNT.command in ManagementUtility(["manage.py"]).main_help_text()

    # the audit, and the saga's timeline
    rows = Decision.objects.order_by("decided_at").values_list("action", "answer__effects__counted", "door")
    assert list(rows) == [(COUNT.name, 0, "admin"), (COUNT.name, 4, "api"), (COUNT.name, 5, "command")]
    audit = staff.get(reverse("admin:sagas_decision_changelist"), {"action_taken": COUNT.name}).content.decode()
    assert audit.count("count images") >= 3
    line = staff.get(f"{BASE}sagas/{saga.id}/timeline").json()["items"]
    assert next(item["title"] for item in line if item["kind"] == "decision") == "Counted by ana: looked"


def test_a_new_decision_is_refused_alike_everywhere(counting: ModuleType, staff: Client) -> None:
    saga = completed()[0]
    ask = Ask(
        view=WholeSagaView(saga),
        action=COUNT.name,
        values={"saga": saga.id, "images": 1},
        page={"saga": saga.id, "images": 1},
        path=f"sagas/{saga.id}/count-images",
        body={"images": 1},
        words=(saga.id, "--images", 1),
    )
    assert check(ask, staff) == "the saga runs no longer"
    button = staff.get(reverse("admin:sagas_sagalog_change", args=[saga.id])).content.decode()
    assert COUNT.name not in button


def test_a_decision_may_require_a_permission_of_its_own() -> None:
    saga = running()[0]
    for rights, status in ((["operate_saga"], 403), (["operate_saga", "view_payload"], 200)):
        client = Client()
        client.force_login(user(f"otto {status}", *rights))
        User.objects.update(is_staff=True)
        with registered(replace(COUNT, permission="sagas.view_payload")):
            here = reverse("admin:sagas_decision_decide", args=[COUNT.name])
            page = client.get(f"{here}?saga={saga.id}&images=1")
            address, body = f"{BASE}sagas/{saga.id}/count-images", {"images": 4, "dry_run": True}
            answer = client.post(address, body, "application/json")
        assert (page.status_code, answer.status_code) == (status, status), rights


def test_no_question_is_asked_of_the_database_to_know_what_is_possible(django_assert_num_queries: Any) -> None:
    saga = running()[0]
    lane = Lane.objects.select_related("saga").filter(saga=saga)[0]
    with django_assert_num_queries(0):
        assert actions.possible(WholeSagaView(saga), OneLaneView(saga, lane))
