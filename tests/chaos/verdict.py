"""The guarantees, held against what is there when it is quiet: messages, tables, and what the simulator received."""

import contextlib
import json
import subprocess
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import psycopg2

from devtools.simulator.wire import COMMAND_TOPICS
from tests.chaos.canary import Canaries
from tests.chaos.stage import Stage
from tests.chaos.witness import Message

# BRIDGE_MAX_BODY's default, and what quarantine keeps of a longer body.
_MAX_BODY, _KEPT_BYTES = 1_048_576, 64 * 1024

LISTED = 10
_COUNTED = "SELECT type, lower(key), lower(entity), counted FROM bridge_collapsed_events"
Rows = list[tuple[Any, ...]]

_STUCK = {
    "events that nobody applied": "SELECT id FROM bridge_pending",
    "sagas that were set aside": "SELECT id FROM sagas_saga WHERE set_aside_at IS NOT NULL",
    "events parked though their saga is there": """
        SELECT p.event FROM sagas_parked p JOIN sagas_saga s ON s.saga_type = p.stream AND s.key = p.key
        WHERE p.reason <> 'no_entity'
    """,
    "commands still on their way": """
        SELECT id, status FROM compensation_command
        WHERE status IN ('publishing', 'published', 'waiting') OR (status = 'planned' AND released_at IS NOT NULL)
    """,
    "commands claimed by nobody": "SELECT id FROM compensation_command WHERE claimed_at IS NOT NULL",
    "attempts that never ended": "SELECT id FROM compensation_attempt WHERE ended_at IS NULL",
    "attempts whose numbers have gaps": """
        SELECT command_id, round FROM compensation_attempt WHERE counted GROUP BY command_id, round
        HAVING count(*) <> max(number) OR count(DISTINCT number) <> count(*)
    """,
    "commands that count other attempts than there are": """
        SELECT c.id FROM compensation_command c
        LEFT JOIN compensation_attempt a ON a.command_id = c.id AND a.round = c.round AND a.counted
        GROUP BY c.id HAVING count(a.id) <> c.attempt
    """,
    "events that a saga applied twice, or not once": """
        SELECT e.id FROM bridge_event e LEFT JOIN sagas_saga_event s ON s.event = e.id
        LEFT JOIN sagas_parked p ON p.event = e.id GROUP BY e.id HAVING count(s.event) + count(p.event) <> 1
    """,
    "sessions that hold a transaction open": """
        SELECT pid FROM pg_stat_activity
        WHERE state LIKE 'idle in transaction%' AND state_change < now() - interval '5 seconds'
    """,
}


class Verdict:
    """What was found: `problems` in words, `counts` for the table."""

    def __init__(self) -> None:
        self.problems: list[str] = []
        self.counts: dict[str, int] = {}

    def complain(self, what: str, found: Iterable[Any]) -> None:
        """Note a problem if anything was found."""
        listed = [str(one) for one in found]
        if listed:
            more = f" and {len(listed) - LISTED} more" if len(listed) > LISTED else ""
            self.problems.append(f"{len(listed)} {what}: {', '.join(listed[:LISTED])}{more}")


class Tables:
    """The database, read past the proxies."""

    def __init__(self, url: str) -> None:
        self._connection = psycopg2.connect(url)
        self._connection.autocommit = True

    def rows(self, sql: str) -> Rows:
        with self._connection.cursor() as cursor:
            cursor.execute(sql)
            found: Rows = cursor.fetchall()
            return found

    def count(self, table: str, where: str = "TRUE") -> int:
        return int(self.rows(f"SELECT count(*) FROM {table} WHERE {where}")[0][0])

    def close(self) -> None:
        self._connection.close()


def judge(stage: Stage, messages: Sequence[Message], canaries: Canaries) -> Verdict:
    """Hold everything against everything. When it is quiet, and every process runs."""
    verdict = Verdict()
    with contextlib.closing(Tables(stage.direct["postgres"])) as tables:
        commands = set(COMMAND_TOPICS.values())
        _judge_events(verdict, tables, [message for message in messages if message.topic not in commands])
        _judge_commands(verdict, tables, [message for message in messages if message.topic in commands])
        _judge_canaries(verdict, tables, canaries)
        for what, sql in _STUCK.items():
            verdict.complain(what, (row[0] for row in tables.rows(sql)))
        _count(verdict, tables)
    for words in (("verify_sagas", "--json"), ("doctor",)):
        _run(verdict, stage, *words)
    return verdict


def _judge_events(verdict: Verdict, tables: Tables, messages: Sequence[Message]) -> None:
    """Every message is in the log once, counted, or in quarantine with its bytes; and all there came from a message."""
    logged = {
        event_id: ((topic, place), payload)
        for event_id, topic, place, payload in tables.rows(
            "SELECT event_id, topic, message_id, payload FROM bridge_event WHERE source = 'pulsar'"
        )
    }
    quarantined = {
        (topic, place): bytes(body)
        for topic, place, body in tables.rows("SELECT topic, message_id, body FROM bridge_quarantined")
    }
    places = {place for place, _ in logged.values()}
    counted = Counter({tuple(row[:3]): row[3] for row in tables.rows(_COUNTED)})
    fates = Counter[str]()
    wrong: dict[str, list[str]] = defaultdict(list)
    for message in messages:
        where = (message.topic, message.place)
        fate = _fate(message, where, logged, places, quarantined, counted)
        fates[fate] += 1
        if fate not in ("logged", "repeated", "quarantined", "counted"):
            wrong[fate].append(" ".join(where))
    for fate, listed in wrong.items():
        verdict.complain(f"messages {fate}", listed)
    known = {(message.topic, message.place) for message in messages}
    verdict.complain("events that no message told", sorted(places - known))
    verdict.complain("messages in quarantine that nobody sent", sorted(quarantined.keys() - known))
    verdict.counts |= {
        "messages published": len(messages),
        "of them repeats of another": fates["repeated"],
        "of them in quarantine": fates["quarantined"],
        "of them only counted": fates["counted"],
        "events in the log": len(logged),
    }


