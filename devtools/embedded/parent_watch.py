"""Run a command so that it cannot outlive the process that started it. Used by process.py as a script of its own.

Usage: parent_watch.py PARENT_PID SIGNAL UID GID COMMAND… — UID 0 keeps the user. On Linux the kernel sends SIGNAL when
the parent dies, however it dies. A command that does not end then is killed by the watcher (watcher.py).
"""

import ctypes
import os
import sys

PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> None:
    parent, death_signal, uid, gid = (int(word) for word in arguments[:4])
    if uid:
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    if sys.platform == "linux":
        # After the change of user, which would clear it again.
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, death_signal)
    if os.getppid() != parent:  # it died before the kernel was told
        sys.exit(1)
    os.execvp(arguments[4], arguments[4:])  # noqa: S606 (no shell is wanted)


if __name__ == "__main__":
    main(sys.argv[1:])
