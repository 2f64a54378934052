"""Four-eyes: which decisions a second person approves before they are carried out.

Off by default. With SAGA_FOUR_EYES_FROM, a decision on so many targets, and any that says so in the registry, can only
be made by a job, which another person approves: `sagas.jobs.control`.
"""

from __future__ import annotations

from django.conf import settings
from django.utils.translation import gettext as _

from sagas.actions.action import ActionRequest
from sagas.errors import Refused


def is_required(count: int, *, second_person: bool = False) -> bool:
    """Return whether a decision on so many targets needs a second person."""
    limit: int = settings.SAGA_FOUR_EYES_FROM
    return limit > 0 and (second_person or count >= limit)


def check(request: ActionRequest, count: int = 0, *, second_person: bool = False) -> None:
    """Refuse a decision that needs a second person, unless it is only previewed or a job carries it out.

    count: of the targets of a decision on many; 0: it is on one, which no number limits.
    """
    if request.job is None and not request.dry_run and is_required(count, second_person=second_person):
        raise Refused(_("a second person must approve this: start it as a job"))