def _fate(
    message: Message,
    where: tuple[str, str],
    logged: dict[str, tuple[tuple[str, str], Any]],
    places: set[tuple[str, str]],
    quarantined: dict[tuple[str, str], bytes],
    counted: Counter[tuple[str, str, str]],
) -> str:
    """Return what became of a message. counted: how many more messages of each group may be; one is taken from it."""
    if where in quarantined:
        if where in places:
            return "both in the log and in quarantine"
        kept = message.body if len(message.body) <= _MAX_BODY else message.body[:_KEPT_BYTES]
        return "quarantined" if quarantined[where] == kept else "in quarantine with other bytes"
    if where in places:
        return "logged"
    content = message.content
    event_id = content.get("id") if isinstance(content, dict) else None
    known = logged.get(str(event_id).lower())
    if known is None:
        group = _group(content)
        if not counted[group]:
            return "lost"
        counted[group] -= 1
        return "counted"
    return "repeated" if known[1] == content else "dropped though their content is another"


def _group(content: Any) -> tuple[str, str, str]:
    """Return the group by which the bridge counts what it does not store."""
    fields = content if isinstance(content, dict) else {}
    return str(fields.get("type", "")), str(fields.get("task_id", "")).lower(), str(fields.get("image_id", "")).lower()


def _judge_commands(verdict: Verdict, tables: Tables, messages: Sequence[Message]) -> None:
    """Each undo left under one id, with one body, and what left was recorded."""
    planned = {str(id_): body for id_, body in tables.rows("SELECT id, body FROM compensation_command")}
    ids: dict[tuple[str, str, str], set[str]] = defaultdict(set)
    times = Counter[str]()
    for message in messages:
        content = message.content
        ids[content["type"], content["data"]["task_id"], content["data"]["image_id"]].add(content["id"])
        times[content["id"]] += 1
    verdict.complain("undos sent under more than one id", (key for key, found in ids.items() if len(found) > 1))
    verdict.complain("commands sent that nobody planned", times.keys() - planned.keys())
    bodies = (message for message in messages if planned.get(message.content["id"]) != message.content)
    verdict.complain("commands sent with another body than planned", (message.place for message in bodies))
    places = {message.place for message in messages}
    attempts = tables.rows("SELECT command_id::text, message_id FROM compensation_attempt")
    verdict.complain(
        "attempts recorded as sent whose message is not there",
        (f"{command} {place}" for command, place in attempts if place and place not in places),
    )
    tried = Counter(command for command, _ in attempts)
    verdict.complain("commands sent without an attempt", times.keys() - tried.keys())
    verdict.counts |= {
        "commands planned": len(planned),
        "commands sent": len(messages),
        "of them sent again, under the same id": len(messages) - len(times),
        "sent oftener than attempts counted": sum(times[id_] > tried[id_] for id_ in times),
        "attempts": len(attempts),
    }


def _judge_canaries(verdict: Verdict, tables: Tables, canaries: Canaries) -> None:
    statuses: dict[str, str] = dict(tables.rows("SELECT key, status FROM sagas_saga"))
    ended = ((task, statuses.get(task, "no saga")) for task in canaries.whole)
    verdict.complain(
        "canaries that did not end well", (f"{task} {status}" for task, status in ended if status != _WELL)
    )
    verdict.counts["canaries"] = len(canaries.whole)


_WELL = "COMPENSATION_SUCCEEDED"


def _count(verdict: Verdict, tables: Tables) -> None:
    verdict.counts |= {
        "sagas": tables.count("sagas_saga"),
        "deliveries beyond the first, dropped": tables.count("bridge_duplicate"),
        "parked": tables.count("sagas_parked"),
        "commands confirmed": tables.count("compensation_command", "status = 'confirmed'"),
        "commands exhausted, as foreseen": tables.count("compensation_command", "status = 'exhausted'"),
    }
    outcomes = tables.rows("SELECT outcome, count(*) FROM compensation_attempt GROUP BY outcome ORDER BY outcome")
    verdict.counts |= {f"attempts {outcome}": count for outcome, count in outcomes}


def _run(verdict: Verdict, stage: Stage, *words: str) -> None:
    done = subprocess.run(
        stage.command(*words), env=stage.environment, capture_output=True, text=True, check=False, timeout=600
    )
    if done.returncode:
        verdict.problems.append(f"manage.py {words[0]} ends with {done.returncode}: {done.stdout[-2000:]}")


def unexpected(reports: Sequence[dict[str, Any]]) -> Iterator[str]:
    """What the simulator found not to be as its script says, in words."""
    for number, report in enumerate(reports, start=1):
        for item in report["unexpected"][:LISTED]:
            told = {key: value for key, value in item.items() if value}
            yield f"round {number}, seed {report['seed']}: {json.dumps(told, ensure_ascii=False)}"
        if report["interrupted"]:
            yield f"round {number}, seed {report['seed']}: stopped before its verdict"
