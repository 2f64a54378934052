#!/usr/bin/env python3
"""Django's command line for the saga service."""

# The module signal imports enum and more; Ctrl-C during that import would print a traceback.
import _signal  # type: ignore[import-not-found]
import os
import sys


def main() -> None:
    if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:  # ignored under nohup and in background jobs
        _signal.signal(_signal.SIGINT, _interrupted)
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "sagaproject.settings")
    from django.core.management import execute_from_command_line
    from django.db import OperationalError

    from sagaproject.env import ConfigurationError
    from sagas.management import output

    output.prepare_streams()
    try:
        execute_from_command_line(sys.argv)
    except ConfigurationError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(2)
    except OperationalError:
        from django.conf import settings

        if not settings.NO_STACK:
            raise
        sys.stderr.write(f"{settings.NO_STACK}\n")
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


def _interrupted(*_: object) -> None:
    """Exit immediately during an import, where an exception might be swallowed or wrapped; otherwise raise one."""
    frame = sys._getframe().f_back
    while frame is not None:
        if frame.f_globals.get("__name__") in ("importlib._bootstrap", "_frozen_importlib"):
            os._exit(130)
        frame = frame.f_back
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
