"""The settings of a next release: one migration more, and tasks under new names. Only for processes of test_upgrade."""

from sagaproject.settings import *  # noqa: F403
from sagaproject.settings import INSTALLED_APPS

INSTALLED_APPS = [*INSTALLED_APPS, "tests.upgrade.later"]
WAKEUPS = {
    "apply": "sagas.apply_as_in_the_next_release",
    "publish": "compensation.publish_as_in_the_next_release",
    "jobs": "sagas.run_jobs",
}
