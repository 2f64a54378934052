"""The first start on a machine that nobody prepared, and what is left when it is cleaned up."""

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg2
import pytest

from devtools.embedded import outside, postgres, programs
from devtools.embedded.process import StackError
from sagaproject import env

pytestmark = pytest.mark.acceptance


def installation(site: Path, content: str = "first") -> Path:
    """Make what looks like an installed wheel, readable by its owner alone; give its bin folder."""
    binaries = site / "wheel" / "pginstall18" / "bin"
    for file in (binaries / "postgres", site / "wheel" / "pginstall18" / "share" / "x", site / "wheel.libs" / "lib.so"):
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        file.write_text(content, encoding="utf-8")
        file.chmod(0o600)
    (site / "wheel.libs" / "link.so").unlink(missing_ok=True)
    (site / "wheel.libs" / "link.so").symlink_to("lib.so")
    return binaries


def test_the_copy_has_the_shape_of_the_wheel_and_can_be_read_by_all(tmp_path: Path) -> None:
    copied = programs.copy(installation(tmp_path / "site"), tmp_path)

    # The programs look for their libraries here, from where they are themselves.
    library = copied / ".." / ".." / ".." / "wheel.libs" / "link.so"
    assert library.read_text(encoding="utf-8") == "first"
    root = copied.parents[2]
    for path in (root, *root.rglob("*")):
        assert path.stat().st_mode & 0o005 == (0o005 if path.is_dir() or path.name == "postgres" else 0o004), path


def test_a_copy_that_was_interrupted_is_never_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    binaries = installation(tmp_path / "site")

    def interrupted(root: Path) -> None:
        (root / "wheel" / "pginstall18" / "bin" / "postgres").unlink()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(programs, "_open_to_all", interrupted)
        with pytest.raises(KeyboardInterrupt):
            programs.copy(binaries, tmp_path)

    assert (programs.copy(binaries, tmp_path) / "postgres").exists()


def test_another_version_and_the_copies_of_earlier_versions_are_replaced(tmp_path: Path) -> None:
    (tmp_path / "postgres" / "bin").mkdir(parents=True)
    (tmp_path / "postgres" / "bin" / "postgres").write_text("without its libraries", encoding="utf-8")
    first = programs.copy(installation(tmp_path / "site"), tmp_path)
    made = first.parents[2].stat().st_mtime_ns
    assert programs.copy(tmp_path / "site" / "wheel" / "pginstall18" / "bin", tmp_path) == first
    assert first.parents[2].stat().st_mtime_ns == made

    second = programs.copy(installation(tmp_path / "site", "second version"), tmp_path)

    assert (second / "postgres").read_text(encoding="utf-8") == "second version"
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["site", second.relative_to(tmp_path).parts[0]])


@pytest.mark.skipif(os.getuid() != 0, reason="only root runs PostgreSQL as somebody else")
def test_roots_postgres_starts_below_a_folder_that_only_root_may_enter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    installed = postgres.wheel_binaries().parent
    site = private / "site-packages"
    for folder in (installed.parent, installed.parent.with_name(f"{installed.parent.name}.libs")):
        shutil.copytree(folder, site / folder.name, symlinks=True)
    monkeypatch.setenv("PG_BIN", str(site / installed.parent.name / installed.name / "bin"))

    with postgres.temporary(private) as url:
        connection = psycopg2.connect(url)
        with connection.cursor() as cursor:
            cursor.execute("SHOW data_directory")
            (data,) = cursor.fetchone() or ("",)
        connection.close()

    home = outside.home(private / "postgres")
    assert Path(data) == home / "data"
    assert not home.exists()


def test_a_folder_outside_that_another_user_made_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outside, "PARENT", tmp_path)
    (tmp_path / "theirs").mkdir()
    outside.home(tmp_path / "var" / "postgres").symlink_to(tmp_path / "theirs")

    with pytest.raises(PermissionError, match="belongs to another user"):
        outside.make(tmp_path / "var" / "postgres")
    assert list((tmp_path / "theirs").iterdir()) == []


@pytest.fixture
def clones(tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    """Give two clones with all that `make clean` needs, and remove what they leave in /var/tmp."""
    names = [tmp_path / "one", tmp_path / "two"]
    try:
        for clone in names:
            (clone / "devtools" / "embedded").mkdir(parents=True)
            (clone / "var").mkdir()
            for file in ("Makefile", "devtools/embedded/outside.py"):
                shutil.copy(env.ROOT / file, clone / file)
        yield names[0], names[1]
    finally:
        for clone in names:
            for made in outside.standing_for(clone / "var"):
                shutil.rmtree(made)


def clean(clone: Path) -> "subprocess.CompletedProcess[str]":
    words = ["make", "clean", f"PYTHON={sys.executable}"]
    return subprocess.run(words, cwd=clone, capture_output=True, text=True, check=False, timeout=60)


def test_make_clean_removes_what_stands_for_its_own_folder_and_nothing_else(clones: tuple[Path, Path]) -> None:
    clone, other = clones
    ours = [outside.make(clone / "var" / "postgres"), outside.make(clone / "var" / "bench" / "postgres")]
    theirs = outside.make(other / "var" / "postgres")
    # As `cp -a` of a clone leaves it: the link of the original, which is not the copy's to follow.
    (clone / "var" / "postgres").symlink_to(theirs)

    done = clean(clone)

    assert done.returncode == 0, done.stderr
    assert not (clone / "var").exists()
    assert not any(made.exists() for made in ours)
    assert theirs.exists()


def test_make_clean_also_removes_what_a_version_without_a_note_left(clones: tuple[Path, Path]) -> None:
    made = outside.make(clones[0] / "var" / "postgres")
    (made / outside.NOTE).unlink()

    assert clean(clones[0]).returncode == 0
    assert not made.exists()


@pytest.mark.parametrize("folder", ["var", "var/bench"])
def test_make_clean_removes_nothing_while_a_stack_runs(clones: tuple[Path, Path], folder: str) -> None:
    clone, _ = clones
    made = outside.make(clone / "var" / "postgres")
    (clone / folder).mkdir(exist_ok=True)
    with (clone / folder / "stack.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        refused = clean(clone)
    assert refused.returncode != 0
    assert f"A stack runs in {clone / folder}" in refused.stderr
    assert made.exists()
    assert (clone / folder).exists()

    assert clean(clone).returncode == 0
    assert not made.exists()


def test_a_missing_embedded_server_says_which_file_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres, "wheel_folder", lambda name: None)
    with pytest.raises(StackError, match=r"pip install -r requirements-stack\.txt"):
        postgres.wheel_binaries()
