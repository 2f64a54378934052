"""`make compare BASE=<commit>`: is this tree slower than that commit?

python -m tests.bench.compare COMMIT [--runs 5] [--only NAME…] [--quick] [--json FILE]

The commit is checked out into a git worktree of its own. Each tree measures with its own `tests.bench`, one run at a
time, in turn, each first every other time; both use the packages of this environment. Where valgrind is installed the
instructions of the service's own code are counted as well; --runs 0 does nothing else. Read the table's last column.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sagaproject import env
from tests.bench import comparison, instructions
from tests.bench.rig import roomy

RUNS = 5
_SIDES = ("base", "new")


def main(words: Sequence[str]) -> None:
    options = _options(words)
    folder = Path(tempfile.mkdtemp(prefix="saga-compare-", dir=roomy()))
    folder.chmod(0o755)
    try:
        with _checked_out(options.commit, folder / "base") as base:
            trees = {"base": base, "new": env.ROOT}
            counted = _count(trees, folder)
            results = _measure(trees, folder, options)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    content = {"base": options.commit, "quick": options.quick, "results": results, "instructions_an_event": counted}
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    if counted:
        sys.stdout.write(comparison.instructions(counted["base"], counted["new"]) + "\n\n")
    if options.runs:
        sys.stdout.write(comparison.table(results["base"], results["new"]) + "\n")


def _options(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.compare", description="Compare with another commit.")
    parser.add_argument("commit", help="the commit to compare with")
    names = tuple(comparison.MEASURES)
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="NAME", help=", ".join(names))
    parser.add_argument("--runs", type=int, default=RUNS, help=f"of each commit (default {RUNS}; fewer decide nothing)")
    parser.add_argument("--quick", action="store_true", help="little of each: does it run at all?")
    parser.add_argument("--json", type=Path, default=env.ROOT / "var" / "bench-compare.json")
    return parser.parse_args(words)


@contextmanager
def _checked_out(commit: str, tree: Path) -> Iterator[Path]:
    git = ("git", "-C", str(env.ROOT), "worktree")
    subprocess.run([*git, "add", "--quiet", "--detach", str(tree), commit], check=True)
    try:
        yield tree
    finally:
        subprocess.run([*git, "remove", "--force", str(tree)], check=True)


def _count(trees: Mapping[str, Path], folder: Path) -> dict[str, dict[str, float]]:
    """Instructions by side; empty without valgrind."""
    if not instructions.is_possible():
        _say("valgrind is not installed: no instructions are counted")
        return {}
    found = {}
    for side, tree in trees.items():
        _say(f"counting instructions: {side}")
        place = folder / f"counts-{side}"
        place.mkdir(mode=0o755)
        found[side] = instructions.count(tree, place)
    return found


def _measure(
    trees: Mapping[str, Path], folder: Path, options: argparse.Namespace
) -> dict[str, dict[str, list[Mapping[str, Any]]]]:
    """Runs by side and scenario."""
    found: dict[str, dict[str, list[Mapping[str, Any]]]] = {side: {name: [] for name in options.only} for side in trees}
    command = [sys.executable, "-m", "tests.bench", "--runs", "1", "--json", str(folder / "bench.json")]
    command += ["--quick"] if options.quick else []
    for number in range(options.runs):
        for side in _SIDES if number % 2 == 0 else _SIDES[::-1]:
            _say(f"run {number + 1} of {options.runs}: {side}")
            subprocess.run([*command, "--only", *options.only], cwd=trees[side], check=True, stdout=subprocess.DEVNULL)
            results = json.loads((folder / "bench.json").read_text(encoding="utf-8"))["results"]
            for name in options.only:
                found[side][name] += results[name]
    return found


def _say(words: str) -> None:
    sys.stderr.write(f"{words}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
