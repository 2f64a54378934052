"""A copy of PostgreSQL's programs for a user who cannot reach the folder that they were installed in.

The programs of a wheel find their libraries in a neighbour of the package, relative to themselves. So the copy has the
shape of the folder that the wheel was installed in: PACKAGE/INSTALLATION/bin beside PACKAGE.libs.
"""

import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

PREFIX = "programs-"
# The copy of versions that left the libraries behind.
OLD_NAME = "postgres"


def copy(binaries: Path, into: Path) -> Path:
    """Copy the installation of the folder `binaries` below `into`, unless it is there; give the copy's bin folder.

    The copy's name depends on all files of the original, and it gets that name when it is complete: neither another
    version nor an interrupted copy is ever taken for it. Other copies below `into` are removed.
    """
    installation = binaries.parent
    root = installation.parent.parent
    target = into / f"{PREFIX}{_fingerprint(installation, root)}"
    if not target.exists():
        fresh = into / f"{PREFIX}new"
        shutil.rmtree(fresh, ignore_errors=True)
        for piece in _pieces(installation):
            shutil.copytree(piece, fresh / piece.relative_to(root), symlinks=True)
        _open_to_all(fresh)
        fresh.rename(target)
    for old in (into / OLD_NAME, *into.glob(f"{PREFIX}*")):
        if old != target:
            shutil.rmtree(old, ignore_errors=True)
    return target / binaries.relative_to(root)


def _pieces(installation: Path) -> Iterator[Path]:
    """Return the installation's folder and those that repaired wheels keep shared libraries in (Linux, macOS)."""
    package = installation.parent
    for piece in (installation, package.with_name(f"{package.name}.libs"), package / ".dylibs"):
        if piece.is_dir():
            yield piece


def _fingerprint(installation: Path, root: Path) -> str:
    digest = hashlib.sha256(str(root).encode())
    for piece in _pieces(installation):
        for path in sorted(piece.rglob("*")):
            status = path.lstat()
            digest.update(f"{path.relative_to(root)}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:12]


def _open_to_all(root: Path) -> None:
    """Let every user read the copy and run its programs, whatever the umask was when the original was installed."""
    for folder, _, files in os.walk(root):
        Path(folder).chmod(0o755)
        for name in files:
            path = Path(folder, name)
            if not path.is_symlink():
                path.chmod(0o755 if path.parent.name == "bin" or path.stat().st_mode & 0o100 else 0o644)
