"""Parse times in a closed list of formats, and format them in one way for each reader.

`datetime.fromisoformat` alone accepts more formats and reads some of them wrongly: it accepts a digit as the separator
of date and time, so that HL7's 20260301123045-0500 became another hour with another offset.
"""

import re
from datetime import UTC, date, datetime, time

_ZONE = r"(Z|[+-](?:[01]\d|2[0-3])(?::?[0-5]\d)?)?"
# ISO 8601, extended: 2026-03-01T12:30:45.123456, also with a space, without seconds, with up to nine decimals.
_EXTENDED = re.compile(rf"\d{{4}}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d(?:\.\d{{1,9}})?)?{_ZONE}", re.ASCII).fullmatch
# ISO 8601, basic, and without its T the compact form of HL7 and DICOM: 20260301123045.1234-0500.
_COMPACT = re.compile(rf"(\d{{8}})T?(\d{{6}}(?:\.\d{{1,9}})?){_ZONE}", re.ASCII).fullmatch

_DAY = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII).fullmatch

ACCEPTED = "ISO 8601 with date and time, or YYYYMMDDHHMMSS as in HL7 and DICOM"


def parse(text: str) -> datetime:
    """Return the time in UTC; a text without a zone is UTC. Digits beyond microseconds are cut off.

    Raises ValueError for every other format and for dates that do not exist. The error does not quote the text.
    """
    found = _EXTENDED(text)
    if found is not None:
        zone = found[1]
    else:
        found = _COMPACT(text)
        if found is None:
            raise ValueError("not a time in an accepted format")
        text, zone = f"{found[1]}T{found[2]}{found[3] or ''}", found[3]
    try:
        when = datetime.fromisoformat(text if zone else f"{text}Z")
        return when if when.tzinfo is UTC else when.astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError("not an existing date and time") from None


def parse_bound(text: str, *, end_of_day: bool = False) -> datetime:
    """Parse a bound that a person or a client gives: a time as by `parse`, or a date as YYYY-MM-DD.

    A date means its first moment in UTC, or its last (`end_of_day`). Raises ValueError for every other text.
    """
    if _DAY(text):
        return datetime.combine(date.fromisoformat(text), time.max if end_of_day else time.min, tzinfo=UTC)
    return parse(text)


def for_people(moment: datetime) -> str:
    """Format a time as in sentences: UTC, to the second."""
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def for_programs(moment: datetime) -> str:
    """Format a time as in JSON: ISO 8601 in UTC, with Z."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
