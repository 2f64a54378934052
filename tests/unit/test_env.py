"""The environment: good inputs become typed settings, bad ones are all reported at once, in words, without secrets."""

import json
import os
import pwd
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from devtools.embedded import stack_record
from sagaproject import env, stack_file
from sagaproject.setting_checks import DEV_SECRET_KEY

PROD = {
    "SECRET_KEY": "kT9x2Lw8QzR4vB7nM1pY6cF3hJ5gD0sA-uEiOoXbVq",
    "ALLOWED_HOSTS": "saga.example,saga",
    "DATABASE_URL": "postgresql://saga:pw@db/saga",
    "CELERY_BROKER_URL": "redis://:pw@valkey:6379/0",
    "PULSAR_SERVICE_URL": "pulsar+ssl://pulsar:6651",
    "SAGA_PUBLISHING": "paused",
}


def problems(source: dict[str, str]) -> list[str]:
    with pytest.raises(env.ConfigurationError) as caught:
        env.read(source)
    return caught.value.problems


def test_the_default_is_prod_and_prod_requires_every_setting_that_matters() -> None:
    found = problems({})

    assert [problem.split()[0] for problem in found] == [
        "SECRET_KEY",
        "ALLOWED_HOSTS",
        "DATABASE_URL",
        "CELERY_BROKER_URL",
        "PULSAR_SERVICE_URL",
        "SAGA_PUBLISHING",
    ]


def test_dev_needs_nothing() -> None:
    settings = env.read({"ENVIRONMENT": "dev"})

    assert settings.is_dev
    assert settings.sagas.publishing == "on"
    assert settings.api.port == 8085
    assert not settings.service.debug


@pytest.mark.parametrize("more", [PROD, {"ENVIRONMENT": "dev"}], ids=["prod", "dev"])
def test_origins_of_web_pages_that_may_call_the_api(more: dict[str, str]) -> None:
    origins = "https://viewer.example, http://10.1.2.3:3000,http://[::1]:8080"

    assert env.read(more).api.cors_origins == ()
    assert env.read({**more, "API_CORS_ORIGINS": origins}).api.cors_origins == (
        "https://viewer.example",
        "http://10.1.2.3:3000",
        "http://[::1]:8080",
    )
    assert "wildcard" in problems({**more, "API_CORS_ORIGINS": "*"})[0]


def test_prod_with_all_that_it_needs() -> None:
    settings = env.read(PROD)

    assert not settings.is_dev
    assert settings.api.https
    assert settings.service.allowed_hosts == ("saga.example", "saga")
    assert settings.pulsar.regions == ("usa", "latam", "*")
    assert settings.retry.maximum_attempts == 10


