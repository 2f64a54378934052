"""One line a record: time, level, logger, message, then the ids and counts given as `extra`."""

import logging
import time

# What every record has anyway; the rest came in as `extra`.
STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "data", "request"}
# Values of `extra` that are shown: short ids, numbers and words. Anything bigger might be payload.
SHOWN = (str, int, float, bool)
LONGEST = 200


class LineFormatter(logging.Formatter):
    """Write UTC times, and `extra` as key=value; what is no short text or number shows only its type."""

    converter = staticmethod(time.gmtime)
    default_msec_format = "%s.%03dZ"
    default_time_format = "%Y-%m-%dT%H:%M:%S"

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 (logging's name)
        extras = [f"{key}={_shown(value)}" for key, value in vars(record).items() if key not in STANDARD]
        return " ".join([super().formatMessage(record), *extras])


def _shown(value: object) -> str:
    if value is None or (isinstance(value, SHOWN) and len(str(value)) <= LONGEST):
        return str(value)
    if hasattr(value, "hex") and len(str(value)) <= LONGEST:  # a UUID
        return str(value)
    return f"<{type(value).__name__}>"
