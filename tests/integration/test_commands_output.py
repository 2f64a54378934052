"""What commands print: no terminal obeys it, no encoding breaks it, and a stream that fails changes no exit code."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import pty
import subprocess
import sys
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command, get_commands
from django.db import connection
from knox.models import get_token_model

from bridge import event_log
from devtools.filling.fill import Filled
from devtools.management.commands import demo, simulate_services
from devtools.simulator.report import Report, Unexpected
from sagaproject import doctor
from sagas.applying.apply import run_apply
from sagas.management import output
from sagas.models import Decision, SagaLog
from tests.integration import decided
from tests.integration.story import event, retrieval
from tests.integration.terminal import Typed
from tests.unit.test_simulator_judge import snapshot

pytestmark = pytest.mark.django_db(transaction=True)

ROOT = Path(__file__).parents[2]
# Clear the screen, set the window's title, forge a line, ring, colour by C1, write backwards, hide; and letters.
EVIL = "boom \x1b[2J\x1b]0;owned\x07\r\nforged \x9b31m \x7f \u202eabc\u200b \U0001f600 ñ →"
TASK = "tarea-ñ-日-\U0001f600"
NAME = "imagen-ñ-日"
ENCODINGS = ("ascii", "latin-1", "utf-8")


@pytest.fixture
def evil(settings: Any) -> SagaLog:
    """A saga whose ids and texts are as bad as the bridge lets in, with commands that were refused in such words."""
    settings.SAGA_RETRY = {**settings.SAGA_RETRY, "maximum_attempts": 1}
    event_log.append([*retrieval(TASK, [NAME]), event("RetrievalFailed", TASK, seconds=20, error_message=EVIL)])
    run_apply()
    run_apply()
    decided.published()
    event_log.append([event("ImageDeletionFailed", TASK, NAME, seconds=30, error_message=EVIL)])
    run_apply()
    run_apply()
    return SagaLog.objects.get(key=TASK)


def payload(words: Sequence[str]) -> Sequence[str]:
    """The option that shows error texts, for a command that has it."""
    return ["--payload"] if words[0] in ("list_sagas", "show_saga", "verify_sagas", "replay_saga") else []


def printed(encoding: str, name: str, *words: object) -> tuple[int, str, str]:
    """Run a command on streams of this encoding that refuse what it lacks, as a terminal's do."""
    streams = [io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="strict") for _ in range(2)]
    code = 0
    # A screen writes to the process's own streams.
    with contextlib.redirect_stdout(streams[0]), contextlib.redirect_stderr(streams[1]):
        try:
            call_command(name, *map(str, words), stdout=streams[0], stderr=streams[1])
        except SystemExit as ended:
            code = int(ended.code or 0)
    texts = []
    for stream in streams:
        stream.flush()
        raw = stream.buffer.getvalue()
        texts.append(raw.decode(encoding))
    return code, texts[0], texts[1]


def objects(text: str) -> list[Any]:
    """The JSON objects that a text consists of."""
    found, decoder = [], json.JSONDecoder()
    while text := text.strip():
        one, end = decoder.raw_decode(text)
        found.append(one)
        text = text[end:]
    return found


