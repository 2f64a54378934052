"""Wake a Celery task by name. A nudge carries no arguments and no promise: the sweepers find what it lost."""

import logging
from functools import partial
from typing import Literal

from celery import current_app
from django.conf import settings
from django.db import transaction

logger = logging.getLogger(__name__)

Wakeup = Literal["apply", "publish"]

# Long enough for a busy worker to get to it, short enough that hours without a worker pile up nothing.
_EXPIRES_SECONDS = 15


def nudge(name: Wakeup) -> bool:
    """Say that there is work. Never raises, may be repeated at will; False if the Celery broker did not take it."""
    try:
        current_app.send_task(settings.WAKEUPS[name], expires=_EXPIRES_SECONDS, ignore_result=True, retry=False)
    except Exception as error:  # whatever the transport raises: the work is in the database, and so is the sweeper's
        logger.warning("no nudge to %s: %s", name, type(error).__name__)
        return False
    return True


def nudge_on_commit(name: Wakeup) -> None:
    """Nudge when the current transaction has committed, or at once outside one. Never fails the commit's caller."""
    transaction.on_commit(partial(nudge, name), robust=True)
