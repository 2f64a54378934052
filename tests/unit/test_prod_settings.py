"""Settings in prod: what Django's own deployment check has to say, and what differs from dev."""

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from sagaproject import env

PROD = {
    "ENVIRONMENT": "prod",
    "SECRET_KEY": "kT9x2Lw8QzR4vB7nM1pY6cF3hJ5gD0sA-uEiOoXbVqWzPlKmJn",
    "ALLOWED_HOSTS": "saga.example",
    "DATABASE_URL": "postgresql://saga:pw@127.0.0.1:1/saga",
    "CELERY_BROKER_URL": "redis://:pw@127.0.0.1:1/0",
    "PULSAR_SERVICE_URL": "pulsar://127.0.0.1:1",
    "SAGA_PUBLISHING": "paused",
}


def run(*words: str, **more: str) -> subprocess.CompletedProcess[str]:
    bare = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG")}
    return subprocess.run(
        [sys.executable, *words],
        cwd=env.ROOT,
        env={**bare, **PROD, **more},
        capture_output=True,
        text=True,
        check=False,
    )


def setting(name: str, **more: str) -> Any:
    code = f"import json; from sagaproject import settings; print(json.dumps(settings.{name}))"
    done = run("-c", code, **more)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_django_has_nothing_to_say_against_it() -> None:
    done = run("manage.py", "check", "--deploy", "--fail-level", "WARNING")

    assert done.returncode == 0, done.stderr


def test_reading_the_api_takes_a_login_and_is_throttled() -> None:
    framework = setting("REST_FRAMEWORK")

    assert framework["DEFAULT_PERMISSION_CLASSES"] == ["rest_framework.permissions.IsAuthenticated"]
    assert setting("REQUEST_RATES") == {"address": "60/min", "login": "1200/min"}


def test_dev_may_be_read_without_login() -> None:
    framework = setting("REST_FRAMEWORK", ENVIRONMENT="dev")

    assert framework["DEFAULT_PERMISSION_CLASSES"] == ["rest_framework.permissions.IsAuthenticatedOrReadOnly"]
    assert setting("REQUEST_RATES", ENVIRONMENT="dev") == {}


@pytest.mark.parametrize(
    ("more", "count"),
    [
        ({}, 0),
        ({"API_PROXY_COUNT": "2"}, 0),
        ({"API_BEHIND_PROXY": "true"}, 1),
        ({"API_BEHIND_PROXY": "true", "API_PROXY_COUNT": "2"}, 2),
    ],
)
def test_forwarded_addresses_are_believed_behind_a_proxy_alone(more: dict[str, str], count: int) -> None:
    assert setting("TRUSTED_PROXIES", **more) == count


@pytest.mark.parametrize(
    ("url", "has", "lacks"),
    [
        ("redis://v:6379/0", "visibility_timeout", "confirm_publish"),
        ("rediss://v:6379/0", "visibility_timeout", "confirm_publish"),
        ("amqp://r:5672//", "confirm_publish", "visibility_timeout"),
    ],
)
def test_each_broker_gets_the_options_that_it_knows(url: str, has: str, lacks: str) -> None:
    options = setting("CELERY_BROKER_TRANSPORT_OPTIONS", CELERY_BROKER_URL=url)

    assert has in options
    assert lacks not in options


@pytest.mark.parametrize("value", ["", "maybe"])
def test_no_word_on_publishing_no_start(value: str) -> None:
    done = run("manage.py", "check", SAGA_PUBLISHING=value)

    assert done.returncode == 2
    assert "SAGA_PUBLISHING" in done.stderr


def test_pages_of_other_origins_only_if_configured() -> None:
    assert setting("CORS_ALLOWED_ORIGINS") == []
    assert setting("CORS_ALLOWED_ORIGINS", API_CORS_ORIGINS="https://viewer.example") == ["https://viewer.example"]
    assert setting("CORS_ALLOW_CREDENTIALS", API_CORS_ORIGINS="https://viewer.example") is False
    done = run("manage.py", "check", "--deploy", "--fail-level", "WARNING", API_CORS_ORIGINS="https://viewer.example")
    assert done.returncode == 0, done.stderr
