"""The token with which Pulsar's admin interface is asked."""

from pathlib import Path

from bridge.pulsar.admin import PulsarAdmin
from tests.integration import fake_pulsar_admin


def test_a_token_that_is_replaced_in_its_file_is_taken_up(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("first\n", encoding="utf-8")
    with fake_pulsar_admin.running() as fake:
        admin = PulsarAdmin({"admin_url": fake.url, "token": "first", "token_file": str(file)})
        admin.stats("persistent://public/default/started")
        file.write_text("second\n", encoding="utf-8")
        fake.tokens.clear()
        admin.stats("persistent://public/default/started")
        assert set(fake.tokens) == {"Bearer second"}
        file.unlink()
        fake.tokens.clear()
        admin.stats("persistent://public/default/started")
        assert set(fake.tokens) == {None}


def test_a_token_without_a_file() -> None:
    with fake_pulsar_admin.running() as fake:
        admin = PulsarAdmin({"admin_url": fake.url, "token": "the-token", "token_file": ""})
        admin.stats("persistent://public/default/started")
        assert set(fake.tokens) == {"Bearer the-token"}
