"""Settings for tests and tools, from nothing: development, and no running stack.

The placeholders are never reached: tests/conftest.py puts the embedded servers in their place when a test asks for one.
"""

import os

IN_MEMORY = "CELERY_BROKER_URL" not in os.environ

os.environ.setdefault("ENVIRONMENT", "dev")
os.environ.setdefault("DATABASE_URL", "postgresql://nobody@127.0.0.1:1/none")
os.environ.setdefault("CELERY_BROKER_URL", "redis://127.0.0.1:1/0")
os.environ.setdefault("PULSAR_SERVICE_URL", "pulsar://127.0.0.1:1")

from sagaproject.settings import *  # noqa: F403

PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]

if IN_MEMORY:
    # Nudges go to a broker in this process's memory; a test that wants a real one starts worker processes of its own.
    # Celery itself prefers the variable to its configuration, so the placeholder must go.
    del os.environ["CELERY_BROKER_URL"]
    globals().update(CELERY_BROKER_URL="memory://", CELERY_BROKER_TRANSPORT_OPTIONS={})
