"""The decisions on a job itself, by their names in the audit. `sagas.jobs` carries them out."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from django.utils.translation import gettext_lazy as _


class JobAction(StrEnum):
    """What a person may decide on a job."""

    START = "job_start"
    APPROVE = "job_approve"
    PAUSE = "job_pause"
    RESUME = "job_resume"
    STOP = "job_stop"


LABELS: Mapping[str, Any] = {
    JobAction.START: _("start job"),
    JobAction.APPROVE: _("approve job"),
    JobAction.PAUSE: _("pause job"),
    JobAction.RESUME: _("resume job"),
    JobAction.STOP: _("stop job"),
}
