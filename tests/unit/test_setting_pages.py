"""One declaration of the settings: .env.example, docs/configuration.md and docker-compose.yml agree with it."""

import re
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

import pytest
import yaml
from django.conf import settings

from devtools import setting_pages
from sagaproject import env, environment
from sagaproject.env_reader import Reader
from sagaproject.setting import flat, integer, read_group, settings_of

COMPOSE = (env.ROOT / "docker-compose.yml").read_text(encoding="utf-8")
EVERY_GROUP = [group for _, groups in environment.SECTIONS for group in groups]
# Variables in docker-compose.yml that belong to the images of other programs, and to Celery.
FOREIGN = {"REMAP_SIGTERM"}


def test_the_committed_files_are_those_that_make_settings_writes() -> None:
    page = setting_pages.PAGE.read_text(encoding="utf-8")
    assert page == setting_pages.page(page), "run make settings"
    assert setting_pages.EXAMPLE.read_text(encoding="utf-8") == setting_pages.example(), "run make settings"


def test_every_setting_is_in_a_section_and_described() -> None:
    groups = {group for group in get_type_hints(environment.Environment).values() if is_dataclass(group)}
    assert groups | {environment.StackSettings} == set(EVERY_GROUP)
    for group in EVERY_GROUP:
        assert {one.name for one in fields(group)} == {name for name, _ in settings_of(group)}
    for setting, text in setting_pages.described(tuple(EVERY_GROUP)):
        assert text.endswith("."), setting.name
        assert "|" not in text, setting.name


def test_no_two_settings_have_one_name() -> None:
    names = [setting.name for group in EVERY_GROUP for _, setting in settings_of(group)]
    assert len(names) == len(set(names))


@dataclass(frozen=True, slots=True, kw_only=True)
class Added:
    limit: int = integer("ADDED_LIMIT", 7, 1, 9)
    """The number of things. There are never
    more."""


def test_one_declaration_puts_a_setting_on_both_pages_and_into_django(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "SECTIONS", (("Added", (Added,)),))
    page = setting_pages.page("text\n<!-- settings: Added -->\n<!-- end of settings -->\nmore text\n")
    assert "| `ADDED_LIMIT` | `7` | 1 to 9 | The number of things. There are never more. |\n" in page
    assert page.startswith("text\n")
    assert page.endswith("more text\n")
    assert "# The number of things.\n# ADDED_LIMIT=7\n" in setting_pages.example()
    reader = Reader({"ADDED_LIMIT": "9"})
    assert flat("ADDED", read_group(Added, reader, dev=False)) == {"ADDED_LIMIT": 9}
    assert reader.known == {"ADDED_LIMIT"}


def test_a_page_without_the_region_of_a_section_is_an_error() -> None:
    with pytest.raises(ValueError, match="no region"):
        setting_pages.page("nothing")


def test_django_has_every_setting_of_the_flat_groups() -> None:
    for name in ("SAGA_CONFIRMATION_TIMEOUT", "BRIDGE_MAX_BODY", "APPLY_TURNS", "API_THROTTLE_ANON"):
        assert hasattr(settings, name)


def test_docker_compose_names_only_settings_that_exist() -> None:
    known = env.names()
    interpolated = set(re.findall(r"(?<!\$)\$\{(\w+)", COMPOSE))
    assert interpolated
    assert interpolated <= known
    for name, service in ours().items():
        assert set(service["environment"]) - FOREIGN <= known, name


def test_docker_compose_with_the_example_file_is_a_production_that_starts(tmp_path: Path) -> None:
    example = dict(re.findall(r"^(\w+)=(.*)$", setting_pages.example(), re.MULTILINE))
    secrets = {
        "secret_key": "kT9x2Lw8QzR4vB7nM1pY6cF3hJ5gD0sA-uEiOoXbVq",
        "database_url": "postgresql://saga:pw@postgres:5432/saga",
        "celery_broker_url": "redis://:pw@valkey:6379/0",
    }
    for name, value in secrets.items():
        (tmp_path / name).write_text(value, encoding="utf-8")
    for service in ours().values():
        given = {name: interpolate(value, example, tmp_path) for name, value in service["environment"].items()}
        found = env.read({**example, **given})
        assert not found.is_dev
        assert found.sagas.publishing == "paused"


def ours() -> dict[str, Any]:
    """Return the services of docker-compose.yml that run this service's image."""
    services: dict[str, Any] = yaml.safe_load(COMPOSE)["services"]
    found = {name: service for name, service in services.items() if service["image"].startswith("saga-service:")}
    assert set(found) == {"migrate", "web", "worker", "beat", "bridge"}
    return found


def interpolate(value: str, example: dict[str, str], secrets: Path) -> str:
    def named(match: re.Match[str]) -> str:
        name, default = match.groups()
        return example.get(name) or default

    return re.sub(r"\$\{(\w+):[-?]([^}]*)\}", named, value).replace("/run/secrets", str(secrets))
