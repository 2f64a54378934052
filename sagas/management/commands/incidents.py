"""manage.py incidents: list incidents, or show one with its notes and cases."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.core.management.base import CommandParser

from bridge import clock
from sagas import incidents
from sagas.errors import NotFound
from sagas.incidents import ShownIncident
from sagas.management.cli_base import DONE, OperatorCommand, Options, UsageError, add_payload_argument
from sagas.management.wording import table, when
from sagas.models import IncidentNote
from sagas.queries.ids import saga_id

JSON_SHAPE = (
    "one JSON object: {total, offset, limit, items: [{id, kind, red, sentence, advice, error, facets, count, sagas, "
    "first_at, last_at, trend, direction, most, times, ended_at, owner, acknowledged_until, acknowledged_by, note}]}; "
    "of one incident the item itself, with notes and cases (their ids)"
)


class Command(OperatorCommand):
    help = (
        "List incidents: problems with the same cause, those not acknowledged first, red ones first, then the newest. "
        "With an id, show one; --ids prints its cases, input for the commands that decide."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("incident", nargs="?", help="show one incident, by its id")
        parser.add_argument("--kind", default="", choices=["", *incidents.BY_NAME], help="only incidents of this kind")
        parser.add_argument("--ended", action="store_true", help="those that have ended, the last one first")
        parser.add_argument("--limit", type=int, default=20)
        parser.add_argument("--offset", type=int, default=0)
        add_payload_argument(parser)
        form = parser.add_mutually_exclusive_group()
        form.add_argument("--ids", action="store_true", help="only the ids, one a line; of one incident, of its cases")
        form.add_argument("--json", action="store_true", help=JSON_SHAPE)

    def act(self, options: Options) -> int:
        if options["limit"] < 1 or options["offset"] < 0:
            raise UsageError("--limit must be at least 1 and --offset at least 0")
        if options["ended"] and options["kind"]:
            raise UsageError("give either --ended or --kind")
        if options["incident"] is not None:
            self._show(options["incident"], options)
        else:
            self._list(options)
        return DONE

    def _list(self, options: Options) -> None:
        span = {"offset": options["offset"], "limit": options["limit"]}
        page = (
            incidents.ended(**span)
            if options["ended"]
            else incidents.listed(**span, kind=options["kind"], payload=options["payload"])
        )
        if options["json"]:
            items = [_data(shown) for shown in page.items]
            self.tell_data({"total": page.total, "offset": page.offset, "limit": page.limit, "items": items})
            return
        if options["ids"]:
            for shown in page.items:
                self.tell(str(shown.id))
            return
        rows = [
            (shown.id, "red" if shown.kind.red else "yellow", shown.owner or "–", shown.sentence, shown.error)
            for shown in page.items
        ]
        for line in table(("incident", "severity", "owner", "what", "error"), rows):
            self.tell(line)
        self.tell(f"{len(page.items)} of {page.total}")

    def _show(self, name: str, options: Options) -> None:
        identity = saga_id(name)
        shown = incidents.find(identity, payload=options["payload"]) if identity is not None else None
        if shown is None:
            raise NotFound(f"there is no incident {name}")
        if options["ids"]:
            for case in _cases(shown):
                self.tell(case)
        elif options["json"]:
            notes = [_note(note) for note in incidents.history(shown.id)]
            self.tell_data({**_data(shown), "notes": notes, "cases": list(_cases(shown))})
        else:
            for line in _lines(shown):
                self.tell(line)


def _cases(shown: ShownIncident) -> Iterator[str]:
    if incidents.target_of(shown.kind.name) is not None:
        ids = incidents.targets_of(shown.kind.name, shown.facets, clock.now())
        yield from dict.fromkeys(str(identity) for identity in ids.iterator(chunk_size=2000))


def _lines(shown: ShownIncident) -> Iterator[str]:
    yield shown.sentence
    if shown.error:
        yield shown.error
    if shown.advice:
        yield shown.advice
    yield f"owner: {shown.owner or '–'}"
    if shown.acknowledged_until:
        yield f"acknowledged until {when(shown.acknowledged_until)} by {shown.acknowledged_by}"
    yield f"times: {shown.times}, most at once: {shown.most}"
    for note in incidents.history(shown.id):
        yield f"{when(note.written_at)} {note.author} {note.entry} {note.value}".rstrip() + f": {note.text}"


def _data(shown: ShownIncident) -> dict[str, Any]:
    note = _note(shown.note) if shown.note else None
    return {**shown.as_data(), "kind": shown.kind.name, "red": shown.kind.red, "note": note}


def _note(note: IncidentNote) -> dict[str, Any]:
    return {name: getattr(note, name) for name in ("entry", "author", "written_at", "text", "value")}
