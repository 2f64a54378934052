"""Failures of one cause have one fingerprint, whatever ids, files and numbers their texts name; others differ."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.db import connection

pytestmark = pytest.mark.django_db


def fingerprint(
    error: str | None = "",
    *,
    service: str = "DATA_RETRIEVAL",
    name: str = "DeleteRetrievedImage",
    by: str = "attempts",
    code: str = "attempts",
    data: Any = None,
) -> str:
    """The fingerprint of a command that was refused with this text in each of its three attempts."""
    if data is None and error is not None:
        last = {"code": "refused-because", "error": error} if error else {"code": "refused"}
        data = {"count": 3, "last": last}
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT sagas_failure_fingerprint(%s, %s, %s, %s, %s::jsonb)",
            [service, name, by, code, None if data is None else json.dumps(data)],
        )
        return str(cursor.fetchone()[0])


SAME = {
    "uuid": ("lock of 3f2b7c1e-9d53-4a60-8a10-4b6f3f1f0a11", "lock of 00000000-0000-4000-8000-000000000000"),
    "number": ("only 3 of 12 images are gone", "only 17 of 90211 images are gone"),
    "file": ("cannot delete scan.dcm", "cannot delete thorax_seitlich.nii.gz"),
    "file that ends the sentence": ("cannot delete scan.dcm.", "cannot delete anna.png."),
    "file with letters beyond ASCII": ("cannot delete Müller_Ä.dcm", "cannot delete Łódź.dcm"),
    "path": ("no such file /data/in/anna", "no such file /var/lib/images/region one"[:25]),
    "windows path": (r"locked: C:\in\anna", r"locked: D:\archive\x\y"),
    "url": ("GET https://pacs.example.org/studies failed", "GET http://other.example.org/a/b?c=d failed"),
    "quoted": ('image "anna maria" is locked', 'image "bo" is locked'),
    "typographic quotes": ("image “anna maria” is locked", "image “bo” is locked"),
    "time": ("locked until 2026-03-01T12:00:05.123Z", "locked until 2027-04-02T01:59:59Z"),
    "list": ("still there: a1, b2", "still there: a1, b2, c3, d4"),
    "hexadecimal without digits": ("blob deadbeef is gone", "blob cafebabe is gone"),
    "case": ("Archive holds a lock", "archive holds a LOCK"),
    "spaces and stop": ("archive  holds a lock.", "archive holds a lock"),
    "German": ("Bild 12 ist gesperrt", "Bild 977 ist gesperrt"),
    "Chinese": ("影像123已锁定", "影像98已锁定"),
    "Arabic digits": ("الصورة ١٢٣ مقفلة", "الصورة ٩٨٧٦ مقفلة"),
    "Spanish": ('la imagen "tórax" está bloqueada', 'la imagen "cráneo" está bloqueada'),
    "control characters": ("archive\tholds\na lock", "archive holds a lock"),
    "beyond the limit": ("lock " * 100 + "of anna", "lock " * 100 + "of bo"),
}  # fmt: skip


@pytest.mark.parametrize("texts", SAME.values(), ids=SAME)
def test_what_tells_one_case_from_the_next_does_not_count(texts: tuple[str, str]) -> None:
    assert fingerprint(texts[0]) == fingerprint(texts[1])


DIFFERENT = {
    "another cause": ("archive holds a lock", "archive is read-only"),
    "none and some": ("", "archive holds a lock"),
    "German": ("Bild 12 ist gesperrt", "Bild 12 fehlt"),
    "Chinese": ("影像123已锁定", "影像123不存在"),
    "Arabic": ("الصورة ١٢٣ مقفلة", "الصورة ١٢٣ مفقودة"),
    "an apostrophe is no quote": ("can't lock, won't wait", "can't open, won't wait"),
    "a name of a class": ("java.io.FileLocked", "java.io.FileMissing"),
    "only a number against a word": ("42", "locked"),
}


@pytest.mark.parametrize("texts", DIFFERENT.values(), ids=DIFFERENT)
def test_another_cause_is_another_fingerprint(texts: tuple[str, str]) -> None:
    assert fingerprint(texts[0]) != fingerprint(texts[1])


def test_service_command_reason_and_code_count() -> None:
    found = [
        fingerprint("locked"),
        fingerprint("locked", service="PROCESSING"),
        fingerprint("locked", name="RollbackAnonymization"),
        fingerprint("locked", by="non_retryable"),
        fingerprint(code="attempts", data={"count": 3, "last": {"code": "deadline", "seconds": "300"}}),
        fingerprint(code="no-confirmation", data=None, error=None, by="manual"),
        fingerprint(code="not-a-uuid", data=None, error=None, by="invalid"),
    ]
    assert len(set(found)) == len(found)


def test_how_often_and_how_long_it_was_tried_does_not_count() -> None:
    def missed(count: int, seconds: str) -> str:
        return fingerprint(data={"count": count, "last": {"code": "deadline", "seconds": seconds}})

    assert missed(3, "300") == missed(5, "0.1")


def test_texts_of_earlier_releases_have_fingerprints_too() -> None:
    old = "Failed after {} attempts. The service refused it: image {} is locked"
    assert fingerprint(None, code=old.format(3, "a1")) == fingerprint(None, code=old.format(5, "b2"))
    assert fingerprint(None, code=old.format(3, "a1")) != fingerprint(None, code="No answer within 300 seconds.")


@pytest.mark.parametrize(
    "error", ["", " ", "*", "...", "'", '"', "\\", "[](){}", "%s %(x)s", "' OR 1=1 --", "a" * 100_000]
)
def test_any_text_has_a_fingerprint(error: str) -> None:
    assert fingerprint(error)
