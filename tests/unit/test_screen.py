"""What a command writes once nobody reads it any more."""

import os
import subprocess
import sys

from sagaproject import env

CODE = """
from devtools.screen import EXIT_CODE, Screen
import sys
screen = Screen()
called = []
screen.on_gone = lambda: called.append(1)
for number in range(3):
    screen.say("line")
    screen.result("line")
assert screen.gone and called == [1], (screen.gone, called)
sys.stdout.write("rest"), sys.stderr.write("rest")
raise SystemExit(EXIT_CODE)
"""


def test_a_screen_without_a_reader_is_noticed_once_and_nothing_fails_at_the_end() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", CODE], cwd=env.ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.close()
        said = process.stderr.read().decode()

    assert process.returncode == 141, said
    assert "Error" not in said


SIMULATOR = """
import django, os, sys
os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
django.setup()
from django.core.management import call_command
from devtools.management.commands import simulate_services

def simulate(*args, on_progress, **options):
    while True:
        sys.stderr.write("a line of the table\\n")

simulate_services.simulate = simulate
call_command("simulate_services", "--sagas", "1", "--once", "--json")
"""


def test_the_simulator_ends_without_a_traceback_when_no_one_reads_its_table() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", SIMULATOR], cwd=env.ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ
    ) as process:
        assert process.stdout
        assert process.stderr
        assert b"a line" in process.stderr.readline()
        process.stderr.close()
        said = process.stdout.read()

    assert process.returncode == 141
    assert said == b""