def assert_safe(text: str, about: object) -> None:
    """Every character is one that a terminal shows; Cc are control characters, Cf change directions or hide."""
    bad = {char for char in text if char != "\n" and unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp")}
    assert not bad, (about, bad)
    assert not [line for line in text.splitlines() if line.startswith("forged")], (about, text)


INCIDENT = str(UUID(int=7))
DECISIONS: list[tuple[str, ...]] = [
    ("force_compensation", TASK),
    ("cancel_saga", TASK),
    ("terminate_saga", TASK),
    ("close_retrieval", TASK, "--images", "9"),
    ("resume_saga", TASK),
    ("replay_saga", TASK, "--apply"),
    ("retry_command", "--saga", TASK),
    ("skip_command", "--saga", TASK),
    ("mark_done", "--saga", TASK),
    ("withdraw_commands", "--saga", TASK),
    ("release_commands", "--saga", TASK),
    ("attach", "--key", f"{TASK}-2", "--saga", TASK),
    ("adopt", f"{TASK}-2"),
    ("dismiss", "--key", f"{TASK}-2"),
    ("requeue_message", "7"),
    ("dismiss_message", "7"),
    ("pause_publishing",),
    ("resume_publishing",),
    ("acknowledge_incident", INCIDENT, "--until", "2099-01-01"),
    ("assign_incident", INCIDENT, "--owner", "ñandú"),
    ("note_incident", INCIDENT),
]
READS: list[tuple[str, ...]] = [
    ("list_sagas",),
    ("show_saga", TASK),
    ("verify_sagas",),
    ("incidents",),
    ("incidents", INCIDENT),
    ("run_job", "cancel", TASK, "--dry-run", "--no-wait"),
    ("jobs",),
    ("describe_saga_type",),
    ("describe_saga_type", "image_processing"),
    ("create_token", "--user", "ñandú"),
    ("prune", "--days", "1"),
    ("doctor",),
    ("fill", "--sagas", "1", "--yes"),
    ("simulate_services",),
    ("demo", "--once"),
]
# These print nothing of what services said: they serve, or say one word of their own.
OWN_WORDS = {"serve", "up", "probe", "dev_login", "run_bridge"}


@pytest.fixture
def foreign_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the commands of the composition would hear of servers that this test does not start."""
    monkeypatch.setattr(
        doctor, "examine", lambda: iter([doctor.Finding("topics", doctor.FindingLevel.ERROR, EVIL, EVIL)])
    )
    monkeypatch.setattr("devtools.filling.fill.fill", lambda *_: Filled(sagas=1, events=3, statuses={"COMPLETED": 1}))
    monkeypatch.setattr("devtools.filling.fill.analyze", lambda: None)
    surprise = Unexpected(TASK, EVIL, EVIL, EVIL, EVIL, EVIL)
    report = Report("r", 1, 1, 3, {"COMPLETED": 1}, {"confirmed": 0}, {}, {}, [surprise], False, 1.0)

    def simulate(*_: Any, on_progress: Any, on_verdict: Any, **__: Any) -> Report:
        on_progress(snapshot(trouble=EVIL))
        on_verdict(report)
        return report

    class Stack:
        environment = {"PULSAR_SERVICE_URL": "pulsar://127.0.0.1:1"}
        api_url = ""

        def __init__(self, *_: Any) -> None: ...

        def greeting(self) -> str:
            return "hello"

        def watch(self) -> None: ...

    @contextlib.contextmanager
    def running(*_: Any) -> Iterator[Callable[[], bool]]:
        yield lambda: False

    monkeypatch.setattr(simulate_services, "simulate", simulate)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    monkeypatch.setattr(demo, "simulate", simulate)
    monkeypatch.setattr("devtools.embedded.stack.Stack", Stack)
    monkeypatch.setattr("devtools.embedded.foreground.running", running)


def test_every_command_is_in_one_of_these_lists() -> None:
    ours = {
        name
        for name, app in get_commands().items()
        if app in ("sagas", "sagaproject", "devtools", "bridge", "compensation")
    }
    assert {words[0] for words in DECISIONS + READS} | OWN_WORDS == ours


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.usefixtures("foreign_words")
def test_what_every_command_prints_is_safe_on_every_terminal(encoding: str, evil: SagaLog) -> None:
    User.objects.create_user("ñandú")
    decided.incident(facets={"saga_type": EVIL})
    event_log.append([event("ProcessingStarted", f"{TASK}-2", NAME, seconds=40)])
    run_apply()
    SagaLog.objects.filter(id=evil.id).update(error_message=f"{EVIL} changed")  # verify and replay show it
    for words in DECISIONS:
        for form in ((), ("--json",)):
            for more in (("--dry-run",), ("--reason", EVIL, "--yes")):
                code, out, err = printed(encoding, *words, *payload(words), *more, *form)
                assert code in (0, 1, 2, 3, 4), (words, err)
                assert out or err, words
                assert_safe(out + err, words)
                if form:
                    assert out.isascii()
    SagaLog.objects.filter(id=evil.id).update(error_message=f"{EVIL} changed")
    for words in READS:
        for form in ((), ("--json",)):
            code, out, err = printed(encoding, *words, *payload(words), *form)
            assert code in (0, 1), (words, err)
            assert_safe(out + err, words)
            if form:
                assert out.isascii(), words
                assert objects(out), words
            if words == ("simulate_services",):
                assert "\\x1b]0;owned\\x07" in err  # of the table that shows its progress


def test_what_is_replaced_can_still_be_recognised(evil: SagaLog) -> None:
    _, out, _ = printed("ascii", "show_saga", evil.id, "--payload")
    assert "boom \\x1b[2J\\x1b]0;owned\\x07\\x0d\\x0aforged \\x9b31m \\x7f \\u202eabc\\u200b" in out
    assert "\\U0001f600 \\xf1 ->" in out
    _, out, _ = printed("utf-8", "show_saga", evil.id, "--payload")
    assert "\U0001f600 ñ →" in out
    _, out, _ = printed("ascii", "show_saga", evil.id, "--payload", "--json")
    assert json.loads(out)["error_message"] == EVIL


def test_columns_of_a_table_stay_columns(evil: SagaLog) -> None:
    _, out, _ = printed("utf-8", "list_sagas", "--payload")
    head, row, _ = out.splitlines()
    assert output.width(head[: head.index("error")]) == output.width(row[: row.index("boom")])


def test_what_a_text_looks_like() -> None:
    assert output.visible("plain ñ 日\n\t") == "plain ñ 日\n\t"
    assert output.visible("a\rb\x00\x85\u2028\ufeff\u2066") == "a\\x0db\\x00\\x85\\u2028\\ufeff\\u2066"
    assert output.visible("1\xa0000\u2009km") == "1\xa0000\u2009km"
    assert output.one_line("a\nb\tc\ud83d") == "a\\x0ab\\x09c\\ud83d"
    assert output.one_line(output.one_line(EVIL)) == output.one_line(EVIL)
    assert [output.width(text) for text in ("abc", "日本", "e\u0301", "\U0001f600")] == [3, 4, 1, 2]
    assert output.as_json({"a": "\x7f\x9b\u202eñ"}) == '{"a": "\\u007f\\u009b\\u202e\\u00f1"}'


# --- as a shell runs it -----------------------------------------------------------------------------------------------


def database_url() -> str:
    said = connection.settings_dict
    return f"postgresql://{said['USER']}:{said['PASSWORD']}@{said['HOST']}:{said['PORT']}/{said['NAME']}"


def shell(line: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """Run a line of bash in which `manage` is manage.py on this test's database."""
    command = f'manage() {{ "{sys.executable}" manage.py "$@"; }}; {line}'
    bare = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME")}
    # Without warnings of kombu, whose broker is in memory here.
    told = {
        **bare,
        "LOG_LEVEL": "ERROR",
        "DJANGO_SETTINGS_MODULE": "tests.settings",
        "DATABASE_URL": database_url(),
        **environment,
    }
    return subprocess.run(
        ["bash", "-c", command], cwd=ROOT, env=told, stdin=subprocess.DEVNULL, capture_output=True, check=False
    )


TERMINALS = [
    {"LC_ALL": "C", "PYTHONIOENCODING": "ascii"},
    {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    {"PYTHONIOENCODING": "latin-1"},
]


@pytest.mark.parametrize("terminal", TERMINALS, ids=str)
def test_a_decision_on_a_terminal_of_another_encoding_exits_with_0(terminal: dict[str, str], evil: SagaLog) -> None:
    ran = shell(f"manage terminate_saga {evil.id} --yes --reason because", **terminal)
    assert (ran.returncode, ran.stderr) == (0, b"")
    assert b"done terminate saga" in ran.stdout
    assert b"->" in ran.stdout
    assert not [byte for byte in ran.stdout if byte != 0x0A and (byte < 0x20 or 0x7F <= byte <= 0x9F)]
    assert Decision.objects.count() == 1
    for words in (f"show_saga {evil.id}", "simulate_services --help", "list_sagas --json"):
        ran = shell(f"manage {words}", **terminal)
        assert (ran.returncode, ran.stderr) == (0, b""), words


LOST = [
    (">/dev/full", b"The answer could not be written: No space left on device.\n"),
    (">/dev/full 2>/dev/full", b""),
    (">&-", b""),
    (">&- 2>&-", b""),
    ("| true", b""),
]


@pytest.mark.parametrize(("where", "said"), LOST)
def test_a_decision_whose_answer_is_lost_exits_with_its_own_code(where: str, said: bytes) -> None:
    sagas = [decided.running(1)[0] for _ in range(3)]
    ids = " ".join(str(saga.id) for saga in sagas)
    ran = shell(f"set -o pipefail; manage force_compensation {ids} --yes --reason because {where}")
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, b"", said)
    assert Decision.objects.count() == 3, "none was left out"


def test_a_refusal_whose_answer_is_lost_exits_with_its_own_code() -> None:
    one, (ended, _) = decided.running(1)[0], decided.completed()
    for where in (">/dev/full", ">&-"):
        ran = shell(f"manage cancel_saga {ended.id} {one.id} --yes --json --reason because {where}")
        assert ran.returncode == 4
        assert b"Traceback" not in ran.stderr
    assert Decision.objects.count() == 1


def test_what_only_looks_exits_with_1_where_the_answer_is_lost() -> None:
    saga, _ = decided.running(1)
    for words in (
        *("list_sagas", f"show_saga {saga.id}", "describe_saga_type image_processing"),
        f"force_compensation {saga.id} --dry-run",
    ):
        ran = shell(f"manage {words} >/dev/full")
        assert (ran.returncode, ran.stderr) == (1, LOST[0][1]), words
    ran = shell(f"set -o pipefail; manage force_compensation {saga.id} --dry-run | true")
    assert (ran.returncode, ran.stderr) == (0, b"")


def test_a_difference_sets_the_exit_code_also_for_a_closed_pipe() -> None:
    saga, _ = decided.running(1)
    SagaLog.objects.filter(id=saga.id).update(steps_count=77)
    for words in ("verify_sagas", f"replay_saga {saga.id}"):
        ran = shell(f"set -o pipefail; manage {words} | true")
        assert (ran.returncode, ran.stderr) == (1, b""), words


def test_a_token_that_could_not_be_printed_does_not_exist() -> None:
    User.objects.create_user("robot")
    ran = shell("manage create_token --user robot >/dev/full")
    assert (ran.returncode, ran.stderr) == (1, LOST[0][1])
    assert not get_token_model().objects.exists()


def test_a_text_in_another_encoding_is_refused_before_anything_is_decided() -> None:
    saga, _ = decided.running(1)
    for words in (f"{saga.id} --reason $'caf\\xe9'", f"{saga.id} --reason x --actor $'\\xe9'", "$'\\xe9' --reason x"):
        ran = shell(f"manage force_compensation {words} --yes", LC_ALL="C.UTF-8")
        assert ran.returncode in (2, 3), ran.stderr
        assert (ran.stdout, ran.stderr.count(b"\n")) == (b"", 1), ran.stderr
    for words in ("list_sagas --task $'\\xe9'", "create_token --user $'\\xe9'", "describe_saga_type $'\\xe9'"):
        assert b"Traceback" not in shell(f"manage {words}", LC_ALL="C.UTF-8").stderr, words
    ran = shell(
        f"printf '%s\\n' $'caf\\xe9' {saga.id} | manage force_compensation - --dry-run", PYTHONIOENCODING="ascii"
    )
    assert ran.returncode == 3, ran.stderr
    assert not Decision.objects.exists()


# --- streams that fail, in this process -------------------------------------------------------------------------------


class Broken(io.StringIO):
    """A stream that takes nothing."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number

    def write(self, text: str) -> int:
        raise OSError(self.number, os.strerror(self.number))


@pytest.mark.usefixtures("foreign_words")
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EPIPE, errno.EIO])
def test_the_code_is_the_verdicts_where_the_answer_is_lost(number: int) -> None:
    verdicts: list[tuple[str, ...]] = [("doctor",), ("doctor", "--json"), ("simulate_services", "--json")]
    for words in (*verdicts, ("demo", "--once", "--json")):
        with pytest.raises(SystemExit) as ended:
            call_command(*words, stdout=Broken(number), stderr=io.StringIO())
        assert ended.value.code == 1, words
    done: list[tuple[str, ...]] = [("fill", "--sagas", "1", "--yes"), ("prune", "--days", "1")]
    for words in done:
        err = io.StringIO()
        call_command(*words, stdout=Broken(number), stderr=err)
        assert ("could not be written" in err.getvalue()) == (number != errno.EPIPE)


def test_a_question_that_could_not_be_written_is_a_no(monkeypatch: pytest.MonkeyPatch) -> None:
    saga, _ = decided.running(1)
    monkeypatch.setattr(sys, "stdin", Typed("y\n"))
    with pytest.raises(SystemExit) as ended:
        call_command("cancel_saga", str(saga.id), "--reason", "x", stdout=io.StringIO(), stderr=Broken(errno.EIO))
    assert ended.value.code == 1
    assert not Decision.objects.exists()


def test_a_connection_that_breaks_is_no_reader_that_left(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise BrokenPipeError("the Celery broker went away")

    monkeypatch.setattr("sagas.queries.sagas.list_sagas", broken)
    with pytest.raises(BrokenPipeError):
        call_command("list_sagas", stdout=io.StringIO())


# --- the live table ---------------------------------------------------------------------------------------------------

LIVE = """
from sagas.management import output
output.prepare_streams()
from devtools.simulator import table
from tests.unit.test_simulator_judge import Row, report, snapshot
evil = {evil!r}
with table.display() as show:
    show(snapshot(trouble=evil, rows=[Row("[red]" + evil, evil, 3, evil, evil)]))
"""


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_the_live_table_is_safe_on_a_terminal_of_any_encoding(encoding: str) -> None:
    master, slave = pty.openpty()
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "TERM": "xterm", "COLUMNS": "400"}
    process = subprocess.Popen(
        [sys.executable, "-c", LIVE.format(evil=EVIL)], cwd=ROOT, env=environment, stderr=slave, stdout=slave
    )
    os.close(slave)
    seen = b""
    with contextlib.suppress(OSError):  # the end of a terminal's output
        while part := os.read(master, 65536):
            seen += part
    os.close(master)
    assert process.wait(60) == 0, seen
    text = seen.decode(encoding)
    assert "\\x1b]0;owned\\x07" in text
    assert "[red]boom" in text
    assert not [obeyed for obeyed in ("\x1b]", "\x1b[2J", "\x07", "\x9b", "\u202e", "\u200b") if obeyed in text]
