"""Parse timestamps in a closed list of formats.

`datetime.fromisoformat` alone accepts more formats and reads some of them wrongly: it accepts a digit as the separator
of date and time, so that HL7's 20260301123045-0500 became another hour with another offset.
"""

import re
from datetime import UTC, datetime

_ZONE = r"(Z|[+-](?:[01]\d|2[0-3])(?::?[0-5]\d)?)?"
# ISO 8601, extended: 2026-03-01T12:30:45.123456, also with a space, without seconds, with up to nine decimals.
_EXTENDED = re.compile(rf"\d{{4}}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d(?:\.\d{{1,9}})?)?{_ZONE}", re.ASCII).fullmatch
# ISO 8601, basic, and without its T the compact form of HL7 and DICOM: 20260301123045.1234-0500.
_COMPACT = re.compile(rf"(\d{{8}})T?(\d{{6}}(?:\.\d{{1,9}})?){_ZONE}", re.ASCII).fullmatch

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