@pytest.mark.parametrize(
    ("name", "value", "read", "expected"),
    [
        ("PULSAR_REGIONS", "*", "pulsar.regions", "*"),
        ("PULSAR_REGIONS", "usa, emea", "pulsar.regions", ("usa", "emea")),
        ("PULSAR_REGIONS", "us east, sudamérica, *", "pulsar.regions", ("us east", "sudamérica", "*")),
        ("PULSAR_TOPICS", '{"retrieval-started": "t"}', "pulsar.topics", {"retrieval-started": "t"}),
        ("PULSAR_TLS_VALIDATE_HOSTNAME", "no", "pulsar.tls_validate_hostname", False),
        ("CELERY_BROKER_URL", "amqps://u:p@rabbit:5671//", "celery_broker_url", "amqps://u:p@rabbit:5671//"),
        ("CELERY_BROKER_URL", "rediss://v:6379/0", "celery_broker_url", "rediss://v:6379/0?ssl_cert_reqs=required"),
        ("PULSAR_SERVICE_URL", "pulsar://a:6650,b:6650", "pulsar.service_url", "pulsar://a:6650,b:6650"),
        ("SAGA_CONFIRMATIONS", "", "sagas.confirmations", {}),
        ("SAGA_CONFIRMATIONS", "A=manual, B = event,", "sagas.confirmations", {"A": "manual", "B": "event"}),
        ("SAGA_CONFIRMATION_TIMEOUT", "2.5", "sagas.confirmation_timeout", 2.5),
        ("SAGA_DEADLINE_HOLD", "0", "sagas.deadline_hold", 0.0),
        ("SAGA_RETRY_MAXIMUM_ATTEMPTS", "3", "retry.maximum_attempts", 3),
        ("SAGA_FAILURE_SCOPE", "saga", "sagas.failure_scope", "saga"),
        ("API_PORT", "", "api.port", 8085),
        ("API_HTTPS", "off", "api.https", False),
        ("LOG_LEVEL", "DEBUG", "service.log_level", "DEBUG"),
    ],
)
def test_good_values(name: str, value: str, read: str, expected: Any) -> None:
    found: Any = env.read({**PROD, name: value})
    for word in read.split("."):
        found = getattr(found, word)

    assert found == expected


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("ENVIRONMENT", "staging", "one of dev, prod"),
        ("LOG_LEVEL", "loud", "LOG_LEVEL must be one of"),
        ("SECRET_KEY", "short", "too easy to guess"),
        ("SECRET_KEY", DEV_SECRET_KEY, "is a default"),
        ("SECRET_KEY", "a" * 60, "too easy to guess"),
        ("SECRET_KEY", "django-insecure-" + "abcdefghijklmnopqrstuvwxyz0123456789", "is a default"),
        ("ALLOWED_HOSTS", "*", "wildcard"),
        ("ALLOWED_HOSTS", "saga,*.example", "wildcard"),
        ("DEBUG", "true", "DEBUG must be off"),
        ("DEBUG", "maybe", "DEBUG must be true or false"),
        ("CSRF_TRUSTED_ORIGINS", "saga.example", "scheme"),
        ("API_CORS_ORIGINS", "*", "wildcard"),
        ("API_CORS_ORIGINS", "https://*.example", "wildcard"),
        ("API_CORS_ORIGINS", "https://a.example,viewer.example", "'viewer.example', which must be scheme://host"),
        ("API_CORS_ORIGINS", "https://viewer.example/", "must be scheme://host"),
        ("API_CORS_ORIGINS", "https://viewer.example/app", "must be scheme://host"),
        ("API_CORS_ORIGINS", "https://ana:pw@viewer.example", "must be scheme://host"),
        ("API_CORS_ORIGINS", "https://Viewer.example", "in lower case"),
        ("API_CORS_ORIGINS", "ftp://viewer.example", "must be scheme://host"),
        ("API_CORS_ORIGINS", "null", "must be scheme://host"),
        ("API_CORS_ORIGINS", "https://viewer.example:99999", "must be scheme://host"),
        ("API_CORS_ORIGINS", "https://viewer.example:443", "default port 443"),
        ("DATABASE_URL", "mysql://db/saga", "DATABASE_URL must begin with"),
        ("CELERY_BROKER_URL", "valkey://v:6379", "redis, rediss, amqp, amqps"),
        ("CELERY_BROKER_URL", "redis://", "CELERY_BROKER_URL must look like"),
        ("CELERY_BROKER_URL", "redis://[::1", "CELERY_BROKER_URL must look like"),
        ("PULSAR_SERVICE_URL", "http://pulsar:8080", "PULSAR_SERVICE_URL must look like"),
        ("PULSAR_REGIONS", "usa*", "a list of names"),
        ("PULSAR_REGIONS", "usa/lima", "a list of names"),
        ("PULSAR_TENANT", "a/b", "one part of a topic"),
        ("PULSAR_TOPICS", "retrieval-started=t", "is not JSON"),
        ("PULSAR_TOPICS", "[]", "JSON object"),
        ("PULSAR_TOPICS", '{"a": 1}', "JSON object"),
        ("PULSAR_TLS_ALLOW_INSECURE", "true", "any server could impersonate the broker"),
        ("PULSAR_TLS_TRUST_CERTS_FILE", "/nowhere/ca.pem", "cannot be read"),
        ("PULSAR_TOKEN_FILE", "/nowhere/token", "could not be read"),
        ("SAGA_PUBLISHING", "maybe", "one of on, paused"),
        ("SAGA_FAILURE_SCOPE", "image", "one of lane, saga"),
        ("SAGA_CONFIRMATIONS", "A=published", "NAME=event or NAME=manual between commas, not 'A=published'"),
        ("SAGA_CONFIRMATIONS", "A", "NAME=event or NAME=manual between commas, not 'A'"),
        ("SAGA_CONFIRMATIONS", "=event", "NAME=event or NAME=manual between commas, not '=event'"),
        ("SAGA_CONFIRMATIONS", '{"A": "manual"}', "NAME=event or NAME=manual between commas"),
        ("SAGA_CONFIRMATIONS", "A=manual,A=event", "contains A twice"),
        ("SAGA_CONFIRMATION_TIMEOUT", "5m", "must be a number"),
        ("SAGA_CONFIRMATION_TIMEOUT", "nan", "must be from"),
        ("SAGA_DEADLINE_HOLD", "-1", "must be from"),
        ("SAGA_RETRY_MAXIMUM_ATTEMPTS", "0", "must be from 1 to"),
        ("SAGA_RETRY_MAXIMUM_ATTEMPTS", "2.5", "an integer"),
        ("SAGA_RETRY_INITIAL_INTERVAL", "200", "must not be less than"),
        ("SAGA_RETRY_MAX_ATTEMPTS", "3", "did you mean SAGA_RETRY_MAXIMUM_ATTEMPTS"),
        ("API_PORT", "70000", "must be from 1 to 65535"),
        ("API_PORT", "tcp://10.0.0.1:80", "an integer"),
        ("API_THROTTLE_USER", "fast", "API_THROTTLE_USER"),
        ("API_PROXY_COUNT", "0", "must be from 1 to 10"),
    ],
)
def test_bad_values(name: str, value: str, words: str) -> None:
    found = problems({**PROD, name: value})

    assert len(found) == 1
    assert words in found[0]


