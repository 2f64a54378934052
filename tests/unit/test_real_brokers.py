"""The real servers of the embedded stack: what is said where they cannot run, and which names choose them."""

from pathlib import Path

import pytest

from devtools.embedded import apache_pulsar, rabbitmq
from sagaproject import env
from sagaproject.environment import EmbeddedSettings


def program(folder: Path, name: str, says: str = "") -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{says}\n", encoding="utf-8")
    path.chmod(0o755)


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the only folder where programs are found."""
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def test_a_machine_without_java_names_what_to_install(programs: Path) -> None:
    assert "there is no `java` here" in apache_pulsar.missing()


def test_a_java_that_is_too_old_is_reported(programs: Path) -> None:
    program(programs, "java", "echo 'openjdk version \"11.0.2\" 2019-01-15' >&2")
    assert "is version 11" in apache_pulsar.missing()
    program(programs, "java", "echo 'java version \"1.8.0_202\"' >&2")
    assert "is version 8" in apache_pulsar.missing()


def test_a_machine_without_maven_names_what_to_install(programs: Path) -> None:
    program(programs, "java", "echo 'openjdk version \"21.0.1\" 2023-10-17' >&2")
    assert "there is no `mvn` here" in apache_pulsar.missing()
    program(programs, "mvn")
    assert apache_pulsar.missing() == ""


def test_a_machine_without_rabbitmq_names_what_to_install(programs: Path) -> None:
    assert "Debian: rabbitmq-server" in rabbitmq.missing()


def test_the_servers_are_chosen_by_name() -> None:
    assert env.read({"ENVIRONMENT": "dev"}).embedded == EmbeddedSettings("lite", "valkey")
    said = {"ENVIRONMENT": "dev", "BROKER": "apache", "CELERY_ON": "rabbitmq"}
    assert env.read(said).embedded == EmbeddedSettings("apache", "rabbitmq")
    with pytest.raises(env.ConfigurationError, match="BROKER must be one of lite, apache"):
        env.read({"ENVIRONMENT": "dev", "BROKER": "kafka"})


def test_a_folder_keeps_its_ports(tmp_path: Path) -> None:
    first = apache_pulsar._lasting_ports(tmp_path / "ports.json")
    (tmp_path / "ports.json").write_text(str(first).replace("'", '"'), encoding="utf-8")
    assert apache_pulsar._lasting_ports(tmp_path / "ports.json") == first
