"""One line for each request and event on standard error, as JSON or as text.

Paths are logged without their query, and what was looked for only where that is asked for.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any

from vidvec.search.server.config import LogFormat

LOG = logging.getLogger("vidvec.server")
# Attribute of a log record that holds its fields.
FIELDS = "fields"
_NAMES = ("vidvec", "uvicorn", "uvicorn.error")


class JsonLines(logging.Formatter):
    """A record as one JSON object."""

    def format(self, record: logging.LogRecord) -> str:
        """Time, level and message, then the record's fields."""
        line: dict[str, Any] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
            **getattr(record, FIELDS, {}),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        # In ASCII, a line of log stays one line whatever is in it.
        return json.dumps(line, default=str)


class TextLines(logging.Formatter):
    """A record as a line for people."""

    def format(self, record: logging.LogRecord) -> str:
        """The same as ``JsonLines``, as text."""
        fields: dict[str, Any] = getattr(record, FIELDS, {})
        shown = " ".join(f"{name}={value!s:.200}" for name, value in fields.items())
        line = f"{_time(record)} {record.levelname.lower()} {record.getMessage()} {shown}"
        line = line.rstrip().encode("unicode_escape").decode("ascii")
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")


def configure(form: LogFormat) -> None:
    """Sends what the server and the web server beneath it say to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if form == "json" else TextLines())
    for name in _NAMES:
        logger = logging.getLogger(name)
        logger.handlers = [handler] if name != "uvicorn.error" else []
        logger.propagate = name == "uvicorn.error"
        logger.setLevel(logging.INFO)
    # Each connection and each reload says so, which is more than anybody reads.
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)


def request(fields: dict[str, Any], *, failed: BaseException | None = None) -> None:
    """Logs a request that was answered."""
    level = logging.ERROR if failed is not None else logging.INFO
    info = (type(failed), failed, failed.__traceback__) if failed is not None else None
    LOG.log(level, "request", extra={FIELDS: fields}, exc_info=info)