DEV = {"ENVIRONMENT": "dev"}


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "::", "192.168.1.7", "10.0.0.1", "saga.example", "localhost.example", "2130706433"]
)
def test_dev_serves_this_machine_alone(host: str) -> None:
    found = problems({**DEV, "API_HOST": host})

    assert len(found) == 1
    assert "API_HOST must be a loopback address" in found[0]
    assert env.read({**PROD, "API_HOST": host}).api.host == host


@pytest.mark.parametrize("host", ["", "127.0.0.1", "127.1.2.3", "localhost", "LOCALHOST", "::1", "[::1]"])
def test_dev_on_this_machine(host: str) -> None:
    assert env.read({**DEV, "API_HOST": host}).is_dev


def test_a_wildcard_host_is_refused_in_dev_too() -> None:
    assert "wildcard" in problems({**DEV, "ALLOWED_HOSTS": "*"})[0]


@pytest.mark.parametrize(
    "url",
    [
        "pulsar://broker:6650",
        "pulsar://10.0.0.1:6650",
        "pulsar://127.0.0.1:6650,broker:6650",
        "pulsar://[2001:db8::1]:6650",
    ],
)
@pytest.mark.parametrize("base", [DEV, PROD])
def test_a_token_does_not_cross_the_network_in_clear_text(url: str, base: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("t0ken", encoding="utf-8")
    for token in ({"PULSAR_TOKEN": "t0ken"}, {"PULSAR_TOKEN_FILE": str(file)}):
        found = problems({**base, "PULSAR_SERVICE_URL": url, **token})
        assert len(found) == 1
        assert "clear text" in found[0]
        assert "t0ken" not in found[0]
    assert env.read({**base, "PULSAR_SERVICE_URL": url}).pulsar.service_url == url


@pytest.mark.parametrize(
    "url",
    ["pulsar+ssl://broker:6651", "pulsar://127.0.0.1:6650", "pulsar://localhost", "pulsar://[::1]:6650,127.0.0.1"],
)
def test_a_token_over_tls_or_on_this_machine(url: str) -> None:
    assert env.read({**PROD, "PULSAR_SERVICE_URL": url, "PULSAR_TOKEN": "t0ken"}).pulsar.token == "t0ken"


def test_a_token_does_not_cross_the_network_in_clear_text_to_the_admin_interface(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("t0ken", encoding="utf-8")
    there = {**PROD, "PULSAR_ADMIN_URL": "http://broker:8080"}
    for token in ({"PULSAR_TOKEN": "t0ken"}, {"PULSAR_TOKEN_FILE": str(file)}):
        [found] = problems({**there, **token})
        assert "clear text: use https:// in PULSAR_ADMIN_URL" in found
        for url in ("https://broker:8443", "http://127.0.0.1:8080", "http://[::1]:8080"):
            assert env.read({**PROD, "PULSAR_ADMIN_URL": url, **token}).pulsar.admin_url == url
    assert env.read(there).pulsar.admin_url == "http://broker:8080"


def test_all_problems_are_reported_at_once_and_none_shows_a_secret() -> None:
    with pytest.raises(env.ConfigurationError) as caught:
        env.read(
            {
                **PROD,
                "DATABASE_URL": "mysql://saga:hunter2@db/saga",
                "CELERY_BROKER_URL": "valkey://:hunter2@v",
                "SECRET_KEY": "hunter2",
                "API_PORT": "x",
            }
        )

    assert len(caught.value.problems) == 4
    assert "4 problems" in str(caught.value)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("name", ["SECRET_KEY", "DATABASE_URL", "CELERY_BROKER_URL", "PULSAR_TOKEN"])
def test_every_secret_can_come_from_a_file(name: str, tmp_path: Path) -> None:
    file = tmp_path / name
    file.write_text({**PROD, "PULSAR_TOKEN": "t0ken"}[name] + "\n", encoding="utf-8")
    source = {key: value for key, value in PROD.items() if key != name}

    settings = env.read({**source, f"{name}_FILE": str(file)})

    assert settings.service.secret_key == PROD["SECRET_KEY"]
    assert settings.database["PASSWORD"] == "pw"
    assert settings.pulsar.token == ("t0ken" if name == "PULSAR_TOKEN" else "")


def test_a_secret_given_twice_or_in_an_empty_file_is_a_problem(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.touch()

    found = problems({**PROD, "SECRET_KEY_FILE": str(file)})

    assert any("both set" in problem for problem in found)
    assert any("is empty" in problem for problem in found)


def test_settings_do_not_show_secrets_when_printed() -> None:
    shown = repr(env.read({**PROD, "PULSAR_TOKEN": "t0ken"}))

    assert not any(secret in shown for secret in (PROD["SECRET_KEY"], ":pw@", "t0ken"))


def test_a_command_in_prod_without_settings_says_all_that_is_missing() -> None:
    bare = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG")}
    done = subprocess.run(
        [sys.executable, str(env.ROOT / "manage.py"), "check"],
        env={**bare, "ENVIRONMENT": "prod"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 2
    assert "6 problems" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_running_stack_is_found_and_what_the_environment_says_wins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    inherited = {"DATABASE_URL": "postgresql://saga@stack/saga", "SAGA_FAILURE_SCOPE": "saga", "LOG_LEVEL": "ERROR"}
    stack_record.write(tmp_path, {"environment": inherited})
    for name in (*env.CONNECTIONS, "ENVIRONMENT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("STACK_DIR", str(tmp_path))
    monkeypatch.setenv("LOG_LEVEL", "DEBUG")

    lock = stack_record.take_lock(tmp_path)
    assert lock is not None
    found = env.load()

    assert found.is_dev
    assert (found.database["HOST"], found.sagas.failure_scope, found.service.log_level) == ("stack", "saga", "DEBUG")
    assert "stack.json" in capsys.readouterr().err

    lock.close()
    with pytest.raises(env.ConfigurationError):
        env.load()


BARE = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG")}
ENTRIES = [
    ["manage.py", "list_sagas"],
    ["manage.py", "migrate"],
    ["manage.py", "serve"],
    ["-m", "celery", "-A", "sagaproject", "worker"],
    ["-m", "celery", "-A", "sagaproject", "beat"],
]


def started(words: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words],
        env={**BARE, **environment},
        cwd=env.ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.mark.parametrize("words", ENTRIES, ids=" ".join)
def test_without_a_stack_every_process_begins_with_how_to_start_one(words: list[str], tmp_path: Path) -> None:
    done = started(words, STACK_DIR=str(tmp_path))

    assert done.returncode == 2
    assert done.stderr.splitlines()[0] == f"No stack is running in {tmp_path}: `make up` starts one."
    assert "Traceback" not in done.stderr
    assert "SECRET_KEY" not in done.stderr
    assert "ENVIRONMENT=prod" in done.stderr


@pytest.mark.parametrize("words", [["list_sagas"], ["migrate"], ["doctor"]], ids=" ".join)
def test_without_a_stack_a_command_for_development_says_so_too(words: list[str], tmp_path: Path) -> None:
    done = started(["manage.py", *words], STACK_DIR=str(tmp_path), ENVIRONMENT="dev")

    assert done.returncode == 1
    assert f"No stack is running in {tmp_path}: `make up` starts one." in done.stderr
    assert "Traceback" not in done.stderr


def refused(folder: Path, monkeypatch: pytest.MonkeyPatch, **environment: str) -> list[str]:
    """The lines that a process without any other setting ends with."""
    for name in env.names() | {"STACK_DIR"}:
        monkeypatch.delenv(name, raising=False)
    for name, value in {**environment, "STACK_DIR": str(folder)}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(env.ConfigurationError) as caught:
        env.load()
    return str(caught.value).splitlines()


def test_what_is_configured_is_judged_below_that_no_stack_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = refused(tmp_path, monkeypatch, ALLOWED_HOSTS="saga.example")

    assert lines[0].startswith("No stack is running")
    assert lines[1] == "As a production configuration, the environment has 5 problems:"
    assert len([line for line in lines if line.startswith("  - ")]) == 5


@pytest.mark.parametrize(
    "environment", [{"ENVIRONMENT": "prod"}, {"DATABASE_URL": PROD["DATABASE_URL"]}, {"PULSAR_SERVICE_URL_FILE": "/f"}]
)
def test_production_shows_its_problems_and_no_stack(
    environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = refused(tmp_path, monkeypatch, **environment)

    assert lines[0].startswith("The configuration has ")
    assert not any("stack" in line for line in lines)


def test_a_tree_without_the_development_tools_is_production(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(env, "ROOT", tmp_path)

    assert refused(tmp_path, monkeypatch)[0] == "The configuration has 6 problems:"


def test_a_stack_in_each_other_state_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    never = tmp_path / "never made"
    assert refused(never, monkeypatch)[0] == f"No stack is running in {never}: `make up` starts one."

    with stack_record.take_lock(tmp_path) or pytest.fail("locked"):
        starting = refused(tmp_path, monkeypatch)[0]
    assert (
        starting
        == f"No stack is running yet in {tmp_path}: one is starting. Wait until `make up` has printed the addresses."
    )

    stack_record.write(tmp_path, {"environment": {}})
    killed = refused(tmp_path, monkeypatch)[0]
    assert killed == f"No stack is running in {tmp_path}: the last one was killed. `make up` starts one."


def test_a_stack_of_another_user_is_not_used_and_its_owner_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack_record.write(tmp_path, {"environment": {"DATABASE_URL": "postgresql://theirs/saga"}})
    theirs = os.getuid()
    monkeypatch.setattr("os.getuid", lambda: theirs + 1)

    with stack_record.take_lock(tmp_path) or pytest.fail("locked"):
        line = refused(tmp_path, monkeypatch)[0]

    owner = pwd.getpwuid(theirs).pw_name
    assert line.startswith(f"No stack of yours is running: the one in {tmp_path} belongs to {owner}.")
    assert line.endswith("then run `make up`.")


def test_a_folder_that_may_not_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The tests may run as root, who may read every folder.
    monkeypatch.setattr("os.access", lambda path, mode: Path(path) != tmp_path)

    assert refused(tmp_path, monkeypatch)[0].startswith(f"No stack of yours is running: you may not read {tmp_path}.")


def test_stack_json_is_for_its_owner_alone(tmp_path: Path) -> None:
    stack_record.write(tmp_path, {"login": {}})

    assert stack_file.json_path(tmp_path).stat().st_mode & 0o077 == 0
    assert json.loads(stack_file.json_path(tmp_path).read_text(encoding="utf-8")) == {"login": {}}
    assert stack_file.running(tmp_path) is None


def test_two_stacks_cannot_share_a_folder(tmp_path: Path) -> None:
    lock = stack_record.take_lock(tmp_path)
    assert lock is not None

    with lock:
        assert stack_record.take_lock(tmp_path) is None


def test_every_name_is_documented() -> None:
    text = (env.ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")

    undocumented = {name for name in env.names() if not name.endswith("_FILE") and f"`{name}`" not in text}
    assert not undocumented
