"""Check this service's own parts and data, from the database: bridges, publishing, answers, definitions, clocks."""

import socket
from datetime import timedelta

from django.conf import settings
from django.db.models import Count
from django.utils import timezone

from bridge import clock, heartbeats, instants
from bridge.models import QuarantineCode, Quarantined, QuarantineStatus
from compensation import health, switches
from compensation.health import Name, State
from compensation.models import Breaker, TripCause
from compensation.never_answered import never_answered
from compensation.switches import Pause
from sagaproject.doctor.finding import Finding, age, error, listed, ok, warning
from sagas import confirmations
from sagas.definitions import registry
from sagas.models import SagaLog, SagaStatusChoice

# A larger difference of clocks makes times on pages misleading.
CLOCK_SECONDS = 5.0
_CLOCK_FRESH = timedelta(minutes=10)
# Limits of what is examined: quarantined messages (the newest); sagas (of each status the newest and the oldest).
SAMPLE = 5000
SAGAS = 2000


def check_bridge() -> Finding:
    """Check that every bridge has a recent heartbeat and is connected."""
    part = health.measure().part(Name.BRIDGE)
    do = "Start manage.py run_bridge and check its log. Messages wait in Pulsar in the meantime: nothing is lost."
    if part.state == State.NEVER_RAN:
        return error("bridge", "No bridge has ever run.", do)
    if part.state == State.SILENT:
        return error("bridge", f"No heartbeat for {age(part.age)}.", do)
    if part.state == State.DISCONNECTED:
        return error("bridge", "It runs, but is not connected to Pulsar.", "See pulsar and token, above.")
    last_message = (
        f"the last message came {age(part.last_message_age)} ago"
        if part.last_message_age
        else "no message has come yet"
    )
    says = f"{part.connected} connected; {last_message}."
    if part.state == State.PARTLY_AWAY:
        return warning(
            "bridge",
            f"{says} Without a heartbeat or not connected: {listed(part.away)}.",
            "Start it again, or check its log. If it was removed on purpose, its row is deleted after a day.",
        )
    if part.state == State.STALLED:
        return error(
            "bridge",
            f"{says} Messages wait on {listed(part.topics)}, and none is received. Deadlines of the services that "
            f"answer there are on hold for {settings.SAGA_DEADLINE_HOLD:g} s at most.",
            "See database above. If it is OK, restart the bridge: it subscribes again.",
        )
    if part.state == State.BEHIND:
        where = f" on {listed(part.topics)}" if part.topics else ""
        return warning(
            "bridge", f"{says} It has not caught up{where}: deadlines are on hold.", "Wait, or start another bridge."
        )
    return ok("bridge", says)


def check_publisher() -> Finding:
    """Check that commands can be sent and that sending is not paused: for which service, since when and by whom."""
    part = health.measure().part(Name.PUBLISHER)
    state = switches.peek()
    pauses = " ".join(map(_pause, state.pauses))
    if part.is_error:
        problems = {
            State.NEVER_RAN: "No worker has ever tried to send commands.",
            State.SILENT: f"No worker has contacted Pulsar for {age(part.age)}.",
            State.DISCONNECTED: "The worker cannot reach Pulsar.",
        }
        return error("publishing", f"{problems[part.state]} {pauses}".strip(), "See worker, beat and pulsar, above.")
    if pauses:
        return warning(
            "publishing",
            f"{pauses} No commands are sent there, and deadlines are on hold.",
            "Withdraw the commands that must not be sent, then run manage.py resume_publishing.",
        )
    if state.canaries:
        return warning(
            "publishing",
            f"After the circuit breaker paused them, only the first commands are sent to "
            f"{', '.join(breaker.service for breaker in state.canaries)}.",
            "Wait for the service's answers to these.",
        )
    return ok("publishing", "Commands can be sent to all services.")


def _pause(pause: Pause) -> str:
    since = instants.for_people(pause.changed_at)
    if isinstance(pause, Breaker):
        again = "" if pause.cause == TripCause.PLANNED else f"; again, because {TripCause(pause.cause).label}"
        return (
            f"The circuit breaker paused {pause.service} at {since}: {pause.planned} commands planned in ten minutes, "
            f"the limit is {pause.allowed}{again}."
        )
    service = "all services" if pause.service == switches.EVERYTHING else pause.service
    return f"Paused since {since} by {pause.changed_by or 'the setting SAGA_PUBLISHING'}: {service}."


