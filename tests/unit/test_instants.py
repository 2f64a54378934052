"""Times as texts: each accepted format is right over all hours and offsets, and every other text is refused."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from bridge.instants import parse

HOURS = range(24)
OFFSETS = [timedelta(minutes=minutes) for minutes in (-1439, -720, -300, -210, -30, 0, 30, 60, 330, 345, 840, 1439)]
SEPARATED, JOINED = "%Y-%m-%dT%H:%M:%S", "%Y%m%d%H%M%S"


def zone(offset: timedelta, colon: str) -> str:
    """An offset as it is written."""
    minutes = abs(offset) // timedelta(minutes=1)
    return f"{'-' if offset < timedelta(0) else '+'}{minutes // 60:02}{colon}{minutes % 60:02}"


@pytest.mark.parametrize("shape", [SEPARATED, SEPARATED.replace("T", " "), "%Y%m%dT%H%M%S", JOINED])
@pytest.mark.parametrize("fraction", ["", ".5", ".1234", ".123456", ".123456789"])
def test_each_format_is_right_over_all_hours_and_offsets(shape: str, fraction: str) -> None:
    digits = int(fraction[1:7].ljust(6, "0")) if fraction else 0
    for hour in HOURS:
        there = datetime(2026, 3, 1, hour, 30, 45, digits, tzinfo=UTC)
        text = there.strftime(shape) + fraction
        for written in (text, f"{text}Z"):
            assert parse(written) == there
        for offset in OFFSETS:
            meant = there.replace(tzinfo=timezone(offset))
            for colon in (":", ""):
                found = parse(text + zone(offset, colon))
                assert found == meant
                assert found.tzinfo is UTC


def test_hl7_of_the_field() -> None:
    """It was read as 23:04 of the same day, and as the next day in UTC."""
    assert parse("20260301123045-0500") == datetime(2026, 3, 1, 17, 30, 45, tzinfo=UTC)


def test_seconds_and_minutes_of_an_offset_may_be_left_out() -> None:
    assert parse("2026-03-01T10:00") == datetime(2026, 3, 1, 10, tzinfo=UTC)
    assert parse("2026-03-01T10:00-05") == datetime(2026, 3, 1, 15, tzinfo=UTC)


@pytest.mark.parametrize(
    "text",
    [
        "2026-03-01", "20260301", "2026-03-01T10", "202603011230", "2026030112", "2026-W09-7T10:00:00",
        "2026-060T10:00:00", "2026-03-01t10:00:00", "2026-03-01T10:00:00z", "2026-03-01T10:00:00,5",
        "2026-03-01T10:00:00.", "2026-03-01x10:00", "2026-03-01T10:00:00.1234567890", "2026-03-01T1000",
        "2026-03-01T100000", "20260301T10:00:00", "2026-03-01110:00:00", "2026-03-01T24:00:00", "2026-03-01T23:59:60",
        "2026-02-30T10:00:00", "20261301103045", "00000101000000", "2026-03-01T10:00:00+24:00",
        "2026-03-01T10:00:00+05:60", "2026-03-01T10:00:00+05:00:30", "2026-03-01T10:00:00+5",
        "0001-01-01T00:00:00+05:00", "9999-12-31T23:59:59-05:00", "2026-03-01T10:00:00 ", " 2026-03-01T10:00:00",
        "2026-03-01T10:00:00\n", "2026-03-01T10:00:00Z\n", "２０２６-03-01T12:00:00", "٢٠٢٦-03-01T12:00:00", "", "now",
    ],
)  # fmt: skip
def test_every_other_text_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"not a time in an accepted format|not an existing date and time"):
        parse(text)


@given(st.text("0123456789-+:.TZ W", min_size=8, max_size=32))
def test_what_is_read_says_what_it_says(text: str) -> None:
    """Whatever is accepted has its digits in their places: the date is the date, the hour the hour."""
    try:
        found = parse(text)
    except ValueError:
        return
    digits = "".join(letter for letter in text[:19] if letter.isdigit())[:12]
    assert text[:4] == digits[:4]
    said = datetime.strptime(digits, "%Y%m%d%H%M").replace(tzinfo=UTC)
    assert abs(found - said) < timedelta(days=1, minutes=1)


@given(st.datetimes(), st.sampled_from([None, *OFFSETS]))
def test_what_python_writes_is_read_back(when: datetime, offset: timedelta | None) -> None:
    assume(2 < when.year < 9998)
    there = when.replace(tzinfo=None if offset is None else timezone(offset))
    assert parse(there.isoformat()) == there.replace(tzinfo=there.tzinfo or UTC)
