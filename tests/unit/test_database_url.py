"""DATABASE_URL in every spelling that people use, and in some that they should not."""

import pytest

from sagaproject import database_url


@pytest.mark.parametrize("scheme", sorted(database_url.SCHEMES))
def test_every_scheme_names_the_same_database(scheme: str) -> None:
    entry = database_url.parse(f"{scheme}://saga:s%2Fe%40cret@db.example:5433/saga")

    assert (entry["HOST"], entry["PORT"], entry["USER"], entry["PASSWORD"], entry["NAME"]) == (
        "db.example",
        "5433",
        "saga",
        "s/e@cret",
        "saga",
    )


@pytest.mark.parametrize(
    ("url", "host", "port"),
    [
        ("postgresql:///saga?host=/var/run/postgresql", "/var/run/postgresql", ""),
        ("postgresql://saga@/saga?host=/tmp&port=5433", "/tmp", "5433"),
        ("postgresql://saga@%2Fvar%2Frun/saga", "/var/run", ""),
        ("postgresql://saga@[::1]:5433/saga", "::1", "5433"),
        ("postgresql://saga@/saga?host=a,b&port=1,2", "a,b", "1,2"),
    ],
)
def test_places(url: str, host: str, port: str) -> None:
    entry = database_url.parse(url)

    assert (entry["HOST"], entry["PORT"]) == (host, port)


@pytest.mark.parametrize(
    ("query", "option", "value"),
    [
        ("sslmode=verify-full", "sslmode", "verify-full"),
        ("ssl=require", "sslmode", "require"),
        ("ssl=true", "sslmode", "require"),
        ("sslrootcert=/etc/ca.pem", "sslrootcert", "/etc/ca.pem"),
        ("connect_timeout=9", "connect_timeout", "9"),
        ("application_name=a%20b", "application_name", "a b"),
    ],
)
def test_options(query: str, option: str, value: str) -> None:
    assert database_url.parse(f"postgresql://saga@db/saga?{query}")["OPTIONS"][option] == value


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("mysql://saga@db/saga", "must begin with postgresql://"),
        ("saga", "must begin with postgresql://"),
        ("postgresql://saga@db", "has no database name"),
        ("postgresql://saga@db:port/saga", "has a port"),
        ("postgresql://saga@db:70000/saga", "has a port"),
        ("postgresql://saga:a#b@db/saga", "%23"),
        ("postgresql://saga@db/saga?sslmode=yes", "sslmode"),
        ("postgresql://saga@db/saga?pool_size=5", "pool_size"),
        ("postgresql://saga@a:1,b:2/saga", "several hosts"),
        ("postgresql://saga@[::1/saga", "is not a valid URL"),
    ],
)
def test_what_is_wrong_is_reported_in_plain_text(url: str, words: str) -> None:
    with pytest.raises(database_url.DatabaseUrlError, match=words):
        database_url.parse(url)


def test_what_the_url_says_of_the_session_wins() -> None:
    entry = database_url.parse("postgresql://saga@db/saga?options=-c%20statement_timeout%3D5s")

    options = database_url.with_server_settings(entry, {"statement_timeout": "30s"})["OPTIONS"]["options"]

    assert options == "-c statement_timeout=30s -c statement_timeout=5s"