def check_backlog() -> Finding:
    """Check that workers keep up with the events."""
    part = health.measure().part(Name.BACKLOG)
    if part.state == State.LONG:
        return warning("queue", f"At least {part.count} events wait to be applied.", "Start more workers.")
    return ok("queue", f"{part.count} events wait to be applied.")


def check_answers() -> Finding:
    """Check that every kind of command that missed a deadline has been answered at least once."""
    silent = never_answered(registry.commands())
    if silent:
        kinds = (
            f"{one.command} (topic {one.topic}): {one.sent} sent, none ever confirmed or refused" for one in silent
        )
        return warning(
            "answers",
            "; ".join(kinds) + ".",
            "Check whether the service runs, reads that topic and answers such commands. If it never does, set them to "
            "manual in SAGA_CONFIRMATIONS; a person has to mark them as done.",
        )
    return ok("answers", "Every kind of command that is overdue has been answered before.")


def check_confirmations() -> Finding:
    """Check SAGA_CONFIRMATIONS, and tell which commands are confirmed in another way than their definition says."""
    wrong = confirmations.problems()
    if wrong:
        return error("confirmations", "; ".join(wrong) + ".", "Correct SAGA_CONFIRMATIONS.")
    changed = [f"{command}: {now} instead of {before}" for command, before, now in confirmations.changed()]
    if changed:
        return ok("confirmations", f"By SAGA_CONFIRMATIONS {listed(changed)}. Commands that are planned keep theirs.")
    return ok("confirmations", "Every command is confirmed as its definition says.")


def check_event_topics() -> Finding:
    """Check whether messages are in quarantine because their type is not accepted from their topic."""
    wrong = _on_wrong_topics()
    if wrong:
        return warning(
            "event topics",
            f"Of the last {SAMPLE} open messages in quarantine, {sum(wrong.values())} came on a topic that does not "
            f"accept their type: {listed(wrong)}.",
            "Ask the team of the sending service, and check who may produce to these topics; a producer's name proves "
            "nothing. Then dismiss the messages.",
        )
    return ok("event topics", "No open message is in quarantine because of its topic.")


def check_definitions() -> Finding:
    """Check that this release has the definition of every open saga."""
    known = {(definition.name, definition.version) for definition in registry.all_definitions()}
    unknown = [f"{kind} version {version}" for kind, version in _open_definitions() if (kind, version) not in known]
    if unknown:
        return error(
            "definitions",
            f"Open sagas have definitions that this release lacks: {listed(unknown)}. Their events wait.",
            "Run the release that has them, beside this one or instead of it.",
        )
    return ok("definitions", "This release has the definition of every open saga.")


def check_clocks() -> Finding:
    """Check that the clocks of this host, workers and bridges agree with the database's."""
    before = timezone.now()
    database_now = clock.now()
    middle = before + (timezone.now() - before) / 2
    ahead = {f"this host ({socket.gethostname()})": (middle - database_now).total_seconds()}
    for row in heartbeats.read():
        if row.clock_ahead is not None and row.age < _CLOCK_FRESH:
            ahead[row.name] = row.clock_ahead
    wrong = [f"{name} by {seconds:+.0f} s" for name, seconds in ahead.items() if abs(seconds) > CLOCK_SECONDS]
    if wrong:
        return warning(
            "clocks",
            f"Clocks differ from the database's: {listed(wrong)}.",
            "Synchronize the clocks of all hosts with NTP. Until then ages on pages are wrong; deadlines and claims "
            "use the database's clock and are right.",
        )
    return ok("clocks", f"{len(ahead)} clocks agree with the database's.")


def _on_wrong_topics() -> dict[str, int]:
    """Return the number of open messages by a text that names their topic and producer."""
    newest = Quarantined.objects.filter(status=QuarantineStatus.OPEN).order_by("-received_at").values("id")[:SAMPLE]
    found = (
        Quarantined.objects.filter(id__in=newest, code=QuarantineCode.WRONG_TOPIC)
        .order_by()
        .values_list("topic", "producer")
        .annotate(count=Count("id"))
    )
    return {f"{topic}, from {producer or 'a producer without a name'}": count for topic, producer, count in found}


def _open_definitions() -> set[tuple[str, int]]:
    found: set[tuple[str, int]] = set()
    for status in (SagaStatusChoice.STARTED, SagaStatusChoice.COMPENSATING, SagaStatusChoice.COMPENSATION_FAILED):
        for order in (("start_time", "id"), ("-start_time", "-id")):
            looked_at = SagaLog.objects.filter(status=status).order_by(*order)[:SAGAS]
            found.update(looked_at.values_list("saga_type", "version"))
    return found
